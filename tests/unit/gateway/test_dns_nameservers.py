"""
Tests for L{nanotun.gateway.dns.nameservers}, with L{nanotun.gateway.dns.ask}.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.dnsrules import DnsRule
from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.errors import UpstreamRefused
from nanotun.flow import Endpoint
from nanotun.gateway.dns.ask import LINGER, ServerQueries
from nanotun.gateway.dns.association import DOUBT
from nanotun.gateway.dns.contexts import TlsContexts
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.direct import DirectServer
from nanotun.gateway.dns.nameservers import NAMED_LIMIT, NameServers, noSystem
from nanotun.gateway.dns.proxied import UpstreamServer
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.gateway.dns.streamed import StreamServer
from nanotun.interfaces import DatagramLeg, DnsServer, LegKind
from nanotun.testing import FakeUpstream
from nanotun.upstream.tlsstream import makeContext
from tests.unit.gateway.gateway_cases import FakeReactor, answer, ask, makeDatagram, read
from tests.unit.upstream.tls_cases import CA

USUAL = DnsServer("udp", "192.0.2.1", 53)
OFFICE = DnsServer("udp", "10.0.0.53", 53)
SYSTEM = DnsServer("system")
ROUTER = DnsServer("udp", "192.168.1.1", 53)


class NameServersCase(SynchronousTestCase):
    """Servers that are asked through the upstreams C{proxy} and C{office}, which carry no UDP."""

    def setUp(self) -> None:
        """Two servers in C{dns}, one of which has a way of its own."""
        self.reactor = FakeReactor()
        self.counters = Counters()
        self.ways = {name: FakeUpstream() for name in ("direct", "proxy", "office")}
        for way in self.ways.values():
            way.carriesDatagrams = False
        self.sentences: list[str] = []
        self.settings = replace(
            makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "http://h:1")}, None),
            dns=(USUAL, OFFICE._replace(via="office")),
            dnsVia="proxy",
        )
        self.servers = self.make()
        self.lines: list[LogEvent] = []
        observer = cast(ILogObserver, self.lines.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def make(
        self,
        before: dict[DnsServer, ServerTally] | None = None,
        contexts: TlsContexts | None = None,
        system: Callable[[], tuple[DnsServer, ...]] = noSystem,
        **changed: Any,
    ) -> NameServers:
        """The servers of the settings, with these changes."""
        made = NameServers(
            self.reactor,
            replace(self.settings, **changed),
            self.ways.__getitem__,
            contexts or {},
            self.counters,
            before or {},
            makeDatagram,
            self.sentences.append,
            system,
        )
        self.addCleanup(made.stop)
        return made

    def ask(
        self, queries: ServerQueries, server: DnsServer | None = None, name: str = "a.example"
    ) -> DnsServer:
        """Ask one of the servers, by default the one whose turn it is; return which."""
        wire = ask(name)
        server = server or queries.order(read(wire))[0]
        queries.ask(server, False, wire, read(wire), lambda message: None, lambda: None)
        return server

    def dialled(self, name: str) -> list[str]:
        """The hosts that an upstream was asked to connect to."""
        return [each.host for each in self.ways[name].asked]

    def orderOf(self, queries: ServerQueries, name: str = "a.example") -> list[str]:
        """The servers for a name."""
        return [each.host for each in queries.order(read(ask(name)))]


class NameServersTests(NameServersCase):
    """Tests for L{NameServers}."""

    def test_ways(self) -> None:
        """Each server is asked by its own way, or else by that of dnsVia."""
        queries = self.servers.of(self.settings.dns)
        for server in queries.order(read(ask())):
            self.ask(queries, server)
        self.assertEqual(self.dialled("proxy"), ["192.0.2.1"])
        self.assertEqual(self.dialled("office"), ["10.0.0.53"])

    def test_classes(self) -> None:
        """A plain server is asked by sockets of its own past the proxies, and else through one."""
        self.assertIsInstance(self.servers.at(USUAL), UpstreamServer)
        self.assertIsInstance(self.servers.at(USUAL._replace(via="direct")), DirectServer)
        self.assertEqual(self.servers.at(USUAL).where, " through the proxy")
        self.assertEqual(self.servers.at(USUAL._replace(via="office")).where, " through office")

    def test_encrypted(self) -> None:
        """Servers on connections are asked by their own addresses and ports, with their ca."""
        contexts = {(CA, scheme): makeContext(CA) for scheme in ("tls", "https")}
        servers = [
            DnsServer("tcp", "192.0.2.1", 53),
            DnsServer("tls", "192.0.2.2", 853, ca=CA),
            DnsServer("https", "192.0.2.3", 443, "/dns-query", ca=CA),
        ]
        self.servers = self.make(contexts=contexts, dns=tuple(servers))
        for server in servers:
            self.assertIsInstance(self.servers.at(server), StreamServer)
        queries = self.servers.of(tuple(servers))
        for server in queries.order(read(ask())):
            self.ask(queries, server)
        asked = [(each.host, each.port) for each in self.ways["proxy"].asked]
        self.assertEqual(asked, [("192.0.2.1", 53), ("192.0.2.2", 853), ("192.0.2.3", 443)])

    def test_neverClear(self) -> None:
        """An encrypted server for which no certificates are known is not asked at all, rather than
        in the clear."""
        servers = self.make()
        for scheme in ("tls", "https"):
            self.assertRaises(KeyError, servers.at, DnsServer(scheme, "192.0.2.2", 853))

    def test_ownName(self) -> None:
        """
        A server's own name is asked for at another one of its list, by that one's way, and past
        the proxies if all are to be asked there.
        """
        named = DnsServer("tls", "dns.example", 853, ca=CA)
        other = DnsServer("tcp", "192.0.2.9", 53, via="office")
        contexts = {(CA, "tls"): makeContext(CA)}
        self.servers = self.make(contexts=contexts)
        self.ask(self.servers.of((named, other)), named)
        self.assertEqual(self.dialled("office"), ["192.0.2.9"])
        self.ask(self.servers.of((named, other), direct=True), named)
        self.assertEqual(self.dialled("direct"), ["192.0.2.9"])
        # A list with nobody to ask has those of dns for it.
        self.ask(self.servers.of((named,), quiet=True), named)
        self.assertEqual(self.dialled("proxy"), ["192.0.2.1"])

    def test_oneConnection(self) -> None:
        """A server has one connection by each way, whichever lists it is in."""
        first = self.servers.of(self.settings.dns)
        second = self.servers.of((OFFICE._replace(via="office"), USUAL))
        self.assertIsNot(first, second)
        for queries in (first, second):
            for server in queries.order(read(ask())):
                self.ask(queries, server)
        self.ask(self.servers.named(USUAL))
        self.assertEqual((len(self.dialled("proxy")), len(self.dialled("office"))), (1, 1))
        self.ask(self.servers.of((OFFICE,)))
        self.assertEqual(self.dialled("proxy"), ["192.0.2.1", "10.0.0.53"])

    def test_lists(self) -> None:
        """A list that was asked for before is the same; each other list has a key of its own."""
        usual = self.servers.of(self.settings.dns)
        self.assertIs(self.servers.of(self.settings.dns), usual)
        self.assertEqual(usual.key, b"")
        others = [
            self.servers.of((USUAL,)),
            self.servers.of((OFFICE,)),
            self.servers.of((USUAL,), keep=lambda server: True),
            self.servers.named(USUAL),
            self.servers.named(OFFICE),
        ]
        self.assertEqual({len(each.key) for each in others}, {8})
        self.assertEqual(len({each.key for each in others}), len(others))
        # A query to them that is under way at a reload is still told from others.
        self.assertEqual(self.make().of((USUAL,)).key, others[0].key)

    def test_direct(self) -> None:
        """Servers that are asked for the proxies' own names are all asked past the proxies."""
        queries = self.servers.of(self.settings.dns, direct=True)
        self.assertEqual(queries.key, b"")
        for server in queries.order(read(ask())):
            queries.ask(server, True, ask(), read(ask()), lambda message: None, lambda: None)
        self.assertEqual(self.dialled("direct"), ["192.0.2.1", "10.0.0.53"])
        self.assertEqual(self.dialled("proxy") + self.dialled("office"), [])

    def test_quiet(self) -> None:
        """Of servers that are asked in secret nothing is told, counted, or shared."""
        queries = self.servers.of(self.settings.dns, quiet=True)
        for _ in range(3):
            server = self.ask(queries, USUAL)
            queries.timedOut(server, 1.5)
            queries.failed(server, None)
        self.ways["proxy"].fail(UpstreamRefused("No."))
        self.assertEqual((self.lines, self.sentences), ([], []))
        self.assertEqual(vars(self.counters), vars(Counters()))
        self.assertEqual([each["errors"] for each in self.servers.reports()], [0, 0])
        self.ask(self.servers.of(self.settings.dns))
        self.assertEqual(self.dialled("proxy"), ["192.0.2.1"] * 2)

    def test_keep(self) -> None:
        """Only the servers that are to be kept are in a list, perhaps none."""
        local = self.servers.of(self.settings.dns, keep=lambda each: each.host.startswith("10."))
        self.assertEqual(self.orderOf(local), ["10.0.0.53"])
        none = self.servers.of(self.settings.dns, keep=lambda each: False)
        self.assertEqual(self.orderOf(none), [])

    def test_namedLimit(self) -> None:
        """The script's servers are let go of from the seventeenth on, but not those of dns."""
        self.ask(self.servers.of(self.settings.dns))
        self.ask(self.servers.named(USUAL))
        numbered = [DnsServer("udp", f"192.0.2.{100 + n}", 53) for n in range(NAMED_LIMIT)]
        for each in numbered:
            self.ask(self.servers.named(each))
        self.assertEqual(len(self.servers.reports()), 2 + NAMED_LIMIT)
        self.ask(self.servers.named(USUAL))
        self.assertEqual(len(self.servers.reports()), 2 + NAMED_LIMIT - 1)
        self.assertEqual(self.dialled("proxy").count("192.0.2.1"), 1)
        self.ask(self.servers.named(numbered[0]))
        self.assertEqual(self.dialled("proxy").count("192.0.2.100"), 2)

    def test_addresses(self) -> None:
        """A plain server with addresses is asked at each of them."""
        named = DnsServer("udp", "dns.example", 5353, addresses=("192.0.2.7", "2001:db8::7"))
        queries = self.servers.of((named,))
        self.assertEqual(self.orderOf(queries), ["192.0.2.7", "2001:db8::7"])
        self.ask(queries)
        self.assertEqual(self.ways["proxy"].asked, [Endpoint("192.0.2.7", 5353)])

    def test_reports(self) -> None:
        """Each server of the settings is reported on, in order, asked or not."""
        queries = self.servers.of(self.settings.dns)
        self.ask(queries, USUAL)
        queries.answered(USUAL, answer(ask()), 0.25)
        first, second = self.servers.reports()
        expected = {
            "server": "192.0.2.1:53",
            "via": "proxy",
            "queries": 1,
            "answers": 1,
            "errors": 0,
            "hits": 0,
            "seconds": 0.25,
            "latency": 0.25,
            "state": "up",
            "trouble": "",
        }
        self.assertEqual(first, expected)
        self.assertEqual((second["server"], second["via"]), ("10.0.0.53:53", "office"))
        self.assertEqual((second["latency"], second["state"]), (None, "unknown"))
        self.reactor.advance(2)
        for _ in range(3):
            queries.timedOut(USUAL, 1.5)
        first, _ = self.servers.reports()
        self.assertEqual((first["errors"], first["state"]), (3, "down"))
        queries.timedOut(USUAL, 1.5, again=True)
        self.assertEqual((self.servers.reports()[0]["errors"], self.counters.timeouts), (3, 3))
        self.assertEqual(first["trouble"], "The DNS server 192.0.2.1:53 does not answer.")
        self.servers.renew()
        first, _ = self.servers.reports()
        self.assertEqual((first["queries"], first["state"], first["trouble"]), (1, "unknown", ""))

    def test_reload(self) -> None:
        """What is known of a server that stays is kept, and of others it is forgotten."""
        self.ask(self.servers.of(self.settings.dns))
        again = self.make(self.servers.tallies, dns=(ROUTER, USUAL))
        self.assertEqual(
            [(each["server"], each["queries"]) for each in again.reports()],
            [("192.168.1.1:53", 0), ("192.0.2.1:53", 1)],
        )
        # By another way it is another matter.
        other = self.make(self.servers.tallies, dns=(USUAL,), dnsVia="office")
        self.assertEqual([each["queries"] for each in other.reports()], [0])

    def test_renew(self) -> None:
        """In another network each server is asked on another connection."""
        queries = self.servers.of(self.settings.dns)
        self.ask(queries)
        self.servers.renew()
        self.assertEqual(self.dialled("proxy"), ["192.0.2.1"] * 2)


