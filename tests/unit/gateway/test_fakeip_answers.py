"""
Tests for L{nanotun.gateway.fakeip.answers}.
"""

from __future__ import annotations

import random
import struct

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.addresses import readAddresses
from nanotun.gateway.dns.made import TTL
from nanotun.gateway.dns.message import NXDOMAIN, PTR, SERVFAIL, SVCB
from nanotun.gateway.dns.records import readLifetime
from nanotun.gateway.fakeip.answers import KNOWN_AGE, KNOWN_LIMIT, FakeAnswers
from nanotun.gateway.fakeip.pool import HOLD, FakePool
from tests.unit.gateway.gateway_cases import (
    AAAA,
    HTTPS,
    NS,
    OPT,
    TXT,
    A,
    ask,
    edns,
    name,
    rcode,
    read,
    record,
)


def reverse6(number: int) -> str:
    """The name that has the PTR record of a number's IPv6 address."""
    digits = f"fdfedcba98760001{number:016x}"
    return ".".join(reversed(digits)) + ".ip6.arpa"


class AnswerTests(SynchronousTestCase):
    """Tests for L{FakeAnswers}."""

    def setUp(self) -> None:
        """Answers from a small pool."""
        self.pool = FakePool(4)
        self.answers = FakeAnswers(self.pool, ("corp.example",))
        self.answers.configure(("proxy.example",))

    def answer(self, wire: bytes, now: float) -> bytes | None:
        """The answer to a query; L{None} if the servers are asked."""
        answer = self.answers.known(wire, now)
        if answer is not None:
            return answer
        question = self.answers.read(wire)
        return None if question is None else self.answers.answer(wire, question, now)

    def addresses(self, wire: bytes, now: float = 0) -> list[str]:
        """The addresses that a query is answered with."""
        message = self.answer(wire, now)
        assert message is not None
        return readAddresses(message, read(wire))[0]

    def test_configure(self) -> None:
        """The names with real addresses can be replaced, also by one that was faked before."""
        self.assertEqual(self.addresses(ask("new.example")), ["198.19.0.1"])
        self.assertIs(self.answer(ask("proxy.example"), 0), None)
        self.answers.configure(("new.example",))
        self.assertIs(self.answer(ask("new.example"), 0), None)
        self.assertEqual(self.addresses(ask("proxy.example")), ["198.19.0.2"])

    def test_bytes(self) -> None:
        """An answer is, byte by byte, the question as asked, one record, and EDNS if asked."""
        wire = ask("WWW.example.com", ident=0x4142, extension=edns(4096, 0x8000))
        self.assertEqual(
            self.answer(wire, 0),
            struct.pack("!HHHHHH", 0x4142, 0x8180, 1, 1, 0, 1)
            + wire[12:-11]
            + record(A, TTL, b"\xc6\x13\0\1")
            + edns(1232, 0x8000),
        )

    def test_families(self) -> None:
        """A name has one address of each family, in any spelling."""
        for wire in (ask("a.example"), ask("A.exAMPle", ident=9), ask("a.example", flags=0)):
            self.assertEqual(self.addresses(wire), ["198.19.0.1"])
            self.assertEqual(self.addresses(wire, 1), ["198.19.0.1"])
        self.assertEqual(self.addresses(ask("a.example", AAAA)), ["fdfe:dcba:9876:1::1"])
        self.assertEqual(self.addresses(ask("b.example", AAAA)), ["fdfe:dcba:9876:1::2"])

    def test_repeated(self) -> None:
        """A repeated query gets its own id back, and holds the name."""
        self.answer(ask("a.example"), 0)
        message = self.answer(ask("a.example", ident=77), KNOWN_AGE - 1)
        assert message is not None
        self.assertEqual(message[:2], b"\0\x4d")
        later = KNOWN_AGE + HOLD - 2
        for number in range(4):
            self.answer(ask(f"n{number}.example"), later)
        self.assertEqual(self.addresses(ask("a.example"), later), ["198.19.0.1"])

    def test_forgotten(self) -> None:
        """A query is remembered for a minute, or until what is known of names has changed."""
        wire = ask("a.example")
        self.answer(wire, 0)
        self.assertIsNot(self.answers.known(wire, KNOWN_AGE - 1), None)
        self.assertIs(self.answers.known(wire, KNOWN_AGE), None)
        self.answer(wire, KNOWN_AGE)
        self.answers.forget()
        self.assertIs(self.answers.known(wire, KNOWN_AGE), None)

    def test_served(self) -> None:
        """Names that have servers of their own are left to them."""
        self.assertEqual(self.addresses(ask("wiki.office.example")), ["198.19.0.1"])
        self.answers.configure((), lambda name: name.endswith("office.example"))
        for kind in (A, AAAA, HTTPS):
            self.assertIs(self.answer(ask("wiki.office.example", kind), 0), None)
        self.assertEqual(self.addresses(ask("proxy.example")), ["198.19.0.2"])

    def test_reused(self) -> None:
        """A remembered answer is not given once another name has the address."""
        self.addresses(ask("a.example"))
        for number in range(4):
            self.addresses(ask(f"n{number}.example"), HOLD)
        self.assertEqual(self.addresses(ask("a.example"), 3 * HOLD), ["198.19.0.2"])
        self.assertEqual(self.addresses(ask("n3.example"), 3 * HOLD), ["198.19.0.1"])

    def test_exhausted(self) -> None:
        """When all addresses are in use a new name gets SERVFAIL, and the others keep theirs."""
        for number in range(4):
            self.addresses(ask(f"n{number}.example"))
        message = self.answer(ask("new.example"), 0)
        assert message is not None
        self.assertEqual((rcode(message), self.answers.refused), (SERVFAIL, 1))
        self.assertEqual(self.addresses(ask("n0.example")), ["198.19.0.1"])

    def test_hints(self) -> None:
        """HTTPS and SVCB get an answer without data that may be cached, and use no address."""
        for kind in (HTTPS, SVCB):
            for text in ("a.example", "_8443._https.a.example"):
                wire = ask(text, kind)
                message = self.answer(wire, 0)
                assert message is not None
                life = readLifetime(message, read(wire))
                assert life is not None
                self.assertEqual((rcode(message), message[6:12]), (0, b"\0\0\0\1\0\0"))
                self.assertEqual(life.seconds, TTL)
        self.assertEqual(len(self.pool), 0)

    def test_relayed(self) -> None:
        """Local and excluded names, other types and classes, and oddities go to the servers."""
        for wire in (
            ask("localhost"),
            ask("a.localhost"),
            ask("printer.local"),
            ask("host"),
            ask(""),
            ask("1.0.0.127.in-addr.arpa"),
            ask("home.arpa", HTTPS),
            ask("corp.example"),
            ask("a.b.corp.example", HTTPS),
            ask("proxy.example"),
            ask("192.0.2.1"),
            ask("a b.example"),
            ask("a.example", TXT),
            ask("a.example", NS),
            ask("a.example", OPT),
            ask("a.example", 255),
            ask("a.example")[:-1] + b"\3",
            ask("a.example", flags=0x2800),
            ask("a.example", flags=0x8000),
            ask("4.3.2.1.in-addr.arpa", PTR),
            ask("1.1.1.in-addr.arpa", PTR),
            ask("x.3.2.1.in-addr.arpa", PTR),
            ask("1.ip6.arpa", PTR),
            ask("a.example", PTR),
            struct.pack("!HHHHHH", 1, 0x0100, 0, 0, 0, 0),
            b"",
            ask("a.example")[:-1],
        ):
            self.assertIsNone(self.answer(wire, 0), wire)
        self.assertEqual(len(self.pool), 0)
        # Names that only resemble an excluded or real name are faked.
        self.assertEqual(self.addresses(ask("xcorp.example")), ["198.19.0.1"])
        self.assertEqual(self.addresses(ask("www.proxy.example")), ["198.19.0.2"])

    def test_singles(self) -> None:
        """In a cell names of one label have addresses, but for local and excluded ones and the
        proxies' own."""
        self.answers = FakeAnswers(self.pool, ("lan",), singles=True)
        self.answers.configure(("proxy",))
        self.assertEqual(self.addresses(ask("intranet")), ["198.19.0.1"])
        for text in ("localhost", "local", "lan", "proxy", "", "7"):
            self.assertIsNone(self.answer(ask(text), 0), text)

    def test_pointer(self) -> None:
        """A PTR query for an address of the pool gets its name, or NXDOMAIN."""
        self.addresses(ask("a.example"))
        for text in ("1.0.19.198.in-addr.arpa", reverse6(1)):
            message = self.answer(ask(text, PTR), 0)
            assert message is not None
            self.assertTrue(message.endswith(record(PTR, TTL, name("a.example"))))
        for text in ("2.0.19.198.in-addr.arpa", reverse6(2)):
            message = self.answer(ask(text, PTR), 0)
            assert message is not None
            self.assertEqual(rcode(message), NXDOMAIN)

    def test_roundabout(self) -> None:
        """No other resolver is discovered, and Firefox is told not to use its own DNS."""
        message = self.answer(ask("_dns.resolver.arpa", SVCB), 0)
        assert message is not None
        self.assertEqual((rcode(message), message[6:8]), (0, b"\0\0"))
        for kind in (A, AAAA):
            message = self.answer(ask("use-application-dns.net", kind), 0)
            assert message is not None
            self.assertEqual(rcode(message), NXDOMAIN)

    def test_bounded(self) -> None:
        """The queries that are remembered are limited in number and size."""
        self.answer(ask("a.example", extension=edns(options=bytes(400))), 0)
        self.assertEqual(len(self.answers._known), 0)
        for ident in range(KNOWN_LIMIT + 10):
            extension = edns(options=struct.pack("!HHH", 10, 2, ident))
            self.answer(ask("a.example", extension=extension), 0)
        self.assertEqual(len(self.answers._known), 10)

    def test_hostile(self) -> None:
        """10,000 mutated queries get an answer that fits, or none, and cause no error."""
        chance = random.Random(9)
        seeds = [ask("a.example"), ask("b.example", AAAA, extension=edns()), ask(reverse6(1), PTR)]
        for _ in range(10_000):
            wire = bytearray(chance.choice(seeds))
            for _ in range(chance.randrange(1, 5)):
                wire[chance.randrange(2, len(wire))] = chance.randrange(256)
            message = self.answer(bytes(wire[: chance.choice((len(wire), 30))]), 0)
            self.assertTrue(message is None or (message[:2] == wire[:2] and len(message) <= 512))
