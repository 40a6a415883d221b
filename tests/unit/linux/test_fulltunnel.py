"""Tests of L{nanotun.linux.fulltunnel}."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux.fulltunnel import LIMIT, FullTunnel, hasServerRoute, hasUplink
from nanotun.linux.markedroute import MAX_AGE
from nanotun.linux.network import TABLE_MAIN, TUNNELS, KernelRoute, Link

SOMEWHERE4, SOMEWHERE6, SERVER, OTHER = "8.8.8.8", "2001:4860::1", "45.45.45.2", "45.45.45.9"


class RouteTests(SynchronousTestCase):
    """L{hasServerRoute} and L{hasUplink}."""

    def test_server(self) -> None:
        """One public host by another link is a VPN's server; nothing else is."""
        for network, link, table, expected in (
            ("45.45.45.2/32", "up0", TABLE_MAIN, True),
            ("45.45.45.2/32", "ppp0", TABLE_MAIN, True),
            ("2600:45::2/128", "up0", TABLE_MAIN, True),
            ("45.45.45.2/32", "tunv", TABLE_MAIN, False),
            ("45.45.45.2/32", "nano0", TABLE_MAIN, False),
            ("45.45.45.2/32", "up0", 52, False),
            ("45.45.45.0/24", "up0", TABLE_MAIN, False),
            ("169.254.169.254/32", "up0", TABLE_MAIN, False),
            ("10.8.0.5/32", "up0", TABLE_MAIN, False),
        ):
            route = KernelRoute(table, ip_network(network), link)
            self.assertIs(hasServerRoute((route,), ("tunv", "nano0")), expected, network)
            self.assertIs(hasUplink((route,), ("tunv", "nano0")), expected, network)

    def test_uplink(self) -> None:
        """Below a VPN there is another default route, or the route to its server."""
        for network, link, table, expected in (
            ("0.0.0.0/0", "up0", TABLE_MAIN, True),
            ("::/0", "up0", TABLE_MAIN, True),
            ("0.0.0.0/0", "ppp0", TABLE_MAIN, False),
            ("0.0.0.0/0", "nano0", TABLE_MAIN, False),
            ("0.0.0.0/0", "up0", 52, False),
            ("10.0.0.0/8", "up0", TABLE_MAIN, False),
        ):
            route = KernelRoute(table, ip_network(network), link)
            self.assertIs(hasUplink((route,), ("ppp0", "nano0")), expected, network)


class FullTunnelTests(SynchronousTestCase):
    """L{FullTunnel}; 1 is the uplink, 2 the other VPN, 3 our device."""

    def setUp(self) -> None:
        """Make what the tests use: a VPN that has the default route of IPv4."""
        self.clock = Clock()
        self.links = {
            1: Link(1, "up0", "", 1500, True),
            2: Link(2, "tunv", "tun", 1500, True),
            3: Link(3, "nano0", "tun", 1500, True),
        }
        self.routes = {SOMEWHERE4: 2, SOMEWHERE6: 1, SERVER: 1, OTHER: 2}
        self.asked: list[int] = []
        self.broken = False
        self.tunnel = FullTunnel(
            lambda host: self.routes.get(host, 0),
            (SOMEWHERE4, SOMEWHERE6),
            "nano0",
            self.clock.seconds,
            self.linkOf,
        )

    def linkOf(self, index: int) -> Link | None:
        """A link of the machine's."""
        self.asked.append(index)
        if self.broken:
            raise OSError(12, "no memory")
        return self.links.get(index)

    def test_past(self) -> None:
        """Only what the VPN has routed past itself is past it."""
        self.assertEqual(self.tunnel.current(), self.links[2])
        self.assertEqual(self.tunnel.past(SERVER), self.links[2])
        self.assertIsNone(self.tunnel.past(OTHER))
        self.assertIsNone(self.tunnel.past("192.0.2.1"))
        self.routes[SERVER] = 3
        self.assertIsNone(self.tunnel.past(SERVER))

    def test_family(self) -> None:
        """One family is enough: the server may be in the other one."""
        self.routes = {SOMEWHERE4: 1, SOMEWHERE6: 2, SERVER: 1}
        self.assertEqual(self.tunnel.past(SERVER), self.links[2])

    def test_none(self) -> None:
        """An uplink is no VPN, nor is our own device, nor no route at all."""
        for index in (1, 3, 0, 99):
            self.routes[SOMEWHERE4] = index
            self.assertIsNone(self.tunnel.current(), index)
            self.assertIsNone(self.tunnel.past(SERVER), index)

    def test_kinds(self) -> None:
        """Every kind of tunnel counts."""
        for kind in TUNNELS:
            self.links[2] = self.links[2]._replace(kind=kind)
            self.tunnel.forget()
            self.assertEqual(self.tunnel.past(SERVER), self.links[2])

    def test_remembered(self) -> None:
        """A link is asked for once, for a limited time, or until something changes."""
        for _ in range(3):
            self.tunnel.past(SERVER)
        self.assertEqual(self.asked, [2, 1])
        self.clock.advance(MAX_AGE)
        self.tunnel.current()
        self.tunnel.forget()
        self.tunnel.current()
        self.assertEqual(self.asked, [2, 1, 2, 2])

    def test_bounded(self) -> None:
        """The number of remembered links is bounded."""
        for number in range(1, 3 * LIMIT):
            self.routes[SOMEWHERE4] = number
            self.tunnel.current()
        self.assertLessEqual(len(self.tunnel._links), LIMIT)

    def test_broken(self) -> None:
        """If the kernel cannot be asked, there is no VPN, and it is asked again."""
        self.broken = True
        self.assertIsNone(self.tunnel.current())
        self.broken = False
        self.assertIsNotNone(self.tunnel.current())
