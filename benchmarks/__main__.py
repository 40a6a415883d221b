"""
The command line: C{python -m benchmarks --help}.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import load, report
from benchmarks.cases import CASES, Case
from benchmarks.goproxies import FastSocks, TlsProxy
from benchmarks.noise import Noise, waitForQuiet
from benchmarks.setups import ASKED, DANTE, FAST, HTTPS, SETUPS, Opened, Setup
from tests.e2e.case import missing
from tests.e2e.lab.nameserver import Unbound
from tests.e2e.lab.process import LabError
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.servers import Iperf
from tests.e2e.lab.topology import IPV4, Lab

ROUNDS = 3
SECONDS = 1.5
"""Length of each measurement; with L{ROUNDS} all of them take about eight minutes."""

QUICK_ROUNDS = 1
QUICK_SECONDS = 1.0


class Bench:
    """The laboratory, with everything that the setups need."""

    def __init__(self, stack: contextlib.ExitStack, seconds: float, patience: float) -> None:
        """
        @param stack: gets the clean-up.
        @param seconds: the length of each measurement.
        @param patience: seconds to wait for a quiet machine before each.
        """
        self._patience = patience
        temporary = tempfile.TemporaryDirectory(prefix="nanotun-bench-")
        self._directory = Path(stack.enter_context(temporary))
        self._seconds = seconds
        self._programs = load.compiled(self._directory)
        self._lab = Lab()
        stack.callback(self._lab.remove)
        self._lab.openDirectPath()
        stack.callback(load.server(self._lab.world, self._programs, self._directory).stop)
        stack.callback(load.udpServer(self._lab.world, self._programs, self._directory).stop)
        hosts = (IPV4.world, IPV4.direct)
        stack.callback(Unbound(self._lab.world, self._directory, hosts, log=False).stop)
        stack.callback(Iperf(self._lab.world, self._directory, load.IPERF_PORT).stop)
        dante = Dante(self._lab.proxy, self._directory, log=False)
        stack.callback(dante.stop)
        fast = FastSocks(self._lab.proxy, self._directory)
        stack.callback(fast.stop)
        https = TlsProxy(self._lab.proxy, self._directory)
        stack.callback(https.stop)
        self._proxies = {DANTE: dante.port, FAST: fast.port, HTTPS: https.port}
        self._runs = 0

    def round(self, setup: Setup, cases: Sequence[Case]) -> list[report.Figure]:
        """Open a setup, measure each case in it, and close it."""
        self._runs += 1
        try:
            opened = Opened(setup, self._lab, self._proxies, self._directory / f"run-{self._runs}")
        except LabError as error:
            return [report.Figure(case.name, setup.name, None, 0.0, str(error)) for case in cases]
        try:
            return [self._measure(opened, case) for case in cases]
        finally:
            opened.close()

    def _measure(self, opened: Opened, case: Case) -> report.Figure:
        waitForQuiet(self._patience)
        noise = Noise(self._pids())
        try:
            value, error = case.measure(opened, self._programs, self._seconds), ""
        except LabError as failure:
            value, error = None, str(failure)
        share = 0.0 if value is None else noise.share()
        return report.Figure(case.name, opened.setup.name, value, share, error)

    def _pids(self) -> set[int]:
        lab = self._lab
        found = {os.getpid()}
        for namespace in (lab.app, lab.proxy, lab.world):
            found.update(namespace.processes())
        return found


def chosen(parser: argparse.ArgumentParser, names: str, known: Sequence[str]) -> set[str]:
    """The names in a comma-separated list; a prefix means all names that begin with it."""
    found: set[str] = set()
    for name in filter(None, names.split(",")):
        hits = {each for each in known if each == name} or {x for x in known if x.startswith(name)}
        if not hits:
            parser.error(f"{name} is none of {', '.join(known)}")
        found |= hits
    return found


def arguments(argv: list[str] | None) -> tuple[list[Case], list[Setup], int, float, float]:
    """Read the command line: cases, setups, rounds, seconds and patience."""
    known = (*SETUPS, *ASKED)
    cases, setups = [case.name for case in CASES], [setup.name for setup in known]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--cases", default="", help=f"some of {', '.join(cases)}, or prefixes")
    parser.add_argument(
        "--setups",
        default="",
        help=f"some of {', '.join(setups)}, or prefixes; default the first {len(SETUPS)}",
    )
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}; the setups take turns")
    parser.add_argument("--seconds", type=float, help=f"of one measurement; default {SECONDS:g}")
    parser.add_argument("--quick", action="store_true", help="one short round, without iperf3")
    parser.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="S",
        help="seconds to wait, before each measurement, for a quiet machine; default 0",
    )
    given = parser.parse_args(argv)
    default = [name for name in cases if not (given.quick and name.startswith("iperf3"))]
    wantedCases = chosen(parser, given.cases, cases) or set(default)
    wantedSetups = chosen(parser, given.setups, setups) or {setup.name for setup in SETUPS}
    return (
        [case for case in CASES if case.name in wantedCases],
        [setup for setup in known if setup.name in wantedSetups],
        given.rounds or (QUICK_ROUNDS if given.quick else ROUNDS),
        given.seconds or (QUICK_SECONDS if given.quick else SECONDS),
        given.wait,
    )


def main(argv: list[str] | None = None) -> int:
    """
    Measure and print.

    @return: 0, or 1 if something could not be measured.
    """
    cases, setups, rounds, seconds, patience = arguments(argv)
    reason = missing()
    if reason:
        print(f"benchmarks: {reason}.", file=sys.stderr)
        return 1
    figures: list[report.Figure] = []
    started = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:
            bench = Bench(stack, seconds, patience)
            for number in range(rounds):
                for setup in setups:
                    print(
                        f"round {number + 1} of {rounds}: {setup.name}", file=sys.stderr, flush=True
                    )
                    figures += bench.round(setup, cases)
    except LabError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("benchmarks: interrupted; these are the figures so far.", file=sys.stderr)
    print(f"Medians of {rounds} rounds of {seconds:g} s, {os.cpu_count()} cores, MTU 1500.\n")
    print(report.table(figures, cases, setups))
    shares = report.ratios(figures, cases, setups)
    if shares:
        print(f"\nCompared with the same setup without the tunnel:\n\n{shares}")
    print(f"\n{report.notes(figures, cases)}\n- the run took {time.monotonic() - started:.0f} s")
    return 1 if any(figure.error for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
