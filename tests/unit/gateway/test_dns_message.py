"""
Tests for L{nanotun.gateway.dns.message}.
"""

from __future__ import annotations

import random
import struct

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.message import (
    FORMERR,
    LARGEST,
    SERVFAIL,
    WireError,
    answerable,
    errorReply,
    isQuestion,
    isTransfer,
    lacksQuestion,
    matches,
    nameEnd,
    readQuery,
    withQuestion,
)
from tests.unit.gateway.gateway_cases import (
    HTTPS,
    OPT,
    A,
    answer,
    ask,
    edns,
    name,
    question,
    rcode,
    record,
)


class QueryTests(SynchronousTestCase):
    """Tests for L{readQuery}."""

    def test_plain(self) -> None:
        """A query without EDNS takes 512 bytes by UDP."""
        query = readQuery(ask("a.example"))
        self.assertEqual(query.question, question("a.example"))
        self.assertEqual((query.limit, query.edns), (512, -1))

    def test_edns(self) -> None:
        """The OPT record says how much the client takes, never less than 512 bytes."""
        self.assertEqual(readQuery(ask(extension=edns(4096))).limit, 4096)
        self.assertEqual(readQuery(ask(extension=edns(100))).limit, 512)
        self.assertEqual(readQuery(ask(extension=edns(1232, 0x8000))).edns, 0x8000)
        # It is the root's only.
        other = readQuery(ask(extension=b"\1x" + edns(4096)))
        self.assertEqual((other.edns, other.limit, other.key), (-1, 512, b""))

    def test_key(self) -> None:
        """Queries that differ in spelling, id or size share a key; no others do."""
        same = {
            readQuery(each).key
            for each in (
                ask("a.example", ident=7, extension=edns()),
                ask("A.exAMPle", ident=8, extension=edns(4096)),
            )
        }
        self.assertEqual(len(same), 1)
        others = [
            ask("a.example"),
            ask("b.example"),
            ask("a.example", HTTPS),
            ask("a.example", HTTPS + 32),
            ask("a.example", flags=0),
            ask("a.example", flags=0x0110),
            ask("a.example", flags=0x0120),
            ask("a.example", extension=edns()),
            ask("a.example", extension=edns(flags=0x8000)),
        ]
        self.assertEqual(len({readQuery(each).key for each in others}), len(others))

    def test_noKey(self) -> None:
        """A query that may have an answer of its own has no key."""
        cookie = struct.pack("!HH", 10, 8) + bytes(8)
        for wire in (
            ask(extension=edns(options=cookie)),
            ask(extension=edns(flags=0x00010000)),
            ask(extension=edns()) + b"more",
            ask(extension=record(A, 0)),
            ask(flags=0x2800),
            ask(flags=0x0140),
            ask(kind=252),
            ask(kind=OPT),
            ask()[:4] + struct.pack("!HHHH", 1, 0, 0, 2) + question("a") + edns() + edns(),
            ask()[:4] + bytes(8),
        ):
            self.assertEqual(readQuery(wire).key, b"", wire)

    def test_notUnderstood(self) -> None:
        """A query with records that cannot be read takes an answer of any size."""
        query = readQuery(ask(extension=edns()[:-1]))
        self.assertEqual((query.limit, query.key), (LARGEST, b""))
        many = ask()[:4] + struct.pack("!HHHH", 1, 0, 0, 500) + question("a") + edns() * 500
        self.assertEqual(readQuery(many).limit, LARGEST)

    def test_broken(self) -> None:
        """A message that is no query, or whose question is malformed, raises."""
        for wire in (
            b"",
            ask()[:11],
            answer(ask()),
            ask()[:4] + struct.pack("!HHHH", 2, 0, 0, 0) + question("a") * 2,
            ask()[:-1],
            ask()[:12] + b"\xc0\x0c\0\1\0\1",
            ask()[:12] + b"\x40" + bytes(90),
        ):
            self.assertRaises(WireError, readQuery, wire)

    def test_nameEnd(self) -> None:
        """A name ends within 255 bytes and within the message."""
        self.assertEqual(nameEnd(name("a.bc") + b"x", 0), 6)
        self.assertEqual(nameEnd(b"\1a\xc0\0x", 0), 4)
        longest = (b"\x3f" + b"x" * 63) * 3 + b"\x3d" + b"x" * 61 + b"\0"
        self.assertEqual(nameEnd(longest, 0), 255)
        for wire in (b"", b"\1", b"\xc0", b"\x80\0", b"\1a" * 130 + b"\0"):
            self.assertRaises(WireError, nameEnd, wire, 0)


