"""
Tests for L{nanotun.gateway.dns.edns}.
"""

from __future__ import annotations

import random
import struct

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.edns import CLIENT_SUBNET, withoutOption
from tests.unit.gateway.gateway_cases import ask, edns, read

SUBNET = struct.pack("!HHHBB", CLIENT_SUBNET, 7, 1, 24, 0) + b"\xc0\0\2"
COOKIE = struct.pack("!HH", 10, 8) + b"12345678"


def without(wire: bytes) -> bytes:
    """The query without a client subnet."""
    return withoutOption(wire, read(wire), CLIENT_SUBNET)


class OptionTests(SynchronousTestCase):
    """Tests for L{withoutOption}."""

    def test_removed(self) -> None:
        """The option is gone wherever it was, and every other byte is as before."""
        for options, left in (
            (SUBNET, b""),
            (SUBNET + COOKIE, COOKIE),
            (COOKIE + SUBNET, COOKIE),
            (SUBNET + COOKIE + SUBNET, COOKIE),
        ):
            got = without(ask("a.example", extension=edns(1400, 0x8000, options)))
            self.assertEqual(got, ask("a.example", extension=edns(1400, 0x8000, left)))

    def test_shared(self) -> None:
        """Without the option, a query is the same as one that has never had it."""
        named, never = ask(extension=edns(options=SUBNET)), ask(extension=edns())
        self.assertEqual(read(named).key, b"")
        self.assertEqual(read(without(named)), read(never))

    def test_unchanged(self) -> None:
        """A query without the option stays as it is, and so does one that is not understood."""
        for wire in (
            ask(),
            ask(extension=edns()),
            ask(extension=edns(options=COOKIE)),
            ask(extension=edns(options=SUBNET[:-1])),
            ask(extension=edns(options=SUBNET + b"\0")),
            ask(extension=edns(options=SUBNET)[:-1]),
        ):
            self.assertIs(without(wire), wire)

    def test_otherRecords(self) -> None:
        """Records before and behind that of EDNS stay."""
        other = b"\0" + struct.pack("!HHIH", 65400, 1, 0, 3) + b"abc"
        for before, behind in ((other, b""), (b"", other)):
            wires = []
            for options in (SUBNET, b""):
                wire = ask(extension=before + edns(options=options) + behind)
                wires.append(wire[:11] + b"\2" + wire[12:])
            self.assertEqual(without(wires[0]), wires[1])

    def test_hostile(self) -> None:
        """Bytes that mean nothing cause no error."""
        randomly = random.Random(1)
        whole = ask("a.example", extension=edns(options=COOKIE + SUBNET + COOKIE))
        for _ in range(2000):
            wire = bytearray(whole)
            for _ in range(3):
                wire[randomly.randrange(12, len(wire))] = randomly.randrange(256)
            try:
                query = read(bytes(wire))
            except ValueError:
                continue
            self.assertLessEqual(len(withoutOption(bytes(wire), query, CLIENT_SUBNET)), len(wire))
