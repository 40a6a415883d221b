"""
Whether a process has a certain socket among its open files.

There is no index: every descriptor's link has to be read, at two microseconds each,
and a proxy has thousands.  But a new socket gets the lowest number that is free.  So
the numbers that were not in use at the last look are read first, the highest of them
before the lower ones, and then the rest from below.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from nanotun.owners.system import IProcesses

#: Processes whose numbers are remembered.
PROCESS_LIMIT = 256

#: Links between two looks at the clock.
STEP = 16


class OutOfTime(Exception):
    """There was no time to look everywhere."""


class Descriptors:
    """
    Searches processes for sockets.

    @param seconds: the clock.
    """

    def __init__(self, processes: IProcesses, seconds: Callable[[], float]) -> None:
        self._processes = processes
        self._seconds = seconds
        self._known: dict[int, frozenset[int]] = {}

    def search(self, pid: int, inodes: Collection[int], deadline: float) -> int | None:
        """
        Look for one of some sockets in a process.

        @param deadline: when to stop, by the clock.
        @return: its descriptor there, or L{None}.
        @raise OutOfTime: the deadline passed.
        """
        descriptors = self._processes.descriptors(pid)
        known = self._known.get(pid, frozenset())
        fresh = [each for each in descriptors if each not in known]
        old = [each for each in descriptors if each in known]
        if len(self._known) >= PROCESS_LIMIT:
            self._known.clear()
        self._known[pid] = frozenset(descriptors)
        for count, descriptor in enumerate((*reversed(fresh), *old), 1):
            if self._processes.socketAt(pid, descriptor) in inodes:
                return descriptor
            if count % STEP == 0 and self._seconds() > deadline:
                raise OutOfTime
        return None
