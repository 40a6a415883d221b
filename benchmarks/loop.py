"""
Crowds through a proxy on the same machine as the daemon: C{python -m benchmarks.loop}.

All traffic of a host is routed into the tunnel, including the proxy's.  Each connection of
an app causes one connection of the proxy, and must not cause more, however many there are
at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.e2e.case import missing
from tests.e2e.lab.crowd import Answers, Echo, ask
from tests.e2e.lab.host import HOST4, HostLab
from tests.e2e.lab.localproxies import KINDS, UNRECORDED, RoutedHost
from tests.e2e.lab.process import LabError

FLOWS = 5000

AT_ONCE = (100, 500)

STILL = 10.0
"""Seconds after the end of the app when nothing may move any more."""

WATCHED = 3.0
"""Seconds for which it is watched then."""


class Row(NamedTuple):
    """
    One crowd.

    @ivar created: flows that went to the proxy.
    @ivar reached: connections that reached the server.
    @ivar moving: flows that were open, or came, after L{STILL} seconds.
    """

    name: str
    atOnce: int
    asked: int
    answers: Answers
    created: int
    reached: int
    refused: int
    moving: int

    @property
    def good(self) -> bool:
        """Whether each connection led to one, and all is quiet again."""
        counts = {self.asked, self.answers.answered, self.created, self.reached}
        return len(counts) == 1 and not self.refused and not self.moving

    def __str__(self) -> str:
        p50, p99 = (f"{seconds * 1000:,.0f}" for seconds in (self.answers.p50, self.answers.p99))
        cells = [self.name, f"{self.atOnce}", f"{self.asked:,}", f"{self.created:,}"]
        cells += [f"{self.refused + self.answers.failed}", f"{p50}, {p99}", f"{self.moving}"]
        return f"| {' | '.join(cells)} |"


HEAD = (
    "| proxy | at once | asked | created | refused | p50, p99 ms | moving after 10 s |\n"
    "|---|---|---|---|---|---|---|"
)


class Bench:
    """A host with a proxy, a daemon that routes all through it, and a server elsewhere."""

    def __init__(self, stack: contextlib.ExitStack, kind: str, record: bool) -> None:
        """
        @param kind: one of L{KINDS}.
        @param record: whether the daemon may have the kernel record who makes sockets.
        @raise LabError: something did not come up.
        """
        self._name = kind if record else f"{kind}, no record"
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nanotun-loop-")))
        self._lab = HostLab()
        stack.callback(self._lab.remove)
        self._echo = Echo(self._lab.world, directory)
        stack.callback(self._echo.stop)
        proxy = KINDS[kind](self._lab, directory, stack)
        # Ten thousand lines a minute would be measured as well.
        self.daemon = RoutedHost(
            self._lab, directory, proxy, () if record else UNRECORDED, logLevel="info"
        )
        stack.callback(self.daemon.stop)

    def crowd(self, count: int, atOnce: int) -> Row:
        """Send one crowd through the proxy."""
        before, accepted = self.daemon.report(), self._echo.accepted()
        answers = ask(self._lab.host, HOST4.world, self._echo.port, count, atOnce)
        time.sleep(STILL)
        after, reached = self.daemon.report(), self._echo.accepted()
        time.sleep(WATCHED)
        later = self.daemon.report()
        flows = [report["engine"]["flows"] for report in (before, after, later)]
        return Row(
            self._name,
            atOnce,
            count,
            answers,
            _proxied(after) - _proxied(before),
            reached - accepted,
            flows[1]["refused"] - flows[0]["refused"],
            flows[2]["total"] - flows[1]["total"] + flows[2]["open"] + flows[2]["deciding"],
        )


def _proxied(report: Mapping[str, Any]) -> int:
    return int(report["verdicts"]["verdicts"].get("proxy", 0))


def main(argv: list[str] | None = None) -> int:
    """
    Measure and print.

    @return: 0, or 1 where a row is not as it should be.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop")
    parser.add_argument("--proxy", choices=sorted(KINDS), nargs="*", default=[*KINDS])
    parser.add_argument("--flows", type=int, default=FLOWS)
    parser.add_argument("--at-once", type=int, nargs="*", default=AT_ONCE)
    parser.add_argument(
        "--no-record",
        action="store_true",
        help="do without the kernel's record of who makes sockets, as on older kernels",
    )
    given = parser.parse_args(argv)
    reason = missing()
    if reason:
        print(f"loop: {reason}.", file=sys.stderr)
        return 1
    good = True
    print(HEAD)
    for kind in given.proxy:
        try:
            with contextlib.ExitStack() as stack:
                bench = Bench(stack, kind, not given.no_record)
                for atOnce in given.at_once:
                    row = bench.crowd(given.flows, atOnce)
                    print(row, flush=True)
                    if not row.good:
                        good = False
                        print(f"{row!r}\n{bench.daemon.output()[-4000:]}", file=sys.stderr)
        except LabError as error:
            print(f"loop: {error}", file=sys.stderr)
            good = False
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
