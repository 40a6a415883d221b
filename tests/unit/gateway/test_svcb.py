"""
Tests for L{nanotun.gateway.dns.svcb}.
"""

from __future__ import annotations

import random
import struct

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.records import readRecords
from nanotun.gateway.dns.svcb import withoutHints
from tests.unit.gateway.gateway_cases import (
    AAAA,
    CNAME,
    HTTPS,
    A,
    answer,
    ask,
    edns,
    name,
    read,
    record,
    soa,
)

HINT4 = b"\xc0\0\2\1\xc0\0\2\2"
HINT6 = bytes.fromhex("20010db8000000000000000000000001")
ECH = b"\0\x40" + b"e" * 64

SVCB = 64


def parameter(key: int, value: bytes) -> bytes:
    """A parameter of a record."""
    return struct.pack("!HH", key, len(value)) + value


def service(*parameters: bytes, target: str = "", priority: int = 1) -> bytes:
    """A record's data."""
    return struct.pack("!H", priority) + name(target) + b"".join(parameters)


ALPN = parameter(1, b"\2h2\2h3")
PORT = parameter(3, b"\x20\xfb")
KEYS = parameter(5, ECH)
FULL = service(ALPN, PORT, parameter(4, HINT4), KEYS, parameter(6, HINT6), target="svc.example")


class HintTests(SynchronousTestCase):
    """Tests for L{withoutHints}."""

    def setUp(self) -> None:
        """A query of a browser."""
        self.wire = ask("a.example", HTTPS)

    def without(self, message: bytes) -> bytes | None:
        """The answer without hints."""
        return withoutHints(message, read(self.wire))

    def test_hints(self) -> None:
        """No byte of a hint is left, and every other record stays where it was."""
        alias = record(CNAME, 60, name("b.example"))
        other = record(HTTPS, 60, service(target="c.example", priority=0), name("b.example"))
        last = record(16, 60, b"\4text", b"\xc0\x0c")
        for kind in (HTTPS, SVCB):
            message = answer(self.wire, [alias, record(kind, 60, FULL), other], [last])
            found = self.without(message)
            assert found is not None
            self.assertEqual(len(found), len(message))
            self.assertNotIn(HINT4[:4], found)
            self.assertNotIn(HINT6, found)
            for kept in (ALPN, PORT, alias, other, last, name("svc.example")):
                self.assertEqual(found.index(kept), message.index(kept))
            new = parameter(65280, bytes(8)) + parameter(65281, bytes(16))
            self.assertIn(ALPN + PORT + KEYS + new, found)
            ends = [each.end for each in readRecords(found, 12 + len(read(self.wire).question), 4)]
            self.assertEqual(ends[-1], len(found))

    def test_private(self) -> None:
        """A parameter for private use that is there already keeps its value."""
        mine = parameter(65280, b"mine")
        message = answer(self.wire, [record(HTTPS, 60, service(parameter(4, HINT4), mine))])
        found = self.without(message)
        assert found is not None
        self.assertTrue(found.endswith(mine + parameter(65281, bytes(8))))

    def test_unchanged(self) -> None:
        """An answer without hints stays as it is, be it an error, a denial or truncated."""
        end = 12 + len(read(self.wire).question)
        for message in (
            answer(self.wire, [record(HTTPS, 60, service(ALPN, KEYS))], flags=0x81A0),
            answer(self.wire, [], [soa(60, 60)]),
            answer(self.wire, [], [soa(60, 60)], [edns()], flags=0x8183),
            answer(self.wire, [], flags=0x8382)[:end],
        ):
            self.assertEqual(self.without(message), message)

    def test_authentic(self) -> None:
        """An answer that was changed no longer says that the server has validated it."""
        message = answer(self.wire, [record(HTTPS, 60, FULL)], flags=0x81A0)
        found = self.without(message)
        assert found is not None
        self.assertEqual(found[2:4], b"\x81\x80")

    def test_additional(self) -> None:
        """Additional records are left out, as they may be addresses, but EDNS stays."""
        target = record(A, 60, HINT4[:4], name("svc.example"))
        target6 = record(AAAA, 60, HINT6, name("svc.example"))
        extension = edns(1232, 0x8000)
        message = answer(self.wire, [record(HTTPS, 60, FULL)], [], [target, extension, target6])
        plain = answer(self.wire, [record(HTTPS, 60, FULL)], [], [extension])
        found = self.without(message)
        self.assertEqual(found, self.without(plain))
        assert found is not None
        self.assertTrue(found.endswith(extension))

    def test_refused(self) -> None:
        """What cannot be without hints, or cannot be read, is no answer at all."""
        heeded = parameter(0, b"\0\1\0\4")
        crowded = [parameter(key, b"") for key in range(65280, 65535)]
        for records in (
            [record(HTTPS, 60, service(heeded, ALPN, parameter(4, HINT4)))],
            [record(HTTPS, 60, service(ALPN, ALPN))],
            [record(HTTPS, 60, service(ALPN)[:-1])],
            [record(HTTPS, 60, service(parameter(0, b"\0")))],
            # No number is left that a hint could have instead.
            [record(HTTPS, 60, service(parameter(4, HINT4), *crowded))],
            [record(HTTPS, 60, b"\0")],
            [record(HTTPS, 60, b"\0\1\xc0\x0c" + ALPN)],
            [record(HTTPS, 60, b"\0\1\7svc"), record(16, 60, b"\0" * 40)],
            [record(HTTPS, 60, FULL), record(A, 60)],
        ):
            self.assertIsNone(self.without(answer(self.wire, records)), records)

    def test_hostile(self) -> None:
        """10,000 mutated or cut answers cause no error, and no hint is left in what is given."""
        chance = random.Random(16)
        seed = answer(self.wire, [record(HTTPS, 60, FULL), record(SVCB, 60, FULL)], [], [edns()])
        for _ in range(10_000):
            message = bytearray(seed)
            for _ in range(chance.randrange(3)):
                message[chance.randrange(40, len(message))] = chance.randrange(256)
            cut = len(seed) if chance.random() < 0.5 else chance.randrange(12, len(seed))
            found = self.without(bytes(message[:cut]))
            self.assertTrue(found is None or len(found) <= cut)
            if found is not None and cut < len(seed):
                self.assertNotIn(HINT4, found)
