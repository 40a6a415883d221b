"""
What is measured of the DNS relay: by dnsperf, against unbound in the world.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks import load
from benchmarks.paths import Opened
from tests.e2e.lab import nameserver
from tests.e2e.lab.process import LabError
from tests.e2e.lab.topology import IPV4

CLIENTS = 16
"""Sockets that ask."""

OUTSTANDING = 100
"""Queries under way at a time, dnsperf's own default."""

DIFFERENT = 200_000
"""Names that are asked for once each; more than are asked for in one measurement."""

SAME = 100
"""Names that are in the cache, once the first second has passed."""

LOSS_LIMIT = 0.001
"""Share of the queries that may be lost for a rate to count as held."""

Measure = Callable[[Opened, load.Programs, float], float | None]


def queries(directory: Path, count: int) -> Path:
    """The file with that many names, made once."""
    path = directory / f"names-{count}"
    return path if path.exists() else nameserver.writeQueries(path, count, f"of{count}")


def rate(figure: str, cached: bool) -> Measure:
    """
    The highest rate at which no query is lost.  Meaningless where only the proxy
    differs: the relay does not use it.

    @param figure: under this the CPU is kept for L{cpu}.
    """

    def measure(way: Opened, programs: load.Programs, seconds: float) -> float | None:
        if way.way.dante:
            return None
        data = queries(programs.udp.parent, SAME if cached else DIFFERENT)
        server = IPV4.gateway if way.daemon else IPV4.direct
        before = way.daemon.cpu() if way.daemon else 0.0
        found = nameserver.dnsperf(
            way.lab.app, server, data, seconds, "-c", str(CLIENTS), "-q", str(OUTSTANDING)
        )
        if found.loss > LOSS_LIMIT:
            raise LabError(f"{found.loss:.2%} of {found.sent} queries were lost")
        if way.daemon:
            way.figures[figure] = (way.daemon.cpu() - before) * 1e6 / found.completed
        return found.rate

    return measure


def cpu(figure: str) -> Measure:
    """The daemon's CPU for each query of the measurement before, in microseconds."""

    def measure(way: Opened, programs: load.Programs, seconds: float) -> float | None:
        return way.figures.get(figure)

    return measure
