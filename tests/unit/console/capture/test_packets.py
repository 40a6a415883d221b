"""Tests of L{nanotun.console.capture.packets}."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from twisted.trial.unittest import SynchronousTestCase

from nanotun.console.capture.packets import FlowFinder, Key, begins, endpointsOf, keyOf
from nanotun.flow import Endpoint, Protocol
from tests.unit.console.capture.made import (
    ACK,
    APP4,
    APP6,
    FAR4,
    FAR6,
    SYN,
    captured,
    ip,
    tcp,
    udp,
)

TCP, UDP = Protocol.TCP, Protocol.UDP
ICMP, ICMP6 = 1, 58
MORE = 0x2000

FLOWS = (
    keyOf("tcp", f"{APP4}:50000", f"{FAR4}:443"),
    keyOf("tcp", f"[{APP6}]:50000", f"[{FAR6}]:443"),
    keyOf("udp", f"{APP4}:50000", f"{FAR4}:443"),
    keyOf("udp", f"[{APP6}]:50000", f"[{FAR6}]:443"),
)


def ends(key: Key) -> tuple[str, str]:
    """The two addresses of a flow."""
    return tuple(str(ip_address(each)) for each in (key[1], key[3]))  # type: ignore[return-value]


def up(key: Key, payload: bytes = b"hello") -> bytes:
    """A packet of the app's."""
    here, there = ends(key)
    transport = tcp(50000, 443, payload=payload) if key[0] == TCP else udp(50000, 443, payload)
    return ip(here, there, key[0], transport)


def down(key: Key) -> bytes:
    """A packet to the app."""
    here, there = ends(key)
    transport = tcp(443, 50000) if key[0] == TCP else udp(443, 50000)
    return ip(there, here, key[0], transport)


class FlowFinderTests(SynchronousTestCase):
    """L{FlowFinder}."""

    def setUp(self) -> None:
        self.finder = FlowFinder()

    def find(self, data: bytes, fromApp: bool = True) -> Key | None:
        """The flow of a packet."""
        return self.finder.keyOf(captured(data, fromApp))

    def test_directions(self) -> None:
        """Packets of both directions are of the flow that the daemon lists."""
        for key in FLOWS:
            self.assertEqual(self.find(up(key)), key)
            self.assertEqual(self.find(down(key), False), key)

    def test_options(self) -> None:
        """Options of IPv4 and extension headers of IPv6 are stepped over."""
        plain = up(FLOWS[0])
        self.assertEqual(self.find(b"\x47" + plain[1:20] + bytes(8) + plain[20:]), FLOWS[0])
        transport = up(FLOWS[1])[40:]
        # Hop-by-hop options of 16 bytes, then destination options of 8.
        extensions = bytes([60, 1]) + bytes(14) + bytes([TCP, 0]) + bytes(6)
        self.assertEqual(self.find(ip(APP6, FAR6, 0, extensions + transport)), FLOWS[1])

    def test_errors(self) -> None:
        """An ICMP error is of the flow that it quotes, whoever sends it."""
        for key in FLOWS:
            here, there = ends(key)
            protocol, kind = (ICMP6, 1) if ":" in here else (ICMP, 3)
            head = bytes([kind]) + bytes(7)
            self.assertEqual(self.find(ip(there, here, protocol, head + up(key)), False), key)
            self.assertEqual(self.find(ip(here, there, protocol, head + down(key))), key)

    def test_noFlow(self) -> None:
        """Pings, other protocols and what is cut short are of no flow."""
        echo = bytes([8]) + bytes(7) + up(FLOWS[0])
        quoting = bytes([3]) + bytes(7)
        for data in (
            b"",
            b"\x45",
            b"\x60",
            up(FLOWS[0])[:22],
            up(FLOWS[1])[:42],
            ip(APP4, FAR4, ICMP, echo),
            ip(APP4, FAR4, ICMP, quoting),
            # An error about an error: nobody sends that.
            ip(APP4, FAR4, ICMP, quoting + ip(FAR4, APP4, ICMP, quoting + up(FLOWS[0]))),
            ip(APP4, FAR4, 47, bytes(40)),
            ip(APP6, FAR6, 0, b""),
        ):
            self.assertIs(self.find(data), None, data)

    def test_fragments(self) -> None:
        """All fragments of a packet are of the flow that only the first one names."""
        whole = up(FLOWS[2], b"x" * 64)[20:]
        self.assertIs(self.find(ip(APP4, FAR4, UDP, whole[32:], 4)), None)
        self.assertEqual(self.find(ip(APP4, FAR4, UDP, whole[:32], MORE)), FLOWS[2])
        self.assertEqual(self.find(ip(APP4, FAR4, UDP, whole[32:], 4)), FLOWS[2])
        # Of another sender, or of another protocol.
        self.assertIs(self.find(ip(FAR4, APP4, UDP, whole[32:], 4), False), None)
        self.assertIs(self.find(ip(APP4, FAR4, TCP, whole[32:], 4)), None)

    def test_fragments6(self) -> None:
        """The same goes for IPv6."""
        whole = up(FLOWS[3], b"x" * 64)[40:]
        first = struct.pack("!BBHI", UDP, 0, 1, 7) + whole[:32]
        second = struct.pack("!BBHI", UDP, 0, 4 << 3, 7) + whole[32:]
        self.assertEqual(self.find(ip(APP6, FAR6, 44, first)), FLOWS[3])
        self.assertEqual(self.find(ip(APP6, FAR6, 44, second)), FLOWS[3])

    def test_fragmentsBounded(self) -> None:
        """Of packets whose last fragments never come the oldest are forgotten."""
        whole = up(FLOWS[3])[40:]
        for number in range(1025):
            self.find(ip(APP6, FAR6, 44, struct.pack("!BBHI", UDP, 0, 1, number) + whole))
        rest = [struct.pack("!BBHI", UDP, 0, 4 << 3, number) + whole for number in (0, 1)]
        self.assertEqual([self.find(ip(APP6, FAR6, 44, each)) for each in rest], [None, FLOWS[3]])


class FlowKeyTests(SynchronousTestCase):
    """The functions beside it."""

    def test_endpoints(self) -> None:
        """A key has the endpoints that it was made of."""
        self.assertEqual(endpointsOf(FLOWS[0]), (Endpoint(APP4, 50000), Endpoint(FAR4, 443)))
        self.assertEqual(endpointsOf(FLOWS[3]), (Endpoint(APP6, 50000), Endpoint(FAR6, 443)))

    def test_begins(self) -> None:
        """Only an app's SYN begins a connection."""
        for host, far, key in ((APP4, FAR4, FLOWS[0]), (APP6, FAR6, FLOWS[1])):
            for flags, expected in ((SYN, True), (ACK, False), (SYN | ACK, False)):
                packet = captured(ip(host, far, TCP, tcp(50000, 443, flags)))
                self.assertEqual(begins(packet, key), expected)
                self.assertFalse(begins(packet._replace(fromApp=False), key))
        self.assertFalse(begins(captured(up(FLOWS[2])), FLOWS[2]))
        self.assertFalse(begins(captured(b"\x45"), FLOWS[0]))
