"""
Crowds of connections that nobody answers or completes, and everybody else meanwhile.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from nanotun.control.client import Client
from tests.e2e.case import TunnelCase, engines, enginesAndFamilies
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import PATIENCE, Child, waitUntil
from tests.e2e.lab.proxies import Microsocks

SILENT_PORT = 6881
"""Of the world; it drops what arrives there."""

CROWD = 3000
"""Connects under way of one program: more than its share."""

SHARE = 2048
"""What one program may have."""

MANY = f"""
import socket, sys, time, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))
sockets = [socket.socket() for _ in range({CROWD})]
for sock in sockets:
    sock.setblocking(False)
    sock.connect_ex((sys.argv[1], {SILENT_PORT}))
print("asked", flush=True)
time.sleep(60)
"""

HALF_OPEN_SECONDS = 10.0
"""After which a connection ends that the app does not complete."""


def statusOf(daemon: Daemon) -> Any:
    """The daemon's report."""
    with Client(str(daemon.directory / "run")) as client:
        return client.ask("status")


class CrowdChecks(TunnelCase):
    """One program with thousands of connects under way."""

    def test_program(self) -> None:
        """
        A connect of another program, of the same user or of another one, is answered within a
        second, and one line of the log says who has too many under way.
        """
        self.lab.filter(SILENT_PORT, "drop", "drop")
        proxy = Microsocks(self.lab.proxy, self.directory)
        self.addCleanup(proxy.stop)
        peer = self.peer(lambda connection: connection.recv(1))
        daemon = self.daemon(proxy=proxy.url(), connectTimeout="60s")
        crowd = Child(
            self.lab.app.argv([sys.executable, "-c", MANY, self.family.world]),
            self.directory / "many.log",
        )
        self.addCleanup(crowd.stop)
        waitUntil(lambda: "asked" in crowd.output(), PATIENCE, "the program has asked")
        waitUntil(
            lambda: statusOf(daemon)["engine"]["flows"]["deciding"] >= SHARE, PATIENCE, "they wait"
        )
        for _ in range(5):
            self.assertQuick(lambda: self.connect(peer.port).close(), 1.0)
        line = f"The programs of uid 0 have {SHARE} unanswered connections under way"
        waitUntil(lambda: line in daemon.log(), PATIENCE, "the line is written")
        written = {
            found for found in daemon.log().splitlines() if line in found and "more in" not in found
        }
        self.assertEqual(len(written), 1, written)


engines(globals(), CrowdChecks)


class HalfOpenChecks(TunnelCase):
    """Connections that the app asks for and does not complete."""

    def test_ends(self) -> None:
        """
        They are counted as half-open, end after ten seconds, and leave nothing behind.
        """
        count = 20
        peer = self.peer(lambda connection: connection.recv(1))
        daemon = self.tunnel()
        self.connect(peer.port).close()
        waitUntil(
            lambda: statusOf(daemon)["engine"]["flows"]["open"] == 0, PATIENCE, "it is closed"
        )
        fds = daemon.fds()
        self.lab.app.nft(
            "table inet silence {\nchain input {\ntype filter hook input priority -300;\n"
            'iifname "nano0" tcp flags & (syn|ack) == (syn|ack) counter drop\n}\n}\n'
        )
        sockets = [self.lab.app.makeSocket(self.family.af) for _ in range(count)]
        began = time.monotonic()
        for sock in sockets:
            sock.setblocking(False)
            sock.connect_ex((self.family.world, peer.port))
        waitUntil(
            lambda: statusOf(daemon)["engine"]["flows"]["halfOpen"] == count,
            PATIENCE,
            "all are half-open",
        )
        self.assertGreater(daemon.fds(), fds + count // 2)
        for sock in sockets:
            sock.close()  # without a word, as the app knows of no connection
        waitUntil(
            lambda: statusOf(daemon)["engine"]["flows"]["halfOpen"] == 0,
            HALF_OPEN_SECONDS + 2,
            "they have ended",
        )
        self.assertGreater(time.monotonic() - began, HALF_OPEN_SECONDS - 1)
        self.assertEqual(statusOf(daemon)["engine"]["drops"]["halfOpen"], count)
        waitUntil(lambda: daemon.fds() <= fds, PATIENCE, "their descriptors are closed")


enginesAndFamilies(globals(), HalfOpenChecks)
# Otherwise trial would run the base classes, too.
del CrowdChecks, HalfOpenChecks
