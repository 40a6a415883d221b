"""
Drops the capabilities that nanotun does not need.

Capabilities belong to threads (capabilities(7)), and a new thread inherits those of the
thread that started it.  So they are dropped on the main thread while it is the only one:
before the reactor runs, and before the native library with its threads is loaded.
ctypes is used because no package for this is maintained, and the C library has both
calls.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from twisted.logger import Logger
from zope.interface import implementer

from nanotun.config.secretfiles import secretPaths
from nanotun.config.settings import Settings
from nanotun.daemon.files import hasForeign, pathsOf
from nanotun.interfaces import IPart

#: The kernel's names, without their CAP_ prefix, and the numbers in linux/capability.h.
CAPABILITIES = {
    "DAC_OVERRIDE": 1,
    "DAC_READ_SEARCH": 2,
    "SETPCAP": 8,
    "NET_ADMIN": 12,
    "NET_RAW": 13,
    "SYS_PTRACE": 19,
}

#: What it takes to find out whose a socket is.
SEARCHING = frozenset({"SYS_PTRACE", "DAC_READ_SEARCH"})

NUMBERS = range(64)  #: A set has room for these; Linux 6 knows 41 of them.

_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38


class Kernel(Protocol):
    """The system calls that are needed; all of them are about the calling thread."""

    def permitted(self) -> int:
        """The permitted set: bit C{n} stands for capability C{n}."""

    def keep(self, capabilities: int) -> None:
        """
        Make C{capabilities} the permitted and the effective set, and empty the
        inheritable one.

        @raise OSError: capset(2) refuses.
        """

    def unbind(self, number: int) -> None:
        """
        Remove a capability from the bounding set, so that no child can get it either.

        @raise OSError: prctl(2) refuses; EINVAL if there is no such capability.
        """

    def noNewPrivileges(self) -> None:
        """
        Forbid any program that is started to gain privileges by its file.

        @raise OSError: prctl(2) refuses.
        """

    def threads(self) -> int:
        """How many threads this process has."""


class LinuxKernel:
    """The real one."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def permitted(self) -> int:
        """See L{Kernel.permitted}."""
        _, low, _, _, high, _ = self._capget()
        return int(low) | int(high) << 32

    def keep(self, capabilities: int) -> None:
        """See L{Kernel.keep}."""
        low, high = capabilities & 0xFFFFFFFF, capabilities >> 32
        # Twice: effective, permitted, inheritable.
        data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
        self._call("capset", self._header(), data)

    def unbind(self, number: int) -> None:
        """See L{Kernel.unbind}."""
        self._call("prctl", _PR_CAPBSET_DROP, *map(ctypes.c_ulong, (number, 0, 0, 0)))

    def noNewPrivileges(self) -> None:
        """See L{Kernel.noNewPrivileges}."""
        self._call("prctl", _PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))

    def threads(self) -> int:
        """See L{Kernel.threads}."""
        return len(os.listdir("/proc/self/task"))

    def _capget(self) -> Iterable[int]:
        data = (ctypes.c_uint32 * 6)()
        self._call("capget", self._header(), data)
        return data

    def _header(self) -> object:
        return (ctypes.c_uint32 * 2)(_VERSION_3, 0)

    def _call(self, function: str, *arguments: object) -> None:
        if getattr(self._libc, function)(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def needed(
    settings: Settings, owners: bool, foreign: bool, leftovers: bool = False
) -> frozenset[str]:
    """
    Which capabilities a daemon with C{settings} needs.

     - NET_ADMIN: the device, marks, routes, rules and firewalls.
     - NET_RAW: iptables, where a machine has no nft.
     - SYS_PTRACE, DAC_READ_SEARCH: reading C{/proc/PID/fd} to find whose a socket is; for
       rules about processes, for a script, for C{flowLog} and C{web}, and for the SSH servers whose
       answers keep their routes.
     - DAC_OVERRIDE: files whose modes deny them to root.

    @param owners: whether flows' processes are looked for.
    @param foreign: whether there are such files; see L{nanotun.daemon.files}.
    @param leftovers: whether firewalls of an earlier daemon are to be removed.
    """
    names = {"NET_ADMIN"}
    if settings.autoDefaultRoute or leftovers:
        names.add("NET_RAW")
    recorded = bool(settings.flowLog or settings.web)
    # The next version of a script may need processes, though this one does not.
    if owners or settings.autoDefaultRoute or settings.script or recorded:
        names |= SEARCHING
    if foreign:
        names.add("DAC_OVERRIDE")
    return frozenset(names)


@implementer(IPart)
class Privileges:
    """Drops all capabilities but some, on this thread and on every later one."""

    _log = Logger()

    name = "the drop of privileges"

    def __init__(self, names: frozenset[str], kernel: Kernel) -> None:
        """@param names: what to keep, of L{CAPABILITIES}."""
        self._names = names
        self._kernel = kernel

    def lacking(self, names: frozenset[str]) -> frozenset[str]:
        """Which of C{names} are dropped.  To have them again takes a restart."""
        return names - self._names

    def start(self) -> None:
        """
        See L{IPart.start}.  Where a kernel or a container refuses, the daemon has more
        capabilities than it needs, which is no reason not to run.
        """
        kernel = self._kernel
        try:
            have = kernel.permitted()
            keep = have & sum(1 << CAPABILITIES[name] for name in self._names)
            if have >> CAPABILITIES["SETPCAP"] & 1:
                self._unbind(keep)
            kernel.noNewPrivileges()
            kernel.keep(keep)
        except OSError as error:
            self._log.warn(
                "Capabilities cannot be given up ({error}): nanotun keeps all that root has. "
                "Let its unit or container allow capset and prctl.",
                error=error.strerror,
            )
            return
        others = kernel.threads() - 1
        if others:
            self._log.warn(
                "Threads that were there before nanotun keep all capabilities: {threads}. "
                "Start it without what makes them.",
                threads=others,
            )
        self._log.debug("Capabilities kept: {names}", names=", ".join(sorted(self._names)))

    def stop(self) -> None:
        """See L{IPart.stop}.  What is dropped stays dropped."""

    def _unbind(self, keep: int) -> None:
        for number in NUMBERS:
            if not keep >> number & 1:
                try:
                    self._kernel.unbind(number)
                except OSError:
                    if number <= max(CAPABILITIES.values()):
                        raise
                    return  # The kernel knows no higher number.


def makePrivileges(
    settings: Settings, twistd: Mapping[str, Any], config: str, owners: bool, leftovers: bool
) -> Privileges:
    """
    The part that drops the capabilities that a daemon with these settings does not need.

    @param twistd: twistd's own options.
    @param config: the configuration file's absolute path, or the empty string.
    @param owners: see L{needed}.
    @param leftovers: likewise.
    """
    read, written = pathsOf(settings, twistd, config or None)
    # A reload reads these again.
    read.update(secretPaths(os.environ))
    foreign = hasForeign(read, written)
    return Privileges(needed(settings, owners, foreign, leftovers), LinuxKernel())
