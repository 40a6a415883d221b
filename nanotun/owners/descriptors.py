"""
Finds out whether a process has a certain socket among its open files.

The kernel has no index: the link of each descriptor has to be read, at two microseconds
each, and a proxy has thousands.  But a new socket gets the lowest free number.  So the
order is: the numbers where sockets were found recently; the numbers that were not in use
at the last search; the numbers just below the lowest that is free now; all the others.

A process that has not run since it was searched has opened nothing since.  Most processes
sleep most of the time, so the result of the last search is remembered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from nanotun.owners.interfaces import IProcesses

#: Processes that are remembered, and sockets of one process.
PROCESS_LIMIT = 4096
SOCKET_LIMIT = 4096

#: Remembered numbers of one process where sockets were found recently.
HOT_LIMIT = 16

#: Numbers below the lowest free one that are read before the others.
BELOW_LIMIT = 32

#: Links that are read between two checks of the deadline.
STEP = 16


class OutOfTime(Exception):
    """
    The deadline passed before everything was searched.

    @ivar inode: of the socket whose process a sweep would find; 0 if only time helps.
    """

    def __init__(self, inode: int = 0) -> None:
        super().__init__(inode)
        self.inode = inode


class _Known(NamedTuple):
    """
    The result of the last search of a process.

    @ivar descriptors: the numbers in use.
    @ivar turns: see L{IProcesses.turns}; empty if C{sockets} is incomplete.
    @ivar sockets: all its sockets: inode to descriptor.
    """

    descriptors: frozenset[int]
    turns: bytes
    sockets: dict[int, int]


_NOTHING = _Known(frozenset(), b"", {})


class Descriptors:
    """
    Searches processes for sockets.  Scans do so on their own thread as well: if two
    searches of one process end at the same time, either result is right.

    @param spent: see L{nanotun.owners.budget.LookupBudget}.
    """

    def __init__(self, processes: IProcesses, spent: Callable[[], float]) -> None:
        self._processes = processes
        self._spent = spent
        self._known: dict[int, _Known] = {}
        self._hot: dict[int, list[int]] = {}

    def learn(self, pid: int) -> None:
        """Search a process ahead of time, so that it need not be searched while it sleeps."""
        self.search(pid, (), math.inf)

    def search(self, pid: int, inodes: Collection[int], deadline: float) -> int | None:
        """
        Search a process for any of some sockets.

        @param inodes: of the sockets.
        @param deadline: as a value of C{spent}.
        @return: the descriptor of the one that was found, or L{None}.
        @raise OutOfTime: the deadline passed.
        """
        processes = self._processes
        known = self._known.get(pid, _NOTHING)
        turns = processes.turns(pid)
        if turns and turns == known.turns:
            return next((known.sockets[each] for each in inodes if each in known.sockets), None)
        for descriptor in self._hot.get(pid, ()):
            if processes.socketAt(pid, descriptor) in inodes:
                return descriptor
        # A process that runs now may open a socket after we have searched it, without
        # another turn.
        if turns and not processes.asleep(pid):
            turns = b""
        descriptors = processes.descriptors(pid)
        seen = frozenset(descriptors)
        self._remember(pid, _Known(seen, b"", {}))
        sockets = {}
        for count, descriptor in enumerate(_order(descriptors, known.descriptors), 1):
            inode = processes.socketAt(pid, descriptor)
            if inode in inodes:
                self._heat(pid, descriptor)
                return descriptor
            if inode:
                sockets[inode] = descriptor
            if count % STEP == 0 and self._spent() > deadline:
                raise OutOfTime
        if turns and len(sockets) <= SOCKET_LIMIT:
            self._remember(pid, _Known(seen, turns, sockets))
        return None

    def places(
        self, pid: int, inodes: Collection[int], check: Callable[[], object]
    ) -> dict[int, int]:
        """
        Search a process for all of some sockets, however long it takes.  Each of its links
        is read once.

        @param check: called before each is read; may raise.
        @return: the descriptors of those that were found, by inode.
        """
        processes = self._processes
        known = self._known.get(pid, _NOTHING)
        turns = processes.turns(pid)
        if turns and turns == known.turns:
            sockets = known.sockets
        else:
            if turns and not processes.asleep(pid):
                turns = b""
            descriptors = processes.descriptors(pid)
            sockets = {}
            for descriptor in descriptors:
                check()
                inode = processes.socketAt(pid, descriptor)
                if inode:
                    sockets[inode] = descriptor
            if len(sockets) > SOCKET_LIMIT:
                turns = b""
            seen = frozenset(descriptors)
            self._remember(pid, _Known(seen, turns, sockets if turns else {}))
        return {inode: sockets[inode] for inode in inodes if inode in sockets}

    def _remember(self, pid: int, known: _Known) -> None:
        if len(self._known) >= PROCESS_LIMIT:
            self._known.clear()
        self._known[pid] = known

    def size(self, pid: int) -> int:
        """How many descriptors a process had at its last search; 0 if it was not searched."""
        return len(self._known.get(pid, _NOTHING).descriptors)

    def _heat(self, pid: int, descriptor: int) -> None:
        if len(self._hot) >= PROCESS_LIMIT:
            self._hot.clear()
        self._hot[pid] = [descriptor, *self._hot.get(pid, ())][:HOT_LIMIT]


def _order(descriptors: list[int], known: frozenset[int]) -> Iterator[int]:
    """
    The order to read descriptors in.

    @param descriptors: in use now, ascending.
    @param known: in use at the last search.
    """
    free = next((n for n, each in enumerate(descriptors) if n != each), len(descriptors))
    below = range(max(0, free - BELOW_LIMIT), free)
    yield from (each for each in reversed(descriptors) if each not in known)
    yield from (each for each in reversed(below) if each in known)
    yield from (each for each in descriptors if each in known and each not in below)
