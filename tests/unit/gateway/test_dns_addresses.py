"""
Tests for L{nanotun.gateway.dns.addresses}.
"""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.addresses import (
    isWithin,
    nameText,
    packName,
    questionName,
    readAddresses,
    readName,
)
from nanotun.gateway.dns.message import WireError
from tests.unit.gateway.gateway_cases import AAAA, CNAME, HTTPS, A, answer, ask, name, read, record

FIRST, SECOND = b"\xc0\0\x02\x01", b"\xc0\0\x02\x02"


def addresses(query: bytes, message: bytes) -> tuple[list[str], int]:
    """What L{readAddresses} finds in the answer to a query."""
    return readAddresses(message, read(query))


class NameTests(SynchronousTestCase):
    """Tests for names."""

    def test_text(self) -> None:
        """A host's name is converted to text in lower case, and back."""
        for text in ("www.example.com", "a", "_443._https.x-y.example", "xn--bcher-kva.example"):
            self.assertEqual(nameText(readName(name(text.title()), 0)), text)
            self.assertEqual(packName(text), name(text))
            self.assertEqual(questionName(read(ask(text.upper()))), text)

    def test_noHost(self) -> None:
        """A name that no host can have, or that looks like an address, has no text."""
        long = ".".join(["a" * 63] * 3 + ["b" * 61])
        self.assertEqual(nameText(readName(name(long), 0)), long)
        for labels in (
            [],
            [b"a b"],
            [b"a\0b", b"example"],
            [b"a.b", b"example"],
            [b"a\n"],
            [b"-a"],
            [b"a-"],
            [b"b\xfccher", b"example"],
            [b"*", b"example"],
            [b"a@b"],
            [b"127", b"0", b"0", b"1"],
            [b"2130706433"],
            [b"a", b"0x7f"],
            [b"a" * 63] * 3 + [b"b" * 62],
        ):
            wire = b"".join(bytes((len(label),)) + label for label in labels)
            self.assertEqual(nameText(wire), "", labels)

    def test_within(self) -> None:
        """A name is within its own zone and those above it, but not within one that it only ends
        like."""
        zone = packName("corp.example")[:-1]
        for text, expected in (
            ("corp.example", True),
            ("a.b.corp.example", True),
            ("example", False),
            ("notcorp.example", False),
            ("corp.example.org", False),
        ):
            self.assertIs(isWithin(packName(text)[:-1], zone), expected, text)
        # The zone's first label, length and all, is in the middle of this one.
        self.assertFalse(isWithin(b"\6x\4corp\7example", zone))
        self.assertTrue(isWithin(b"", b""))

    def test_compressed(self) -> None:
        """Pointers are only followed backwards."""
        message = name("example.com") + b"\3www\xc0\0" + b"\1a\xc0\x0d"
        self.assertEqual(readName(message, 19), name("a.www.example.com")[:-1])
        for wrong in (b"\xc0\0", b"\1a\xc0\0", b"\xc0\2\0", b"\xc0", b"\4abc", b"\x80", b""):
            self.assertRaises(WireError, readName, wrong, 0)
        # Each pointer further back: 300 of them make a name that is too long.
        many = b"\1a\0" + b"".join(
            b"\1b" + (0xC000 | max(0, at)).to_bytes(2, "big") for at in range(-1, 1200, 4)
        )
        self.assertRaises(WireError, readName, many, len(many) - 4)


class AddressTests(SynchronousTestCase):
    """Tests for L{readAddresses}."""

    def test_addresses(self) -> None:
        """An answer gives the addresses of the question's name, with the smallest TTL."""
        query = ask()
        message = answer(query, [record(A, 300, FIRST), record(A, 60, SECOND)])
        self.assertEqual(addresses(query, message), (["192.0.2.1", "192.0.2.2"], 60))
        six = ask(kind=AAAA)
        message = answer(six, [record(AAAA, 9, b"\x20\1\x0d\xb8" + bytes(11) + b"\1")])
        self.assertEqual(addresses(six, message), (["2001:db8::1"], 9))

    def test_chain(self) -> None:
        """Aliases are followed in any order and spelling."""
        query = ask("www.example.com")
        records = [
            record(A, 300, SECOND, name("c.example")),
            record(CNAME, 20, name("C.Example"), name("B.example")),
            record(CNAME, 30, name("b.example")),
        ]
        for _ in range(3):
            self.assertEqual(addresses(query, answer(query, records)), (["192.0.2.2"], 20))
            records.append(records.pop(0))

    def test_others(self) -> None:
        """Addresses of names that the chain does not lead to are ignored."""
        query = ask("www.example.com")
        records = [
            record(CNAME, 20, name("b.example")),
            record(A, 300, SECOND, name("victim.example")),
            # Of another class.
            record(A, 300, FIRST, name("b.example")).replace(b"\0\1\0\1", b"\0\1\0\3", 1),
        ]
        self.assertEqual(addresses(query, answer(query, records))[0], [])
        message = answer(query, [], [record(A, 9, FIRST)], [record(A, 9, FIRST)])
        self.assertEqual(addresses(query, message), ([], 0))

    def test_loop(self) -> None:
        """A loop of aliases gives no address."""
        query = ask("a.example")
        records = [
            record(CNAME, 20, name("b.example")),
            record(CNAME, 20, name("a.example"), name("b.example")),
        ]
        self.assertEqual(addresses(query, answer(query, records))[0], [])

    def test_useless(self) -> None:
        """Errors, truncated answers, other types and wrong lengths give no address."""
        query = ask()
        for flags in (0x8182, 0x8183, 0x8380, 0x0180, 0x9180):
            self.assertEqual(addresses(query, answer(query, flags=flags)), ([], 0))
        for bad in (record(A, 9, b"\1\2\3"), record(A, 1 << 31, FIRST), record(AAAA, 9, FIRST)):
            self.assertEqual(addresses(query, answer(query, [bad]))[0], [])
        self.assertEqual(addresses(query, answer(query)[:-1]), ([], 0))
        other = ask(kind=HTTPS)
        self.assertEqual(addresses(other, answer(other)), ([], 0))

    def test_hostile(self) -> None:
        """10,000 mutated answers give addresses or none, and cause no error."""
        chance = random.Random(5)
        query = ask("www.example.com")
        good = answer(
            query,
            [record(CNAME, 20, b"\1b\xc0\x10"), record(A, 300, FIRST, b"\xc0\x2d"), record(A, 9)],
        )
        for _ in range(10_000):
            message = bytearray(good)
            for _ in range(chance.randrange(1, 6)):
                message[chance.randrange(2, len(message))] = chance.choice((0, 0xC0, 12, 255, 45))
            found, seconds = addresses(query, bytes(message))
            self.assertTrue(0 <= seconds <= 86400 and len(found) <= 32)
