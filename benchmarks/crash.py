"""
Whether a daemon that is killed leaves anything behind:
C{python -m benchmarks.crash [--times N] [--flaps N]}.

A daemon with C{autoDefaultRoute} is killed (SIGKILL) under load, alternately at a random
moment of its start and while it carries traffic.  Alternately C{nanotun recover}, or the
next start and stop, has to restore rules, routes, tables and settings exactly.  Then the
uplink goes down and up again, and traffic has to flow through the tunnel within 3 s.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.e2e.case import missing
from tests.e2e.lab import curl
from tests.e2e.lab.daemon import START_SECONDS, answers, collectLogs, launch
from tests.e2e.lab.host import DNS4, HOST4, HOST6, HostLab, Witness
from tests.e2e.lab.process import PROJECT_ROOT, Child, LabError, waitUntil
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.servers import WebServer
from tests.e2e.lab.topology import Family

TIMES = 200
FLAPS = 100
LOADERS = 3

LATEST_KILL = 1.5
"""Seconds after the launch; a start takes about a third of it."""

CARRYING = 0.3
"""Seconds at most for which a daemon carries traffic before it is killed."""

PROMISE = 3.0
"""Seconds in which traffic has to flow again after the uplink is back."""


class Bench:
    """The host, a proxy, a server, and a load."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lab = HostLab()
        self.before = self.lab.state()
        self.server = WebServer(self.lab.world, directory)
        self.proxy = Dante(
            self.lab.proxy,
            directory,
            internal=(HOST4.proxy, HOST6.proxy),
            external=(HOST4.proxyOutside, HOST6.proxyOutside),
        )
        self.settings = {
            "proxy": self.proxy.url(HOST4),
            "autoDefaultRoute": True,
            "dns": DNS4,
            "lan": "direct",
            "runDir": str(directory / "run"),
        }
        self._serial = 0
        self._stop = threading.Event()
        self._loaders = [threading.Thread(target=self._load, daemon=True) for _ in range(LOADERS)]
        for loader in self._loaders:
            loader.start()

    def _load(self) -> None:
        while not self._stop.is_set():
            self.asker(HOST4)
            self.asker(HOST6)

    def asker(self, family: Family = HOST4, timeout: float = 1.0) -> str:
        """The address from which the world sees the host's request, or nothing."""
        with contextlib.suppress(LabError):
            url = family.url(self.server.port, "/peer")
            return curl.get(self.lab.host, url, timeout=timeout)
        return ""

    def launch(self, **settings: object) -> Child:
        """Start a daemon without waiting."""
        self._serial += 1
        where = self.directory / f"daemon-{self._serial}"
        self.where = where
        return launch(self.lab.host, where, {**self.settings, **settings})

    def daemon(self, **settings: object) -> Child:
        """Start a daemon and wait until it is up."""
        child = self.launch(**settings)
        where = self.where
        waitUntil(lambda: "is up: engine" in collectLogs(where), START_SECONDS, "it is up")
        waitUntil(lambda: answers(self.lab.host, HOST4), START_SECONDS, "its reactor runs")
        return child

    def recover(self) -> None:
        """Run C{nanotun recover}."""
        program = "import sys; from nanotun.console import main; sys.exit(main())"
        runDir = str(self.directory / "run")
        path = f"PYTHONPATH={PROJECT_ROOT}"
        argv = ["env", path, sys.executable, "-c", program, "recover", "--run-dir", runDir]
        self.lab.host.run(argv)

    def crashes(self, times: int) -> tuple[int, int]:
        """
        Kill daemons and check what they leave behind.

        @return: how often something was left behind, and how often the daemon was
            killed before it was up.
        """
        left = early = 0
        for number in range(times):
            killSwitch = number % 8 in (1, 3)
            if number % 4 < 2:
                child = self.daemon(killSwitch=killSwitch)
                time.sleep(random.uniform(0.0, CARRYING))
            else:
                child = self.launch(killSwitch=killSwitch)
                time.sleep(random.uniform(0.0, LATEST_KILL))
            where = self.where
            child.stop(signal.SIGKILL)
            early += "is up: engine" not in collectLogs(where)
            if number % 2:
                self.recover()
            else:
                self.daemon().stop(signal.SIGTERM)
            files = {path.name for path in (self.directory / "run").glob("*")}
            # The next start replaces the socket of a killed daemon.
            files -= {"lock", "control.sock"}
            if self.lab.state() != self.before or files:
                left += 1
                print(f"after crash {number}: {files}\n{self.lab.state()}")
                self.recover()
        return left, early

    def flaps(self, times: int) -> tuple[int, float, int]:
        """
        Take the uplink down and up again.

        @return: how often traffic did not flow in time, the longest time that it took,
            and how many packets went around the tunnel.
        """
        child = self.daemon()
        witness = Witness(self.lab.host)
        late, longest = 0, 0.0
        for _ in range(times):
            self.lab.flap()
            started = time.monotonic()
            while self.asker() != HOST4.proxyOutside and time.monotonic() < started + 10:
                pass
            taken = time.monotonic() - started
            late += taken > PROMISE
            longest = max(longest, taken)
        seen = witness.to(HOST4.world, HOST6.world)
        for packet in seen:
            print(f"around the tunnel: {packet}")
        leaked = len(seen)
        witness.stop()
        child.stop(signal.SIGTERM)
        return late, longest, leaked

    def close(self) -> None:
        """Stop and remove everything."""
        self._stop.set()
        for loader in self._loaders:
            loader.join(5)
        self.server.stop()
        self.proxy.stop()
        self.lab.remove()


def main() -> int:
    """Measure and print; returns 1 if anything was not as required."""
    parser = argparse.ArgumentParser(description="whether a killed daemon leaves anything behind")
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--flaps", type=int, default=FLAPS)
    options = parser.parse_args()
    reason = missing()
    if reason:
        print(f"This cannot run: {reason}.")
        return 1
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        try:
            left, early = bench.crashes(options.times)
            print(f"{options.times} crashes ({early} before the start was over): {left} left")
            late, longest, leaked = bench.flaps(options.flaps)
            print(
                f"{options.flaps} flaps: {late} over {PROMISE:g} s, the longest {longest:.2f} s, "
                f"{leaked} packets around the tunnel"
            )
        finally:
            bench.close()
    return 1 if left or late or leaked else 0


if __name__ == "__main__":
    sys.exit(main())
