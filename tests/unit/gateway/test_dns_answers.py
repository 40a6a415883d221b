"""
Tests for what L{nanotun.gateway.dns.relay} makes of queries and answers: the client's subnet,
answers past their time, and protection against rebinding.
"""

from __future__ import annotations

import struct

from twisted.logger import LogLevel, capturedLogs

from nanotun.gateway.dns.answered import AnsweredNames
from nanotun.gateway.dns.cache import RETRY
from nanotun.gateway.dns.edns import CLIENT_SUBNET
from nanotun.gateway.dns.exchange import ATTEMPT_TIMEOUT, ATTEMPTS
from nanotun.gateway.dns.exchanges import STALE_QUIET
from nanotun.gateway.dns.message import NOERROR, SERVFAIL
from nanotun.gateway.dns.rebinding import RebindingGuard
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.gateway.dns.trace import Trace
from tests.unit.gateway.gateway_cases import (
    FIRST,
    SECOND,
    A,
    FakeQueries,
    answer,
    ask,
    choiceOf,
    edns,
    rcode,
    record,
)
from tests.unit.gateway.test_dns_relay import RelayCase

SUBNET = struct.pack("!HHHBB", CLIENT_SUBNET, 7, 1, 24, 0) + b"\xc0\0\2"


class SubnetTests(RelayCase):
    """EDNS client subnet."""

    def test_removed(self) -> None:
        """Servers see no subnet, and queries that differ in nothing else share an answer."""
        self.query(ask(ident=1, extension=edns(options=SUBNET)), "a")
        self.query(ask(ident=2, extension=edns()), "b")
        plain = ask(extension=edns())
        self.assertEqual([each.wire[2:] for each in self.queries.asked], [plain[2:]])
        self.queries.answer(answer(plain))
        self.query(ask(ident=3, extension=edns(options=SUBNET)), "c")
        self.assertEqual([message[:2] for message in self.messages()], [b"\0\1", b"\0\2", b"\0\3"])
        self.assertEqual(len({message[2:] for message in self.messages()}), 1)
        self.assertEqual((len(self.queries.asked), self.counters.hits), (1, 1))

    def test_named(self) -> None:
        """No server that the script names sees a subnet either."""
        wire = ask(extension=edns(options=SUBNET))
        self.relay.query(wire, "c", lambda message: None, servers=self.queries)
        self.assertEqual(self.queries.asked[0].wire, ask(extension=edns()))

    def test_kept(self) -> None:
        """Where the subnet is wanted it reaches the server, and the answer is for it alone."""
        self.relay.keepsSubnet = True
        wire = ask(extension=edns(options=SUBNET))
        for _ in range(2):
            self.query(wire)
            self.assertEqual(self.queries.asked[-1].wire, wire)
            self.queries.answer(answer(wire))
        self.assertEqual((len(self.queries.asked), len(self.relay.cache)), (2, 0))


