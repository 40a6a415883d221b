"""
Scans all processes for a L{Table}.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

from nanotun.owners.descriptors import Descriptors
from nanotun.owners.inheritance import propagate
from nanotun.owners.interfaces import IProcesses
from nanotun.owners.matching import Matcher
from nanotun.owners.values import (
    Excluded,
    Process,
    ProcStat,
    Program,
    SocketHolder,
    Table,
    sameProgram,
)
from nanotun.policy.rules import LOCAL_PROXY

#: Processes or files that are read before the scan's thread gives up the interpreter:
#: some hundred microseconds of work.
CHUNK = 32

#: Seconds of each pause: the shortest that the kernel's timers keep.
PAUSE = 0.0005

#: Seconds after its start in which a process may still be a copy of its parent that has
#: not called execve(2).  On an idle machine this takes a millisecond.
YOUNG = 0.25

#: Seconds after its start in which a desktop may move a program to a cgroup of its own.
SETTLED = 10.0


#: Where sockets are: a pid and a descriptor, by inode.
Places: TypeAlias = dict[int, tuple[int, int]]


class ScanStopped(Exception):
    """The daemon stops, so that the scan's result is not needed any more."""


class Scanner:
    """
    Scans, on any thread, one scan at a time.

    @param ownPid: os.getpid; this process is never taken for the proxy.
    @param children: the setting C{excludeChildren}.
    @param pause: time.sleep.
    """

    def __init__(
        self,
        processes: IProcesses,
        descriptors: Descriptors,
        matcher: Matcher,
        children: bool,
        ownPid: Callable[[], int],
        pause: Callable[[float], object],
    ) -> None:
        self._processes = processes
        self._descriptors = descriptors
        self._matcher = matcher
        self._children = children
        self._ownPid = ownPid
        self._pause = pause
        self._known: dict[int, Process] = {}
        self._count = 0
        self._stopped = False

    def stop(self) -> None:
        """Make a scan that is under way raise L{ScanStopped} soon."""
        self._stopped = True

    def scan(self, previous: Table, listeners: Collection[int]) -> Table:
        """
        Scan all processes.

        @param previous: the last scan's table.
        @param listeners: inodes of the sockets that listen at the proxy's address.
        @raise OSError: /proc cannot be read.
        """
        newest = self._processes.newest()
        self._matcher.resolvePaths()
        stats = self._stats()
        direct: dict[int, str] = {}
        selected: dict[int, frozenset[str]] = {}
        if self._matcher.byProcesses:
            self._learn(stats, previous)
            for pid, process in self._known.items():
                if text := self._matcher.processText(process):
                    direct[pid] = text
                program = Program(process.names, process.path)
                if found := self._matcher.selected(pid, process.stat.started, program):
                    selected[pid] = found
        holders = self._holders(stats, previous.holders, listeners)
        listen = {holder.pid: LOCAL_PROXY for holder in holders}
        texts = propagate(direct, stats, self._children, previous.excluded)
        proxies = propagate(listen, stats, self._children, {})
        texts.update(proxies)
        if len(proxies) > 1:
            # They may hand connections over; then other processes may have a socket of theirs.
            for pid in stats:
                self._pauseAtTimes()
                self._descriptors.learn(pid)
        excluded = {}
        for pid in texts | selected:
            text, inherited = texts.get(pid, ("", False))
            looked = self._known.get(pid) or self._processes.process(pid)
            if looked is not None:
                settled = self._processes.age(looked.stat) > SETTLED
                by = selected.get(pid, frozenset())
                excluded[pid] = Excluded(looked, text, inherited, settled, by)
        young = tuple(pid for pid, stat in stats.items() if self._processes.age(stat) < YOUNG)
        return Table(newest, stats, excluded, young, holders)

    def holders(self, inodes: Collection[int], suspects: Collection[int] | None) -> Places:
        """
        Find the processes that have some sockets, however long it takes.  Each descriptor is
        read once, for all of them.

        @param suspects: the processes that are searched for every socket; of all others
            only those that come first, until one of them has one.  L{None} for all.
        @raise OSError: /proc cannot be read.
        """
        own = self._ownPid()
        before = frozenset(self._processes.pids())
        first = before if suspects is None else before.intersection(suspects)
        found: Places = {}
        missing = set(inodes)
        # This process has a socket for each flow, so it comes last.
        for pid in sorted(first, key=lambda each: each == own):
            self._meet(pid, missing, found)
        if missing:
            others = set(self._processes.pids()) - first
            # Processes that were started meanwhile may have inherited one.
            for pid in sorted(others, key=lambda each: (each in before, each == own, -each)):
                if self._meet(pid, missing, found) and pid in before:
                    break
        return found

    def _meet(self, pid: int, missing: set[int], found: Places) -> bool:
        if not missing:
            return False
        places = self._descriptors.places(pid, missing, self._checkStop)
        found.update((inode, (pid, descriptor)) for inode, descriptor in places.items())
        missing.difference_update(places)
        return bool(places)

    def _checkStop(self) -> None:
        # Flows wait for a sweep, so it does not pause; each link that is read lets the reactor
        # have the interpreter.
        if self._stopped:
            raise ScanStopped

    def _pauseAtTimes(self) -> None:
        self._count += 1
        if self._count % CHUNK == 0:
            if self._stopped:
                raise ScanStopped
            self._pause(PAUSE)

    def _stats(self) -> dict[int, ProcStat]:
        stats = {}
        for pid in self._processes.pids():
            self._pauseAtTimes()
            stat = self._processes.stat(pid)
            if stat is not None:
                stats[pid] = stat
        return stats

    def _learn(self, stats: dict[int, ProcStat], previous: Table) -> None:
        """Read everything about processes that may have changed since the last scan."""
        known = {}
        for pid, stat in stats.items():
            process = self._known.get(pid)
            if process is None or pid in previous.excluded or not sameProgram(process.stat, stat):
                self._pauseAtTimes()
                process = self._processes.process(pid)
            if process is not None:
                known[pid] = process
        self._known = known

    def _holders(
        self, pids: Iterable[int], before: Iterable[SocketHolder], listeners: Collection[int]
    ) -> tuple[SocketHolder, ...]:
        """Find who has the listening sockets; all processes are searched only for new sockets."""
        wanted = set(listeners)
        found = [
            holder
            for holder in before
            if holder.inode in wanted
            and self._processes.socketAt(holder.pid, holder.descriptor) == holder.inode
        ]
        wanted -= {holder.inode for holder in found}
        if not wanted:
            return tuple(found)
        for pid in pids:
            if pid == self._ownPid():
                continue
            for descriptor in self._processes.descriptors(pid):
                self._pauseAtTimes()
                inode = self._processes.socketAt(pid, descriptor)
                if inode in wanted:
                    found.append(SocketHolder(pid, descriptor, inode))
        return tuple(found)
