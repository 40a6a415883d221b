"""Tests of L{nanotun.web.server}."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from nanotun.flow import Endpoint
from nanotun.interfaces import IPart
from nanotun.rundir import WEB_TOKEN
from nanotun.web.events import EventSources
from nanotun.web.server import CONNECTION_LIMIT, WebServer
from tests.unit.web.web_cases import WHERE, WebCase, Wire


class WebServerTests(WebCase):
    """L{WebServer}."""

    def setUp(self) -> None:
        """A directory."""
        super().setUp()
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir(mode=0o755)
        self.directory.chmod(0o755)
        self.path = str(self.directory / "web.sock")
        self.reactor: Any = MemoryReactorClock()
        self.peer = 0

    def server(self, where: Endpoint | str = WHERE) -> WebServer:
        """A part that is not started."""
        sources = EventSources(self.traffic, self.daemon.each, self.newLines)
        return WebServer(
            where, str(self.directory), self.daemon, sources, self.reactor, lambda _: self.peer
        )

    def test_part(self) -> None:
        """It is a part; once started it listens where it should, and the token is there."""
        server = self.server()
        verifyObject(IPart, server)
        self.assertEqual(os.listdir(self.directory), [])
        server.start()
        ((port, _, _, host),) = self.reactor.tcpServers
        self.assertEqual(Endpoint(host, port), WHERE)
        token = self.directory / WEB_TOKEN
        self.assertEqual(stat.S_IMODE(token.stat().st_mode), 0o600)
        server.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_socket(self) -> None:
        """
        A unix socket is root's alone; one that was left is replaced, and nothing else is.
        """
        left = socket.socket(socket.AF_UNIX)
        left.bind(self.path)
        left.listen()
        self.server(self.path).start()
        self.assertTrue(os.path.lexists(self.path))
        self.reactor.unixServers.clear()
        left.close()
        self.server(self.path).start()
        ((path, _, _, mode, _),) = self.reactor.unixServers
        self.assertEqual((path, mode, os.path.lexists(path)), (self.path, 0o600, False))
        Path(self.path).write_text("a file of the user's")
        self.server(self.path).start()
        self.assertTrue(os.path.lexists(self.path))

    def test_peers(self) -> None:
        """On the socket only root and the daemon's user are heard, whatever its mode becomes."""
        self.server(self.path).start()
        factory = self.reactor.unixServers[0][1]
        for uid, aborted in ((0, False), (os.geteuid(), False), (65534, True)):
            self.peer = uid
            wire = Wire()
            factory.buildProtocol(None).makeConnection(wire)
            self.assertEqual(wire.aborted, aborted, uid)

    def test_many(self) -> None:
        """One connection too many closes the oldest."""
        self.server().start()
        factory = self.reactor.tcpServers[0][1]
        wires = [Wire() for _ in range(CONNECTION_LIMIT + 1)]
        for wire in wires:
            factory.buildProtocol(None).makeConnection(wire)
        self.assertEqual([each.aborted for each in wires], [True] + [False] * CONNECTION_LIMIT)

    def test_burst(self) -> None:
        """However many come before the reactor closes the first, as many are kept."""
        self.server().start()
        factory = self.reactor.tcpServers[0][1]
        wires = [Wire() for _ in range(CONNECTION_LIMIT + 5)]
        for wire in wires:
            factory.buildProtocol(None).makeConnection(wire)
        aborted = [each.aborted for each in wires]
        self.assertEqual(aborted, [True] * 5 + [False] * CONNECTION_LIMIT)

    def test_strangers(self) -> None:
        """Connections of users who are not heard close nobody else's."""
        self.server(self.path).start()
        factory = self.reactor.unixServers[0][1]
        wires = [Wire() for _ in range(CONNECTION_LIMIT)]
        for wire in wires:
            factory.buildProtocol(None).makeConnection(wire)
        self.peer = 65534
        for _ in range(CONNECTION_LIMIT):
            factory.buildProtocol(None).makeConnection(Wire())
        self.assertFalse(any(each.aborted for each in wires))

    def test_taken(self) -> None:
        """Where somebody else listens, the daemon does without it, and says so."""

        def listenTCP(port: int, factory: object, interface: str = "") -> None:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))

        self.patch(self.reactor, "listenTCP", listenTCP)
        server = self.server()
        with capturedLogs() as logged:
            server.start()
        (line,) = map(formatEvent, logged)
        self.assertIn("cannot be served at 127.0.0.1:8198", line)
        self.assertIn("Address already in use", line)
        self.assertIs(server.stop(), None)

    def test_badToken(self) -> None:
        """With a token that everybody can read nothing is served."""
        (self.directory / WEB_TOKEN).write_text("a-token-of-the-test")
        (self.directory / WEB_TOKEN).chmod(0o644)
        with capturedLogs() as logged:
            self.server().start()
        self.assertIn("can be read by everybody", formatEvent(logged[0]))
        self.assertEqual(self.reactor.tcpServers, [])
