"""
Tests for what each stage says of a query on its way (L{nanotun.gateway.dns.trace}), and for lists
of servers that a relay tells apart.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import ScriptReply
from nanotun.gateway.dns.ask import ServerQueries
from nanotun.gateway.dns.choice import ServerChoice
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.message import NOERROR, NXDOMAIN, SERVFAIL, Query
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.gateway.dns.scripted import WAITING_LIMIT, ScriptedDns
from nanotun.gateway.dns.trace import Trace
from nanotun.gateway.fakeip.answers import FakeAnswers
from nanotun.gateway.fakeip.front import FakeDns
from nanotun.gateway.fakeip.pool import FakePool
from nanotun.policy.dnsnames import NamePolicy
from nanotun.testing import FakeScript
from tests.unit.gateway.gateway_cases import (
    FIRST,
    FakeNameServers,
    FakeQueries,
    answer,
    ask,
    choiceOf,
    rcode,
)


class ChoiceByName(ServerChoice):
    """Names below C{corp} have servers of their own, and those below C{private} none."""

    office: ServerQueries

    def of(self, query: Query) -> ServerQueries | None:
        """See L{ServerChoice.of}."""
        if b"\7private" in query.question:
            return None
        return self.office if b"\4corp" in query.question else super().of(query)


class TracingCase(SynchronousTestCase):
    """A relay with two lists of servers, and one client."""

    def setUp(self) -> None:
        """Nothing is in the cache."""
        self.clock = Clock()
        self.usual, self.office = FakeQueries(), FakeQueries(key=b"office")
        self.counters = Counters()
        self.relay = DnsRelay(self.clock, self.choice(), self.counters, 10, 100_000, 2)
        self.addCleanup(self.relay.stop)
        self.got: list[bytes] = []

    def choice(self) -> ServerChoice:
        """The servers by name."""
        made = ChoiceByName(FakeNameServers(self.usual), (), NamePolicy())
        made.office = self.office
        return made

    def trace(self, name: str = "a.example", client: str = "c") -> Trace:
        """The client asks, and wants to know."""
        trace = Trace()
        self.relay.query(ask(name), client, self.got.append, True, trace=trace)
        return trace


class RelayTests(TracingCase):
    """L{DnsRelay}."""

    def test_server(self) -> None:
        """Who has waited for the same answer is told the same."""
        first, second = self.trace(), self.trace(client="d")
        self.clock.advance(1)
        self.usual.answer(answer(ask("a.example")))
        for trace in (first, second):
            self.assertEqual(
                (trace.stage, trace.server, trace.cached), ("server", str(FIRST), False)
            )
            self.assertEqual([each.seconds for each in trace.tries], [1])

    def test_cache(self) -> None:
        """An answer from the cache is told with its age and the server that gave it, which is
        credited with it."""
        self.trace()
        self.usual.answer(answer(ask("a.example")))
        self.clock.advance(41)
        for name in ("a.example", "A.Example"):
            trace = self.trace(name)
            self.assertEqual((trace.stage, trace.cached, trace.age), ("cache", True, 41))
            self.assertEqual((trace.server, trace.via), (str(FIRST), "direct"))
        self.assertEqual(self.usual.tallies[FIRST].hits, 2)

    def test_limit(self) -> None:
        """What is turned away, because too much is under way, was asked of nobody."""
        for name in ("a.example", "b.example"):
            self.trace(name)
        self.assertEqual(self.trace("c.example").stage, "limit")

    def test_lists(self) -> None:
        """A name is asked of its own servers, and their answer is kept."""
        self.trace("a.corp")
        self.assertEqual((len(self.office.asked), len(self.usual.asked)), (1, 0))
        self.office.answer(answer(ask("a.corp")))
        self.assertEqual(self.trace("a.corp").stage, "cache")

    def test_nobody(self) -> None:
        """A name of which nobody may be asked does not exist."""
        trace = self.trace("a.private")
        self.assertEqual((trace.stage, [rcode(each) for each in self.got]), ("private", [NXDOMAIN]))
        self.assertEqual((self.usual.asked, self.relay.inFlight), ([], 0))

    def test_zone(self) -> None:
        """The zone of names behind private addresses exists, though nobody is asked about it."""
        nobody = FakeQueries()
        nobody.servers = ()
        self.relay.configure(choiceOf(nobody), 10, 100_000)
        for name in ("168.192.IN-addr.arpa", "1.168.192.in-addr.arpa"):
            self.trace(name)
        self.assertEqual([rcode(each) for each in self.got], [NOERROR, NXDOMAIN])

    def test_rechoose(self) -> None:
        """A new choice among the same servers forgets the answers, ends nothing, and does not join
        a name with what is under way at its old servers."""
        self.trace("a.example")
        self.usual.answer(answer(ask("a.example")))
        plain = FakeNameServers(self.usual)
        self.relay.rechoose(ServerChoice(plain, (), NamePolicy()))
        self.trace("a.corp", "first")
        self.relay.rechoose(self.choice())
        self.trace("a.corp", "second")
        self.assertEqual((len(self.usual.asked), len(self.office.asked)), (2, 1))
        self.usual.answer(answer(ask("a.corp")))
        self.office.answer(answer(ask("a.corp")))
        self.assertEqual(len(self.got), 3)
        self.assertEqual((plain.events, self.usual.attempts[0].cancelled), ([], True))
        self.trace("a.example")
        self.assertEqual(len(self.usual.asked), 3)

    def test_anew(self) -> None:
        """When nothing more may be sent the old way, what was asked of a rule's servers fails, and
        so does what a rule has servers for now, or nobody may be asked about."""
        for name in ("a.corp", "a.example"):
            self.trace(name)
        fresh = FakeQueries()
        self.relay.configure(choiceOf(fresh), 10, 100_000, anew=True)
        self.assertEqual([rcode(each) for each in self.got], [SERVFAIL])
        self.assertEqual([each.wire for each in fresh.asked], [ask("a.example")])
        nobody = ChoiceByName(FakeNameServers(fresh), (), NamePolicy())
        self.trace("b.private")
        self.relay.configure(nobody, 10, 100_000, anew=True)
        self.assertEqual([rcode(each) for each in self.got], [SERVFAIL] * 2)
        ruled = FakeQueries(key=b"ruled")
        self.relay.configure(choiceOf(ruled), 10, 100_000, anew=True)
        self.assertEqual([rcode(each) for each in self.got], [SERVFAIL] * 3)
        self.assertEqual(ruled.asked, [])


class StageTests(TracingCase):
    """The stages before the relay."""

    def test_script(self) -> None:
        """The script's own answers are told as such, and what it leaves to others as theirs."""
        dns = ScriptedDns(self.relay, self.relay, lambda server: self.office)
        script = FakeScript()
        dns.configure(script)
        traces = [Trace() for _ in range(4)]
        replies = (
            ScriptReply(refused=True),
            ScriptReply(addresses=("192.0.2.1",)),
            ScriptReply(server="udp://192.0.2.53:53"),
            ScriptReply(),
        )
        for reply, trace in zip(replies, traces, strict=True):
            script.reply = reply
            dns.query(ask(), "c", self.got.append, True, trace=trace)
        self.office.answer(answer(ask()))
        self.usual.answer(answer(ask()))
        stages = [each.stage for each in traces]
        self.assertEqual(stages, ["script", "script", "server", "server"])

    def test_scriptLimit(self) -> None:
        """A query for which the script has no time is turned away."""
        dns = ScriptedDns(self.relay, self.relay, lambda server: self.office)
        self.addCleanup(dns.stop)
        script = FakeScript()
        script.reply = None
        dns.configure(script)
        for number in range(WAITING_LIMIT):
            dns.query(ask(ident=number), "c", self.got.append)
        trace = Trace()
        dns.query(ask(), "d", self.got.append, trace=trace)
        self.assertEqual(trace.stage, "limit")

    def test_fake(self) -> None:
        """A name with a fake address is told as such, and others as theirs who answer."""
        pool = FakePool()
        dns = FakeDns(self.clock, FakeAnswers(pool, ()), pool, self.relay)
        self.addCleanup(dns.stop)
        faked, real = Trace(), Trace()
        dns.query(ask(), "c", self.got.append, trace=faked)
        dns.query(ask("a.local"), "c", self.got.append, trace=real)
        self.usual.answer(answer(ask("a.local")))
        self.assertEqual((faked.stage, real.stage), ("fake", "server"))
