"""
Tests that take long: C{python -m benchmarks.soak --help}.

  dns          1,000 queries per second for a minute
  forger       a million forged answers by an attacker who knows the relay's port
  flows        100,000 UDP flows, each from its own socket, twice
  connections  100,000 TCP connections, 64 at a time, twice

Each prints its findings, and fails if a limit is exceeded.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import load
from benchmarks.goproxies import FastSocks
from tests.e2e.case import missing
from tests.e2e.lab import nameserver, toydns, udp
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.nameserver import Unbound
from tests.e2e.lab.process import LabError
from tests.e2e.lab.servers import Server
from tests.e2e.lab.topology import IPV4, Lab

LOSS_LIMIT = 0.001
"""Share of the queries that may be lost."""

FORGED_PER_QUERY = 0xFFFF
"""One answer for every id except the right one."""

RELAY_PORT = 1085
AT_ONCE = 64
"""Flows open at a time."""

UDP_TIMEOUT = 5.0
"""Seconds; the C{udpTimeout} setting."""

SETTLE_SECONDS = UDP_TIMEOUT + 10.0

ANSWER_SECONDS = 5.0

MEMORY_SECONDS = 5.0
"""Time for the heap to be returned to the system."""

MEMORY_MORE = 10
"""MiB by which memory may grow."""

LOAD_SECONDS = 2.0

THREADS_MORE = 4
"""Threads that Go's runtime may start for itself meanwhile."""


