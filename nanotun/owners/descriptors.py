"""
Whether a process has a certain socket among its open files.

There is no index: every descriptor's link has to be read, at two microseconds each,
and a proxy has thousands.  But a new socket gets the lowest number that is free.  So
these are read first: the numbers where sockets were found lately; those that were not in
use at the last look; those just below the lowest that is free now.  Then all the rest.

And a process that has not run since it was searched has opened nothing since.  Most
processes sleep most of the time, so what was found then is remembered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from nanotun.owners.interfaces import IProcesses

#: Processes of which something is remembered, and sockets of one.
PROCESS_LIMIT = 4096
SOCKET_LIMIT = 4096

#: Numbers of one process where sockets were found lately.
HOT_LIMIT = 16

#: Numbers below the lowest free one that come before the rest.
BELOW_LIMIT = 32

#: Links between two looks at the clock.
STEP = 16


class OutOfTime(Exception):
    """There was no time to look everywhere."""


class _Known(NamedTuple):
    """
    What the last search of a process has seen.

    @ivar descriptors: those in use.
    @ivar turns: see L{IProcesses.turns}; empty if C{sockets} is not to be gone by.
    @ivar sockets: all its sockets, by inode.
    """

    descriptors: frozenset[int]
    turns: bytes
    sockets: dict[int, int]


_NOTHING = _Known(frozenset(), b"", {})


class Descriptors:
    """
    Searches processes for sockets.  ScanSchedule do so on their thread, too: what two searches
    of one process note down at a time is right, whichever is last.

    @param spent: see L{nanotun.owners.budget.LookupBudget}.
    """

    def __init__(self, processes: IProcesses, spent: Callable[[], float]) -> None:
        self._processes = processes
        self._spent = spent
        self._known: dict[int, _Known] = {}
        self._hot: dict[int, list[int]] = {}

    def learn(self, pid: int) -> None:
        """Search a process for nothing, so that it need not be searched as long as it sleeps."""
        self.search(pid, (), math.inf)

    def search(self, pid: int, inodes: Collection[int], deadline: float) -> int | None:
        """
        Look for one of some sockets in a process.

        @param deadline: at which C{spent} to stop.
        @return: its descriptor there, or L{None}.
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
        # Who runs now may open a socket in the same turn, after we have looked.
        if turns and not processes.asleep(pid):
            turns = b""
        descriptors = processes.descriptors(pid)
        seen = frozenset(descriptors)
        if len(self._known) >= PROCESS_LIMIT:
            self._known.clear()
        self._known[pid] = _Known(seen, b"", {})
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
            self._known[pid] = _Known(seen, turns, sockets)
        return None

    def size(self, pid: int) -> int:
        """How many descriptors a process had at its last search; 0 if there was none."""
        return len(self._known.get(pid, _NOTHING).descriptors)

    def _heat(self, pid: int, descriptor: int) -> None:
        if len(self._hot) >= PROCESS_LIMIT:
            self._hot.clear()
        self._hot[pid] = [descriptor, *self._hot.get(pid, ())][:HOT_LIMIT]


def _order(descriptors: list[int], known: frozenset[int]) -> Iterator[int]:
    """
    The order to read descriptors in.

    @param descriptors: in use now, ascending.
    @param known: in use at the last look.
    """
    free = next((n for n, each in enumerate(descriptors) if n != each), len(descriptors))
    below = range(max(0, free - BELOW_LIMIT), free)
    yield from (each for each in reversed(descriptors) if each not in known)
    yield from (each for each in reversed(below) if each in known)
    yield from (each for each in descriptors if each in known and each not in below)
