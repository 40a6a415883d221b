"""
The machine's processes, by proc(5).

psutil needs a tenth of a millisecond and more for one process, and a flow waits for that of
the process that made it, or for some thirty new ones.  So this module reads the files itself.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from typing import Any

from zope.interface import implementer

from nanotun.linux.network import addresses
from nanotun.owners.interfaces import IProcesses
from nanotun.owners.names import mayRunScripts, namesOf
from nanotun.owners.values import Process, ProcStat, Program, outline

#: Bytes of a small file of /proc; /proc/pid/stat has some 350.
_BUFFER = 8192

#: The position in the directory /proc of pid 0 (fs/proc/base.c, TGID_OFFSET).  Only a
#: hint: L{ProcProcesses} tries it out.
_PID_OFFSET = 256

#: Above every pid (PID_MAX_LIMIT of linux/threads.h).
_NO_PID = 1 << 22

#: The real, effective and saved user id in /proc/pid/status.
_UIDS = re.compile(rb"^Uid:\t(\d+)\t(\d+)\t(\d+)\t", re.MULTILINE)

_CGROUP = re.compile(rb"^0::(.*)$", re.MULTILINE)

#: What a descriptor of a TUN device is open to, and how its fdinfo names the device.
_TUN = "/dev/net/tun"
_DEVICE = re.compile(r"^iff:\s*(\S+)$", re.MULTILINE)

_SOCKET = re.compile(r"socket:\[([0-9]+)\]")


@implementer(IProcesses)
class ProcProcesses:
    """
    See L{IProcesses}.

    @param root: where proc(5) is mounted.
    """

    def __init__(self, root: str = "/proc") -> None:
        self._root = root
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._seeks: bool | None = None

    def pids(self, after: int = 0, until: int | None = None) -> list[int]:
        """See L{IProcesses.pids}."""
        last = _NO_PID if until is None else until
        if after and self._canSeek():
            return [pid for pid in self._pidsFrom(after + 1, last) if pid > after]
        names = os.listdir(self._root)
        return [pid for pid in map(int, filter(str.isdecimal, names)) if after < pid <= last]

    def newest(self) -> int:
        """See L{IProcesses.newest}."""
        return int(self._read("loadavg").split()[-1])

    def stat(self, pid: int) -> ProcStat | None:
        """See L{IProcesses.stat}."""
        try:
            before, _, after = self._read(f"{pid}/stat").rpartition(b")")
        except OSError:
            return None
        fields = after.split(None, 26)
        # The first field behind the command is the state, the third one of proc(5), and the
        # number of threads is the twentieth.
        if fields[0] == b"Z" and fields[17] == b"1":
            # It has ended, and its parent has not asked for its status yet.
            return None
        parent, session, started, image = (int(fields[n - 3]) for n in (4, 6, 22, 28))
        return ProcStat(started, image, before.partition(b"(")[2], session, parent)

    def startOf(self, stat: ProcStat) -> float:
        """See L{IProcesses.startOf}."""
        return stat.started / self._ticks

    def age(self, stat: ProcStat) -> float:
        """See L{IProcesses.age}."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.startOf(stat)

    def program(self, pid: int, stat: ProcStat) -> Program:
        """See L{IProcesses.program}."""
        arguments: list[str] = []
        try:
            path = os.readlink(f"{self._root}/{pid}/exe").removesuffix(" (deleted)")
            if mayRunScripts(path):
                arguments = self.arguments(pid)
        except OSError:
            # A thread of the kernel, or the process has ended.
            path = ""
        name = stat.command.decode("utf-8", "surrogateescape")
        return Program(namesOf(path, name, arguments), path)

    def arguments(self, pid: int) -> list[str]:
        """See L{IProcesses.arguments}."""
        try:
            text = self._read(f"{pid}/cmdline").decode("utf-8", "surrogateescape")
        except OSError:
            return []
        return text.removesuffix("\0").split("\0") if text else []

    def process(self, pid: int) -> Process | None:
        """See L{IProcesses.process}."""
        stat = self.stat(pid)
        return None if stat is None else self.details(pid, stat, self.program(pid, stat))

    def details(self, pid: int, stat: ProcStat, program: Program) -> Process | None:
        """See L{IProcesses.details}."""
        try:
            uids = _UIDS.search(self._read(f"{pid}/status"))
        except OSError:
            return None
        if uids is None:
            return None
        process = outline(pid, stat, program)
        return process._replace(uids=tuple(map(int, uids.groups())), cgroup=self._cgroup(pid))

    def asleep(self, pid: int) -> bool:
        """See L{IProcesses.asleep}."""
        try:
            fields = self._read(f"{pid}/stat").rpartition(b")")[2].split()
        except OSError:
            return False
        # The state is the third field of proc(5), and the number of threads the twentieth.
        return fields[0] != b"R" and fields[17] == b"1"

    def turns(self, pid: int) -> bytes:
        """See L{IProcesses.turns}."""
        # Time on a processor, time spent waiting for one, and number of turns; all 0 if the
        # kernel does not count (Documentation/scheduler/sched-stats.rst).
        try:
            told = self._read(f"{pid}/schedstat")
        except OSError:
            return b""
        return b"" if told.startswith(b"0 0 0") else told

    def descriptors(self, pid: int) -> list[int]:
        """See L{IProcesses.descriptors}."""
        try:
            return [int(name) for name in os.listdir(f"{self._root}/{pid}/fd")]
        except OSError:
            return []

    def socketAt(self, pid: int, descriptor: int) -> int:
        """See L{IProcesses.socketAt}."""
        try:
            link = os.readlink(f"{self._root}/{pid}/fd/{descriptor}")
        except OSError:
            return 0
        return int(link[8:-1]) if link.startswith("socket:[") else 0

    def devicesAt(self, pid: int) -> frozenset[str]:
        """See L{IProcesses.devicesAt}."""
        found = set()
        try:
            for descriptor in self.descriptors(pid):
                if os.readlink(f"{self._root}/{pid}/fd/{descriptor}") == _TUN:
                    text = self._read(f"{pid}/fdinfo/{descriptor}").decode("utf-8", "replace")
                    found.update(_DEVICE.findall(text))
            if found and not self._isNear(pid):
                found.clear()
        except OSError:
            # It has just closed one, or ended.
            return frozenset(found)
        return frozenset(found)

    def ownAddresses(self) -> frozenset[str]:
        """See L{IProcesses.ownAddresses}."""
        return frozenset(address.host for address in addresses())

    def _isNear(self, pid: int) -> bool:
        """Whether a process is in our network namespace."""
        mine, its = (os.stat(f"{self._root}/{each}/ns/net") for each in ("self", pid))
        return (mine.st_dev, mine.st_ino) == (its.st_dev, its.st_ino)

    def _read(self, name: str) -> bytes:
        file = os.open(f"{self._root}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(file, _BUFFER)
        finally:
            os.close(file)

    def _cgroup(self, pid: int) -> str:
        # cgroups(7): version 2 is the line of hierarchy 0.
        try:
            found = _CGROUP.search(self._read(f"{pid}/cgroup"))
        except OSError:
            return ""
        path = found[1].decode("utf-8", "surrogateescape") if found else ""
        return path.removesuffix(" (deleted)")

    def _pidsFrom(self, pid: int, last: int) -> list[int]:
        # Opened each time: the position belongs to the open file, which threads would share.
        directory: Any = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.lseek(directory, pid + _PID_OFFSET, os.SEEK_SET)
            with os.scandir(directory) as entries:
                pids = (int(entry.name) for entry in entries if entry.name.isdecimal())
                # They ascend, so that the rest need not be read.
                return list(itertools.takewhile(lambda each: each <= last, pids))
        finally:
            os.close(directory)

    def _canSeek(self) -> bool:
        """
        Whether positions in /proc are pids plus an offset, as in every Linux so far.  If
        they are not, each search for new processes lists all processes.
        """
        if self._seeks is None:
            own = os.getpid()
            try:
                pids = self._pidsFrom(own, own)
            except OSError:
                pids = []
            self._seeks = own in pids and pids[0] > own - _PID_OFFSET
        return self._seeks
