"""
Who opens the legs of connections: the engine, by a decision about each or by an earlier one, or
Python.
"""

from __future__ import annotations

import errno
import json
import socket
import struct
from typing import Any

from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import Daemon, writeConfig
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.topology import FAMILIES

REFUSED_PORT = 7000


class PathChecks(TunnelCase):
    """What must hold for the ways in which connections are made, with each engine."""

    def paths(self, daemon: Daemon) -> dict[str, int]:
        """How many connections were made in which way."""
        verdicts = self.status(daemon)["verdicts"]
        self.assertEqual(verdicts["rules"]["default"], self.asked)
        found: dict[str, int] = verdicts["paths"]
        return found

    def status(self, daemon: Daemon) -> Any:
        """What C{nanotun status --json} says."""
        done = say("status", "--json", "--run-dir", str(daemon.directory / "run"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return json.loads(done.stdout)

    def setUp(self) -> None:
        """A server that sends what it hears back."""
        super().setUp()
        self.asked = 0

        def echo(sock: socket.socket) -> None:
            while data := sock.recv(65536):
                sock.sendall(data)

        self.server = self.peer(echo)

    def use(self, port: int) -> None:
        """Use a connection, with each IP version."""
        for family in FAMILIES:
            self.asked += 1
            with self.lab.app.connect((family.world, port), 10.0) as sock:
                self.assertEchoes(sock)

    def test_standing(self) -> None:
        """
        The engine asks about the first two connections to a destination, and makes the others by
        itself, each of which counts; once the settings change it asks again.
        """
        url = self.dante().url()
        daemon = self.daemon(proxy=url)
        for _ in range(5):
            self.use(self.server.port)
        self.assertEqual(self.paths(daemon), {"engine": 4, "standing": 6, "general": 0})
        writeConfig(
            daemon.directory, {"stackMode": self.stackMode, "proxy": url, "logLevel": "debug"}
        )
        self.assertEqual(say("reload", "--run-dir", f"{daemon.directory}/run").returncode, 0)
        for _ in range(3):
            self.use(self.server.port)
        self.assertEqual(self.paths(daemon), {"engine": 10, "standing": 6, "general": 0})
        self.assertEndsWell(daemon)

    def test_refused(self) -> None:
        """
        What the proxy says of a destination reaches the app in the same way whoever has asked.
        """
        daemon = self.tunnel()
        for _ in range(5):
            for family in FAMILIES:
                self.asked += 1
                with self.assertRaises(OSError) as caught:
                    self.lab.app.connect((family.world, REFUSED_PORT), 10.0)
                self.assertEqual(caught.exception.errno, errno.ECONNREFUSED)
        self.assertEqual(self.paths(daemon), {"engine": 0, "standing": 0, "general": 0})

    def test_reset(self) -> None:
        """
        Connections that the app resets, in whatever state, leave nothing behind.
        """
        daemon = self.tunnel()
        for _ in range(20):
            sock = self.lab.app.connect((self.family.world, self.server.port), 10.0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        waitUntil(
            lambda: not self.status(daemon)["engine"]["flows"]["open"],
            PATIENCE,
            "the end of all flows",
        )


engines(globals(), PathChecks)

del PathChecks
