"""
Tests for L{nanotun.gateway.dns.padding}.
"""

from __future__ import annotations

import struct

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.message import HEADER, LARGEST
from nanotun.gateway.dns.padding import BLOCK, padded, unpadded
from nanotun.gateway.dns.records import readLifetime
from tests.unit.gateway.gateway_cases import A, answer, ask, edns, question, rcode, read, record


def option(code: int, data: bytes) -> bytes:
    """An EDNS option."""
    return struct.pack("!HH", code, len(data)) + data


def extended(rcode: int) -> bytes:
    """An OPT record with the upper bits of an RCODE, and padding."""
    data = option(12, bytes(8))
    return b"\0" + struct.pack("!HHIH", 41, 1232, rcode << 24, len(data)) + data


COOKIE = option(10, b"12345678")
KEPT = (edns(), edns(4096, 0x8000), edns(1232, 0, COOKIE), edns(1232, 0, option(12, b"\0" * 5)))


class PaddedTests(SynchronousTestCase):
    """Tests for L{padded}."""

    def test_golden(self) -> None:
        """A query without EDNS gets an OPT record with an option of zeros, as in RFC 7830."""
        found = padded(ask("a.example"), read(ask("a.example")))
        zeros = BLOCK - (12 + len(question("a.example")) + 11 + 4)
        self.assertEqual(
            found.hex(),
            # Id, flags, and the counts; the question; OPT of 1232 bytes, without flags; option 12.
            "0001010000010000" + "00000001" + "0161076578616d706c6500" + "00010001"
            "000029" + "04d0" + "00000000" + f"{zeros + 4:04x}" + f"000c{zeros:04x}" + "00" * zeros,
        )

    def test_lengths(self) -> None:
        """Queries of every length are padded to a multiple of 128 bytes, and ask the same."""
        seen = set()
        for size in range(1, 240):
            labels = ".".join(("a" * 60, "b" * 60, "c" * 60, "d" * 50))[-size:].strip(".")
            for extension in (b"", *KEPT):
                wire = ask(labels, extension=extension)
                query = read(wire)
                found = padded(wire, query)
                self.assertEqual(len(found) % BLOCK, 0, len(wire))
                self.assertLess(len(found) - len(wire), BLOCK + 15)
                again = read(found)
                self.assertEqual((again.question, again.flags), (query.question, query.flags))
                seen.add(len(found))
        self.assertEqual(seen, {128, 256, 384})

    def test_kept(self) -> None:
        """What an app's EDNS record says stays, but for padding of its own."""
        for extension in KEPT:
            wire = ask(extension=extension)
            found, start = padded(wire, read(wire)), len(ask())
            self.assertEqual(found[start : start + 9], extension[:9])
            self.assertEqual(read(found).edns, read(wire).edns)
        wire = ask(extension=edns(1232, 0, option(12, bytes(5)) + COOKIE))
        found, start = padded(wire, read(wire)), len(ask()) + 11
        self.assertEqual(found[start:], COOKIE + option(12, bytes(len(found) - start - 16)))

    def test_long(self) -> None:
        """Long options make the query longer by a block."""
        for size in range(100, 600):
            wire = ask(extension=edns(1232, 0, option(65001, bytes(size))))
            found = padded(wire, read(wire))
            self.assertEqual(len(found), -(-(len(wire) + 4) // BLOCK) * BLOCK)

    def test_tooLong(self) -> None:
        """A query that would be longer than a message can be is left as it is."""
        for size in (LARGEST, LARGEST - BLOCK + 1, LARGEST - BLOCK - 4):
            data = bytes(size - len(ask()) - 11 - 4)
            wire = ask(extension=edns(1232, 0, option(65001, data)))
            self.assertEqual(len(wire), size)
            found = padded(wire, read(wire))
            self.assertLessEqual(len(found), LARGEST)
            self.assertEqual(found == wire, size > LARGEST - BLOCK)

    def test_left(self) -> None:
        """Signed queries, others with more records, and malformed ones stay as they are."""
        opt = edns()
        tsig = b"\0" + struct.pack("!HHIH", 250, 255, 0, 0)
        counted = ask()[:10] + b"\0\2" + ask()[12:]
        for wire in (
            counted + opt + tsig,
            counted + opt,
            ask(extension=opt + COOKIE),
            ask(extension=tsig),
            ask(extension=opt[:-1]),
            ask(extension=opt[:2]),
            ask(extension=opt + b"x"),
            ask(extension=edns(1232, 0, COOKIE[:-1])),
            ask(extension=edns(1232, 0, b"\0\x0c\0")),
            ask() + b"x",
            HEADER.pack(1, 0, 0, 0, 0, 0),
            HEADER.pack(1, 0x2800, 1, 1, 0, 0) + question("a") + record(A, 0),
            HEADER.pack(1, 0x2800, 1, 0, 1, 0) + question("a") + record(A, 0),
        ):
            self.assertEqual(padded(wire, read(wire)), wire, wire)


class UnpaddedTests(SynchronousTestCase):
    """Tests for L{unpadded}."""

    def test_plain(self) -> None:
        """An app that uses no EDNS gets the answer without it, which the cache keeps."""
        wire = ask()
        query = read(wire)
        found = answer(wire, additionals=[edns(1232, 0, option(12, bytes(300)))])
        self.assertIsNone(readLifetime(found, query))
        self.assertEqual(unpadded(found, query), answer(wire))
        self.assertIsNotNone(readLifetime(unpadded(found, query), query))

    def test_edns(self) -> None:
        """An app that does gets what the server says there, but for the padding."""
        wire = ask(extension=edns())
        query = read(wire)
        glue = record(A, 300)
        for size, flags, options in ((1232, 0, b""), (512, 0x8000, COOKIE)):
            padding = option(12, bytes(300))
            for given in (padding + options, options + padding, options):
                found = answer(wire, additionals=[glue, edns(size, flags, given)])
                expected = answer(wire, additionals=[glue, edns(size, flags, options)])
                self.assertEqual(unpadded(found, query), expected)

    def test_cached(self) -> None:
        """Without the padding the cache keeps that one, too."""
        wire = ask(extension=edns())
        found = answer(wire, additionals=[edns(1232, 0, option(12, bytes(300)))])
        self.assertIsNotNone(readLifetime(unpadded(found, read(wire)), read(wire)))

    def test_extended(self) -> None:
        """An error that only EDNS can say is SERVFAIL without it."""
        found = answer(ask(), [], additionals=[extended(1)])
        self.assertEqual(rcode(unpadded(found, read(ask()))), 2)
        query = read(ask(extension=edns()))
        self.assertEqual(unpadded(found, query)[3:4], found[3:4])
        refused = answer(ask(), [], additionals=[extended(0)], flags=0x8185)
        self.assertEqual(rcode(unpadded(refused, read(ask()))), 5)

    def test_left(self) -> None:
        """Answers without EDNS, signed ones and malformed ones stay as they are."""
        wire = ask()
        opt = edns(1232, 0, option(12, bytes(300)))
        whole = answer(wire, additionals=[opt])
        cut = edns(1232, 0, b"\0\x0c\0\5")
        for found, query in (
            (answer(wire), read(wire)),
            (answer(wire, additionals=[record(A, 300)]), read(wire)),
            (answer(wire, additionals=[opt, record(250, 0)]), read(wire)),
            (whole + b"x", read(wire)),
            (answer(wire, additionals=[cut]), read(ask(extension=edns()))),
            *((whole[:end], read(wire)) for end in range(12, len(whole))),
            *((whole[:end], read(wire)) for end in range(12)),
        ):
            self.assertEqual(unpadded(found, query), found)
