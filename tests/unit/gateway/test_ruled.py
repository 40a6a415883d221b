"""
Tests for L{nanotun.gateway.dns.ruled}.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.config.dnsrules import DnsAnswer, DnsRule
from nanotun.config.domains import pattern
from nanotun.flow import ScriptReply
from nanotun.gateway import gateway as gatewayModule
from nanotun.gateway.dns import ruled
from nanotun.gateway.dns.addresses import packName
from nanotun.gateway.dns.answered import AnsweredNames
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.hostsfile import MAX_AGE, HostsFile
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.made import TTL
from nanotun.gateway.dns.message import NOERROR, PTR, REFUSED, SVCB, Query, readQuery
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.gateway.dns.ruled import KNOWN_LIMIT, RuledDns
from nanotun.gateway.dns.trace import Trace
from nanotun.interfaces import DnsServer
from nanotun.policy.dnsnames import NamePolicy
from nanotun.testing import FakeScript
from tests.unit.gateway.gateway_cases import (
    AAAA,
    HTTPS,
    TXT,
    A,
    FakeQueries,
    answer,
    ask,
    choiceOf,
    edns,
    isTruncated,
    makeDatagram,
    rcode,
    record,
)
from tests.unit.gateway.test_gateway import GatewayCase
from tests.unit.policy.deciding import ruleTable

REFUSE = DnsAnswer(refused=True)
NODATA = DnsAnswer()
NOWHERE = DnsAnswer(addresses=("0.0.0.0", "::"))
SOMEWHERE = DnsAnswer(addresses=("10.0.0.7", "10.0.0.8", "fd00::7"))


def entry(domain: str, answer: DnsAnswer | None = None, **more: Any) -> DnsRule:
    """An entry of C{dnsRules}."""
    return DnsRule((pattern(domain),), answer=answer, **more)


def made(query: bytes, kind: int, *hosts: str) -> bytes:
    """The answer that gives these addresses."""
    records = [record(kind, TTL, ip_address(host).packed) for host in hosts]
    return answer(query, records)


class RuledCase(SynchronousTestCase):
    """A L{RuledDns} in front of a relay with a server."""

    def setUp(self) -> None:
        """Nothing is configured, and there is no hosts file."""
        self.clock = Clock()
        self.server = FakeQueries()
        self.names = AnsweredNames()
        self.relay = DnsRelay(
            self.clock, choiceOf(self.server), Counters(), 10, 100_000, names=self.names
        )
        self.addCleanup(self.relay.stop)
        self.path = Path(self.mktemp())
        self.hosts = HostsFile(self.fail, str(self.path))
        self.dns = RuledDns(self.clock, self.relay, self.relay)
        self.got: list[bytes] = []
        self.trace = Trace()

    def configure(
        self, *rules: DnsRule, hosts: str | None = None, own: tuple[str, ...] = (), **more: Any
    ) -> None:
        """Answer by these rules, and by a hosts file."""
        if hosts is not None:
            self.path.write_text(hosts)
        self.dns.configure(NamePolicy(rules, **more), None if hosts is None else self.hosts, own)

    def ask(self, *query: Any, **more: Any) -> bytes | None:
        """The answer that is there at once; L{None} if there is none, as a server is asked."""
        before = len(self.got)
        self.trace = Trace()
        wire = query[0] if isinstance(query[0], bytes) else ask(*query, **more)
        self.assertTrue(self.dns.query(wire, object(), self.got.append, trace=self.trace))
        return self.got[-1] if len(self.got) > before else None


class HostsTests(RuledCase):
    """By the hosts file."""

    FILE = "# Ours\n10.0.0.5 printer.lan printer\n10.0.0.6 printer.lan\nfd00::5 six.lan\n"

    def test_interface(self) -> None:
        """It answers as the relay does."""
        verifyObject(IAnswering, self.dns)
        self.assertIs(self.dns.counters, self.relay.counters)

    def test_addresses(self) -> None:
        """
        A name in the file has the addresses there of the type that was asked for, and no data of
        the other; its HTTPS and SVCB records, whose hints lead elsewhere, have no data.
        """
        self.configure(hosts=self.FILE)
        for name, kind, hosts in (
            ("printer.lan", A, ("10.0.0.5", "10.0.0.6")),
            ("PRINTER", A, ("10.0.0.5",)),
            ("six.lan", AAAA, ("fd00::5",)),
        ):
            query = ask(name, kind)
            self.assertEqual(self.ask(query), made(query, kind, *hosts), name)
            self.assertEqual(self.trace.stage, "hosts")
        for name, kind in (
            ("printer", AAAA),
            ("six.lan", A),
            ("printer.lan", HTTPS),
            ("six.lan", SVCB),
        ):
            got = self.ask(name, kind)
            assert got is not None
            # No record but the SOA.
            self.assertEqual((rcode(got), got[6:10]), (NOERROR, b"\0\0\0\1"), (name, kind))
        self.assertEqual(self.server.asked, [])
        self.assertEqual((self.dns.counters.hosts, self.dns.counters.queries), (7, 7))

    def test_pointer(self) -> None:
        """PTR of an address in the file is its first name, and the trace says where it stands."""
        self.configure(hosts=self.FILE)
        query = ask("5.0.0.10.IN-ADDR.arpa", PTR)
        expected = answer(query, [record(PTR, TTL, packName("printer.lan"))])
        self.assertEqual(self.ask(query), expected)
        self.assertEqual(self.trace.rule, "/etc/hosts, line 2")

    def test_others(self) -> None:
        """Other names, and other records of a name in the file, are the servers'."""
        self.configure(hosts=self.FILE)
        pointer = "9.0.0.10.in-addr.arpa"
        for name, kind in (
            ("other.lan", A),
            ("x.printer.lan", A),
            ("printer.lan", TXT),
            (pointer, PTR),
        ):
            self.assertIsNone(self.ask(name, kind))
        chaos = ask("printer.lan", A)[:-1] + b"\x03"
        self.assertIsNone(self.ask(chaos))
        self.assertEqual(len(self.server.asked), 5)
        self.assertEqual(self.dns.counters.hosts, 0)

    def test_change(self) -> None:
        """A change of the file is followed within a second, also for names asked before."""
        self.configure(hosts=self.FILE)
        self.assertIsNone(self.ask("new.lan"))
        self.ask("printer.lan")
        self.path.write_text("10.0.0.9 new.lan printer.lan\n")
        self.clock.advance(MAX_AGE)
        for name in ("new.lan", "printer.lan"):
            query = ask(name)
            self.assertEqual(self.ask(query), made(query, A, "10.0.0.9"))

    def test_off(self) -> None:
        """Without C{hosts} the file does not count, though it did before."""
        self.configure(hosts=self.FILE)
        self.ask("printer.lan")
        self.configure()
        self.assertIsNone(self.ask("printer.lan"))

    def test_noted(self) -> None:
        """The names are known of flows to the addresses, but not those of blocked names."""
        self.configure(hosts=self.FILE + "0.0.0.0 ads.example\n")
        self.ask("printer.lan")
        self.ask("ads.example")
        found = [self.names.find(host, 1.0) for host in ("10.0.0.5", "10.0.0.6", "0.0.0.0")]
        self.assertEqual(found, ["printer.lan", "printer.lan", None])


