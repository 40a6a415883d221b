"""
Where the hierarchy of cgroup version 2 is mounted (cgroups(7)), and what systemd makes in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

MOUNTS = "/proc/self/mountinfo"


def cgroupMount(mounts: str = MOUNTS) -> str:
    """
    The folder where cgroup version 2 is mounted; empty if it is not, or if another mount hides
    it, as a unit's C{InaccessiblePaths=}.

    @param mounts: a file like C{/proc/self/mountinfo}.
    """
    try:
        with open(mounts, encoding="utf-8", errors="surrogateescape") as file:
            return findMount(file.read())
    except OSError:
        return ""


def findMount(text: str) -> str:
    """
    As L{cgroupMount}.

    @param text: of C{/proc/self/mountinfo} (proc(5)): a mount's number, its parent's, and the
        mount point as the fifth field; the file system's type is the first one behind a hyphen.
    """
    mounts: dict[str, _Mount] = {}
    # Not splitlines(): the kernel writes line breaks of Unicode's as they are.
    for line in text.split("\n"):
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) > 4:
            mounts[fields[0]] = _Mount(fields[0], fields[1], fields[4], after.partition(" ")[0])
    for mount in mounts.values():
        if mount.type == "cgroup2" and not _isHidden(mount, mounts):
            # Blanks and backslashes are written in octal.
            return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), mount.point)
    return ""


class _Mount(NamedTuple):
    number: str
    parent: str
    point: str
    type: str

    def covers(self, other: _Mount) -> bool:
        """Whether it lies over all of the other mount, or over where that one is mounted."""
        if self.parent == other.number:
            return self.point == other.point
        return self.parent == other.parent and other.point.startswith(f"{self.point}/")


def _isHidden(mount: _Mount, mounts: Mapping[str, _Mount]) -> bool:
    """Whether another mount covers it, or what it is mounted in, so that no path leads there."""
    seen = set()
    here: _Mount | None = mount
    while here is not None and here.number not in seen:
        seen.add(here.number)
        if any(each.number not in seen and each.covers(here) for each in mounts.values()):
            return True
        here = mounts.get(here.parent)
    return False


def unitOf(path: str) -> str:
    """
    The systemd unit of the processes in a control group, which is named like it: the innermost
    service or scope.  Empty for none.

    @param path: below the root of cgroup version 2.
    """
    parts = reversed(path.split("/"))
    return next((each for each in parts if each.endswith((".service", ".scope"))), "")