class MatchTests(SynchronousTestCase):
    """Tests for L{matches}."""

    def test_right(self) -> None:
        """A message with the same id and question is the answer, in any spelling."""
        wire = ask("www.example.com", ident=0x1234)
        query = readQuery(wire)
        self.assertTrue(matches(answer(wire), b"\x12\x34", query))
        self.assertTrue(matches(answer(ask("WWW.example.com", ident=0x1234)), b"\x12\x34", query))

    def test_wrong(self) -> None:
        """A message with another id, name, type or opcode is no answer, nor is a query."""
        wire = ask("www.example.com", HTTPS, ident=0x1234)
        good, query = answer(wire), readQuery(wire)
        for wrong in (
            b"",
            good[:11],
            good[:20],
            answer(ask("www.example.com", HTTPS, ident=0x1235)),
            answer(ask("wwx.example.com", HTTPS, ident=0x1234)),
            # The letter A, as a number, and its lower case.
            answer(ask("www.example.com", HTTPS + 32, ident=0x1234)),
            good[:2] + bytes((good[2] & 0x7F,)) + good[3:],
            good[:2] + bytes((good[2] | 0x08,)) + good[3:],
            good[:4] + b"\0\0" + good[6:],
        ):
            self.assertFalse(matches(wrong, b"\x12\x34", query), wrong)

    def test_withoutQuestion(self) -> None:
        """A message without a question is answered by a message without a question."""
        wire = struct.pack("!HHHHHH", 5, 0x3000, 0, 0, 0, 0)
        reply = struct.pack("!HHHHHH", 5, 0xB004, 0, 0, 0, 0)
        self.assertTrue(matches(reply, wire[:2], readQuery(wire)))


class ForeignTests(SynchronousTestCase):
    """Tests for L{isQuestion}, L{isTransfer} and L{answerable}."""

    def test_isQuestion(self) -> None:
        """Queries are questions, and updates, answers, greetings of TLS and SSH are not."""
        self.assertTrue(isQuestion(ask()[:12]))
        self.assertTrue(isQuestion(ask(flags=0x0130, extension=edns())[:12]))
        for other in (
            ask(flags=0x2800),
            ask(flags=0x2400),
            ask(flags=0x0103),
            answer(ask()),
            b"\x16\3\1\2\0\1\0\1\xfc\3\3\x77\x12\x34"[2:],
            b"SSH-2.0-OpenSSH_9.2p1"[2:],
            b"GET / HTTP/1.1\r\n"[2:],
            b"\0\1" + bytes(10),
        ):
            self.assertFalse(isQuestion(other[:12]), other)

    def test_isTransfer(self) -> None:
        """Types 251 and 252 ask for zones."""
        for kind in (A, 250, 251, 252, 253, HTTPS):
            self.assertEqual(isTransfer(readQuery(ask(kind=kind))), kind in (251, 252))

    def test_answerable(self) -> None:
        """The first message that cannot be answered is found, however the stream is split."""

        def framed(message: bytes) -> bytes:
            return struct.pack("!H", len(message)) + message

        first = framed(ask("first.example"))
        for other, needed in (
            (framed(ask(flags=0x2800)), 14),
            (framed(b"short") + bytes(9), 14),
            (b"SSH-2.0-OpenSSH_9.2p1\r\n", 14),
            (framed(ask(kind=252)), len(framed(ask(kind=252)))),
            (framed(ask(kind=251, extension=edns())), len(framed(ask(extension=edns())))),
        ):
            stream = first + other
            place = 0
            for length in range(len(stream) + 1):
                place, foreign = answerable(stream[:length], place)
                whole = length >= len(first)
                self.assertEqual(place, len(first) if whole else 0)
                self.assertEqual(foreign, length >= len(first) + needed, (other, length))
        self.assertEqual(answerable(first * 3 + first[:-1]), (len(first) * 3, False))


