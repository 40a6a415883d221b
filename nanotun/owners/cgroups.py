"""
Cgroups of version 2: from the id that the kernel gives for a socket to a path.

A cgroup's id is the inode number of its directory (cgroups(7), 64-bit systems).
"""

from __future__ import annotations

import os
from collections.abc import Callable

from zope.interface import implementer

from nanotun.owners.interfaces import ICgroups

#: Cgroups that are read in one walk; a machine of many containers has thousands.
CGROUP_LIMIT = 20_000

#: Seconds for one walk, for which the reactor is blocked.
WALK_LIMIT = 0.005

#: The pause after a walk, as a multiple of how long the walk took.
WALK_PAUSES = 20

#: Remembered ids of no directory: cgroups that were removed, or that we cannot see.
UNKNOWN_LIMIT = 1024


@implementer(ICgroups)
class CgroupTree:
    """
    @ivar mount: see L{ICgroups}.
    @param seconds: the clock.
    """

    def __init__(self, mount: str, seconds: Callable[[], float]) -> None:
        self.mount = mount
        self._seconds = seconds
        self._paths: dict[int, str] = {}
        self._unknown: set[int] = set()
        self._ended = 0.0
        self._pause = 0.0

    def pathOf(self, identity: int) -> str:
        """See L{ICgroups.pathOf}."""
        path = self._paths.get(identity)
        if path is not None:
            return path
        if not identity or not self.mount or identity in self._unknown:
            return ""
        now = self._seconds()
        if 0 <= now - self._ended < self._pause:
            return ""
        if self._walk(now + WALK_LIMIT) and identity not in self._paths:
            # The kernel never reuses an id.
            if len(self._unknown) >= UNKNOWN_LIMIT:
                self._unknown.clear()
            self._unknown.add(identity)
        self._ended = self._seconds()
        self._pause = WALK_PAUSES * (self._ended - now)
        return self._paths.get(identity, "")

    def members(self, path: str) -> list[int] | None:
        """See L{ICgroups.members}."""
        try:
            with open(f"{self.mount}{path}/cgroup.procs") as lines:
                return [int(line) for line in lines]
        except (OSError, ValueError):
            return None

    def _walk(self, deadline: float) -> bool:
        """
        Read the tree from the root down, level by level.

        @return: whether all of it was read before the deadline.
        """
        try:
            found = {os.stat(self.mount).st_ino: "/"}
        except OSError:
            return True
        level = [""]
        while level:
            below: list[str] = []
            for path in level:
                if self._seconds() > deadline or len(found) >= CGROUP_LIMIT:
                    self._paths.update(found)
                    return False
                for name, inode in _directories(f"{self.mount}{path}"):
                    found[inode] = f"{path}/{name}"
                    below.append(f"{path}/{name}")
            level = below
        self._paths = found
        return True


def _directories(path: str) -> list[tuple[str, int]]:
    try:
        with os.scandir(path) as entries:
            return [
                (entry.name, entry.inode())
                for entry in entries
                if entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        # Removed in the meantime.
        return []
