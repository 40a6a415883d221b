"""
What this process takes of the machine, from proc(5).
"""

from __future__ import annotations

import os
import re


def resources() -> dict[str, int]:
    """
    @return: C{rss} in bytes, C{fds} and C{threads}.  What cannot be read is left out.
    """
    found: dict[str, int] = {}
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            text = file.read()
        # The listing itself is one of them.
        found["fds"] = len(os.listdir("/proc/self/fd")) - 1
    except OSError:
        return found
    rss = re.search(r"^VmRSS:\s+(\d+) kB$", text, re.M)
    threads = re.search(r"^Threads:\s+(\d+)$", text, re.M)
    if rss:
        found["rss"] = int(rss.group(1)) * 1024
    if threads:
        found["threads"] = int(threads.group(1))
    return found
