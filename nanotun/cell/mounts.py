"""
The command's view of the file system: the machine's, except for how names are looked up
and for the network in F{/sys}.

The helper runs in a mount namespace of its own, so none of this affects the machine.
mount(8) does the work, as Python has no mount(2).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence

from nanotun.cell.command import SIGNALS
from nanotun.cell.naming import nsswitchConf, resolvConf
from nanotun.errors import RoutingError

RESOLV = "/etc/resolv.conf"
NSSWITCH = "/etc/nsswitch.conf"

#: Directories of the sockets of daemons that look up names.  They are empty in the cell:
#: otherwise glibc would ask systemd-resolved, nscd or avahi, which ask past the tunnel.
LOOKUP_SOCKETS = ("/run/systemd/resolve", "/run/nscd", "/var/run/nscd", "/run/avahi-daemon")

#: The directories of network devices in F{/sys}; a sysfs shows the devices of the namespace
#: that it was mounted in (namespaces(7)).
NETWORK_SYS = ("class/net", "devices/virtual/net")

#: Directories to mount something on for a moment, before the command runs; every Linux has
#: the last one.
STAGES = ("/mnt", "/media", "/srv", "/tmp")

PLACES = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")


def findTool(name: str, places: Sequence[str] = PLACES) -> str:
    """
    Find a program.  C{PATH} is ignored: the user controls it, and this runs as root.

    @return: its absolute path, or an empty string.
    """
    paths = (os.path.join(place, name) for place in places)
    return next((path for path in paths if os.access(path, os.X_OK)), "")


def runTool(name: str, *arguments: str) -> None:
    """
    Run a program to its end, with an empty standard input.

    @raise RoutingError: it is missing or failed.
    """
    path = findTool(name)
    if not path:
        raise RoutingError(f"the program {name} is missing; install the package util-linux.")
    # It inherits the mask, so the terminal's Ctrl-C does not end it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        done = subprocess.run(
            [path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if done.returncode:
        why = " ".join(done.stderr.split()) or f"status {done.returncode}"
        raise RoutingError(
            f"the command's own files cannot be mounted ({why}); in a container, allow it mounts "
            "(CAP_SYS_ADMIN, and no seccomp or AppArmor profile that forbids them)."
        )


class CellMounts:
    """
    Everything that is mounted for a cell.

    @param tool: runs a program, like L{runTool}.
    @param root: prefix of every path, for tests.
    @param wholeFirst: see L{resolvConf}.
    """

    def __init__(
        self, tool: Callable[..., None] = runTool, root: str = "", wholeFirst: bool = False
    ) -> None:
        self._tool = tool
        self._wholeFirst = wholeFirst
        self._root = root
        self._mounted: dict[str, tuple[str, tuple[int, int]]] = {}

    def apply(self) -> list[str]:
        """
        Mount everything.

        @return: sentences about mounts that failed and that the command can do without.
        @raise RoutingError: a necessary mount failed; with one sentence.
        """
        notes = []
        masked = {os.path.realpath(self._root + path) for path in LOOKUP_SOCKETS}
        resolv, switch = self._read(RESOLV), self._read(NSSWITCH)
        for directory in sorted(masked):
            if os.path.isdir(directory):
                self._tool("mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", directory)
        if not self._cover(RESOLV, resolvConf(resolv, self._wholeFirst), tuple(masked)):
            notes.append(
                f"There is no {RESOLV} to be replaced, so that the command finds no DNS server; "
                "create that file, empty is enough."
            )
        if switch and nsswitchConf(switch) != switch:
            self._cover(NSSWITCH, nsswitchConf(switch), ())
        self._mountSys()
        return notes

    def repair(self) -> bool:
        """
        Mount the command's files again where the machine has replaced its own: since Linux
        3.14, renaming a file over a mount point removes the mount (mount_namespaces(7)).

        @return: whether any had to be mounted again.
        """
        lost = [
            (path, text)
            for path, (text, identity) in self._mounted.items()
            if self._identity(path) != identity
        ]
        for path, text in lost:
            self._cover(path, text, ())
        return bool(lost)

    def _read(self, path: str) -> str:
        try:
            with open(self._root + path, encoding="utf-8", errors="replace") as file:
                return file.read(1 << 16)
        except OSError:
            return ""

    def _identity(self, path: str) -> tuple[int, int] | None:
        try:
            status = os.stat(self._root + path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _cover(self, path: str, text: str, masked: tuple[str, ...]) -> bool:
        """
        Replace the content of the file at C{path} by C{text}, in this namespace.

        @param masked: directories that already have an empty file system of this namespace.
        @return: whether there is a file to replace.
        """
        real = os.path.realpath(self._root + path)
        if not os.path.exists(real):
            # Usually a link into a directory of systemd-resolved that was just masked.
            if not any(real.startswith(f"{directory}/") for directory in masked):
                return False
            try:
                with open(real, "w") as file:
                    file.write(text)
            except OSError:
                return False
            os.chmod(real, 0o644)
        else:
            stage = self._stage(real)
            self._tool("mount", "-t", "tmpfs", "-o", "size=128k,mode=755", "tmpfs", stage)
            try:
                source = f"{stage}/{os.path.basename(path)}"
                with open(source, "w") as file:
                    file.write(text)
                os.chmod(source, 0o644)
                self._tool("mount", "--bind", source, real)
            finally:
                self._tool("umount", "-l", stage)
        identity = self._identity(path)
        if identity is not None:
            self._mounted[path] = text, identity
        return True

    def _stage(self, target: str) -> str:
        for stage in STAGES:
            path = self._root + stage
            if os.path.isdir(path) and not target.startswith(f"{os.path.realpath(path)}/"):
                return path
        raise RoutingError(
            "the command's own files have no place to be mounted from; create the directory /mnt."
        )

    def _mountSys(self) -> None:
        """Show the cell's network devices in F{/sys}; the rest of it stays the machine's."""
        sys, stage = f"{self._root}/sys", self._stage(f"{self._root}/sys/")
        there = [part for part in NETWORK_SYS if os.path.isdir(f"{sys}/{part}")]
        if not there:
            return
        # Often forbidden in containers; the command then sees the machine's devices.
        with contextlib.suppress(RoutingError):
            self._tool("mount", "-t", "sysfs", "sysfs", stage)
            try:
                for part in there:
                    self._tool("mount", "--bind", f"{stage}/{part}", f"{sys}/{part}")
            finally:
                self._tool("umount", "-l", stage)
