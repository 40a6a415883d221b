"""
Tests for L{nanotun.gateway.dns.lookup}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import UpstreamError
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.lookup import Lookup
from nanotun.gateway.dns.relay import DnsRelay
from tests.unit.gateway.gateway_cases import (
    AAAA,
    CNAME,
    A,
    FakeQueries,
    answer,
    ask,
    choiceOf,
    name,
    record,
)


class LookupTests(SynchronousTestCase):
    """Tests for L{Lookup}."""

    def setUp(self) -> None:
        """A lookup through a relay."""
        self.queries = FakeQueries()
        self.relay = DnsRelay(Clock(), choiceOf(self.queries), Counters(), 10, 100_000)
        self.lookup = Lookup(self.relay)
        self.addCleanup(self.relay.stop)

    def test_found(self) -> None:
        """A lookup asks the servers with a plain query; the next one is served from the cache."""
        found = self.lookup.resolve("www.example.com", 4)
        query = self.queries.asked[0].wire
        self.assertEqual(query, ask(ident=0))
        chain = [record(CNAME, 60, name("b.example")), record(A, 60, owner=name("b.example"))]
        self.queries.answer(answer(query, chain))
        self.assertEqual(self.successResultOf(found), ["192.0.2.1"])
        again = self.lookup.resolve("www.example.com", 4)
        self.assertEqual(self.successResultOf(again), ["192.0.2.1"])
        self.assertEqual(len(self.queries.asked), 1)

    def test_six(self) -> None:
        """A lookup for IPv6 asks for the AAAA record."""
        found = self.lookup.resolve("www.example.com", 6)
        query = self.queries.asked[0].wire
        self.assertEqual(query, ask(kind=AAAA, ident=0))
        self.queries.answer(answer(query, [record(AAAA, 60, b"\x20\1" + bytes(13) + b"\1")]))
        self.assertEqual(self.successResultOf(found), ["2001::1"])

    def test_together(self) -> None:
        """Several lookups of one name share a query, and all get the answer."""
        found = [self.lookup.resolve("www.example.com", 4) for _ in range(3)]
        self.assertEqual(len(self.queries.asked), 1)
        self.queries.answer(answer(ask(ident=0)))
        self.assertEqual([self.successResultOf(each) for each in found], [["192.0.2.1"]] * 3)

    def test_none(self) -> None:
        """A name that does not exist, or has no such address, gives an empty list."""
        for flags in (0x8183, 0x8180):
            found = self.lookup.resolve("www.example.com", 4)
            self.queries.answer(answer(ask(ident=0), [], flags=flags))
            self.assertEqual(self.successResultOf(found), [])

    def test_failed(self) -> None:
        """A server's failure is an error that says the name."""
        found = self.lookup.resolve("www.example.com", 4)
        self.queries.answer(answer(ask(ident=0), [], flags=0x8182))
        error = self.failureResultOf(found, UpstreamError).value
        self.assertIn("www.example.com cannot be looked up (DNS error 2)", str(error))

    def test_cancelled(self) -> None:
        """Cancelling a lookup does not affect another one of the same name."""
        first, second = (self.lookup.resolve("www.example.com", 4) for _ in range(2))
        first.cancel()
        self.failureResultOf(first)
        self.queries.answer(answer(ask(ident=0)))
        self.assertEqual(self.successResultOf(second), ["192.0.2.1"])

    def test_notDialled(self) -> None:
        """No name can lead to this machine, its link or the pool."""
        found = self.lookup.resolve("evil.example", 4)
        bad = ["7f000001", "a9fea9fe", "00000000", "e0000001", "ffffffff", "c6130001", "c6120001"]
        records = [record(A, 60, bytes.fromhex(each)) for each in [*bad, "0a000001"]]
        self.queries.answer(answer(ask("evil.example", ident=0), records))
        self.assertEqual(self.successResultOf(found), ["10.0.0.1"])
        found = self.lookup.resolve("evil.example", 6)
        six = [
            bytes(15) + b"\1",
            bytes(16),
            b"\xfe\x80" + bytes(13) + b"\1",
            b"\xff\2" + bytes(13) + b"\1",
            bytes(10) + b"\xff\xff\x7f\0\0\1",
            bytes.fromhex("fdfedcba98760001") + bytes(7) + b"\1",
            bytes.fromhex("fdfedcba98760000") + bytes(7) + b"\1",
        ]
        records = [record(AAAA, 60, each) for each in six]
        self.queries.answer(answer(ask("evil.example", AAAA, ident=0), records))
        self.assertEqual(self.successResultOf(found), [])
