"""
The rate of queries that the cache cannot answer, by the protocol in which the DNS relay asks and
by the way to the server: C{python -m benchmarks.encrypted}.

Unbound answers over UDP, TCP, TLS and HTTPS; dnsperf asks the relay over UDP, each name once.  The
relay has one connection to the server, through dante, through a proxy in Go, or past them.  The
last row is dnsperf straight at unbound, on one connection, too; but not over HTTPS, where it now
and then hears none of the answers to come (much as in DNS-OARC/dnsperf#240).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.goproxies import ThreadedSocks
from benchmarks.noise import Noise, waitForQuiet
from tests.e2e.case import missing
from tests.e2e.lab import tlsfront
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.nameserver import PATH, TLS_PORT, Unbound, dnsperf, writeQueries
from tests.e2e.lab.process import LabError
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.topology import IPV4, Lab

ROUNDS = 3
SECONDS = 4.0

NAMES = 200_000
"""Each is asked for once; more than one measurement needs."""

CLIENTS = 16
OUTSTANDING = 100

LOSS_LIMIT = 0.001
"""Share of the queries that may be lost for a rate to count."""


NAME = "dns.lab"

SCHEMES = {"UDP": "udp", "TCP": "tcp", "TLS": "tls", "HTTPS": "https"}

STRAIGHT = {
    "UDP": ("-c", str(CLIENTS)),
    "TCP": ("-m", "tcp", "-c", "1"),
    "TLS": ("-m", "dot", "-p", str(TLS_PORT), "-c", "1"),
}
"""How dnsperf asks unbound itself."""

PAST, DANTE, GO, ALONE = "past the proxies", "dante", "a proxy in Go", "dnsperf alone"

UNMEASURED = {(GO, "UDP"), (ALONE, "HTTPS")}
"""That proxy has no UDP; for the other see the module."""


class Figure(NamedTuple):
    """
    One measurement.

    @ivar rate: queries per second.
    @ivar cpu: microseconds of the daemon's for each.
    @ivar noise: the share of the machine that others used, 0 to 1.
    """

    rate: float
    cpu: float
    noise: float


class Encrypted:
    """The laboratory."""

    def __init__(
        self,
        stack: contextlib.ExitStack,
        ways: list[str],
        seconds: float,
        patience: float,
        engine: str,
    ) -> None:
        """
        @param stack: gets the clean-up.
        @param ways: those that will be measured.
        @param seconds: the length of each measurement.
        @param patience: seconds to wait for a quiet machine before each.
        """
        self._seconds = seconds
        self._patience = patience
        self._engine = engine
        temporary = tempfile.TemporaryDirectory(prefix="nanotun-encrypted-")
        self._directory = directory = Path(stack.enter_context(temporary))
        self._queries = writeQueries(directory / "queries", NAMES)
        self._lab = lab = Lab()
        stack.callback(lab.remove)
        lab.openDirectPath()
        self._ca = tlsfront.authority(directory)
        shown = tlsfront.certificate(directory, self._ca, (f"DNS:{NAME}",))
        hosts = (IPV4.direct, IPV4.world)
        stack.callback(Unbound(lab.world, directory, hosts, log=False, shown=shown).stop)
        dante = Dante(lab.proxy, directory, log=False)
        stack.callback(dante.stop)
        if GO in ways:
            stack.callback(ThreadedSocks(lab.proxy, directory).stop)
        self._proxies = {DANTE: dante.url(), GO: f"socks5://{IPV4.proxy}:{ThreadedSocks.listens}"}
        self._daemons = 0

    def measure(self, way: str, protocol: str) -> Figure:
        """
        Measure one.

        @raise LabError: queries were lost, or something did not start.
        """
        if way == ALONE:
            return self._load(None, IPV4.direct, *STRAIGHT[protocol])
        self._daemons += 1
        daemon = Daemon(
            self._lab.app,
            self._directory / f"daemon-{self._daemons}",
            stackMode=self._engine,
            proxy=self._proxies.get(way, "direct://"),
            dns=[self._server(SCHEMES[protocol])],
            dnsVia="direct" if way == PAST else "proxy",
            dnsCache=False,
            connectTimeout="10s",
            logLevel="warn",
        )
        try:
            self._lab.routeThroughTunnel()
            return self._load(daemon, IPV4.gateway, "-c", str(CLIENTS))
        finally:
            daemon.stop()

    def _server(self, scheme: str) -> object:
        if scheme in ("udp", "tcp"):
            return f"{scheme}://{IPV4.world}"
        path = PATH if scheme == "https" else ""
        return {"server": f"{scheme}://{IPV4.world}{path}#{NAME}", "ca": str(self._ca.cert)}

    def _load(self, daemon: Daemon | None, server: str, *options: str) -> Figure:
        waitForQuiet(self._patience)
        spaces = (self._lab.app, self._lab.proxy, self._lab.world)
        noise = Noise({os.getpid(), *(pid for space in spaces for pid in space.processes())})
        before = daemon.cpu() if daemon else 0.0
        options = (*options, "-q", str(OUTSTANDING))
        got = dnsperf(self._lab.app, server, self._queries, self._seconds, *options)
        if got.loss > LOSS_LIMIT:
            raise LabError(f"{got.loss:.2%} of {got.sent} queries were lost")
        used = daemon.cpu() - before if daemon else 0.0
        return Figure(got.rate, used * 1e6 / got.completed, noise.share())


def table(found: dict[tuple[str, str], list[Figure]], ways: list[str], schemes: list[str]) -> str:
    """Medians as a Markdown table: the rate, and the daemon's microseconds for each query."""
    lines = [f"| queries/s (CPU of the daemon) | {' | '.join(schemes)} |"]
    lines.append("|---|" + "---|" * len(schemes))
    for way in ways:
        cells = []
        for scheme in schemes:
            figures = found.get((way, scheme))
            if not figures:
                cells.append("-")
                continue
            rate = statistics.median(figure.rate for figure in figures)
            cpu = statistics.median(figure.cpu for figure in figures)
            cells.append(f"{rate:,.0f}" + (f" ({cpu:.0f} us)" if cpu else ""))
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """
    Measure and print.

    @return: 0, or 1 if something could not be measured.
    """
    ways = [PAST, DANTE, GO, ALONE]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encrypted", description=__doc__)
    parser.add_argument("--ways", default=",".join(ways), help="default: %(default)s")
    parser.add_argument("--protocols", default=",".join(SCHEMES), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="default: %(default)s")
    parser.add_argument("--stack", choices=("gvisor", "simple"), default="gvisor")
    parser.add_argument("--wait", type=float, default=0.0, metavar="S", help="for a quiet machine")
    given = parser.parse_args(argv)
    reason = missing()
    if reason:
        print(f"encrypted: {reason}.", file=sys.stderr)
        return 1
    ways, schemes = given.ways.split(","), given.protocols.split(",")
    found: dict[tuple[str, str], list[Figure]] = {}
    failures: list[str] = []
    try:
        with contextlib.ExitStack() as stack:
            bench = Encrypted(stack, ways, given.seconds, given.wait, given.stack)
            for _ in range(given.rounds):
                for way, scheme in itertools.product(ways, schemes):
                    if (way, scheme) in UNMEASURED:
                        continue
                    try:
                        figure = bench.measure(way, scheme)
                    except LabError as error:
                        failures.append(f"{way}, {scheme}: {error}")
                        continue
                    print(f"{way}, {scheme}: {figure}", file=sys.stderr, flush=True)
                    found.setdefault((way, scheme), []).append(figure)
    except LabError as error:
        print(f"encrypted: {error}", file=sys.stderr)
        return 1
    print(f"Medians of {given.rounds} rounds of {given.seconds:g} s, {given.stack},", end=" ")
    print(f"{os.cpu_count()} cores.\n\n{table(found, ways, schemes)}\n")
    shares = [figure.noise for figures in found.values() for figure in figures]
    if shares:
        middle = statistics.median(shares)
        print(f"Others used {middle:.0%} of the machine; at most {max(shares):.0%}.")
    for failure in failures:
        print(f"FAILED {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
