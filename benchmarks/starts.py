"""
Whether a daemon that is started and stopped leaves anything behind:
C{python -m benchmarks.starts [--times N]}.

A daemon with C{autoDefaultRoute} is started and stopped (SIGTERM and SIGINT alternately)
under load; every third time at a random moment of its start.  Each time it has to end
in time, and rules, routes, tables, settings and C{runDir} have to be restored exactly.
Now and then a second daemon is started beside the first one; it has to fail, change
nothing, and name the process that runs.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.crash import LATEST_KILL, Bench
from tests.e2e.case import missing
from tests.e2e.lab.daemon import START_SECONDS, collectLogs
from tests.e2e.lab.process import Child

TIMES = 500

PROMISE = 3.0
"""Seconds from a signal to the end.  A daemon that is still starting ends after that."""


class Starts:
    """
    Starts and stops daemons.

    @ivar failures: what was not as required, one line each.
    @ivar longest: the longest time from a signal to the end, in seconds.
    """

    def __init__(self, bench: Bench) -> None:
        self.failures: list[str] = []
        self.longest = 0.0
        self._bench = bench

    def one(self, number: int) -> None:
        """Start and stop once, and check what is left."""
        bench = self._bench
        early = number % 3 == 2
        if early:
            child = bench.launch()
            time.sleep(random.uniform(0.0, LATEST_KILL))
        else:
            child = bench.daemon()
            if number % 10 == 0:
                self._second(number, child)
        sign = (signal.SIGTERM, signal.SIGINT)[number % 2]
        started = time.monotonic()
        child.stop(sign, timeout=START_SECONDS)
        taken = time.monotonic() - started
        self.longest = max(self.longest, taken)
        if taken > PROMISE:
            self.failures.append(f"{number}: it took {taken:.1f} s to end")
        files = {path.name for path in (bench.directory / "run").glob("*")} - {"lock"}
        if bench.lab.state() != bench.before or files:
            self.failures.append(f"{number}: left behind: {files}\n{bench.lab.state()}")
            bench.recover()

    def _second(self, number: int, first: Child) -> None:
        bench = self._bench
        state = bench.lab.state()
        second = bench.launch()
        status = second.wait(START_SECONDS)
        told = collectLogs(bench.where)
        if status == 0 or f"process {first.pid} " not in told or bench.lab.state() != state:
            self.failures.append(f"{number}: the second daemon ended with {status}: {told}")


def main() -> int:
    """Measure and print; returns 1 if anything was not as required."""
    parser = argparse.ArgumentParser(description="whether starts and stops leave anything behind")
    parser.add_argument("--times", type=int, default=TIMES)
    options = parser.parse_args()
    reason = missing()
    if reason:
        print(f"This cannot run: {reason}.")
        return 1
    # A background job of a shell ignores SIGINT, and so would the daemons.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        starts = Starts(bench)
        try:
            for number in range(options.times):
                starts.one(number)
        finally:
            bench.close()
    for failure in starts.failures:
        print(failure)
    print(
        f"{options.times} starts and stops: {len(starts.failures)} not as required, "
        f"the longest stop {starts.longest:.2f} s"
    )
    return 1 if starts.failures else 0


if __name__ == "__main__":
    sys.exit(main())
