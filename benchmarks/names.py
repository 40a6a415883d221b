"""
The cases of the DNS relay, measured by dnsperf with unbound as the server.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks import load
from benchmarks.setups import Opened
from tests.e2e.lab import nameserver
from tests.e2e.lab.process import LabError
from tests.e2e.lab.topology import IPV4

CLIENTS = 16
"""Sockets that send queries."""

OUTSTANDING = 100
"""Queries under way at a time, dnsperf's own default."""

DIFFERENT = 200_000
"""Names, each queried once; more than one measurement queries."""

SAME = 100
"""Names; all are in the cache after the first second."""

LOSS_LIMIT = 0.001
"""Share of the queries that may be lost for a rate to count as held."""

Measure = Callable[[Opened, load.Programs, float], float | None]


def queries(directory: Path, count: int) -> Path:
    """The file with that many names, written at the first call."""
    path = directory / f"names-{count}"
    return path if path.exists() else nameserver.writeQueries(path, count, f"of{count}")


def rate(figure: str, cached: bool) -> Measure:
    """
    The highest rate at which no query is lost.  There is no figure for setups with the
    proxy, because the relay does not use it.

    @param figure: the name under which the CPU time is stored for L{benchmarks.cases}.
    """

    def measure(opened: Opened, programs: load.Programs, seconds: float) -> float | None:
        if opened.setup.proxy:
            return None
        data = queries(programs.udp.parent, SAME if cached else DIFFERENT)
        server = IPV4.gateway if opened.daemon else IPV4.direct
        before = opened.daemon.cpu() if opened.daemon else 0.0
        found = nameserver.dnsperf(
            opened.lab.app, server, data, seconds, "-c", str(CLIENTS), "-q", str(OUTSTANDING)
        )
        if found.loss > LOSS_LIMIT:
            raise LabError(f"{found.loss:.2%} of {found.sent} queries were lost")
        if opened.daemon:
            opened.figures[figure] = (opened.daemon.cpu() - before) * 1e6 / found.completed
        return found.rate

    return measure
