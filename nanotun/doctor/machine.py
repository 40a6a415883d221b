"""
The machine as the checks see it: files, limits, programs; read, never written.
"""

from __future__ import annotations

import os
import resource
import shutil
import stat
from collections.abc import Callable

#: Where root's programs are, whatever PATH says.
PLACES = "/usr/sbin:/sbin:/usr/bin:/bin:/usr/local/sbin:/usr/local/bin"

#: Bits of capabilities(7).
CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}


class Machine:
    """
    @param root: what stands for F{/}.
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
        """A file's text without blanks around it; empty if it cannot be read."""
        try:
            with open(self._root + path, encoding="utf-8", errors="replace") as file:
                return file.read(1 << 20).strip()
        except OSError:
            return ""

    def exists(self, path: str) -> bool:
        """Whether anything is there."""
        return os.path.exists(self._root + path)

    def modified(self, path: str) -> float:
        """When a file was written last, in seconds since the epoch; 0 if it is not there."""
        try:
            return os.stat(self._root + path).st_mtime
        except OSError:
            return 0.0

    def openDevice(self, path: str) -> str:
        """
        Open a character device and close it.

        @return: why not, or an empty string.
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
        """Those capabilities that this process does not have."""
        fields = dict(
            line.split(":", 1)
            for line in self.read("/proc/self/status").splitlines()
            if ":" in line
        )
        effective = int(fields.get("CapEff", "0").strip() or "0", 16)
        return [name for name in capabilities if not effective >> CAPABILITIES[name] & 1]

    def sysctl(self, name: str) -> str:
        """A setting of the kernel; empty where there is none."""
        return self.read("/proc/sys/" + name)

    def locked(self, path: str) -> bool:
        """Whether somebody holds a lock on a file: the kernel tells it of all (proc(5))."""
        try:
            status = os.stat(self._root + path)
        except OSError:
            return False
        device = status.st_dev
        name = f"{os.major(device):02x}:{os.minor(device):02x}:{status.st_ino}"
        return any(name in line.split() for line in self.read("/proc/locks").splitlines())
