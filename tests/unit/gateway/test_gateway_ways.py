"""
Tests for L{nanotun.gateway.gateway.Gateway}: by which upstream it asks the DNS servers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nanotun.config.dnsrules import DnsRule
from nanotun.config.domains import pattern
from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.errors import UpstreamError
from nanotun.gateway import makeGateway
from nanotun.gateway.dns.exchange import ATTEMPT_TIMEOUT, ATTEMPTS
from nanotun.gateway.dns.message import SERVFAIL
from nanotun.interfaces import DnsServer, UpstreamSettings
from nanotun.testing import FakeUpstream
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.gateway.gateway_cases import (
    ask,
    makeDatagram,
    rcode,
)
from tests.unit.gateway.test_gateway import GatewayCase


class WaysTests(GatewayCase):
    """C{dnsVia}, C{via}, and the proxies' own names."""

    def test_viaProxy(self) -> None:
        """
        With C{dnsVia: proxy} queries go through the upstream, but for the proxy's own name;
        a name that is no host name is not the empty name of C{direct://}.
        """
        proxies = "http://proxy.example:1, direct://"
        settings = makeSettings({}, {"proxy": flagValue(KEYS["proxy"], proxies)}, None)
        settings = replace(self.settings, dnsVia="proxy", proxy=settings.proxy)
        self.gateway.configure(settings, self.ways)
        self.app(ask("a"), ask("a b"))
        self.assertEqual(self.proxy.families, [4])
        self.assertRaises(BlockingIOError, self.server.recv, 600)
        self.app(ask("proxy.example", ident=2))
        self.serve()
        self.reactor.turn()
        self.assertEqual([each.payload[1] for each in self.engine.sent[-1]], [2])

    def test_viaProxyInCell(self) -> None:
        """Where nanotun's own lookups do not arrive, nothing is asked directly."""
        self.gateway.stop()
        engine: Any = self.engine
        settings = replace(self.settings, dnsVia="proxy")
        self.gateway = makeGateway(self.reactor, engine, settings, makeDatagram, inCell=True)
        self.gateway.configure(settings, self.ways)
        self.gateway.start()
        self.addCleanup(self.gateway.stop)
        self.app(ask("proxy.example"))
        self.assertEqual(self.proxy.families, [4])
        self.assertRaises(BlockingIOError, self.server.recv, 600)

    def test_viaOtherProxy(self) -> None:
        """
        Another proxy gets connections of its own, and the cache is emptied.  If only the
        upstream's object is another, connections are kept and the next is its.
        """
        settings = replace(self.settings, dnsVia="proxy")
        self.gateway.configure(settings, self.ways)
        for upstream in (self.proxy, FakeUpstream()):
            upstream.carriesDatagrams = False
            self.gateway.configure(settings, {**self.ways, "proxy": upstream})
            self.app(ask(upstream.name))
        self.assertEqual((len(self.proxy.asked), len(upstream.asked)), (1, 0))
        self.gateway.configure(replace(settings, proxy=()), {**self.ways, "proxy": upstream})
        self.app(ask("b"))
        self.assertEqual((len(self.proxy.asked), len(upstream.asked)), (1, 1))

    def test_viaOtherChain(self) -> None:
        """
        Another proxy that the proxy is dialled through gets connections of its own; an upstream
        that the relay does not use changes nothing.
        """
        self.proxy.carriesDatagrams = False
        for office, other, asked in (("a", "a", 1), ("a", "b", 1), ("b", "b", 2)):
            upstreams = tuple(
                UpstreamSettings(name, (parseProxyURL(url),))
                for name, url in (("office", office), ("other", other))
            )
            settings = replace(self.settings, dnsVia="proxy", proxyVia="office")
            self.gateway.configure(replace(settings, upstreams=upstreams), self.ways)
            self.app(ask(office + other))
            self.assertEqual(len(self.proxy.asked), asked, (office, other))

    def test_viaProxySince(self) -> None:
        """Once a reload has said dnsVia: proxy, nothing more goes past the proxy: a query under
        way is asked through it, and answered."""
        self.app(ask("a"), ask("proxy.example", ident=2))
        for _ in range(2):
            self.server.recv(600)
        self.gateway.configure(replace(self.settings, dnsVia="proxy"), self.ways)
        self.assertEqual(self.proxy.families, [4])
        # The proxy's own name is asked as it was.
        self.assertIn(b"\5proxy", self.serve())
        self.reactor.turn()
        self.assertEqual([each.payload[1] for each in self.engine.sent[-1]], [2])
        for _ in range(3):
            self.reactor.advance(ATTEMPT_TIMEOUT)
        self.assertRaises(BlockingIOError, self.server.recv, 600)
        (given,) = self.engine.sent[-1]
        self.assertEqual((given.payload[1], rcode(given.payload)), (1, SERVFAIL))

    def test_viaName(self) -> None:
        """With C{dnsVia: NAME} queries go through that upstream, and a server with a C{via} of its
        own through its own; the proxies' own names go past them."""
        office = self.ways["office"] = FakeUpstream("office://")
        for way in (office, self.proxy):
            way.carriesDatagrams = False
        upstreams = (UpstreamSettings("office", (parseProxyURL("http://b.example"),)),)
        own = DnsServer("udp", "192.0.2.7", 53, via="proxy")
        settings = replace(self.settings, dnsVia="office", upstreams=upstreams)
        for servers in (settings.dns, (own, *settings.dns)):
            self.gateway.configure(replace(settings, dns=servers), self.ways)
            self.app(ask(f"a{len(servers)}"))
        self.assertEqual([each.host for each in office.asked], ["127.0.0.1"])
        self.assertEqual([each.host for each in self.proxy.asked], ["192.0.2.7"])
        self.gateway.configure(settings, self.ways)
        self.app(ask("b.example", ident=2))
        self.serve()

    def test_wayGone(self) -> None:
        """What waits for servers that were asked by an upstream that a reload has removed has an
        error in the end, by UDP and over TCP, and what others wait for is not touched."""
        for carries, ident in ((True, 1), (False, 2)):
            office = FakeUpstream("office://")
            office.carriesDatagrams = False
            upstreams = (UpstreamSettings("office", (parseProxyURL("http://b.example"),)),)
            servers = tuple(DnsServer("udp", f"192.0.2.{n}", 53) for n in (1, 2))
            settings = replace(self.settings, dns=servers, dnsVia="office", upstreams=upstreams)
            self.gateway.configure(settings, {**self.ways, "office": office})
            self.app(ask("a", ident=ident))
            self.assertEqual(len(office.asked), 1)
            office.carriesDatagrams = carries
            self.gateway.configure(self.settings, self.ways)
            for _ in range(3):
                self.reactor.advance(ATTEMPT_TIMEOUT)
            (given,) = self.engine.sent[-1]
            self.assertEqual((given.payload[1], rcode(given.payload)), (ident, SERVFAIL))
            self.app(ask("b", ident=7))
            self.serve()
            self.reactor.turn()
            self.assertEqual(self.engine.sent[-1][0].payload[1], 7)

    def test_viaOfServerSince(self) -> None:
        """Once a reload has given each server a way through a proxy, nothing that is under way
        goes past the proxies any more, as little as if it had changed dnsVia."""
        self.app(ask("a"))
        self.server.recv(600)
        (server,) = self.settings.dns
        settings = replace(self.settings, dns=(server._replace(via="proxy"),))
        self.gateway.configure(settings, self.ways)
        self.assertEqual(self.proxy.families, [4])
        self.reactor.advance(ATTEMPT_TIMEOUT)
        self.assertRaises(BlockingIOError, self.server.recv, 600)

    def test_viaOfRuleSince(self) -> None:
        """A rule's server that is still asked past the proxies keeps no query for others there."""
        rule = DnsRule(
            (pattern("corp.example"),), (DnsServer("udp", "127.0.0.9", 53, via="direct"),)
        )
        settings = replace(self.settings, dnsRules=(rule,))
        self.gateway.configure(settings, self.ways)
        self.app(ask("a"))
        self.server.recv(600)
        self.gateway.configure(replace(settings, dnsVia="proxy"), self.ways)
        self.assertEqual(self.proxy.families, [4])
        self.reactor.advance(ATTEMPT_TIMEOUT)
        self.assertRaises(BlockingIOError, self.server.recv, 600)

    def test_viaOfOneSince(self) -> None:
        """If a server is still asked past the proxies, what is under way goes on."""
        self.app(ask("a"))
        (server,) = self.settings.dns
        settings = replace(self.settings, dns=(server._replace(via="proxy"), server))
        self.gateway.configure(settings, self.ways)
        self.assertEqual(self.proxy.families, [])
        self.serve()
        self.reactor.turn()
        self.assertEqual(rcode(self.engine.sent[-1][0].payload), 0)

    def test_viaGone(self) -> None:
        """
        What is under way when its upstream goes, or comes to lead past the proxies, is not sent
        again: the client hears that it has failed.
        """
        url, bare = parseProxyURL("http://b.example"), parseProxyURL("direct://")
        office = UpstreamSettings("office", (url,))
        servers = tuple(DnsServer("udp", f"192.0.2.{n}", 53, via="office") for n in (1, 2))
        settings = replace(self.settings, dns=servers, upstreams=(office,))
        new = FakeUpstream("new")
        for carries in (True, False):
            for number, (upstreams, ways) in enumerate((
                ((), self.ways),
                ((office._replace(proxy=(bare,)),), {**self.ways, "office": new}),
            )):  # fmt: skip
                old = FakeUpstream("old")
                old.carriesDatagrams = carries
                self.gateway.configure(settings, {**self.ways, "office": old})
                self.app(ask(f"a{number}{carries}", ident=3))
                self.assertEqual(len(old.families) + len(old.asked), 1)
                self.gateway.configure(replace(self.settings, upstreams=upstreams), ways)
                # What was being opened fails, so that the query would go over TCP; and where it
                # goes over TCP already, the other server's turn comes.
                if carries:
                    old.failDatagrams(UpstreamError("It has been stopped."))
                for _ in range(ATTEMPTS):
                    self.reactor.advance(ATTEMPT_TIMEOUT)
                (given,) = self.engine.sent[-1]
                self.assertEqual((given.payload[1], rcode(given.payload)), (3, SERVFAIL))
                self.assertEqual(self.gateway.stats().inFlight, 0)
        self.assertEqual((new.families, new.asked), ([], []))
        self.assertRaises(BlockingIOError, self.server.recv, 600)
