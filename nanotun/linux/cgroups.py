"""
Where the hierarchy of cgroup version 2 is mounted (cgroups(7)), and what systemd makes in it.
"""

from __future__ import annotations

import re

MOUNTS = "/proc/self/mountinfo"


def cgroupMount(mounts: str = MOUNTS) -> str:
    """
    The folder where cgroup version 2 is mounted; empty if it is not.

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

    @param text: of C{/proc/self/mountinfo} (proc(5)): the mount point is the fifth
        field, and the file system's type the first one behind a hyphen.
    """
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if after.startswith("cgroup2 ") and len(fields) > 4:
            # Blanks and backslashes are written in octal.
            return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[4])
    return ""


def unitOf(path: str) -> str:
    """
    The systemd unit of the processes in a control group, which is named like it: the innermost
    service or scope.  Empty for none.

    @param path: below the root of cgroup version 2.
    """
    parts = reversed(path.split("/"))
    return next((each for each in parts if each.endswith((".service", ".scope"))), "")
