"""
Why an ordinary user gets no network of its own, and what would allow it.

The kernel has only an errno for it, so this looks for the switch that is set.  Where AppArmor
restricts user namespaces, as on Ubuntu, making one may succeed and everything in it fail.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from nanotun.errors import DeviceError, NanotunError
from nanotun.linux.users import nameOf

SUDO = "or run nanotun by sudo"

NODE = "/dev/net/tun"

#: The first field of F{/proc/self/status} for a process with a filter (seccomp(2)).
_FILTERED = "Seccomp:\t2"


class Switch(NamedTuple):
    """
    A sysctl that forbids user namespaces, or what is made in one.

    @ivar name: as for sysctl(8).
    @ivar forbids: the value that does.
    @ivar allows: one that does not.
    """

    name: str
    forbids: str
    allows: str


APPARMOR = Switch("kernel.apparmor_restrict_unprivileged_userns", "1", "0")

#: The likelier ones first.
SWITCHES = (
    APPARMOR,
    Switch("kernel.unprivileged_userns_clone", "0", "1"),
    Switch("user.max_user_namespaces", "0", "10000"),
    Switch("user.max_net_namespaces", "0", "10000"),
    Switch("user.max_mnt_namespaces", "0", "10000"),
)


class Refusals:
    """
    Finds reasons on this machine.

    @param proc: where procfs is mounted.
    @param node: the device that TUN devices are made with.
    """

    def __init__(self, proc: str = "/proc", node: str = NODE) -> None:
        self._proc = proc
        self._node = node

    def ofNamespaces(self, words: str) -> str:
        """
        The sentence for namespaces that cannot be made.

        @param words: what unshare(1) said.
        """
        begin = f"an ordinary user gets no network for a command here ({words}"
        switch = next(self._set(SWITCHES), None)
        if switch is not None:
            return f"{begin}, because {_said(switch)}"
        if self._isFiltered():
            return (
                f"{begin}, most likely because a seccomp profile forbids it, as containers have "
                f"one); start the container with --security-opt seccomp=unconfined, {SUDO}."
            )
        if self._inChroot():
            return (
                f"{begin}, because the kernel allows it to nobody in a chroot); run nanotun "
                f"outside of it, {SUDO}."
            )
        return f"{begin}); {SUDO.removeprefix('or ')}."

    def explained(self, error: NanotunError) -> str:
        """
        The sentence for what failed in a namespace that was made.

        @param error: whose own sentence it is, unless there is a better one.
        """
        if isinstance(error, DeviceError):
            sentence = self._ofNode()
            if sentence:
                return sentence
        for switch in self._set([APPARMOR]):
            return (
                "an ordinary user gets a network for a command here, but may change nothing in "
                f"it ({str(error).rstrip('.')}; that is because {_said(switch)}"
            )
        return str(error)

    def _ofNode(self) -> str:
        """Why the node cannot be opened; empty if it can be."""
        try:
            status = os.stat(self._node)
        except OSError:
            return f"there is no {self._node}; run 'sudo modprobe tun', {SUDO}."
        if os.access(self._node, os.R_OK | os.W_OK):
            return ""
        mode = stat.S_IMODE(status.st_mode)
        return (
            f"{nameOf(os.geteuid())} may not read and write {self._node} (its mode is {mode:04o}); "
            f"run 'sudo chmod 0666 {self._node}', as it is on most systems, {SUDO}."
        )

    def _set(self, switches: tuple[Switch, ...] | list[Switch]) -> Iterator[Switch]:
        for switch in switches:
            if self._read(f"sys/{switch.name.replace('.', '/')}").strip() == switch.forbids:
                yield switch

    def _isFiltered(self) -> bool:
        return _FILTERED in self._read("self/status")

    def _inChroot(self) -> bool:
        """Whether nothing is mounted at the root: only chroot(2) leads there."""
        mounts = (line.split() for line in self._read("self/mountinfo").splitlines())
        return not any(fields[4:5] == ["/"] for fields in mounts)

    def _read(self, path: str) -> str:
        try:
            with open(f"{self._proc}/{path}", encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""


def _said(switch: Switch) -> str:
    """The end of a sentence in brackets, with the switch and what to do."""
    return (
        f"{switch.name} is {switch.forbids}); set it with 'sudo sysctl -w "
        f"{switch.name}={switch.allows}', {SUDO}."
    )