class RulesTests(RuledCase):
    """By C{dnsRules}, and for rejected names."""

    def test_answers(self) -> None:
        """Each answer of C{dnsRules} holds for every type and class, and asks no server."""
        self.configure(
            entry("no.example", REFUSE, where="FILE, line 3"),
            entry("empty.example", NODATA),
            entry("ads.example", NOWHERE),
            entry("here.example", SOMEWHERE),
        )
        for kind in (A, AAAA, TXT, HTTPS, PTR, 255):
            refused, empty = self.ask("no.example", kind), self.ask("x.empty.example", kind)
            assert refused is not None
            assert empty is not None
            self.assertEqual((rcode(refused), refused[6:8]), (REFUSED, b"\0\0"), kind)
            self.assertEqual((rcode(empty), empty[6:10]), (NOERROR, b"\0\0\0\1"), kind)
        for name, kind, hosts in (
            ("ads.example", A, ("0.0.0.0",)),
            ("ads.example", AAAA, ("::",)),
            ("here.example", A, ("10.0.0.7", "10.0.0.8")),
            ("here.example", AAAA, ("fd00::7",)),
        ):
            query = ask(name, kind)
            self.assertEqual(self.ask(query), made(query, kind, *hosts))
        chaos = self.ask(ask("no.example", TXT)[:-1] + b"\x03")
        assert chaos is not None
        self.assertEqual(rcode(chaos), REFUSED)
        self.assertEqual((self.trace.stage, self.trace.rule), ("rule", "dnsRules 1 (FILE, line 3)"))
        self.assertEqual(self.server.asked, [])
        self.assertEqual((self.dns.counters.ruled, self.dns.counters.queries), (17, 17))

    def test_oddNames(self) -> None:
        """
        Names with blanks and other bytes below a blocked one are blocked, and a label that only
        looks like a blocked name is not.
        """
        self.configure(entry("corp.example", REFUSE))
        below = bytes((11,)) + b"My \xff Pri.ter" + b"\4corp\7example\0"
        label = bytes((12,)) + b"corp.example\0"
        for labels, blocked in ((below, True), (label, False)):
            wire = ask("")[:12] + labels + b"\0\x0c\0\1"
            self.assertEqual(self.ask(wire) is not None, blocked)

    def test_rejected(self) -> None:
        """
        A name that a rule rejects or drops for everybody gets the answer of C{dnsRejected}, and
        one that it rejects for some is asked for.
        """
        table = ruleTable(
            {"domains": ["bad.example"], "to": "reject"},
            {"domains": ["worse.example"], "to": "drop"},
            {"domains": ["some.example"], "ports": [443], "to": "reject"},
        )
        self.configure(table=table, rejected=REFUSE)
        for name in ("bad.example", "x.worse.example"):
            got = self.ask(name, AAAA)
            assert got is not None
            self.assertEqual(rcode(got), REFUSED)
            self.assertEqual(self.trace.stage, "rejected")
        self.assertTrue(self.trace.rule.startswith("rule 2"))
        self.assertIsNone(self.ask("some.example"))
        self.assertIsNone(self.ask("good.example"))
        counters = self.dns.counters
        self.assertEqual((counters.rejected, counters.ruled, len(self.server.asked)), (2, 0, 2))

    def test_own(self) -> None:
        """The proxies' own names are asked for, whatever the rules say of all names."""
        table = ruleTable({"domains": ["*"], "to": "reject"})
        self.configure(table=table, rejected=REFUSE, own=("proxy.example",))
        self.assertIsNone(self.ask("Proxy.example"))
        self.assertIsNotNone(self.ask("x.proxy.example"))
        self.configure(
            entry("*", NOWHERE), own=("proxy.example",), hosts="10.0.0.5 proxy.example\n"
        )
        query = ask("proxy.example")
        self.assertEqual(self.ask(query), made(query, A, "10.0.0.5"))

    def test_passes(self) -> None:
        """Servers, fake addresses and names that nothing is said about are left to others."""
        server = DnsServer("udp", "10.0.0.53", 53)
        self.configure(entry("corp.example", servers=(server,)), entry("lan", fake=True))
        for name in ("corp.example", "h.lan", "www.example"):
            self.assertIsNone(self.ask(name))
        self.assertEqual(len(self.server.asked), 3)

    def test_notQueries(self) -> None:
        """Updates, transfers and what is malformed are the relay's, whatever their names."""
        self.configure(entry("*", NOWHERE))
        for wire, expected in (
            (ask(flags=0x2800), 4),
            (ask(kind=252), 0),
            (ask()[:20], 1),
        ):
            got = self.ask(wire)
            assert got is not None
            self.assertEqual((rcode(got), got[6:8]), (expected, b"\0\0"))
        self.assertFalse(self.dns.query(b"\0" * 5, object(), self.got.append))
        self.assertFalse(self.dns.query(b"", object(), self.got.append))
        self.assertEqual(self.dns.counters.ruled, 0)

    def test_form(self) -> None:
        """The answer has the id, the spelling, the flags and the EDNS record of its own query."""
        self.configure(entry("ads.example", REFUSE))
        for query in (
            ask("Ads.example", ident=7, flags=0x0110),
            ask("ADS.example", ident=8, flags=0),
            ask("ads.example", ident=9, extension=edns(flags=0x8000)),
        ):
            for ident in (query[:2], b"zz"):
                got = self.ask(ident + query[2:])
                assert got is not None
                self.assertEqual(got[:2], ident)
                # QR and RA are set; opcode, RD and CD are the query's.
                self.assertEqual(got[2:4], bytes((query[2] | 0x80, query[3] & 0x10 | 0x85)))
                self.assertEqual(got[12:29], query[12:29])
                self.assertEqual(bool(got[11]), bool(query[11]))

    def test_size(self) -> None:
        """An answer is cut to what its client takes, by UDP only."""
        hosts = tuple(f"10.0.1.{number}" for number in range(60))
        self.configure(entry("many.example", DnsAnswer(addresses=hosts)))
        wire = ask("many.example")
        for overTCP in (False, True, False):
            self.dns.query(wire, object(), self.got.append, overTCP)
            self.assertEqual(isTruncated(self.got[-1]), not overTCP)

    def test_noted(self) -> None:
        """Names of 0.0.0.0 are not remembered; those of others are, each time anew."""
        self.configure(entry("ads.example", NOWHERE), entry("here.example", SOMEWHERE))
        for now in (0.0, 10_000.0):
            self.clock.advance(now)
            for name in ("ads.example", "here.example"):
                self.ask(name)
            found = [self.names.find(host, now) for host in ("0.0.0.0", "10.0.0.7")]
            self.assertEqual(found, [None, "here.example"])


