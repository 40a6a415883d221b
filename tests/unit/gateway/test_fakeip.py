"""
Tests for L{nanotun.gateway.fakeip.front} and L{nanotun.gateway.dns.lookup}.
"""

from __future__ import annotations

import os

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.addresses import DNS_PORT, GATEWAY4
from nanotun.flow import Endpoint, Flow, Known, Protocol
from nanotun.gateway.datagrams import DnsClient
from nanotun.gateway.dns.answered import AnsweredNames
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.lookup import Lookup, RealNames
from nanotun.gateway.dns.made import TTL
from nanotun.gateway.dns.message import NXDOMAIN, PTR
from nanotun.gateway.dns.records import readLifetime
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.gateway.dns.trace import Trace
from nanotun.gateway.fakeip import front
from nanotun.gateway.fakeip.answers import FakeAnswers
from nanotun.gateway.fakeip.existence import WAIT
from nanotun.gateway.fakeip.front import SAVE_INTERVAL, FakeDns, FakeIpNames
from nanotun.gateway.fakeip.pool import HOLD, FakePool, addresses
from nanotun.gateway.fakeip.store import FakeStore
from nanotun.gateway.streams import DnsStreamProtocol
from nanotun.interfaces import INames
from tests.unit.gateway.gateway_cases import (
    AAAA,
    HTTPS,
    A,
    FakeQueries,
    answer,
    ask,
    choiceOf,
    rcode,
    read,
    record,
    soa,
)

GATEWAY = Endpoint(GATEWAY4, DNS_PORT)


def flowTo(host: str, source: str) -> Flow:
    """A program's flow."""
    return Flow(1, Protocol.TCP, Endpoint(source, 40000), Endpoint(host, 443))


class FakeLookup(Lookup):
    """Knows every name."""

    def __init__(self) -> None:
        """It has no relay."""

    def resolve(self, name: str, family: int) -> Deferred[list[str]]:
        return succeed([f"{name}/{family}"])


