"""
Tests for L{nanotun.gateway.dns.proxied}.
"""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.errors import (
    FamilyUnsupported,
    ProxyError,
    UpstreamError,
    UpstreamProhibited,
    UpstreamRefused,
)
from nanotun.flow import Endpoint, LiteralEndpoint
from nanotun.gateway.dns.association import QueryAssociations
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.direct import DirectServer, makeIdent
from nanotun.gateway.dns.interfaces import INameServer
from nanotun.gateway.dns.proxied import PAUSE, UpstreamServer, couldFake
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.gateway.dns.troubles import Troubles
from nanotun.interfaces import DnsServer
from nanotun.testing import FakeUpstream
from tests.unit.gateway.gateway_cases import FakeReactor, ask, read

SERVER = DnsServer("udp", "192.0.2.1", 53, via="proxy")
PLACE = Endpoint("192.0.2.1", 53)
DIRECT = (
    "set dnsVia: direct (--dns-via direct), which sends the queries past the proxy, in the clear"
)
CURE = (
    "allow it there, set dnsMode: fake-ip (--dns-mode fake-ip), so that the proxy looks names up, "
    f"or {DIRECT}"
)


class UpstreamServerTests(SynchronousTestCase):
    """Tests for L{UpstreamServer}."""

    def setUp(self) -> None:
        """A server behind a fake upstream that carries no UDP."""
        self.reactor = FakeReactor()
        self.upstream = FakeUpstream()
        self.upstream.carriesDatagrams = False
        self.counters = Counters()
        self.lines: list[str] = []
        self.failures: list[str] = []
        self.server = self.make()

    def make(
        self, mayFake: bool = True, via: str = "proxy", ownVia: bool = False
    ) -> UpstreamServer:
        """The server, and how it is asked."""
        way = lambda: self.upstream  # noqa: E731
        datagrams = QueryAssociations(self.reactor, way, self.counters, makeIdent, " through it")
        self.addCleanup(datagrams.stop)
        server = SERVER._replace(via=via)
        tally = ServerTally(server)
        made = UpstreamServer(
            SERVER,
            way,
            datagrams,
            self.reactor,
            self.counters,
            Troubles(server, ownVia, mayFake, self.lines.append, tally),
            tally,
        )
        self.addCleanup(made.stop)
        return made

    def ask(self, overTCP: bool = False, extra: int = 0) -> None:
        """Ask one question."""
        wire = ask() + bytes(extra)
        self.server.ask(
            wire, read(ask()), overTCP, self.fail, lambda: self.failures.append("failed")
        )

    def test_interface(self) -> None:
        """Both ways of asking are name servers."""
        verifyObject(INameServer, self.server)
        server = SERVER._replace(via="direct")
        tally = ServerTally(server)
        troubles = Troubles(server, False, False, self.lines.append, tally)
        none: Any = None
        direct = DirectServer(server, lambda: self.upstream, none, none, none, troubles, tally)
        verifyObject(INameServer, direct)
        self.assertEqual((self.server.where, direct.where), (" through the proxy", ""))

    def test_stream(self) -> None:
        """Without UDP the server is asked over TCP, by its address and never by a name."""
        self.ask()
        self.assertEqual(self.upstream.asked, [PLACE])
        self.assertIsInstance(self.upstream.asked[0], LiteralEndpoint)
        self.assertEqual((self.counters.upstream, self.counters.upstreamStreams), (0, 1))

    def test_datagram(self) -> None:
        """With UDP it is asked by UDP, but for what only TCP will do."""
        self.upstream.carriesDatagrams = True
        self.ask()
        self.assertEqual((self.upstream.families, self.upstream.asked), ([4], []))
        self.ask(overTCP=True)
        self.ask(extra=600)
        self.assertEqual((self.upstream.families, self.upstream.asked), ([4], [PLACE]))
        self.assertEqual((self.counters.upstream, self.counters.upstreamStreams), (1, 2))

    def line(self, error: UpstreamError) -> str:
        """The line that is logged when a leg fails."""
        self.reactor.advance(PAUSE)
        self.ask()
        self.upstream.fail(error)
        return self.lines.pop()

    def test_forbidden(self) -> None:
        """A proxy that forbids the server: the line says so, and what to do."""
        forbidden = UpstreamProhibited("The proxy p does not allow it (status 403).")
        start = "The proxy p does not allow it (status 403), and dnsVia sends the DNS queries "
        self.assertEqual(self.line(forbidden), f"{start}through it; {CURE}.")
        self.server = self.make(mayFake=False)
        self.assertEqual(self.line(forbidden), f"{start}through it; allow it there or {DIRECT}.")

    def test_couldFake(self) -> None:
        """fake-ip is a cure where it is not set and every proxy takes names then, as socks5://
        does."""
        for proxy, mode, expected in (
            ("socks5://h", "normal", True),
            ("http://h,socks4a://h", "normal", True),
            ("socks5://h", "fake-ip", False),
            ("socks5://h,socks4://h", "normal", False),
        ):
            given = {"proxy": proxy, "dnsMode": mode}
            flags = {name: flagValue(KEYS[name], text) for name, text in given.items()}
            self.assertIs(couldFake(makeSettings({}, flags, None)), expected, (proxy, mode))

    def test_sentences(self) -> None:
        """Every other error gets a whole sentence that says what it means for names."""
        self.assertEqual(
            self.line(ProxyError("The proxy p is down; start it.")),
            "DNS queries cannot be sent, because dnsVia sends them through the proxy: "
            "The proxy p is down; start it.",
        )
        self.assertEqual(
            self.line(UpstreamError("There are no sockets.")),
            "A DNS query cannot be sent: There are no sockets.",
        )
        for error in (UpstreamRefused("No."), FamilyUnsupported("No.")):
            self.assertEqual(
                self.line(error),
                "The DNS server 192.0.2.1:53 cannot be asked over TCP through the proxy: No; if "
                f"the proxy lets no DNS out, {CURE}.",
            )

    def test_ownVia(self) -> None:
        """Of a server with a way of its own, it is that way which is to blame, and to change."""
        self.server = self.make(mayFake=False, via="office", ownVia=True)
        cure = (
            "allow it there or give that server via: direct, which sends the queries past the "
            "proxy, in the clear"
        )
        self.assertEqual(
            self.line(UpstreamProhibited("The proxy p does not allow it (status 403).")),
            "The proxy p does not allow it (status 403), and via sends the queries for the DNS "
            f"server 192.0.2.1:53 through it; {cure}.",
        )
        self.assertEqual(
            self.line(ProxyError("The proxy p is down; start it.")),
            "The DNS server 192.0.2.1:53 cannot be asked, because its via leads through office: "
            "The proxy p is down; start it.",
        )
        self.assertEqual(
            self.line(UpstreamRefused("No.")),
            "The DNS server 192.0.2.1:53 cannot be asked over TCP through office: No; if the "
            f"proxy lets no DNS out, {cure}.",
        )

    def test_pause(self) -> None:
        """A failed connection is not tried again at once: the queries fail with its sentence."""
        self.ask()
        self.upstream.fail(UpstreamRefused("No."))
        error = self.assertRaises(UpstreamError, self.ask)
        self.assertIn("cannot be asked over TCP", str(error))
        self.assertEqual((len(self.upstream.asked), len(self.lines)), (1, 1))
        self.assertEqual(self.failures, ["failed"])
