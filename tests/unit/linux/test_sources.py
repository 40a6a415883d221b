"""Tests of L{nanotun.linux.sources}."""

from __future__ import annotations

import os
import socket
from ipaddress import ip_network
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import UpstreamError
from nanotun.linux.network import Address
from nanotun.linux.sources import LegRoute, Sources, legRoute

PEER = ("192.0.2.1", 1080)
#: Addresses on two links.
OWN = {"192.0.2.7": "up0", "192.0.2.8": "up0", "198.51.100.7": "up1", "2001:db8::7": "up1"}


class FakeSocket:
    """Sends from the address that the kernel would choose."""

    def __init__(self, case: SourcesTests) -> None:
        self._case = case

    def __enter__(self) -> FakeSocket:
        return self

    def __exit__(self, *details: object) -> None:
        """Close it."""

    def connect(self, peer: Any) -> None:
        """Note it."""
        self._case.asked.append(peer)
        if not self._case.chosen:
            raise OSError

    def getsockname(self) -> tuple[str, int]:
        """The address chosen."""
        return (self._case.chosen, 5)


class SourcesTests(SynchronousTestCase):
    """L{Sources}."""

    def setUp(self) -> None:
        self.chosen = ""
        self.asked: list[Any] = []
        self.own = dict(OWN)

    def read(self) -> list[Address]:
        """The machine's addresses."""
        return [Address(link, host, ip_network(host)) for host, link in self.own.items()]

    def moved(self, local: str, chosen: str) -> bool:
        """Whether a leg from one address has moved if the kernel chooses the other."""
        self.chosen = chosen
        sources = Sources(lambda family: FakeSocket(self), self.read)  # type: ignore[arg-type,return-value]
        return sources.moved(LegRoute(socket.AF_INET, local, PEER))

    def test_same(self) -> None:
        """The same source has not moved."""
        self.assertFalse(self.moved("192.0.2.7", "192.0.2.7"))

    def test_otherLink(self) -> None:
        """Where the way out is another interface, a leg has moved, even with its address there."""
        self.assertTrue(self.moved("192.0.2.7", "198.51.100.7"))

    def test_sameLink(self) -> None:
        """Another address of the same interface, such as a temporary one, is no move."""
        self.assertFalse(self.moved("192.0.2.7", "192.0.2.8"))

    def test_gone(self) -> None:
        """A leg whose address has left has moved, even on the same interface."""
        del self.own["192.0.2.7"]
        self.assertTrue(self.moved("192.0.2.7", "192.0.2.8"))

    def test_noWay(self) -> None:
        """While there is no way at all, nothing has moved: the old one may come back."""
        del self.own["192.0.2.7"]
        self.assertFalse(self.moved("192.0.2.7", ""))

    def test_noSocket(self) -> None:
        """The same holds where no socket can be made."""

        def refuse(family: int) -> socket.socket:
            raise UpstreamError("There are no sockets left.")

        route = LegRoute(socket.AF_INET, "192.0.2.7", PEER)
        self.assertFalse(Sources(refuse, self.read).moved(route))

    def test_onceForEachPeer(self) -> None:
        """The kernel is asked once for each peer."""
        self.chosen = "198.51.100.7"
        sources = Sources(lambda family: FakeSocket(self), self.read)  # type: ignore[arg-type,return-value]
        for local in ("192.0.2.7", "192.0.2.8"):
            for port in (1, 2):
                peer = ("192.0.2.1", port)
                self.assertTrue(sources.moved(LegRoute(socket.AF_INET, local, peer)))
        self.assertEqual(self.asked, [("192.0.2.1", 1), ("192.0.2.1", 2)])


class LegRouteTests(SynchronousTestCase):
    """L{legRoute}."""

    def test_connected(self) -> None:
        """The addresses of a connected socket are read, and it stays open."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as leg:
            self.assertIs(legRoute(leg.fileno()), None)
            leg.connect(("127.0.0.1", 9))
            for _ in range(2):
                route = legRoute(leg.fileno())
                self.assertEqual(route, (socket.AF_INET, "127.0.0.1", ("127.0.0.1", 9)))

    def test_noSocket(self) -> None:
        """What is no socket has none."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        self.assertIs(legRoute(reading), None)
