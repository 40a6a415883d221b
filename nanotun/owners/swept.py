"""
What sweeps found out about sockets, until their flows ask again.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection

from nanotun.owners.interfaces import IProcesses
from nanotun.owners.scanner import Places

#: Sockets whose results are kept: more than can wait at a time.
SWEPT_LIMIT = 8192


class SweptSockets:
    """
    Where sockets are, and which of them no suspect has.

    @ivar version: another number after each change of who may be excluded.
    """

    def __init__(self, processes: IProcesses) -> None:
        self.version = 0
        self._processes = processes
        self._places: Places = {}
        self._absent: dict[int, int] = {}

    def forget(self, changed: bool) -> None:
        """
        Forget which sockets no suspect has: processes hand sockets over.

        @param changed: whether others may be suspects now, so that a sweep that is under way
            has not searched them all.
        """
        self.version += changed
        self._absent.clear()

    def take(self, inodes: Collection[int], places: Places, version: int) -> None:
        """
        Take the result of a sweep.

        @param inodes: of the sockets that were searched for.
        @param version: the L{version} when it began.
        """
        if version == self.version:
            for inode in inodes:
                self._absent[inode] = self.absences(inode) + 1
        for inode, place in places.items():
            self._places[inode] = place
            self._absent.pop(inode, None)
        for kept in (self._places, self._absent):
            for inode in list(itertools.islice(kept, max(0, len(kept) - SWEPT_LIMIT))):
                del kept[inode]

    def absences(self, inode: int) -> int:
        """How many sweeps found no process that has a socket."""
        return self._absent.get(inode, 0)

    def placeOf(self, inode: int) -> tuple[int, int] | None:
        """Where a socket was found and still is: a pid and a descriptor."""
        pid, descriptor = self._places.pop(inode, (0, 0))
        if not pid or self._processes.socketAt(pid, descriptor) != inode:
            return None
        return pid, descriptor
