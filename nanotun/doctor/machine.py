"""
The checks' view of the machine: files, limits and programs, read and never written.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import stat
from collections.abc import Callable
from typing import NamedTuple

from nanotun.rundir import LOCK, SOCKET

#: Directories of root's programs, whatever PATH says.
PLACES = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin"

#: Bit numbers of capabilities(7).
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}


class Holder(NamedTuple):
    """
    A process that has a TUN device open.

    @ivar name: the program's name (comm, see proc(5)), with what cannot be printed escaped, as
        the program chooses it; empty if it cannot be read.
    @ivar runDir: if it is a nanotun, its C{runDir}; otherwise empty.
    """

    pid: int
    name: str
    runDir: str


class Machine:
    """
    Reads facts about this machine.

    @param root: prefix of every path, for tests.
    @param geteuid: returns the effective uid.
    @param limits: returns the soft and the hard limit of open files.
    @param places: directories of programs, separated by colons.
    """

    def __init__(
        self,
        root: str = "",
        geteuid: Callable[[], int] = os.geteuid,
        limits: Callable[[], tuple[int, int]] = lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
        places: str = PLACES,
    ) -> None:
        self._root = root
        self._places = places
        self.geteuid = geteuid
        self.fileLimits = limits

    def read(self, path: str) -> str:
        """A file's text without surrounding whitespace; empty if it cannot be read."""
        try:
            with open(self._root + path, encoding="utf-8", errors="replace") as file:
                return file.read(1 << 20).strip()
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        """Whether there is a file at C{path}."""
        return os.path.exists(self._root + path)

    def modified(self, path: str) -> float:
        """When a file was last written, in seconds since the epoch; 0 if it does not exist."""
        try:
            return os.stat(self._root + path).st_mtime
        except OSError:
            return 0.0

    def openDevice(self, path: str) -> str:
        """
        Open a character device and close it again.

        @return: why that failed, or an empty string.
        """
        try:
            if not stat.S_ISCHR(os.stat(self._root + path).st_mode):
                return "no device"
            os.close(os.open(self._root + path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
        except OSError as error:
            return str(error.strerror)
        return ""

    def program(self, name: str) -> str:
        """The path of a program, or an empty string."""
        return shutil.which(name, path=self._places) or ""

    def missing(self, *capabilities: str) -> list[str]:
        """Those of the named capabilities that this process lacks."""
        fields = dict(
            line.split(":", 1)
            for line in self.read("/proc/self/status").splitlines()
            if ":" in line
        )
        effective = int(fields.get("CapEff", "0").strip() or "0", 16)
        return [name for name in capabilities if not effective >> CAPABILITIES[name] & 1]

    def sysctl(self, name: str) -> str:
        """A setting of the kernel; empty if it does not exist."""
        return self.read("/proc/sys/" + name)

    def locked(self, path: str) -> bool:
        """Whether any process holds a lock on a file, according to F{/proc/locks} (proc(5))."""
        try:
            status = os.stat(self._root + path)
        except OSError:
            return False
        device = status.st_dev
        name = f"{os.major(device):02x}:{os.minor(device):02x}:{status.st_ino}"
        return any(name in line.split() for line in self.read("/proc/locks").splitlines())

    def runs(self, name: str) -> bool:
        """Whether any process has this name (comm, see proc(5))."""
        pids = filter(str.isdigit, self._list("/proc"))
        return any(self.read(f"/proc/{pid}/comm") == name for pid in pids)

    def holders(self, device: str) -> list[Holder]:
        """
        The processes of this network namespace that have a TUN device open, by
        F{/proc/PID/fdinfo}: C{iff} names the device.  The processes of others are left out
        if we are not root.
        """
        found = []
        for pid in self._list("/proc"):
            if not pid.isdigit() or not self._sameNetwork(pid):
                continue
            infos = self._list(f"/proc/{pid}/fdinfo")
            if any(self._holds(f"/proc/{pid}/fdinfo/{fd}", device) for fd in infos):
                name = self.read(f"/proc/{pid}/comm")
                shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
                found.append(Holder(int(pid), shown, self._runDir(pid) if name else ""))
        return found

    def _holds(self, path: str, device: str) -> bool:
        return any(line.split() == ["iff:", device] for line in self.read(path).splitlines())

    def _sameNetwork(self, pid: str) -> bool:
        try:
            return os.path.samefile(
                f"{self._root}/proc/{pid}/ns/net", f"{self._root}/proc/self/ns/net"
            )
        except OSError:
            return False

    def _runDir(self, pid: str) -> str:
        """
        The directory of a nanotun's lock, which it keeps open.  Other programs' locks have this
        name too: ours names the process, or has the control socket beside it.
        """
        for fd in self._list(f"/proc/{pid}/fd"):
            try:
                target = os.readlink(f"{self._root}/proc/{pid}/fd/{fd}")
            except OSError:
                continue
            directory, name = os.path.split(target)
            if name != LOCK or not directory.startswith("/") or not directory.isprintable():
                continue
            if self._isSocket(f"{directory}/{SOCKET}") or self._names(target, pid):
                return directory
        return ""

    def _isSocket(self, path: str) -> bool:
        try:
            return stat.S_ISSOCK(os.stat(self._root + path).st_mode)
        except OSError:
            return False

    def _names(self, path: str, pid: str) -> bool:
        """Whether a lock's file names this process; see L{nanotun.control.lock}."""
        try:
            return bool(json.loads(self.read(path))["pid"] == int(pid))
        except (ValueError, KeyError, TypeError, RecursionError):
            return False

    def _list(self, path: str) -> list[str]:
        try:
            return os.listdir(self._root + path)
        except OSError:
            return []
