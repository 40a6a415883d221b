"""
Tests for L{nanotun.routing.reconciler}; most of what it does is tested with the routes.
"""

from __future__ import annotations

from pathlib import Path

from nanotun.errors import RoutingError
from nanotun.routing.firewall.resolvconf import ResolvConfFile
from nanotun.routing.routes import Routes
from tests.unit.routing.routing_cases import RoutesCase

BEFORE = "nameserver 127.0.0.11\n"


class AskingAsBeforeTests(RoutesCase):
    """
    Where a daemon with a kill switch was killed, and has left the relay as the only server.

    @ivar file: which names the server.
    @ivar asked: of each lookup, what the file said.
    """

    def setUp(self) -> None:
        """Leave that, and have the next start fail."""
        super().setUp()
        self.path = Path(self.mktemp())
        self.path.write_text(BEFORE)
        self.file = ResolvConfFile("/run/nanotun", str(self.path))
        self.asked: list[str] = []
        self.routes(killSwitch=True).start()
        self.file.apply()
        self.fails.add("do other")
        self.extra = ["other"]

    def started(self) -> Routes:
        """The routes of the daemon that is started next."""
        routes = self.routes(killSwitch=True)
        routes._reconciler._changes.files = lambda runDir: [self.file]
        routes._exceptions._lookUpNow = self.look
        return routes

    def look(self, name: str) -> list[str]:
        """Look a proxy's name up."""
        self.asked.append(self.path.read_text())
        return self.addresses

    def test_failed(self) -> None:
        """
        The servers from before are asked for the proxy's name, and nobody after that, if the
        start fails and its kill switch stays closed.
        """
        self.assertRaises(RoutingError, self.started().start)
        self.assertEqual(self.asked, [BEFORE])
        self.assertTrue(self.file.holds())

    def test_broken(self) -> None:
        """So it is if the lookup itself breaks."""
        routes = self.started()
        routes._exceptions.readNow = lambda: 1 // 0  # type: ignore[method-assign, assignment]
        self.assertRaises(ZeroDivisionError, routes.start)
        self.assertTrue(self.file.holds())

    def test_address(self) -> None:
        """Nobody has to be asked for an address."""
        routes = self.started()
        routes._exceptions.setHosts(["192.0.2.1"])
        self.patch(self.file, "undo", lambda: self.fail("the file was put back"))
        self.assertRaises(RoutingError, routes.start)
        self.assertTrue(self.file.holds())
