"""
What a rule about processes costs new processes: C{python -m benchmarks.newcomers}.

Processes that are just started make one connection each through the tunnel, one after the
other and in a crowd: without such a rule, with one and the kernel's record of sockets, and
with one but without the record.  The setups take turns, so that a busy machine is as busy
for each.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from pathlib import Path
from unittest import mock

from benchmarks import load
from tests.e2e.case import missing
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import LabError, run
from tests.e2e.lab.proxies import Microsocks
from tests.e2e.lab.topology import IPV4, Lab

ONE_BY_ONE = 1000

CROWD = 3000

AT_ONCE = 200

ROUNDS = 5

#: No program has this name.
RULE = {"excludedProcesses": ["nobody-has-this-name"]}

#: Takes the rights that the record needs.
UNRECORDED = ("setpriv", "--bounding-set", "-bpf,-sys_admin")

SETUPS: dict[str, tuple[dict[str, object], tuple[str, ...]]] = {
    "no rule about processes": ({}, ()),
    "a rule": (dict(RULE), ()),
    "a rule, no record": (dict(RULE), UNRECORDED),
}


def measure(stack: contextlib.ExitStack, rounds: int) -> dict[str, list[list[float]]]:
    """
    Measure all setups.

    @return: for each setup and each round the median of single processes, the median and
        99th percentile of those in the crowd, in milliseconds, and the daemon's processor
        time for each of the crowd in microseconds.
    @raise LabError: something did not come up, or a connection failed.
    """
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nanotun-new-")))
    programs = load.compiled(directory)
    source = Path(__file__).with_name("newcomers.c")
    newcomers = str(directory / "newcomers")
    run(["gcc", "-O2", "-Wall", "-static", "-o", newcomers, str(source)], timeout=60)
    lab = Lab()
    stack.callback(lab.remove)
    proxy = Microsocks(lab.proxy, directory)
    stack.callback(proxy.stop)
    stack.callback(load.server(lab.world, programs, directory).stop)
    figures: dict[str, list[list[float]]] = {name: [] for name in SETUPS}
    argv = lab.app.argv
    for number in range(rounds):
        for name, (settings, prefix) in SETUPS.items():
            with mock.patch.object(lab.app, "argv", lambda command, p=prefix: argv([*p, *command])):
                daemon = Daemon(
                    lab.app,
                    directory / f"{number}-{name.replace(' ', '-')}",
                    proxy=f"socks5://{IPV4.proxy}:{proxy.port}",
                    logLevel="warn",
                    connectTimeout="10s",
                    **settings,
                )
            try:
                lab.routeThroughTunnel()
                row = []
                for count, atOnce in ((ONE_BY_ONE, 1), (CROWD, AT_ONCE)):
                    command = [newcomers, IPV4.world, str(load.PORT), str(count), str(atOnce)]
                    before = daemon.cpu()
                    found = load.measure(lab.app, command, 60)
                    spent = (daemon.cpu() - before) / count * 1e6
                    row += [found["median"], found["p99"], spent]
            finally:
                daemon.stop()
            figures[name].append([row[0], *row[3:]])
    return figures


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.newcomers")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args(argv)
    reason = missing()
    if reason:
        print(f"newcomers: {reason}.", file=sys.stderr)
        return 1
    try:
        with contextlib.ExitStack() as stack:
            figures = measure(stack, given.rounds)
    except LabError as error:
        print(f"newcomers: {error}", file=sys.stderr)
        return 1
    print(
        f"| | one by one: p50 ms | {CROWD:,}, {AT_ONCE} at a time: p50, p99 ms | daemon, us each |"
    )
    print("|---|---|---|---|")
    for name, rows in figures.items():
        one, median, p99, spent = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"| {name} | {one:.2f} | {median:.0f}, {p99:.0f} | {spent:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
