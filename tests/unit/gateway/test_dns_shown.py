"""
Tests for L{nanotun.gateway.dns.shown} and L{nanotun.gateway.dns.types}.
"""

from __future__ import annotations

import random
import struct

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.shown import DNAME, MX, SRV, ShownRecord, recordsOf
from nanotun.gateway.dns.types import TYPES, typeNumber, typeText
from tests.unit.gateway.gateway_cases import (
    AAAA,
    CNAME,
    HTTPS,
    NS,
    SOA,
    TXT,
    A,
    answer,
    ask,
    edns,
    name,
    record,
    soa,
)

WIRE = ask()

#: A compression pointer to the question's name.
POINTER = b"\xc0\x0c"


def shown(*records: bytes, wire: bytes = WIRE) -> list[ShownRecord]:
    """What an answer with these records is shown as."""
    message = answer(wire, list(records), [soa(300, 300)], [edns()])
    return recordsOf(message)


class RecordsTests(SynchronousTestCase):
    """Tests for L{recordsOf}."""

    def data(self, kind: int, data: bytes) -> str:
        """What a record's data is shown as."""
        (one,) = shown(record(kind, 300, data))
        self.assertEqual((one.name, one.ttl, one.type), ("www.example.com", 300, typeText(kind)))
        return one.data

    def test_types(self) -> None:
        """The data of each type that is known is written as in a zone file."""
        numbers = struct.pack("!IIIII", 1, 2, 3, 4, 5)
        for kind, data, text in (
            (A, b"\x0a\1\2\3", "10.1.2.3"),
            (AAAA, bytes.fromhex("20010db8") + bytes(11) + b"\1", "2001:db8::1"),
            (CNAME, POINTER, "www.example.com"),
            (NS, name("NS.example"), "ns.example"),
            (12, name("host.lab"), "host.lab"),
            (DNAME, b"\4host" + POINTER, "host.www.example.com"),
            (MX, struct.pack("!H", 10) + name("mail.lab"), "10 mail.lab"),
            (MX, struct.pack("!H", 0) + b"\0", "0 ."),
            (SRV, struct.pack("!HHH", 1, 2, 5060) + name("sip.lab"), "1 2 5060 sip.lab"),
            (SOA, POINTER + name("root.lab") + numbers, "www.example.com root.lab 1 2 3 4 5"),
            (TXT, b'\3a b\0\4"\\\n\xff', '"a b" "" "\\"\\\\\\010\\255"'),
        ):
            self.assertEqual(self.data(kind, data), text)

    def test_unknown(self) -> None:
        """The data of any other type is written as RFC 3597 has it, and so is wrong data."""
        for kind, data, text in (
            (HTTPS, b"\0\1\0", "\\# 3 000100"),
            (1234, b"", "\\# 0"),
            (A, b"\1\2\3", "\\# 3 010203"),
            (AAAA, bytes(17), "\\# 17 " + "00" * 17),
            (MX, b"\0", "\\# 1 00"),
            (CNAME, name("host.lab") + b"x", "\\# 11 04686f7374036c61620078"),
            (SOA, POINTER + POINTER, "\\# 4 c00cc00c"),
            (TXT, b"\5abc", "\\# 4 05616263"),
            # A pointer forward.
            (NS, b"\xc0\xff", "\\# 2 c0ff"),
        ):
            self.assertEqual(self.data(kind, data), text)

    def test_classes(self) -> None:
        """Only in the class of the Internet four bytes are an address."""
        chaos = POINTER + struct.pack("!HHIH", A, 3, 0, 4) + b"\1\2\3\4"
        self.assertEqual([each.data for each in shown(chaos)], ["\\# 4 01020304"])

    def test_owners(self) -> None:
        """Each record is shown with its own name, in which nothing can control a terminal."""
        records = record(CNAME, 60, name("b.lab")), record(A, 5, owner=b"\3\x1b[2\0")
        self.assertEqual(
            [(each.name, each.ttl, each.type) for each in shown(*records)],
            [("www.example.com", 60, "CNAME"), ("\\027\\0912", 5, "A")],
        )

    def test_root(self) -> None:
        """The root is a dot."""
        (one,) = shown(record(NS, 1, name("a.root")), wire=ask("", NS))
        self.assertEqual(one.name, ".")

    def test_broken(self) -> None:
        """What can be read of an answer is shown, wherever it ends and whatever is in it."""
        whole = answer(WIRE, [record(A, 300), record(TXT, 300, b"\3abc")])
        self.assertEqual(len(recordsOf(whole)), 2)
        self.assertEqual(len(recordsOf(whole[:-1])), 1)
        rng = random.Random(1)
        for _ in range(2000):
            broken = bytearray(whole)
            for _ in range(rng.randrange(1, 4)):
                broken[rng.randrange(len(WIRE), len(whole))] = rng.randrange(256)
            for each in recordsOf(bytes(broken[: rng.randrange(12, len(broken))])):
                self.assertTrue(each.data.isascii() and each.data.isprintable(), each)

    def test_error(self) -> None:
        """An error without the question has no records."""
        self.assertEqual(recordsOf(WIRE[:2] + b"\x81\x82" + bytes(8)), [])


class TypesTests(SynchronousTestCase):
    """Tests for L{typeNumber} and L{typeText}."""

    def test_numbers(self) -> None:
        """A type has a word, or a number with or without TYPE before it, in any case."""
        for text, kind in (
            ("A", 1),
            ("aaaa", 28),
            ("TYPE65", 65),
            ("type1", 1),
            ("65", 65),
            ("65535", 65535),
            ("ANY", 255),
            ("caa", 257),
        ):
            self.assertEqual(typeNumber(text), kind)

    def test_none(self) -> None:
        """What has no records, such as a transfer or EDNS, is none, and neither is nonsense."""
        wrong = (
            "",
            "0",
            "65536",
            "99999",
            "-1",
            "AX",
            "OPT",
            "41",
            "AXFR",
            "252",
            "TYPE",
            "\u0661",
        )
        for text in wrong:
            self.assertIs(typeNumber(text), None, text)

    def test_back(self) -> None:
        """The text of a type means that type."""
        for kind in (*TYPES, 3, 1234):
            self.assertEqual(typeNumber(typeText(kind)), kind)