class SystemTests(NameServersCase):
    """Tests for servers that C{system} stands for."""

    def setUp(self) -> None:
        """The machine's servers, between the usual one and another."""
        super().setUp()
        self.found: tuple[DnsServer, ...] = (ROUTER,)
        self.looks = 0
        self.settings = replace(self.settings, dns=(USUAL, SYSTEM._replace(via="office"), OFFICE))
        self.servers = self.make(system=self.system)

    def system(self) -> tuple[DnsServer, ...]:
        """The servers that the machine uses now."""
        self.looks += 1
        return self.found

    def test_place(self) -> None:
        """They take the place of system in the list, and are asked by its way."""
        queries = self.servers.of(self.settings.dns)
        self.assertEqual(self.orderOf(queries), ["192.0.2.1", "192.168.1.1", "10.0.0.53"])
        self.ask(queries, queries.order(read(ask()))[1])
        self.assertEqual(self.dialled("office"), ["192.168.1.1"])
        reported = [(each["server"], each["via"]) for each in self.servers.reports()]
        self.assertEqual(reported[1], ("192.168.1.1:53", "office"))

    def test_ofLink(self) -> None:
        """One with an address of a link is asked from this machine only, because no proxy has
        that link."""
        self.found = (DnsServer("udp", "fe80::1%eth0", 53), ROUTER)
        for via, hosts in (
            ("office", ["192.168.1.1"]),
            ("direct", ["fe80::1%eth0", "192.168.1.1"]),
        ):
            dns = (SYSTEM._replace(via=via),)
            servers = self.make(system=self.system, dns=dns)
            self.assertEqual(self.orderOf(servers.of(dns)), hosts)
            self.assertEqual(len(servers.reports()), len(hosts))

    def test_looks(self) -> None:
        """It is looked whether they are others at each exchange, but not for other lists."""
        queries, other = self.servers.of(self.settings.dns), self.servers.of((USUAL,))
        self.looks = 0
        self.orderOf(other)
        self.assertEqual(self.looks, 0)
        self.orderOf(queries)
        self.assertEqual(self.looks, 1)

    def test_changed(self) -> None:
        """Once they are others, those are asked; the others keep their connections."""
        queries = self.servers.of(self.settings.dns)
        before = queries.order(read(ask()))
        for server in before:
            self.ask(queries, server)
        self.found = (DnsServer("udp", "192.168.2.1", 53), DnsServer("udp", "192.168.2.2", 53))
        self.servers.systemChanged()
        self.assertEqual(
            self.orderOf(queries), ["192.0.2.1", "192.168.2.1", "192.168.2.2", "10.0.0.53"]
        )
        self.ask(queries, USUAL)
        self.assertEqual(self.dialled("proxy"), ["192.0.2.1", "10.0.0.53"])
        # An answer of a server that has gone counts for the exchange, and does no harm.
        queries.answered(before[1], answer(ask()), 0.1)
        queries.timedOut(before[1], 1.5)
        hosts = [each["server"] for each in self.servers.reports()]
        self.assertEqual(
            hosts, ["192.0.2.1:53", "192.168.2.1:53", "192.168.2.2:53", "10.0.0.53:53"]
        )

    def test_changedOften(self) -> None:
        """They may be others several times while an exchange goes on: whom it has asked, or is
        about to ask, is known to its end, and not for ever."""
        queries = self.servers.of(self.settings.dns)
        _, router, _ = queries.order(read(ask()))
        for number in range(1, 5):
            self.found = (DnsServer("udp", f"192.168.2.{number}", 53),)
            self.servers.systemChanged()
            self.reactor.advance(2)
        self.ask(queries, router)
        queries.timedOut(router, 1.5)
        for _ in range(2):
            self.reactor.advance(LINGER)
            self.servers.systemChanged()
        self.assertRaises(KeyError, queries.tallyOf, router)

    def test_domains(self) -> None:
        """Of them, those with the longest domain that has the name are asked, else those without
        one; the servers of the list itself are always asked."""
        vpn = DnsServer("udp", "10.8.0.1", 53, domains=("corp.example", "lab"))
        deep = DnsServer("udp", "10.9.0.1", 53, domains=("deep.corp.example",))
        self.found = (ROUTER, vpn, deep)
        self.servers.systemChanged()
        queries = self.servers.of(self.settings.dns)
        for name, expected in (
            ("www.example", "192.168.1.1"),
            ("corp.example", "10.8.0.1"),
            ("A.Corp.Example", "10.8.0.1"),
            ("notcorp.example", "192.168.1.1"),
            ("b.lab", "10.8.0.1"),
            ("x.deep.corp.example", "10.9.0.1"),
        ):
            self.assertEqual(
                self.orderOf(queries, name), ["192.0.2.1", expected, "10.0.0.53"], name
            )
        self.found = (vpn,)
        self.servers.systemChanged()
        self.assertEqual(self.orderOf(queries, "www.example"), ["192.0.2.1", "10.0.0.53"])


