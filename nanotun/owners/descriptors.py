"""
Whether a process has a certain socket among its open files.

There is no index: every descriptor's link has to be read, at two microseconds each,
and a proxy has thousands.  But a new socket gets the lowest number that is free.  So
the numbers that were not in use at the last look are read first, the highest of them
before the lower ones, and then the rest from below.

And a process that has not run since it was searched has opened nothing since.  Most
processes sleep most of the time, so what was found then is remembered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import NamedTuple

from nanotun.owners.system import IProcesses

#: Processes of which something is remembered, and sockets of one.
PROCESS_LIMIT = 4096
SOCKET_LIMIT = 4096

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
    Searches processes for sockets.  Scans do so on their thread, too: what two searches
    of one process note down at a time is right, whichever is last.

    @param spent: see L{nanotun.owners.allowance.Allowance}.
    """

    def __init__(self, processes: IProcesses, spent: Callable[[], float]) -> None:
        self._processes = processes
        self._spent = spent
        self._known: dict[int, _Known] = {}

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
        # Who runs now may open a socket in the same turn, after we have looked.
        if turns and not processes.asleep(pid):
            turns = b""
        descriptors = processes.descriptors(pid)
        fresh = [each for each in descriptors if each not in known.descriptors]
        old = [each for each in descriptors if each in known.descriptors]
        seen = frozenset(descriptors)
        if len(self._known) >= PROCESS_LIMIT:
            self._known.clear()
        self._known[pid] = _Known(seen, b"", {})
        sockets = {}
        for count, descriptor in enumerate((*reversed(fresh), *old), 1):
            inode = processes.socketAt(pid, descriptor)
            if inode in inodes:
                return descriptor
            if inode:
                sockets[inode] = descriptor
            if count % STEP == 0 and self._spent() > deadline:
                raise OutOfTime
        if turns and len(sockets) <= SOCKET_LIMIT:
            self._known[pid] = _Known(seen, turns, sockets)
        return None