class KnownTests(RuledCase):
    """What is kept of the queries."""

    def setUp(self) -> None:
        """Count the queries that are parsed here."""
        super().setUp()
        self.parsed: list[bytes] = []

        def reads(wire: bytes) -> Query:
            self.parsed.append(wire)
            return readQuery(wire)

        self.patch(ruled, "readQuery", reads)

    def test_once(self) -> None:
        """A query is parsed once, whatever its id, whether or not it is answered here."""
        self.configure(entry("ads.example", NOWHERE))
        for ident in (1, 2, 3):
            self.assertIsNone(self.ask("www.example", ident=ident))
            self.assertIsNotNone(self.ask("ads.example", ident=ident))
        self.assertEqual(len(self.parsed), 2)

    def test_nothing(self) -> None:
        """Nothing is parsed while nothing is set."""
        self.ask("www.example")
        self.configure(rejected=REFUSE)
        self.ask("www.example")
        self.assertEqual(self.parsed, [])

    def test_reload(self) -> None:
        """After L{RuledDns.configure} nothing of the old rules is given, and nothing passes by
        them."""
        self.configure(entry("ads.example", NOWHERE))
        self.ask("ads.example")
        self.ask("www.example")
        self.configure(entry("www.example", NOWHERE))
        self.assertIsNone(self.ask("ads.example"))
        self.assertIsNotNone(self.ask("www.example"))

    def test_limits(self) -> None:
        """At most L{KNOWN_LIMIT} queries are kept, and no long ones."""
        self.configure(entry("ads.example", NOWHERE))
        for number in range(KNOWN_LIMIT + 1):
            self.ask(f"n{number}.ads.example")
        self.assertEqual(len(self.parsed), KNOWN_LIMIT + 1)
        self.ask(f"n{KNOWN_LIMIT}.ads.example")
        self.assertEqual(len(self.parsed), KNOWN_LIMIT + 1)
        self.ask("n0.ads.example")
        self.assertEqual(len(self.parsed), KNOWN_LIMIT + 2)
        padded = ask("ads.example", extension=edns(options=b"\0\x0c\1\x2c" + bytes(300)))
        for _ in range(2):
            self.ask(padded)
        self.assertEqual(len(self.parsed), KNOWN_LIMIT + 4)


