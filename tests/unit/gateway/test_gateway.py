"""
Tests for L{nanotun.gateway}: all parts together, between a fake engine and a server on the
loopback interface.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from twisted.internet.defer import fail
from twisted.internet.testing import StringTransport
from twisted.logger import ILogObserver, LogEvent, Logger, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import GATEWAY4
from nanotun.config.dnsrules import DnsRule
from nanotun.config.domains import pattern
from nanotun.config.keys import KEYS
from nanotun.config.settings import Settings, flagValue, makeSettings
from nanotun.errors import EngineError, UpstreamError
from nanotun.flow import Datagram, Endpoint, Flow, Known, Protocol, ScriptReply
from nanotun.gateway import Gateway, NameOptions, makeGateway
from nanotun.gateway.dns.exchange import ATTEMPT_TIMEOUT, ATTEMPTS
from nanotun.gateway.dns.message import NXDOMAIN, SERVFAIL
from nanotun.gateway.fakeip.existence import WAIT, Existence
from nanotun.gateway.gateway import realNames
from nanotun.interfaces import DnsServer, UpstreamSettings
from nanotun.policy.dnsnames import NamePolicy
from nanotun.testing import FakeScript, FakeUpstream
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.gateway.gateway_cases import (
    HTTPS,
    FakeEngine,
    FakeReactor,
    answer,
    ask,
    edns,
    makeDatagram,
    rcode,
    soa,
)

APP = Endpoint("127.0.0.1", 40000)
GATEWAY = Endpoint(GATEWAY4, 53)


SETTINGS = replace(
    makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "http://Proxy.Example.:1")}, None),
    dnsCacheSize=100,
    dnsStateFile="",
)


class GatewayCase(SynchronousTestCase):
    """A gateway, the upstreams, and a DNS server."""

    def setUp(self) -> None:
        """A gateway that has been started, and its server."""
        self.reactor = FakeReactor()
        self.engine = FakeEngine()
        self.direct, self.proxy = FakeUpstream("direct://"), FakeUpstream("proxy://")
        self.ways = {"direct": self.direct, "proxy": self.proxy}
        self.server = makeDatagram(socket.AF_INET)
        self.server.bind(("127.0.0.1", 0))
        self.addCleanup(self.server.close)
        self.settings = replace(SETTINGS, dns=(DnsServer("udp", *self.server.getsockname()),))
        self.gateway = self.make(self.settings)
        self.gateway.start()
        self.addCleanup(self.gateway.stop)

    def make(self, settings: Settings) -> Gateway:
        """A gateway that has not been started."""
        engine: Any = self.engine
        gateway = makeGateway(self.reactor, engine, settings, makeDatagram)
        gateway.configure(settings, self.ways)
        return gateway

    def app(self, *wires: bytes) -> None:
        """An app sends queries, in one batch."""
        self.engine.receiver([Datagram(APP, GATEWAY, wire) for wire in wires])

    def serve(self, message: bytes | None = None) -> bytes:
        """The server answers the next query; return the query."""
        wire, address = self.server.recvfrom(65535)
        self.server.sendto(answer(wire) if message is None else wire[:2] + message[2:], address)
        return wire


class GatewayTests(GatewayCase):
    """Tests for L{Gateway} and L{makeGateway}."""

    def test_start(self) -> None:
        """A started gateway listens for datagrams and connections on port 53."""
        listening = [(Protocol.UDP, 53), (Protocol.TCP, 53)]
        self.assertEqual(self.engine.listening, listening)

    def test_configure(self) -> None:
        """
        Other servers are asked from now on, and no answer is remembered; a client that waits
        for one of the previous servers still gets its answer.
        """
        self.app(ask("a"))
        self.serve()
        self.reactor.turn()
        self.app(ask("waits", ident=2))
        other = makeDatagram(socket.AF_INET)
        other.bind(("127.0.0.1", 0))
        self.addCleanup(other.close)
        settings = replace(self.settings, dns=(DnsServer("udp", *other.getsockname()),))
        for size in (3, 2, 1):
            self.gateway.configure(replace(settings, dnsCacheSize=size), self.ways)
        self.assertEqual(self.gateway.stats().cached, 0)
        self.serve()
        self.reactor.turn()
        self.app(ask("a", ident=3))
        wire, address = other.recvfrom(65535)
        other.sendto(answer(wire), address)
        self.reactor.turn()
        self.assertEqual(
            [datagram.payload[1] for batch in self.engine.sent for datagram in batch], [1, 2, 3]
        )
        self.assertEqual(self.gateway.stats().cached, 1)

    def test_configureSame(self) -> None:
        """Settings that change nothing here leave the cache as it is."""
        self.app(ask("a"))
        self.serve()
        self.reactor.turn()
        self.gateway.configure(replace(self.settings, proxy=(), logLevel="debug"), self.ways)
        self.assertEqual(self.gateway.stats().cached, 1)

    def test_configureCache(self) -> None:
        """Without C{dnsCache} nothing is kept, whatever its size."""
        self.gateway.configure(replace(self.settings, dnsCache=False), self.ways)
        self.app(ask("a"))
        self.serve()
        self.reactor.turn()
        self.assertEqual((self.gateway.stats().cached, len(self.engine.sent)), (0, 1))

    def test_scripted(self) -> None:
        """The server that the script names is asked instead, and is blamed if it is silent."""
        other = makeDatagram(socket.AF_INET)
        other.bind(("127.0.0.1", 0))
        self.addCleanup(other.close)
        place = Endpoint(*other.getsockname())
        script = FakeScript()
        script.reply = ScriptReply(server=f"udp://{place}")
        self.gateway.configure(self.settings, self.ways, script)
        lines: list[str] = []

        def observe(event: LogEvent) -> None:
            lines.append(formatEvent(event))

        globalLogPublisher.addObserver(cast("ILogObserver", observe))
        self.addCleanup(globalLogPublisher.removeObserver, cast("ILogObserver", observe))
        self.app(ask("a"))
        wire, address = other.recvfrom(600)
        other.sendto(answer(wire), address)
        self.reactor.turn()
        self.assertEqual(rcode(self.engine.sent[-1][0].payload), 0)
        self.app(ask("b"))
        for _ in range(ATTEMPTS):
            self.reactor.advance(ATTEMPT_TIMEOUT)
        self.assertEqual(rcode(self.engine.sent[-1][0].payload), SERVFAIL)
        self.assertIn(f"The DNS server {place}, which the script names, does not answer", lines[-1])
        self.assertRaises(BlockingIOError, self.server.recv, 600)

    def test_systemChanged(self) -> None:
        """When the machine uses other servers, those are asked and no answer is remembered."""
        self.gateway.stop()
        found = [self.settings.dns]
        engine: Any = self.engine
        settings = replace(self.settings, dns=(DnsServer("system"),))
        self.gateway = makeGateway(
            self.reactor, engine, settings, makeDatagram, system=lambda: found[0]
        )
        self.gateway.configure(settings, self.ways)
        self.gateway.start()
        self.addCleanup(self.gateway.stop)
        self.app(ask("a"))
        self.serve()
        self.reactor.turn()
        other = makeDatagram(socket.AF_INET)
        other.bind(("127.0.0.1", 0))
        self.addCleanup(other.close)
        found[0] = (DnsServer("udp", *other.getsockname()),)
        self.gateway.systemChanged()
        self.app(ask("a"))
        self.assertEqual(other.recv(600)[2:], ask("a")[2:])

    def test_unconfigured(self) -> None:
        """A gateway that was not configured has no server to ask."""
        self.gateway.stop()
        engine: Any = self.engine
        gateway = Gateway(self.reactor, engine, makeDatagram, NameOptions())
        gateway.start()
        self.addCleanup(gateway.stop)
        self.app(ask("a"))
        self.assertEqual([rcode(each.payload) for each in self.engine.sent[-1]], [SERVFAIL])

    def test_realNames(self) -> None:
        """The proxies' names are lower case and end without a dot."""
        proxies = "http://Proxy.Example.:1, socks5://192.0.2.1:1080"
        settings = makeSettings({}, {"proxy": flagValue(KEYS["proxy"], proxies)}, None)
        self.assertEqual(realNames(settings), ("proxy.example", "192.0.2.1"))
        office = UpstreamSettings("office", (parseProxyURL("b.example"),))
        deep = UpstreamSettings("deep", (parseProxyURL("c.example"),), via="office")
        settings = replace(settings, upstreams=(office, deep))
        # The name of the last one is sent to the one before it, and never looked up here.
        self.assertEqual(realNames(settings), ("proxy.example", "192.0.2.1", "b.example"))

    def test_noPort(self) -> None:
        """A start that fails leaves nothing behind, because stop is not called then."""
        self.gateway.stop()
        gateway = self.make(replace(self.settings, dnsMode="fake-ip"))
        self.patch(self.engine, "listen", self.refuse)
        self.assertRaises(EngineError, gateway.start)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def refuse(self, protocol: Protocol, port: int) -> None:
        """Refuse to listen."""
        raise EngineError("no port")

    def test_isLocal(self) -> None:
        """Only this machine's own addresses are local."""
        self.assertTrue(self.gateway.isLocal("127.0.0.1"))
        self.assertFalse(self.gateway.isLocal("192.0.2.1"))

    def test_query(self) -> None:
        """A query is sent to the server and its answer to the app; then the cache has it."""
        self.app(ask(ident=7))
        self.serve()
        self.reactor.turn()
        self.app(ask(ident=8), ask(ident=9))
        sent = [[datagram.payload for datagram in batch] for batch in self.engine.sent]
        self.assertEqual(sent[0], [answer(ask(ident=7))])
        self.assertEqual(sent[1], [answer(ask(ident=ident)) for ident in (8, 9)])
        stats = self.gateway.stats()
        self.assertEqual((stats.queries, stats.hits, stats.upstream), (3, 2, 1))
        self.assertEqual((stats.cached, stats.inFlight, stats.openStreams), (1, 0, 0))

    def test_clearCache(self) -> None:
        """After the cache was cleared the server is asked again."""
        self.app(ask())
        self.serve()
        self.reactor.turn()
        self.gateway.clearCache()
        self.app(ask())
        self.assertEqual(self.serve()[2:], ask()[2:])

    def test_networkMoved(self) -> None:
        """In another network the server is asked again as well."""
        self.app(ask())
        self.serve()
        self.reactor.turn()
        self.gateway.networkMoved()
        self.app(ask())
        self.assertEqual(self.serve()[2:], ask()[2:])

    def test_stop(self) -> None:
        """After stop no socket, delayed call or reader is left, and nothing is sent."""
        self.app(ask())
        self.gateway.stop()
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), (set(), []))
        self.app(ask())
        self.assertEqual(self.engine.sent, [])

    def test_hostile(self) -> None:
        """
        10,000 mutated queries and as many mutated answers cause no exception and no hang, and
        a good query is answered afterwards.
        """
        chance = random.Random(3)
        seeds = [ask(), ask(extension=edns(4096)), ask("a.b.c.d.e.f", 65)]

        def mutate(wire: bytes, first: int) -> bytes:
            mutated = bytearray(wire)
            for _ in range(chance.randrange(1, 5)):
                mutated[chance.randrange(first, len(mutated))] = chance.randrange(256)
            end = chance.choice((len(mutated), chance.randrange(len(mutated))))
            return bytes(mutated[:end])

        def received() -> Iterator[tuple[bytes, tuple[str, int]]]:
            try:
                while True:
                    yield self.server.recvfrom(65535)
            except BlockingIOError:
                pass

        for _ in range(200):
            self.app(*(mutate(chance.choice(seeds), 2) for _ in range(50)))
            for wire, address in received():
                if len(wire) > 18:
                    self.server.sendto(mutate(answer(seeds[0]), 2), address)
                    self.server.sendto(wire[:2] + mutate(b"\x81\x80" + wire[4:], 10), address)
            self.reactor.turn()
            self.reactor.pump([ATTEMPT_TIMEOUT] * ATTEMPTS)
        self.assertEqual(self.gateway.stats().inFlight, 0)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertGreater(len(list(received())), 0)
        self.app(ask("good.example"))
        wire = self.serve()
        self.reactor.turn()
        self.assertEqual(self.engine.sent[-1][0].payload[2:], answer(wire)[2:])

    def remake(self, settings: Settings) -> None:
        """Stop the gateway and start another one."""
        self.gateway.stop()
        self.gateway = self.make(settings)
        self.gateway.start()
        self.addCleanup(self.gateway.stop)

    def test_noted(self) -> None:
        """The names behind addresses are remembered until the cache is cleared."""
        self.app(ask())
        self.serve()
        self.reactor.turn()
        self.assertEqual(self.gateway.names.nameOf("192.0.2.1"), "www.example.com")
        self.gateway.clearCache()
        self.assertIsNone(self.gateway.names.nameOf("192.0.2.1"))

    def test_faked(self) -> None:
        """
        Names get fake addresses, but excluded names and the proxy's own get real ones.  A
        name with a fake address is looked up by the servers, and the next run knows it.
        """
        settings = replace(
            self.settings, dnsMode="fake-ip", fakeIpExclude=("lan",), dnsStateFile=self.mktemp()
        )
        self.remake(settings)
        self.app(ask(), ask("nas.lan"))
        (fake,) = self.engine.sent[-1]
        self.assertTrue(fake.payload.endswith(b"\xc6\x13\0\1"))
        self.assertEqual(self.serve()[2:], ask("nas.lan")[2:])
        self.reactor.turn()
        self.assertEqual(self.engine.sent[-1][0].payload, answer(ask("nas.lan")))
        self.assertEqual(self.gateway.names.nameOf("198.19.0.1"), "www.example.com")
        found = self.gateway.names.resolve("www.example.com", 4)
        self.serve()
        self.reactor.turn()
        self.assertEqual(self.successResultOf(found), ["192.0.2.1"])
        self.assertEqual(self.gateway.stats().faked, 1)
        # Its real address was given to no app, but that of a name which is not faked was.
        flow = Flow(1, Protocol.TCP, Endpoint("127.0.0.1", 1), Endpoint("192.0.2.1", 443))
        self.assertEqual(self.gateway.names.namesOf(flow), Known(("nas.lan",)))
        self.app(ask("proxy.example"))
        self.assertEqual(self.serve()[2:], ask("proxy.example")[2:])
        self.gateway.configure(replace(settings, proxy=()), self.ways)
        self.app(ask("proxy.example"))
        self.assertEqual(self.gateway.stats().faked, 2)
        self.remake(settings)
        self.assertEqual(self.gateway.names.nameOf("198.19.0.1"), "www.example.com")

    def test_absent(self) -> None:
        """
        Whether a name exists is asked through the proxy, on a connection of its own, and not
        counted; nobody is asked if that may be past it, or if the name may go elsewhere.
        """
        settings = replace(self.settings, dnsMode="fake-ip", dnsVia="proxy")
        self.remake(settings)
        self.proxy.carriesDatagrams = False
        adopted: list[Any] = []

        def adopt(fd: int, family: int, factory: Any) -> None:
            adopted.append(factory.buildProtocol(None))
            adopted[-1].makeConnection(StringTransport())

        self.reactor.adoptStreamConnection = adopt  # type: ignore[attr-defined]
        self.app(ask("no.example"))
        self.assertEqual(self.engine.sent, [])
        self.proxy.answer().close()
        self.reactor.advance(0)
        asked = adopted[0].transport.value()[2:]
        self.assertEqual(asked[12:], ask("no.example")[12:])
        denial = answer(asked, [], [soa(60, 60)], flags=0x8183)
        adopted[0].dataReceived(len(denial).to_bytes(2, "big") + denial)
        self.reactor.turn()
        self.assertEqual(rcode(self.engine.sent[-1][0].payload), NXDOMAIN)
        stats = self.gateway.stats()
        self.assertEqual((stats.queries, stats.absent, stats.upstreamStreams), (1, 1, 0))
        # In another network the name may be there.
        self.gateway.networkMoved()
        self.app(ask("no.example"))
        self.assertEqual(len(self.engine.sent), 1)
        office = DnsRule((pattern("no.example"),), fake=True)
        for other, names in (
            (settings, NamePolicy([office])),
            (settings, NamePolicy(anyWay=("proxy", "office"))),
            (replace(settings, dnsVia="direct"), None),
            (replace(settings, proxy=(parseProxyURL("direct://"),)), None),
        ):
            sent = len(self.engine.sent)
            self.gateway.configure(other, self.ways, names=names)
            self.app(ask("no.example", ident=sent))
            self.assertEqual(rcode(self.engine.sent[-1][0].payload), 0)

    def test_recordsInClear(self) -> None:
        """If some servers are asked past the proxy, none hears of a name's HTTPS records."""
        here, away = self.settings.dns[0], DnsServer("udp", "192.0.2.1", 53, via="proxy")
        settings = replace(self.settings, dnsMode="fake-ip", dns=(here, away))
        self.remake(settings)
        for number, servers in enumerate(((here, away), (away,))):
            self.gateway.configure(replace(settings, dns=servers), self.ways)
            self.app(ask("a.example"), ask("a.example", HTTPS))
            self.reactor.advance(WAIT)
            # One association is for questions that nobody has asked, one for those of clients.
            self.assertEqual(len(self.proxy.families), (1, 3)[number])
        self.assertRaises(BlockingIOError, self.server.recv, 600)
        self.gateway.stop()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_served(self) -> None:
        """Under fake-ip, names that have servers of their own are left to servers."""
        settings = replace(self.settings, dnsMode="fake-ip")
        self.remake(settings)
        rule = DnsRule((pattern("office"),), self.settings.dns)
        self.gateway.configure(settings, self.ways, names=NamePolicy([rule]))
        self.app(ask("wiki.office"), ask("a.example"))
        self.assertEqual(self.serve()[12:], ask("wiki.office")[12:])
        self.assertEqual(self.gateway.stats().faked, 1)

    def test_servedSince(self) -> None:
        """A name that is asked for when a reload gives it servers gets its address as before, but
        the next query goes to them."""
        settings = replace(self.settings, dnsMode="fake-ip", dnsVia="proxy")
        self.remake(settings)
        self.app(ask("wiki.office"))
        self.assertEqual(self.engine.sent, [])
        (here,) = self.settings.dns
        rule = DnsRule((pattern("office"),), (here._replace(via="direct"),))
        settings = replace(settings, dnsRules=(rule,))
        self.gateway.configure(settings, self.ways, names=NamePolicy([rule]))
        self.reactor.turn()
        self.assertEqual(len(self.engine.sent), 1)
        self.app(ask("wiki.office", ident=2))
        self.assertEqual(self.serve()[12:], ask("wiki.office")[12:])

    def test_movedWhileAsked(self) -> None:
        """That the machine has left its network says nothing about the servers, so nobody is told
        that none of them answers."""
        logged: list[LogEvent] = []
        self.patch(Existence, "_log", Logger(observer=cast(ILogObserver, logged.append)))
        self.remake(replace(self.settings, dnsMode="fake-ip", dnsVia="proxy"))
        self.app(ask("a.example"))
        error = UpstreamError("There is no network.")
        self.patch(self.proxy, "associate", lambda family: fail(error))
        self.patch(self.proxy, "connect", lambda destination: fail(error))
        self.gateway.networkMoved()
        self.assertEqual(logged, [])