class StaleTests(RelayCase):
    """Answers after their time."""

    def setUp(self) -> None:
        """The time of an answer is over."""
        super().setUp()
        self.names = AnsweredNames()
        self.relay = DnsRelay(
            self.clock, choiceOf(self.queries), self.counters, 0, 0, 6, 4, self.names
        )
        self.relay.configure(choiceOf(self.queries), 10, 100_000, stale=3600)
        self.query(ask())
        self.queries.answer(answer(ask()))
        self.clock.advance(1000)
        self.got.clear()
        self.queries.asked.clear()

    def stale(self, ident: int = 1) -> bytes:
        """The answer as it is given now."""
        return answer(ask(ident=ident), [record(A, 30)])

    def test_silent(self) -> None:
        """If the first server is silent for 1.5 s, all who wait get the old answer; the one that
        comes later is kept."""
        for number, client in enumerate("ab"):
            self.query(ask(ident=number), client)
        self.clock.advance(ATTEMPT_TIMEOUT - 0.1)
        self.assertEqual(self.got, [])
        self.clock.advance(0.1)
        self.assertEqual(self.got, [("a", self.stale(0)), ("b", self.stale(1))])
        self.assertEqual([each.server for each in self.queries.asked], [FIRST, SECOND])
        self.assertEqual((self.relay.inFlight, self.counters.stale), (0, 2))
        fresh = answer(ask(), [record(A, 300, b"\1\1\1\1")])
        self.queries.answer(fresh)
        self.query(ask())
        self.assertEqual(self.messages()[2:], [fresh])
        self.assertEqual((self.counters.stale, self.counters.servfail), (2, 0))

    def test_atOnce(self) -> None:
        """For 30 s after that nobody waits, and no server is asked."""
        self.query(ask())
        self.clock.pump([ATTEMPT_TIMEOUT] * ATTEMPTS)
        asked = len(self.queries.asked)
        self.query(ask(ident=9))
        self.assertEqual(self.messages(), [self.stale(), self.stale(9)])
        self.assertEqual(len(self.queries.asked), asked)
        self.clock.advance(RETRY)
        self.query(ask())
        self.assertEqual((len(self.got), len(self.queries.asked)), (2, asked + 1))

    def test_refused(self) -> None:
        """If no server can be reached the old answer is given at once."""
        self.queries.error = OSError("unreachable")
        self.query(ask())
        self.assertEqual(self.messages(), [self.stale()])
        self.assertEqual((self.counters.servfail, self.relay.inFlight), (0, 0))

    def test_never(self) -> None:
        """Without an old answer, nobody is given one."""
        self.query(ask("other.example"))
        self.clock.pump([ATTEMPT_TIMEOUT] * ATTEMPTS)
        self.assertEqual([rcode(message) for message in self.messages()], [SERVFAIL])
        self.assertEqual(self.counters.stale, 0)

    def test_servfail(self) -> None:
        """A server's SERVFAIL is passed on: it may be that the old answer is not valid."""
        error = answer(ask(), [], flags=0x8182)
        self.query(ask())
        self.queries.answer(error)
        self.assertEqual(self.messages(), [error])

    def test_cleared(self) -> None:
        """In another network the old answer is not given, not even to those who wait already."""
        self.query(ask())
        self.relay.networkMoved()
        self.clock.pump([ATTEMPT_TIMEOUT] * ATTEMPTS)
        self.query(ask())
        self.clock.pump([ATTEMPT_TIMEOUT] * ATTEMPTS)
        self.assertEqual([rcode(message) for message in self.messages()], [SERVFAIL] * 2)

    def test_named(self) -> None:
        """A server that the script names is never answered for."""
        office = FakeQueries(key=b"office")
        self.relay.query(ask(), "c", lambda answer: self.got.append(("c", answer)), servers=office)
        self.clock.pump([ATTEMPT_TIMEOUT] * ATTEMPTS)
        self.assertEqual([rcode(message) for message in self.messages()], [SERVFAIL])

    def test_names(self) -> None:
        """The old answer's addresses belong to its name again."""
        self.assertIsNone(self.names.find("192.0.2.1", self.clock.seconds()))
        self.query(ask())
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual(self.names.find("192.0.2.1", self.clock.seconds()), "www.example.com")

    def test_trace(self) -> None:
        """Whoever wants to know is told which servers were silent, and the answer's age."""
        for wait in (ATTEMPT_TIMEOUT, 0):
            trace = Trace()
            self.relay.query(ask(), "c", lambda answer: None, trace=trace)
            self.clock.advance(wait)
            self.assertEqual((trace.stage, trace.cached), ("stale", True))
            self.assertEqual((trace.age, trace.server), (1001.5, str(FIRST)))
            tries = [(each.server, each.trouble) for each in trace.tries]
            self.assertEqual(tries, [(str(FIRST), "no answer")] if wait else [])

    def test_said(self) -> None:
        """One line says so, and the next one does when that has long been over."""
        lines = []
        for wait in (RETRY, STALE_QUIET, RETRY):
            with capturedLogs() as events:
                self.query(ask())
                self.clock.pump([ATTEMPT_TIMEOUT] * ATTEMPTS)
            lines.append([e["log_level"] for e in events if "dnsStale" in e["log_format"]])
            self.clock.advance(wait)
        self.assertEqual(lines, [[LogLevel.warn], [], [LogLevel.warn]])

    def test_limit(self) -> None:
        """What is asked though nobody waits for it counts towards the limit."""
        for number in range(6):
            name = f"a{number}"
            self.query(ask(name), name)
            self.queries.answer(answer(ask(name), [record(A, 1)]))
        self.clock.advance(1)
        for number in range(6):
            self.query(ask(f"a{number}"), f"a{number}")
        self.got.clear()
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.assertEqual((len(self.got), self.relay.inFlight), (6, 0))
        self.query(ask("other.example"))
        self.assertEqual((rcode(self.messages()[-1]), self.counters.limited), (SERVFAIL, 1))
        self.clock.pump([ATTEMPT_TIMEOUT] * ATTEMPTS)
        self.query(ask("other.example"))
        self.assertEqual((len(self.got), self.counters.limited), (7, 1))

    def test_askedAnew(self) -> None:
        """What nobody waits for is not asked of the servers of another configuration."""
        self.query(ask())
        self.clock.advance(ATTEMPT_TIMEOUT)
        others = FakeQueries()
        self.relay.configure(choiceOf(others), 10, 100_000, anew=True, stale=3600)
        self.assertEqual((others.asked, self.relay.inFlight), ([], 0))
        self.clock.pump([ATTEMPT_TIMEOUT] * ATTEMPTS)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_joined(self) -> None:
        """A query that may not be given the old answer waits for the same servers' next one."""
        self.query(ask())
        self.clock.advance(ATTEMPT_TIMEOUT)
        self.relay.clearCache()
        self.query(ask(ident=2))
        self.assertEqual((len(self.queries.asked), self.counters.joined), (2, 1))
        self.queries.answer(answer(ask()))
        self.assertEqual(self.messages()[1:], [answer(ask(ident=2))])