class FakeDnsTests(SynchronousTestCase):
    """Tests for L{FakeDns}."""

    def setUp(self) -> None:
        """In front of a relay, with a pool of one address."""
        self.queries = FakeQueries()
        self.counters = Counters()
        self.relay = DnsRelay(Clock(), choiceOf(self.queries), self.counters, 10, 100_000)
        self.addCleanup(self.relay.stop)
        self.got: list[bytes] = []
        self.logged: list[str] = []
        log = Logger(observer=lambda event: self.logged.append(formatEvent(event)))  # type: ignore[arg-type]
        self.patch(FakeDns, "_log", log)
        self.makeDns(FakePool(1))

    def makeDns(self, pool: FakePool) -> None:
        """In front of the relay, with this pool."""
        self.clock = Clock()
        self.answers = FakeAnswers(pool, singles=True)
        self.dns = FakeDns(self.clock, self.answers, pool, self.relay)
        self.addCleanup(self.dns.stop)

    def ask(self, name: str, port: int = 40000, host: str = "198.18.0.2") -> int:
        """The code that a program on a port gets for a name."""
        self.dns.query(ask(name), DnsClient(host, port, None), self.got.append)
        return rcode(self.got[-1])

    def test_own(self) -> None:
        """A query for a faked name is answered without asking a server."""
        self.assertTrue(self.dns.query(ask(), "c", self.got.append))
        self.assertTrue(self.got[0].endswith(b"\xc6\x13\0\1"))
        self.assertEqual((self.counters.queries, self.counters.faked), (1, 1))
        self.assertEqual(self.queries.asked, [])

    def test_relayed(self) -> None:
        """All other queries are passed to the relay, with all arguments."""
        wire = ask("printer.local")
        self.assertTrue(self.dns.query(wire, "c", self.got.append))
        self.assertFalse(self.dns.query(wire, "c", self.got.append, overTCP=True, largest=600))
        self.queries.answer(answer(wire))
        self.assertEqual(self.got, [answer(wire)])
        self.assertEqual((self.counters.queries, self.counters.faked), (2, 0))

    def names(self, everyServer: bool = False) -> list[str]:
        """Have names asked for that do not exist if they begin with "no"; return them."""
        asked: list[str] = []

        def find(name: str) -> Deferred[bytes | None]:
            asked.append(name)
            self.found.append((name, Deferred()))
            return self.found[-1][1]

        self.found: list[tuple[str, Deferred[bytes | None]]] = []
        self.dns.existence.configure(find, lambda name: "." in name, everyServer)
        return asked

    def tell(self) -> None:
        """Answer all questions."""
        found, self.found = self.found, []
        for name, each in found:
            gone = name.startswith("no")
            denial = answer(ask(name), [], [soa(60, 60)], flags=0x8183)
            each.callback(denial if gone else answer(ask(name)))

    def test_absent(self) -> None:
        """A name that does not exist gets NXDOMAIN, for both families, and no address."""
        asked = self.names()
        for kind in (A, AAAA):
            self.assertTrue(self.dns.query(ask("no.example", kind), "c", self.got.append))
        self.assertEqual(self.got, [])
        self.tell()
        self.assertEqual([rcode(each) for each in self.got], [NXDOMAIN, NXDOMAIN])
        self.assertEqual(self.ask("no.example"), NXDOMAIN)
        self.assertEqual(asked, ["no.example"])
        counters = self.counters
        self.assertEqual((counters.queries, counters.absent, counters.faked), (3, 3, 0))
        lifetime = readLifetime(self.got[0], read(ask("no.example")))
        assert lifetime is not None
        self.assertEqual(lifetime.seconds, TTL)

    def test_exists(self) -> None:
        """A name that exists gets its address when that is known, or after 1.5 s."""
        self.makeDns(FakePool(2))
        self.names()
        self.dns.query(ask("a.example"), "c", self.got.append)
        self.dns.query(ask("no.example"), "c", self.got.append)
        self.assertFalse(self.dns.query(ask("no.example"), "c", self.got.append))
        self.found[0][1].callback(answer(ask("a.example")))
        self.assertTrue(self.got[0].endswith(b"\xc6\x13\0\1"))
        self.clock.advance(WAIT)
        self.assertTrue(self.got[1].endswith(b"\xc6\x13\0\2"))
        self.assertEqual((len(self.got), self.counters.faked), (2, 2))

    def test_records(self) -> None:
        """HTTPS records come from the servers, without address hints, and from the cache."""
        self.names(everyServer=True)
        wire = ask("a.example", HTTPS)
        data = b"\0\1\0\0\1\0\3\2h2\0\4\0\4\xc0\0\2\1"
        for _ in range(2):
            self.assertTrue(self.dns.query(wire, "c", self.got.append))
            if not self.got:
                self.queries.answer(answer(wire, [record(HTTPS, 300, data)]))
        self.assertEqual(self.got[0], self.got[1])
        self.assertEqual(len(self.queries.asked), 1)
        self.assertIn(b"\0\1\0\0\1\0\3\2h2\xff\0\0\4\0\0\0\0", self.got[0])
        self.assertEqual((self.counters.queries, self.counters.faked, self.found), (2, 0, []))

    def test_noRecords(self) -> None:
        """Where no server may be asked, does answer, or can be understood, there are none."""
        wire = ask("a.example", HTTPS)
        self.assertTrue(self.dns.query(wire, "c", self.got.append))
        self.names()
        self.dns.query(wire, "c", self.got.append)
        self.tell()
        self.assertEqual(self.queries.asked, [])
        self.names(everyServer=True)
        self.dns.query(ask("intranet", HTTPS), "c", self.got.append)
        self.assertEqual(self.queries.asked, [])
        for message in (
            answer(wire, [], flags=0x8182),
            answer(wire, [record(HTTPS, 300, b"\0")]),
        ):
            self.dns.query(wire, "c", self.got.append)
            self.queries.answer(message)
        self.dns.query(ask("no.example"), "c", self.got.append)
        self.tell()
        self.dns.query(ask("no.example", HTTPS), "c", self.got.append)
        codes = [(rcode(each), each[6:12]) for each in self.got]
        nothing = b"\0\0\0\1\0\0"
        self.assertEqual(codes, [(0, nothing)] * 5 + [(NXDOMAIN, nothing)] * 2)

    def test_trace(self) -> None:
        """Whoever wants to know is told what has answered."""
        self.names()
        traces = [Trace() for _ in range(5)]
        for trace, name in zip(traces, ("a", "a", "no", "b", "nas"), strict=True):
            wire = ask(f"{name}.local" if name == "nas" else f"{name}.example")
            self.dns.query(wire, "c", self.got.append, trace=trace)
            self.tell()
        self.queries.answer(answer(wire))
        stages = [trace.stage for trace in traces]
        # There is one address only.
        self.assertEqual(stages, ["fake", "fake", "absent", "limit", "server"])

    def test_unasked(self) -> None:
        """Names of one label, and what has no address, are not asked for."""
        asked = self.names()
        self.assertEqual(self.ask("intranet"), 0)
        self.dns.query(ask("1.0.19.198.in-addr.arpa", PTR), "c", self.got.append)
        self.dns.query(ask("use-application-dns.net"), "c", self.got.append)
        self.assertEqual((len(self.got), asked), (3, []))

    def test_setRight(self) -> None:
        """A name that has an address is answered at once, and set right afterwards."""
        self.assertEqual((self.ask("no.example"), self.ask("no.example")), (0, 0))
        self.clock.advance(HOLD + 1)
        asked = self.names()
        self.got.clear()
        self.assertEqual(self.ask("no.example"), 0)
        self.assertEqual(asked, ["no.example"])
        self.tell()
        self.assertEqual(self.ask("no.example"), NXDOMAIN)
        # From then on nobody is misled while it is asked for again.
        self.clock.advance(60)
        self.dns.query(ask("no.example"), "c", self.got.append)
        self.tell()
        self.assertEqual([rcode(each) for each in self.got[-2:]], [NXDOMAIN, NXDOMAIN])

    def test_others(self) -> None:
        """That a name without an address does not exist leaves the answers that are kept."""
        self.makeDns(FakePool(2))
        self.names()
        wire = ask("a.example")
        self.dns.query(wire, "c", self.got.append)
        self.tell()
        self.assertIsNotNone(self.answers.known(wire, 0))
        self.dns.query(ask("none.example"), "c", self.got.append)
        self.tell()
        self.assertEqual(rcode(self.got[-1]), NXDOMAIN)
        self.assertIsNotNone(self.answers.known(wire, 0))

    def test_crowd(self) -> None:
        """If too many queries wait, a further one is answered with an address."""
        self.patch(front, "WAITING_LIMIT", 1)
        self.names()
        self.dns.query(ask("no.example"), "c", self.got.append)
        self.assertEqual(self.ask("a.example"), 0)

    def test_stop(self) -> None:
        """Once it has stopped, nobody who waits hears anything, and no timer is left."""
        self.names()
        self.dns.query(ask("a.example"), "c", self.got.append)
        self.dns.stop()
        self.assertEqual((self.got, self.clock.getDelayedCalls()), ([], []))

    def test_clear(self) -> None:
        """In another network names are asked for anew."""
        asked = self.names()
        names = ["no.example", "a.example"]
        for number in range(2):
            for name in names:
                self.dns.query(ask(name), "c", self.got.append)
            self.tell()
            self.assertEqual(asked, names * (number + 1))
            self.dns.clear()

    def test_exhausted(self) -> None:
        """New names get SERVFAIL once no address is left, which one line says, and are counted."""
        codes = [self.ask(f"n{number}.example", 40000 + number) for number in range(3)]
        self.assertEqual(codes, [0, 2, 2])
        self.assertEqual(self.counters.fakesRefused, 2)
        (line,) = self.logged
        self.assertIn("All 65,534 fake addresses are in use", line)

    def test_flood(self) -> None:
        """A flood of names from one socket leaves addresses for others, and one line says so."""
        self.makeDns(FakePool(100, (10,)))
        codes = [self.ask(f"n{number}.example") for number in range(200)]
        self.assertEqual(codes, [0] * 10 + [2] * 190)
        self.assertEqual(self.ask("n3.example"), 0)
        self.assertEqual(self.ask("other.example", 40001), 0)
        self.assertEqual(self.ask("other6.example", host="fdfe:dcba:9876::2"), 0)
        (line,) = self.logged
        self.assertIn("The program at 198.18.0.2:40000 has asked for", line)

    def test_user(self) -> None:
        """When many addresses are in use, the programs of one user together have a share,
        whatever sockets they use, and others have theirs."""
        self.patch(front, "PRESSED", 20)
        flows: list[Flow] = []

        def userOf(flow: Flow) -> str:
            flows.append(flow)
            return "The programs of uid 7" if flow.source.port < 50000 else "Others"

        pool = FakePool(100, (100, 30))
        self.dns = FakeDns(Clock(), FakeAnswers(pool), pool, self.relay, userOf)
        self.addCleanup(self.dns.stop)
        codes = [self.ask(f"n{number}.example", 1 + number) for number in range(20)]
        self.assertEqual((codes, flows), ([0] * 20, []))
        codes = [self.ask(f"m{number}.example", 30000 + number) for number in range(40)]
        self.assertEqual(codes, [0] * 30 + [2] * 10)
        self.assertEqual(flows[0], Flow(0, Protocol.UDP, Endpoint("198.18.0.2", 30000), GATEWAY))
        self.assertEqual(self.ask("other.example", 60000), 0)
        (line,) = self.logged
        self.assertIn("The programs of uid 7 have asked for 16,383 names within 90 s and get", line)
        asked = len(flows)
        self.assertEqual(self.ask("n3.example", 30001), 0)
        self.assertEqual(len(flows), asked)

    def test_streams(self) -> None:
        """All connections of a host are one client."""
        self.makeDns(FakePool(100, (10,)))
        for number in range(11):
            client = DnsStreamProtocol(self.dns, Clock(), "198.18.0.2", lambda protocol: None)
            self.dns.query(ask(f"n{number}.example"), client, self.got.append, overTCP=True)
        self.assertEqual([rcode(each) for each in self.got], [0] * 10 + [2])
        self.assertIn("198.18.0.2, by TCP, has asked for", self.logged[0])