class BareTests(SynchronousTestCase):
    """Tests for L{lacksQuestion} and L{withQuestion}."""

    wire = ask("a.example", ident=9, extension=edns())

    def test_taken(self) -> None:
        """FORMERR, SERVFAIL, NOTIMP and REFUSED answer a question that they do not repeat."""
        query = readQuery(self.wire)
        for code in range(16):
            reply = struct.pack("!HHHHHH", 9, 0x8000 | code, 0, 0, 0, 0)
            self.assertEqual(lacksQuestion(reply, query), code in (1, 2, 4, 5))
            self.assertEqual(matches(reply, b"\0\x09", query), code in (1, 2, 4, 5))

    def test_notTaken(self) -> None:
        """With another id or opcode, or with answers, it is not taken."""
        query = readQuery(self.wire)
        for words in (
            (8, 0x8001, 0, 0, 0, 0),
            (9, 0x0001, 0, 0, 0, 0),
            (9, 0xA001, 0, 0, 0, 0),
            (9, 0x8001, 1, 0, 0, 0),
            (9, 0x8001, 0, 1, 0, 0),
            (9, 0x8001, 0, 0, 1, 0),
        ):
            reply = struct.pack("!HHHHHH", *words)
            self.assertFalse(matches(reply, b"\0\x09", query), words)

    def test_withQuestion(self) -> None:
        """The question is added; an EDNS record is kept, and none made up."""
        query = readQuery(self.wire)
        plain = struct.pack("!HHHHHH", 9, 0x8181, 0, 0, 0, 0)
        expected = struct.pack("!HHHHHH", 9, 0x8181, 1, 0, 0, 0) + question("a.example")
        self.assertEqual(withQuestion(plain, query), expected)
        extended = struct.pack("!HHHHHH", 9, 0x8181, 0, 0, 0, 1) + edns(512)
        expected = struct.pack("!HHHHHH", 9, 0x8181, 1, 0, 0, 1) + question("a.example")
        self.assertEqual(withQuestion(extended, query), expected + edns(512))
        self.assertEqual(withQuestion(extended + b"more", query), expected + edns(512))
        for end in (b"", b"\0", b"\0" * 40, edns(512)[:-1]):
            odd = struct.pack("!HHHHHH", 9, 0x8181, 0, 0, 0, 1) + end
            self.assertEqual(withQuestion(odd, query)[10:], b"\0\0" + question("a.example"))


class ErrorTests(SynchronousTestCase):
    """Tests for L{errorReply}."""

    def test_servfail(self) -> None:
        """The reply repeats id, question, RD and CD, and has EDNS if the query has."""
        wire = ask("a.example", ident=9, flags=0x0110, extension=edns(4096, 0x8000))
        reply = errorReply(wire, readQuery(wire), SERVFAIL)
        expected = struct.pack("!HHHHHH", 9, 0x8192, 1, 0, 0, 1) + question("a.example")
        self.assertEqual(reply, expected + edns(1232, 0x8000))

    def test_formerr(self) -> None:
        """The reply to a query that could not be read is a header."""
        reply = errorReply(ask()[:-3], None, FORMERR)
        self.assertEqual((len(reply), rcode(reply)), (12, FORMERR))


class HostileTests(SynchronousTestCase):
    """Mutated messages."""

    def test_mutatedQueries(self) -> None:
        """10,000 mutated queries are read, or raise L{WireError} and nothing else."""
        chance = random.Random(1)
        seeds = [ask(), ask(extension=edns(options=b"\0\1\0\1x")), ask("a." * 100)]
        for _ in range(10_000):
            wire = bytearray(chance.choice(seeds))
            for _ in range(chance.randrange(1, 6)):
                wire[chance.randrange(len(wire))] = chance.choice((0, 0xC0, 0xFF, 63))
            wire = wire[: chance.randrange(len(wire) + 1)]
            try:
                query = readQuery(bytes(wire))
            except WireError:
                continue
            self.assertGreaterEqual(query.limit, 512)
            self.assertGreaterEqual(len(errorReply(bytes(wire), query, SERVFAIL)), 12)