class RebindingTests(RelayCase):
    """Answers that lead into local networks."""

    def setUp(self) -> None:
        """Names below corp.example may have any address."""
        super().setUp()
        self.said: list[str] = []
        self.guard = RebindingGuard(lambda name: name.endswith("corp.example"), self.said.append)
        self.relay.guardBy(self.guard)

    def private(self, name: str = "www.example.com", flags: int = 0x8180) -> bytes:
        """An answer with an address of a local network."""
        return answer(ask(name), [record(A, 300, b"\x0a\0\0\1")], flags=flags)

    def test_dropped(self) -> None:
        """All who wait are told that there is no data, and for a moment whoever else asks."""
        trace = Trace()
        for client in "ab":
            self.query(ask(), client)
        self.relay.query(ask(), "c", lambda message: None, trace=trace)
        self.queries.answer(self.private())
        self.query(ask())
        for message in self.messages():
            self.assertEqual((rcode(message), message[6:12]), (NOERROR, b"\0\0\0\1\0\0"))
            self.assertNotIn(b"\x0a\0\0\1", message)
        self.assertEqual((len(self.got), self.counters.rebound, len(self.said)), (3, 3, 1))
        self.assertEqual((trace.stage, trace.rule), ("server", "dnsRebindProtection"))
        trace = Trace()
        self.relay.query(ask(), "c", lambda message: None, trace=trace)
        self.assertEqual((trace.stage, trace.rule), ("cache", "dnsRebindProtection"))
        self.clock.advance(10)
        self.query(ask())
        self.assertEqual(len(self.queries.asked), 2)

    def test_exempt(self) -> None:
        """An exempt name's answer is passed on as it is, and kept."""
        wire = ask("wiki.corp.example")
        for _ in range(2):
            self.query(wire)
            if not self.got:
                self.queries.answer(self.private("wiki.corp.example"))
        self.assertEqual(self.messages(), [self.private("wiki.corp.example")] * 2)
        self.assertEqual((self.counters.rebound, self.counters.hits), (0, 1))

    def test_truncated(self) -> None:
        """A truncated answer is dropped as well: some clients use what is in it."""
        self.query(ask())
        self.queries.answer(self.private(flags=0x8380))
        self.assertNotIn(b"\x0a\0\0\1", self.messages()[0])
        self.assertEqual((len(self.got), self.relay.inFlight), (1, 0))

    def test_named(self) -> None:
        """An answer of a server that the script names is dropped as well."""
        office = FakeQueries(key=b"office")
        self.relay.query(ask(), "c", lambda answer: self.got.append(("c", answer)), servers=office)
        office.answer(self.private())
        self.assertNotIn(b"\x0a\0\0\1", self.messages()[0])

    def test_noted(self) -> None:
        """Nobody is known by an address that was dropped."""
        names = AnsweredNames()
        self.relay = DnsRelay(
            self.clock, choiceOf(self.queries), self.counters, 9, 99999, 6, 4, names
        )
        self.relay.guardBy(self.guard)
        self.query(ask())
        self.queries.answer(self.private())
        self.assertEqual(len(names), 0)

    def test_sinceNow(self) -> None:
        """Once protection is on, no answer of before is given; it goes, and others come back."""
        self.relay.guardBy(None)
        self.query(ask())
        self.queries.answer(self.private())
        self.relay.guardBy(self.guard)
        self.query(ask())
        self.queries.answer(self.private())
        self.assertEqual((self.messages()[0], self.counters.rebound), (self.private(), 1))
        self.relay.guardBy(RebindingGuard(lambda name: True, self.said.append))
        self.query(ask())
        self.relay.guardBy(None)
        self.query(ask())
        self.queries.answer(self.private())
        self.assertEqual(self.messages()[3], self.private())

    def test_afterTime(self) -> None:
        """An answer that was dropped does not come back when no server responds."""
        self.relay.configure(choiceOf(self.queries), 10, 100_000, stale=3600)
        self.query(ask())
        self.queries.answer(self.private())
        self.clock.advance(60)
        self.query(ask())
        self.clock.pump([ATTEMPT_TIMEOUT] * ATTEMPTS)
        self.assertEqual(rcode(self.messages()[1]), SERVFAIL)