class FakeIpNamesTests(SynchronousTestCase):
    """Tests for L{FakeIpNames}."""

    def setUp(self) -> None:
        """Names from a pool of two addresses, with a file."""
        self.clock = Clock()
        self.path = self.mktemp()
        self.pool = FakePool(2)
        self.names = self.make(self.pool)
        verifyObject(INames, self.names)

    def make(self, pool: FakePool) -> FakeIpNames:
        """The names of one run of the daemon."""
        lookup = FakeLookup()
        self.answered = AnsweredNames()
        real = RealNames(self.clock, self.answered, lookup, lambda host: host == "198.18.0.2")
        return FakeIpNames(self.clock, pool, FakeStore(self.path), lookup, real, 1000.0)

    def test_namesOf(self) -> None:
        """
        A fake address has one name, for everybody; a real one those of the relay's answers, for
        this machine's programs.
        """
        names = self.make(FakePool(2))
        self.answered.note(answer(ask("a.lan")), read(ask("a.lan")), 0)
        pool = names._pool
        fake = pool.give("b.example", 0, ())
        assert fake is not None
        address = addresses(fake.number)[0]
        for source, real in (("198.18.0.2", Known(("a.lan",))), ("192.0.2.9", Known())):
            self.assertEqual(names.namesOf(flowTo("192.0.2.1", source)), real)
            self.assertEqual(names.namesOf(flowTo(address, source)), Known(("b.example",)))
        self.assertEqual(names.namesOf(flowTo("198.19.9.9", "198.18.0.2")), Known())

    def test_names(self) -> None:
        """A fake address has the name it was given to; no other address has one."""
        self.pool.give("a.example", 0)
        self.assertTrue(self.names.followsFlows)
        self.assertEqual(self.names.nameOf("198.19.0.1"), "a.example")
        self.assertEqual(self.names.nameOf("fdfe:dcba:9876:1::1"), "a.example")
        self.assertIsNone(self.names.nameOf("198.19.0.2"))
        self.assertIsNone(self.names.nameOf("192.0.2.1"))
        self.assertTrue(self.names.isFake("198.19.0.2"))
        self.assertFalse(self.names.isFake("192.0.2.1"))
        self.assertEqual(self.successResultOf(self.names.resolve("b", 6)), ["b/6"])

    def test_held(self) -> None:
        """Asking for the name of an address holds it for the time of a flow."""
        for text in ("a.example", "b.example"):
            self.pool.give(text, 0)
        self.clock.advance(HOLD - 1)
        self.names.nameOf("198.19.0.1")
        self.clock.advance(HOLD)
        fake = self.pool.give("c.example", self.clock.seconds())
        self.assertTrue(fake is not None and fake.number == 2)
        self.assertIsNone(self.pool.give("d.example", self.clock.seconds()))

    def test_flows(self) -> None:
        """The pool learns of flows."""
        fake = self.pool.give("a.example", 0)
        assert fake is not None
        self.names.flowJoined("198.19.0.1")
        self.assertEqual(fake.flows, 1)
        self.names.flowClosed("198.19.0.1")
        self.assertEqual(fake.flows, 0)

    def test_saved(self) -> None:
        """New names are saved at the start, at intervals and at the stop, and the next run has
        them."""
        self.names.start()
        self.pool.give("a.example", 0)
        for pause in (0, SAVE_INTERVAL):
            os.unlink(self.path)
            self.assertEqual(self.clock.getDelayedCalls()[0].getTime(), pause + SAVE_INTERVAL)
            self.clock.advance(SAVE_INTERVAL)
            self.assertTrue(os.path.exists(self.path))
            self.pool.give("b.example", 0)
        self.names.stop()
        self.names.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        pool = FakePool(2)
        names = self.make(pool)
        names.start()
        self.assertEqual(names.nameOf("198.19.0.2"), "b.example")
        names.stop()


class RealNamesTests(SynchronousTestCase):
    """Tests for L{RealNames}."""

    def test_answered(self) -> None:
        """The names are those of the relay's answers, and no address is fake."""
        answered = AnsweredNames()
        names = RealNames(Clock(), answered, FakeLookup(), lambda host: host == "198.18.0.2")
        verifyObject(INames, names)
        names.start()
        answered.note(answer(ask("a.example")), read(ask("a.example")), 0)
        self.assertEqual(names.nameOf("192.0.2.1"), "a.example")
        known = names.namesOf(flowTo("192.0.2.1", "198.18.0.2"))
        self.assertEqual(known, Known(("a.example",)))
        self.assertEqual(names.namesOf(flowTo("192.0.2.1", "192.0.2.9")), Known())
        self.assertFalse(names.isFake("198.19.0.1"))
        self.assertFalse(names.followsFlows)
        names.flowJoined("192.0.2.1")
        names.flowClosed("192.0.2.1")
        self.assertEqual(self.successResultOf(names.resolve("b", 4)), ["b/4"])
        names.stop()
