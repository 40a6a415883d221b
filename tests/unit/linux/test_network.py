"""
Tests for L{nanotun.linux.network}.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux.netlink import messages
from nanotun.linux.network import (
    Address,
    KernelRoute,
    Link,
    NextHop,
    addresses,
    nextHops,
    packRouteRequest,
    readAddress,
    readInterface,
    readLink,
    readNetwork,
    readNextHop,
    readRoute,
    routes,
)
from tests.unit.linux.rtnetlink_cases import attribute, message, routeAnswer

NAMES = {7: "up0"}


def packed(host: str) -> bytes:
    """An address's bytes."""
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


class RouteTests(SynchronousTestCase):
    """Tests for L{readRoute}."""

    def read(
        self, table: int = 28276, length: int = 0, kind: int = 1, more: bytes = b""
    ) -> KernelRoute | None:
        """A route by up0, read from its message."""
        short = table if table < 256 else 252
        body = struct.pack("=8BI", 2, length, 0, 0, short, 110, 0, kind, 0)
        body += attribute(15, struct.pack("=I", table)) + attribute(7, b"\1\2\3")
        data = message(24, body + attribute(4, struct.pack("=I", 7)) + more)
        (found,) = messages(data)
        return readRoute(data, found, NAMES)

    def test_default(self) -> None:
        """A default route has table, protocol and interface."""
        expected = KernelRoute(28276, ip_network("0.0.0.0/0"), "up0", 110)
        self.assertEqual(self.read(), expected)
        self.assertTrue(expected.isDefault)

    def test_network(self) -> None:
        """A destination is a network; a small table's number fits the header."""
        found = self.read(254, 24, more=attribute(1, packed("192.0.2.0")))
        self.assertEqual(found, KernelRoute(254, ip_network("192.0.2.0/24"), "up0", 110))
        self.assertFalse(found is None or found.isDefault)

    def test_hops(self) -> None:
        """Several next hops are all named; bytes that make no sense end them."""
        first = struct.pack("=HBBi", 16, 0, 0, 7) + attribute(5, packed("192.0.2.1"))
        for rest, names in (
            (struct.pack("=HBBi", 8, 0, 0, 9), ("up0", "")),
            (struct.pack("=HBBi", 7, 0, 0, 7), ("up0",)),
            (b"1234567", ("up0",)),
        ):
            found = self.read(more=attribute(9, first + rest))
            self.assertEqual(found and found.hops, names)

    def test_others(self) -> None:
        """Only unicast routes of IPv4 and IPv6 are read."""
        self.assertIsNone(self.read(kind=7))
        data = message(24, struct.pack("=8BI", 128, 0, 0, 0, 254, 0, 0, 1, 0))
        (found,) = messages(data)
        self.assertIsNone(readRoute(data, found, NAMES))

    def test_garbage(self) -> None:
        """An attribute without a length ends the message."""
        body = struct.pack("=8BI", 10, 0, 0, 0, 252, 110, 0, 1, 0) + b"\0" * 8
        data = message(24, body)
        (found,) = messages(data)
        self.assertEqual(
            readRoute(data, found, NAMES), KernelRoute(252, ip_network("::/0"), "", 110)
        )

    def test_kernel(self) -> None:
        """Anybody may ask the kernel, and a table that there is not is empty."""
        for family in (socket.AF_INET, socket.AF_INET6):
            self.assertEqual(routes(family, 0x7FFFFFF1), ())


class AddressTests(SynchronousTestCase):
    """Tests for L{readAddress}."""

    def read(self, own: str, length: int, other: str = "", scope: int = 0) -> Address | None:
        """An address of up0, read from its message."""
        family = 10 if ":" in own else 2
        body = struct.pack("=4BI", family, length, 0, scope, 7)
        body += attribute(1, packed(other or own))
        if other or family == 2:
            body += attribute(2, packed(own))
        data = message(20, body)
        (found,) = messages(data)
        return readAddress(data, found, NAMES)

    def test_connected(self) -> None:
        """An address in a network connects the network."""
        for host, length, text in (
            ("192.168.1.7", 24, "192.168.1.0/24"),
            ("2001:db8::7", 64, "2001:db8::/64"),
        ):
            network = ip_network(text)
            self.assertEqual(self.read(host, length), Address("up0", host, network, network))

    def test_alone(self) -> None:
        """An address for itself connects nothing, nor does one of the link or the host."""
        for host, length, scope in (
            ("192.168.1.7", 32, 0),
            ("2001:db8::7", 128, 0),
            ("169.254.7.7", 16, 253),
            ("fe80::7", 64, 253),
            ("127.0.0.1", 8, 254),
        ):
            found = self.read(host, length, scope=scope)
            assert found is not None
            self.assertEqual((found.host, found.connected), (host, None))

    def test_peer(self) -> None:
        """In IPv4 the peer's network is connected, in IPv6 the address's own."""
        found = self.read("10.8.0.6", 32, "10.8.0.5")
        self.assertEqual(
            found,
            Address("up0", "10.8.0.6", ip_network("10.8.0.6/32"), ip_network("10.8.0.5/32")),
        )
        network = ip_network("2001:db8:1::/64")
        found = self.read("2001:db8:1::7", 64, "2001:db8:2::7")
        self.assertEqual(found, Address("up0", "2001:db8:1::7", network, network))

    def test_others(self) -> None:
        """An address of another family is none."""
        data = message(20, struct.pack("=4BI", 35, 0, 0, 0, 7) + attribute(2, b"\1"))
        (found,) = messages(data)
        self.assertIsNone(readAddress(data, found, NAMES))

    def test_kernel(self) -> None:
        """The loopback's address is this machine's."""
        self.assertIn(("lo", "127.0.0.1"), [each[:2] for each in addresses()])