class OrderTests(GatewayCase):
    """The order of the stages of a gateway."""

    def test_order(self) -> None:
        """
        The script comes before the hosts file, that before C{dnsRules}, these before rejected
        names, these before fake addresses, and these before the servers.
        """
        path = Path(self.mktemp())
        path.write_text("10.0.0.5 h.example\n")
        self.patch(gatewayModule, "HostsFile", partial(HostsFile, path=str(path)))
        base = replace(self.settings, dnsMode="fake-ip")
        gateway = self.make(base)
        self.addCleanup(gateway.stop)
        script = FakeScript()
        script.reply = ScriptReply(addresses=("10.0.0.1",))
        table = ruleTable({"domains": ["h.example"], "to": "reject"})
        by: dict[str, Any] = {
            "rules": (entry("h.example", SOMEWHERE),),
            "table": table,
            "rejected": REFUSE,
        }
        found = []
        for hosts, asked, names in (
            (True, script, NamePolicy(**by)),
            (True, None, NamePolicy(**by)),
            (False, None, NamePolicy(**by)),
            (False, None, NamePolicy(**{**by, "rules": ()})),
            (False, None, NamePolicy()),
            (False, None, NamePolicy((entry("h.example", servers=base.dns),))),
        ):
            settings = replace(base, hosts=hosts)
            gateway.configure(settings, self.ways, asked, names=names)
            trace = Trace()
            gateway.ask("h.example", A, trace)
            found.append(trace.stage)
        self.assertEqual(found[:5], ["script", "hosts", "rule", "rejected", "fake"])
        self.serve()
        self.reactor.turn()
        self.assertEqual(trace.stage, "server")

    def test_ownNames(self) -> None:
        """The proxies' names are asked for, though a rule rejects every name, unless the clients
        are in a cell, where nothing of nanotun's own is."""
        names = NamePolicy(table=ruleTable({"domains": ["*"], "to": "reject"}), rejected=REFUSE)
        for inCell, stage in ((False, "server"), (True, "rejected")):
            engine: Any = self.engine
            gateway = gatewayModule.makeGateway(
                self.reactor, engine, self.settings, makeDatagram, inCell
            )
            gateway.configure(self.settings, self.ways, names=names)
            self.addCleanup(gateway.stop)
            trace = Trace()
            gateway.ask("proxy.example", A, trace)
            if stage == "server":
                self.serve()
                self.reactor.turn()
            self.assertEqual(trace.stage, stage)
