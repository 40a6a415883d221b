"""
Tells how much of the machine other programs used during a measurement.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

QUIET = 0.05
"""The share of the machine that others may use while it counts as quiet."""

QUIET_LOOK = 0.3
"""Seconds to observe the machine; a shorter time would show single clock ticks."""

_TICK = os.sysconf("SC_CLK_TCK")


def _busy() -> float:
    """Seconds of CPU used since boot by anything, including steal."""
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
    """Wait until the machine is quiet, while nothing of ours runs; at most C{limit} seconds."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        noise = Noise({os.getpid()})
        time.sleep(QUIET_LOOK)
        if noise.share() < QUIET:
            return


class Noise:
    """
    Measures the share of the machine that others use from now on.

    The kernel charges packet work in softirqs to the process that they interrupt, so a
    quiet machine shows a few percent.
    """

    def __init__(self, pids: set[int]) -> None:
        """@param pids: our processes; their children count as ours."""
        self._pids = pids
        self._time = time.monotonic()
        self._start = _busy(), _used(pids)

    def share(self) -> float:
        """From 0, a quiet machine, to 1, a machine that others used completely."""
        wall = (time.monotonic() - self._time) * (os.cpu_count() or 1)
        others = _busy() - self._start[0] - (_used(self._pids) - self._start[1])
        return max(0.0, others) / wall if wall > 0 else 0.0