class LinkTests(SynchronousTestCase):
    """Tests for L{readLink} and L{readNetwork}."""

    def test_read(self) -> None:
        """A link has name, driver, MTU and state."""
        body = struct.pack("=BxHiII", 0, 65534, 3, 0x11043, 0)
        body += attribute(3, b"nano0\0") + attribute(4, struct.pack("=I", 1420))
        hardware = message(16, body)
        driver = message(16, body + attribute(18, attribute(1, b"tun\0")))
        for data, kind in ((hardware, ""), (driver, "tun")):
            (found,) = messages(data)
            self.assertEqual(readLink(data, found), Link(3, "nano0", kind, 1420, True, True))

    def test_kernel(self) -> None:
        """All of this machine's interfaces are read, and its local routes are left out."""
        network = readNetwork()
        self.assertEqual(
            {each.name for each in network.links}, {name for _, name in socket.if_nameindex()}
        )
        loopback = network.link("lo")
        assert loopback is not None
        self.assertEqual(loopback.number, socket.if_nametoindex("lo"))
        self.assertGreater(loopback.mtu, 1280)
        self.assertNotIn(255, [each.table for each in network.routes])


class NextHopTests(SynchronousTestCase):
    """Tests for L{packRouteRequest}, L{readInterface}, L{readNextHop} and L{nextHops}."""

    def test_request(self) -> None:
        """The question as iproute2 asks it: C{ip route get 192.0.2.1 mark 0x6e74}."""
        expected = "0220000000000000 00000000 08000100c0000201 08001000746e0000"
        header = "2c0000001a000100" + "05000000" + "00000000"
        request = packRouteRequest("192.0.2.1", 0x6E74, 5)
        if sys.byteorder == "little":
            self.assertEqual(request.hex(), (header + expected).replace(" ", ""))
        self.assertEqual(len(packRouteRequest("2001:db8::1", 1, 1)), len(request) + 12)

    def test_interface(self) -> None:
        """The interface is read; no route, an error, or nonsense has none."""
        self.assertEqual(readInterface(routeAnswer(3, 1), 1), 3)
        self.assertEqual(readInterface(routeAnswer(3, 1, 2), 1), 0)
        zeros = message(24, bytes(83), 0)
        self.assertEqual(readInterface(zeros, 1), 0)

    def test_foreign(self) -> None:
        """The answer to another request is none; one that is cut off is an error."""
        self.assertIsNone(readInterface(routeAnswer(3, 1), 2))
        self.assertIsNone(readNextHop(routeAnswer(3, 1), 2))
        for length in (0, 3, 30):
            error = self.assertRaises(OSError, readInterface, routeAnswer(3, 1)[:length], 1)
            self.assertEqual(error.errno, errno.EBADMSG)

    def test_gateway(self) -> None:
        """The gateway is told, or that there is none."""
        self.assertEqual(readNextHop(routeAnswer(3, 1), 1), NextHop(3, "0.0.0.0"))
        self.assertEqual(readNextHop(routeAnswer(3, 1, 2), 1), NextHop(0, ""))
        body = struct.pack("=8BI", 10, 128, 0, 0, 254, 0, 0, 1, 0)
        body += attribute(4, struct.pack("=I", 7)) + attribute(5, packed("fe80::1"))
        self.assertEqual(readNextHop(message(24, body), 1), NextHop(7, "fe80::1"))

    def test_kernel(self) -> None:
        """The loopback leads to itself, and addresses without a route are left out."""
        loopback = NextHop(socket.if_nametoindex("lo"), "0.0.0.0")
        self.assertEqual(list(nextHops(("127.0.0.1", "127.0.0.1"), 0)), [loopback, loopback])
        self.assertEqual(list(nextHops((), 0)), [])