class Soak:
    """The laboratory, one daemon, and the failures that were found."""

    def __init__(self, stack: contextlib.ExitStack, given: argparse.Namespace) -> None:
        self._given = given
        self._stack = stack
        temporary = tempfile.TemporaryDirectory(prefix="nanotun-soak-")
        self._directory = Path(stack.enter_context(temporary))
        self._lab = Lab()
        stack.callback(self._lab.remove)
        self._lab.openDirectPath()
        self.failures: list[str] = []

    def _daemon(self, **settings: object) -> Daemon:
        daemon = Daemon(
            self._lab.app,
            self._directory / "daemon",
            stackMode=self._given.stack,
            logLevel="warn",
            **settings,
        )
        self._stack.callback(daemon.kill)
        self._lab.routeThroughTunnel()
        return daemon

    def _expect(self, condition: bool, text: str) -> None:
        print(f"{'ok  ' if condition else 'FAIL'} {text}", flush=True)
        if not condition:
            self.failures.append(text)

    def dns(self) -> None:
        """Put an even load on the relay, half of it answered from the cache."""
        server = Unbound(self._lab.world, self._directory, (IPV4.world,), log=False)
        self._stack.callback(server.stop)
        daemon = self._daemon(proxy="direct://", dns=[IPV4.world])
        rate, seconds = self._given.rate, self._given.seconds
        # Each name twice: once from the server, once from the cache.
        names = max(1, rate * seconds // 2)
        data = nameserver.writeQueries(self._directory / "names", names)
        before = daemon.cpu()
        found = nameserver.dnsperf(
            self._lab.app, IPV4.gateway, data, seconds, "-Q", str(rate), "-c", "20"
        )
        share = (daemon.cpu() - before) / seconds
        lost = found.sent - found.completed
        print(f"     {found.sent} queries in {seconds} s, {share:.0%} of a core")
        self._expect(found.loss < LOSS_LIMIT, f"{lost} lost, {found.loss:.3%}")

    def forger(self) -> None:
        """Send wrong ids by the million from the server's own address."""
        forger = toydns.Forger(FORGED_PER_QUERY)
        server = udp.UDPServer(self._lab.world, IPV4.world, forger, nameserver.PORT)
        self._stack.callback(server.stop)
        daemon = self._daemon(proxy="direct://", dns=[IPV4.world])
        memory, started, asked, right = daemon.rss(), time.monotonic(), 0, 0
        accepted: list[str] = []
        while forger.sent < self._given.count:
            got = nameserver.kdig(self._lab.app, IPV4.gateway, f"n{asked}.lab", "A", wait=10)
            asked += 1
            for answer in got:
                right += answer.data == [toydns.RIGHT]
                accepted += [each for each in answer.data if each != toydns.RIGHT]
        seconds = time.monotonic() - started
        more = (daemon.rss() - memory) / 1024 / 1024
        print(
            f"     {forger.sent} forged answers to {asked} queries in {seconds:.0f} s; "
            f"{right} were answered correctly; memory {more:+.1f} MiB"
        )
        self._expect(not accepted, f"{len(accepted)} accepted")

    def flows(self) -> None:
        """Open sockets that send one datagram, receive its echo and are closed."""
        world = udp.UDPServer(self._lab.world, IPV4.world, udp.echo)
        self._stack.callback(world.stop)
        argv = [sys.executable, "-m", "tests.e2e.lab.udprelay", str(RELAY_PORT)]
        relay = Server(self._lab.proxy, argv, RELAY_PORT, self._directory / "relay.log")
        self._stack.callback(relay.stop)
        daemon = self._daemon(
            proxy=f"socks5://{IPV4.proxy}:{RELAY_PORT}", udpTimeout=f"{UDP_TIMEOUT:g}s"
        )
        self._twice(daemon, partial(self._pass, world))

    def connections(self) -> None:
        """Connect, send a byte, receive one and close, through a proxy."""
        programs = load.compiled(self._directory)
        self._stack.callback(load.server(self._lab.world, programs, self._directory).stop)
        proxy = FastSocks(self._lab.proxy, self._directory)
        self._stack.callback(proxy.stop)
        daemon = self._daemon(proxy=f"socks5://{IPV4.proxy}:{proxy.port}")
        argv = [str(programs.tcp), "crr", IPV4.world, str(load.PORT), str(AT_ONCE)]

        def some(count: int) -> int:
            done = 0.0
            while done < count:
                rate = load.measure(self._lab.app, [*argv, f"{LOAD_SECONDS:g}"], LOAD_SECONDS)
                done += rate["rate"] * LOAD_SECONDS
            return count

        self._twice(daemon, some)
        report = json.loads(say("status", "--json", "--run-dir", f"{daemon.directory}/run").stdout)
        left = report["engine"]["flows"]
        for name in ("open", "deciding", "halfOpen"):
            self._expect(left[name] == 0, f"{left[name]} flows left ({name})")

    def _twice(self, daemon: Daemon, some: Callable[[int], int]) -> None:
        """
        Do something many times, twice, and see what is left of it.

        @param some: takes how many times, and returns how many of them succeeded.
        """
        fds, wanted = daemon.fds(), self._given.count
        # The heap reaches its size in the first run; growth after that would be a leak.
        some(wanted)
        self._settle(daemon, fds)
        time.sleep(MEMORY_SECONDS)
        threads, before = daemon.threads(), daemon.rss()
        started = time.monotonic()
        answered = some(wanted)
        seconds = time.monotonic() - started
        peak = daemon.fds()
        self._settle(daemon, fds)
        time.sleep(MEMORY_SECONDS)
        more = (daemon.rss() - before) / 1024 / 1024
        print(
            f"     {wanted} flows in {seconds:.0f} s, {wanted / seconds:.0f}/s; {peak} fds at the "
            f"end of it; memory {before / 1024 / 1024:.0f} MiB before, {more:+.1f} MiB after"
        )
        self._expect(answered == wanted, f"{wanted - answered} not answered")
        self._expect(daemon.fds() <= fds, f"fds {fds} before, {daemon.fds()} after")
        extra = daemon.threads() - threads
        self._expect(extra <= THREADS_MORE, f"threads {threads} before, {threads + extra} after")
        self._expect(more < MEMORY_MORE, f"memory {more:+.1f} MiB, {MEMORY_MORE} allowed")

    def _pass(self, world: udp.UDPServer, count: int) -> int:
        """Open this many flows; returns how many were answered."""
        answered = 0
        for start in range(0, count, AT_ONCE):
            socks = []
            for _ in range(min(AT_ONCE, count - start)):
                sock = self._lab.app.makeSocket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.settimeout(ANSWER_SECONDS)
                sock.connect((IPV4.world, world.port))
                sock.send(b"hello")
                socks.append(sock)
            for sock in socks:
                with contextlib.suppress(OSError):
                    answered += sock.recv(100) == b"hello"
                sock.close()
            world.heard.clear()
        return answered

    def _settle(self, daemon: Daemon, fds: int) -> None:
        end = time.monotonic() + SETTLE_SECONDS
        while daemon.fds() > fds and time.monotonic() < end:
            time.sleep(0.2)


def main(argv: list[str] | None = None) -> int:
    """
    Run one test.

    @return: 0 if it passed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("dns", "forger", "flows", "connections"))
    parser.add_argument("--stack", choices=("gvisor", "simple"), default="gvisor")
    parser.add_argument("--seconds", type=int, default=60, help="dns: how long")
    parser.add_argument("--rate", type=int, default=1000, help="dns: queries per second")
    parser.add_argument(
        "--count",
        type=int,
        help="forger: answers (1000000); flows, connections: how many (100000)",
    )
    given = parser.parse_args(argv)
    given.count = given.count or (1_000_000 if given.what == "forger" else 100_000)
    reason = missing()
    if reason:
        print(f"soak: {reason}.", file=sys.stderr)
        return 1
    try:
        with contextlib.ExitStack() as stack:
            soak = Soak(stack, given)
            print(f"{given.what}, {given.stack}, {os.cpu_count()} cores", flush=True)
            getattr(soak, given.what)()
            return 1 if soak.failures else 0
    except LabError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
