"""
Several proxies, one of which stops working.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time

from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import CONNECT_SECONDS, Daemon
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import Microsocks, Proxy
from tests.e2e.lab.udp import echo

QUICK = CONNECT_SECONDS / 4
"""Seconds for a connection whose first proxy is missing or known to be down: one that hangs would
cost half of connectTimeout."""

HUNG_SECONDS = 8.0
"""A connectTimeout for a proxy that hangs."""

CHECKED = 15.0
"""Seconds within which a proxy's state is known that is watched: half of what is between two
checks."""


def repeat(connection: socket.socket) -> None:
    """Send back what arrives."""
    while data := connection.recv(4096):
        connection.sendall(data)


class SeveralChecks(TunnelCase):
    """Failover from a microsocks to a dante."""

    def microsocks(self) -> Proxy:
        """Start the first proxy."""
        server = Microsocks(self.lab.proxy, self.directory)
        self.addCleanup(server.stop)
        return server

    def assertWorks(self, port: int, seconds: float) -> socket.socket:
        """A new connection echoes, soon."""
        started = time.monotonic()
        sock = self.connect(port)
        self.assertLess(time.monotonic() - started, seconds)
        self.assertEchoes(sock)
        return sock

    def waitForLog(self, daemon: Daemon, sentence: str) -> None:
        """The daemon's log says so."""
        waitUntil(lambda: sentence in daemon.log(), PATIENCE, sentence)

    def test_killed(self) -> None:
        """
        No connection fails when the first proxy ends; once it is back, new connections use
        it, and those through the other one survive.
        """
        port = self.peer(repeat).port
        first, second = self.microsocks(), self.dante()
        daemon = self.daemon(proxy=[first.url(), second.url()], proxyCheckInterval="1s")
        self.assertWorks(port, QUICK)
        self.assertEqual(second.connects(), [])
        first.stop()
        live = [self.assertWorks(port, QUICK) for _ in range(5)]
        down = f"{first.url()} is down, new connections go by {second.url()}"
        self.waitForLog(daemon, down)
        self.microsocks()
        self.waitForLog(daemon, f"{first.url()} is back")
        before = len(second.connects())
        self.assertWorks(port, QUICK)
        self.assertEqual(len(second.connects()), before)
        for sock in live:
            self.assertEchoes(sock)
        # Each line is on stderr and in the log file.
        self.assertEqual(daemon.log().count("is back"), daemon.log().count("is down"))
        self.assertEndsWell(daemon)

    def test_hangs(self) -> None:
        """A first proxy that hangs costs some connections half of their time, then none."""
        port = self.peer(repeat).port
        first, second = self.microsocks(), self.dante()
        daemon = self.daemon(proxy=[first.url(), second.url()], connectTimeout=f"{HUNG_SECONDS:g}s")
        os.kill(first.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, first.pid, signal.SIGCONT)
        for _ in range(3):
            self.assertWorks(port, HUNG_SECONDS * 0.9)
        self.waitForLog(daemon, f"{first.url()} is down")
        self.assertWorks(port, QUICK)
        os.kill(first.pid, signal.SIGCONT)
        self.waitForLog(daemon, f"{first.url()} is back")

    def test_datagrams(self) -> None:
        """Datagrams go through the proxy that carries them."""
        server = self.udpServer(echo, self.family)
        self.daemon(proxy=[self.microsocks().url(), self.dante().url()])
        self.assertEchoes(self.datagrams(server.port))

    def test_allDown(self) -> None:
        """If all are down, the app is refused soon, and the first one that is back is used."""
        port = self.peer(repeat).port
        first, second = self.microsocks(), self.dante()
        daemon = self.daemon(proxy=[first.url(), second.url()], proxyCheckInterval="1s")
        first.stop()
        second.stop()
        self.waitForLog(daemon, "and so are all others")
        self.assertLess(self.connectError(port)[1], QUICK)
        self.microsocks()
        self.assertWorks(port, QUICK)

    def test_single(self) -> None:
        """
        Status says soon that the only proxy was killed, and that it is back, though no app
        connects.
        """
        first = self.microsocks()
        daemon = self.daemon(proxy=first.url())

        def health() -> tuple[str, str]:
            asked = time.monotonic()
            runDir = f"{daemon.directory}/run"
            done = say("status", "--json", "--run-dir", runDir)
            self.assertLess(time.monotonic() - asked, CHECKED)
            (proxy,) = json.loads(done.stdout)["upstream"]["proxies"]
            return proxy["health"], proxy["trouble"]

        self.assertEqual(health(), ("up", ""))
        first.stop()
        waitUntil(lambda: health()[0] == "down", CHECKED, "status says that it is down")
        self.assertIn("cannot be reached", health()[1])
        self.microsocks()
        waitUntil(lambda: health() == ("up", ""), CHECKED, "status says that it is back")


engines(globals(), SeveralChecks)
# Otherwise trial would run the base class, too.
del SeveralChecks
