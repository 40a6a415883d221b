"""
How much of the machine something else used while we measured.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

QUIET = 0.05
"""The share of the machine that others may use of what counts as quiet."""

QUIET_LOOK = 0.3
"""Seconds to look at the machine; shorter would see single clock ticks."""

_TICK = os.sysconf("SC_CLK_TCK")


def _busy() -> float:
    """Seconds of CPU that anyone has used since boot, steal included."""
    fields = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    idle = fields[3] + fields[4]
    # guest and guest_nice (the last two) are part of user and nice already
    return (sum(fields[:8]) - idle) / _TICK


def _used(pids: set[int]) -> float:
    """Seconds of CPU that these processes and their ended children have used."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += sum(int(field) for field in fields[11:15])
    return total / _TICK


def waitForQuiet(limit: float) -> None:
    """Wait until hardly anything runs, while nothing of ours does, for C{limit} seconds at most."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        noise = Noise({os.getpid()})
        time.sleep(QUIET_LOOK)
        if noise.share() < QUIET:
            return


class Noise:
    """
    The share of the machine that others used between making this and asking.

    Packet work in softirqs counts as the process's that it interrupted, so a
    quiet machine reads as a few percent.
    """

    def __init__(self, pids: set[int]) -> None:
        """@param pids: our processes; those that they start count as well."""
        self._pids = pids
        self._time = time.monotonic()
        self._start = _busy(), _used(pids)

    def share(self) -> float:
        """0 for a quiet machine, 1 for one that others used wholly."""
        wall = (time.monotonic() - self._time) * (os.cpu_count() or 1)
        others = _busy() - self._start[0] - (_used(self._pids) - self._start[1])
        return max(0.0, others) / wall if wall > 0 else 0.0