class LineTests(NameServersCase):
    """Tests for what is logged of servers that do not answer."""

    def silence(self, queries: ServerQueries, *servers: DnsServer) -> str:
        """Servers are silent; return the last error."""
        for server in servers:
            for _ in range(3):
                queries.timedOut(server, 1.5)
        errors = [each for each in self.lines if each["log_level"] is LogLevel.error]
        return formatEvent(errors[-1])

    def test_ways(self) -> None:
        """Where servers are asked by several ways, each is told with its own."""
        self.assertEqual(
            self.silence(self.servers.of(self.settings.dns), *self.settings.dns),
            "No server of dns answers (192.0.2.1:53 through the proxy, 10.0.0.53:53 through "
            "office), so DNS queries go unanswered; set dns to one that does.",
        )

    def test_rule(self) -> None:
        """Of a rule's servers, the error sends nobody to dns."""
        servers = self.make(dnsRules=(DnsRule((), (OFFICE,)),))
        self.assertEqual(
            self.silence(servers.of((OFFICE,)), OFFICE),
            "No server of a rule in dnsRules answers through the proxy (10.0.0.53:53), so DNS "
            "queries for its domains go unanswered; give the rule one that does.",
        )

    def test_fakes(self) -> None:
        """Fake addresses are proposed for servers of dns, and not for those of a rule alone."""
        servers = self.make(dns=(USUAL,), dnsRules=(DnsRule((), (OFFICE,)),))
        for server in (USUAL, OFFICE):
            self.ask(servers.of((server,)))
            self.ways["proxy"]._legs.pop().errback(UpstreamRefused("No."))
        usual, ruled = self.sentences
        self.assertIn("cannot be asked over TCP through the proxy: No; ", ruled)
        self.assertIn("set dnsMode: fake-ip", usual)
        self.assertNotIn("fake-ip", ruled)

    def test_part(self) -> None:
        """Of some of the servers of dns, such as those that another's name is asked of, it does."""
        self.assertEqual(
            self.silence(self.servers.of((USUAL,)), USUAL),
            "No server of dns answers through the proxy (192.0.2.1:53), so DNS queries go "
            "unanswered; set dns to one that does.",
        )

    def test_named(self) -> None:
        """Of the script's server, it says that the script names it."""
        self.assertEqual(
            self.silence(self.servers.named(OFFICE), OFFICE),
            "The DNS server 10.0.0.53:53, which the script names, does not answer through the "
            "proxy, so the queries that are sent there fail.",
        )

    def test_lostDatagrams(self) -> None:
        """Where datagrams are lost, a line names the way; of servers that are asked in secret
        there is none."""
        office = self.ways["office"]
        office.carriesDatagrams = True
        for quiet in (True, False):
            queries = self.servers.of((OFFICE._replace(via="office"),), quiet=quiet)
            server = self.ask(queries)
            made = makeDatagram(socket.AF_INET)
            made.connect(("127.0.0.1", 9))
            office._datagramLegs.pop().callback(DatagramLeg(made.detach(), LegKind.SOCKS5, None))
            self.reactor.advance(DOUBT)
            self.ask(queries, server)
        self.assertEqual(
            [formatEvent(each) for each in self.lines],
            [
                "DNS queries by UDP through office are not answered, so they go over TCP for ten "
                "minutes."
            ],
        )
