"""Tests of L{nanotun.gateway.dns.watched}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.message import AAAA
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.gateway.dns.watched import INTEREST, KEPT, WatchedDns
from tests.unit.gateway.gateway_cases import FakeQueries, answer, ask, choiceOf


class WatchedDnsTests(SynchronousTestCase):
    """L{WatchedDns}."""

    def setUp(self) -> None:
        """In front of a relay."""
        self.clock = Clock()
        self.queries = FakeQueries()
        self.relay = DnsRelay(self.clock, choiceOf(self.queries), Counters(), 10, 100_000)
        self.addCleanup(self.relay.stop)
        self.dns = WatchedDns(self.relay, self.clock, lambda: 5.0 + self.clock.seconds())
        self.got: list[bytes] = []

    def ask(self, name: str) -> None:
        """A client asks, and the server answers a second later."""
        wire = ask(name, AAAA)
        self.dns.query(wire, "client", self.got.append)
        self.clock.advance(1)
        self.queries.asked[-1].answered(answer(wire))

    def test_interface(self) -> None:
        """It answers as the relay does."""
        verifyObject(IAnswering, self.dns)
        self.assertIs(self.dns.counters, self.relay.counters)

    def test_noted(self) -> None:
        """Once somebody has looked, each query is noted with what became of it."""
        self.ask("a.example")
        self.assertEqual(self.dns.look(), [])
        self.ask("b.example")
        (noted,) = self.dns.look()
        self.assertEqual(
            {**noted, "server": "", "via": ""},
            {
                "time": 7.0,
                "name": "b.example",
                "type": "AAAA",
                "status": "NOERROR",
                "stage": "server",
                "server": "",
                "via": "",
                "seconds": 1.0,
            },
        )
        self.assertEqual(len(self.got), 2)

    def test_interest(self) -> None:
        """A while after the last look nothing is noted any more, and nothing is due."""
        self.dns.look()
        self.ask("a.example")
        self.clock.advance(INTEREST)
        self.ask("b.example")
        self.assertEqual(self.dns.look(), [])
        self.dns.stop()

    def test_lateAnswer(self) -> None:
        """A query that is answered when nobody looks any more is not kept."""
        self.dns.look()
        wire = ask("a.example", AAAA)
        self.clock.advance(INTEREST - 1)
        self.dns.query(wire, "client", self.got.append)
        self.clock.advance(1)
        self.queries.asked[-1].answered(answer(wire))
        self.assertEqual(len(self.got), 1)
        self.assertEqual(self.dns.look(), [])
        self.dns.stop()

    def test_limit(self) -> None:
        """Only the last queries are kept, and the newest is told first."""
        self.dns.look()
        for number in range(KEPT + 1):
            self.ask(f"a{number}.example")
            self.dns.look()
        names = [each["name"] for each in self.dns.look()]
        self.assertEqual(
            (len(names), names[0], names[-1]), (KEPT, f"a{KEPT}.example", "a1.example")
        )

    def test_malformed(self) -> None:
        """A query that is malformed is noted, too, if it is answered."""
        self.dns.look()
        self.dns.query(ask("a.example")[:-3], "client", self.got.append)
        (noted,) = self.dns.look()
        self.assertEqual((noted["name"], noted["status"]), ("?", "FORMERR"))
