"""
Tests for L{wrapDatagram} and L{unwrapDatagram}, with bytes from RFC 1928, section 7.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Endpoint
from nanotun.interfaces import unwrapDatagram, wrapDatagram

SERVER4 = Endpoint("192.0.2.1", 53)
SERVER6 = Endpoint("2001:db8::1", 53)
HEADER4 = bytes.fromhex("00000001 c0000201 0035")
HEADER6 = bytes.fromhex("00000004 20010db8000000000000000000000001 0035")


class DatagramHeaderTests(SynchronousTestCase):
    """See the module."""

    def test_wrap(self) -> None:
        """The header has the destination's address and port, and the payload follows."""
        self.assertEqual(wrapDatagram(SERVER4, b"x"), HEADER4 + b"x")
        self.assertEqual(wrapDatagram(SERVER6, b"x"), HEADER6 + b"x")

    def test_unwrap(self) -> None:
        """Source and payload are read, and the reserved bytes are not looked at."""
        self.assertEqual(unwrapDatagram(HEADER4 + b"x"), (SERVER4, b"x"))
        self.assertEqual(unwrapDatagram(HEADER6), (SERVER6, b""))
        self.assertEqual(unwrapDatagram(b"\1\2" + HEADER4[2:]), (SERVER4, b""))

    def test_mapped(self) -> None:
        """An IPv4 address that is written as an IPv6 one is the IPv4 address."""
        mapped = bytes.fromhex("00000004 00000000000000000000ffffc0000201 0035")
        self.assertEqual(unwrapDatagram(mapped + b"x"), (SERVER4, b"x"))

    def test_wrong(self) -> None:
        """A fragment, a source that is a name, and what is cut short are nothing."""
        for header in (HEADER4, HEADER6):
            for length in range(len(header)):
                self.assertIsNone(unwrapDatagram(header[:length]))
        for kind in ("0101", "0003", "0000", "0009"):
            self.assertIsNone(unwrapDatagram(bytes.fromhex(f"0000{kind}") + bytes(40)))
