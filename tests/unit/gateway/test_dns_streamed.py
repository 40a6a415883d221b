"""
Tests for L{nanotun.gateway.dns.streamed}, with TLS and HTTP/2 servers in memory.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import TestCase
from zope.interface.verify import verifyObject

from nanotun.config.dnsservers import server as parsed
from nanotun.errors import (
    DestinationSilent,
    ProxyError,
    UpstreamError,
    UpstreamForbids,
    UpstreamRefused,
)
from nanotun.flow import Endpoint, LiteralEndpoint
from nanotun.gateway.dns.bootstrap import UNREACHED_AGE, ServerAddresses
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import INameServer
from nanotun.gateway.dns.message import OPT
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.gateway.dns.streamed import FIRST_PAUSE, StreamServer, authorityOf
from nanotun.gateway.dns.troubles import Troubles
from nanotun.testing import FakeUpstream
from nanotun.upstream.tlsstream import makeContext
from tests.unit.gateway.gateway_cases import answer, ask, edns, read
from tests.unit.gateway.http2_cases import HttpServer
from tests.unit.gateway.serverstream_cases import ReactorWithClock
from tests.unit.gateway.test_dns_padding import option
from tests.unit.gateway.test_dns_talks import framed
from tests.unit.upstream.tls_cases import CA, TlsServer

PADDED = answer(ask(), additionals=[edns(1232, 0, option(12, bytes(300)))])


class StreamServerCase(TestCase):
    """A server behind a fake upstream."""

    timeout = 10

    def setUp(self) -> None:
        """Remembers what is said."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.clock = Clock()
        self.upstream = FakeUpstream()
        self.counters = Counters()
        self.lines: list[str] = []
        self.heard: list[object] = []
        self.lookUp: Callable[[str, int], Deferred[list[str]]] = self.neverLookUp

    def neverLookUp(self, name: str, family: int) -> Deferred[list[str]]:
        """Not called where the address is known."""
        self.fail(f"{name} was looked up")

    def make(self, text: str, via: str = "direct", **changes: Any) -> StreamServer:
        """What asks a server, as it is written."""
        server = parsed(text)._replace(via=via, **changes)
        self.tally = ServerTally(server)
        made = StreamServer(
            server,
            lambda: self.upstream,
            ServerAddresses(server, lambda *asked: self.lookUp(*asked), self.clock),
            None if server.scheme == "tcp" else self.context(server.scheme),
            ReactorWithClock(self.reactor, self.clock),
            self.counters,
            Troubles(server, False, False, self.lines.append, self.tally),
            self.tally,
            lambda: "1970-01-01",
        )
        self.addCleanup(made.stop)
        return made

    def context(self, scheme: str) -> Any:
        """How TLS is spoken with the server of the tests."""
        return makeContext(CA, protocols=("h2",) if scheme == "https" else ())

    def ask(self, server: StreamServer, extension: bytes = b"") -> Any:
        """Ask one question; note the answer or the failure."""
        wire = ask(extension=extension)
        return server.ask(
            wire, read(wire), False, self.heard.append, lambda: self.heard.append("failed")
        )

    def opened(self) -> socket.socket:
        """The far end of the leg that was asked for."""
        far = self.upstream.answer()
        far.setblocking(False)
        self.addCleanup(far.close)
        return far

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the reactor turn until a condition holds; the clock's turns come with it."""
        while not condition():
            self.clock.advance(0)
            await deferLater(self.reactor, 0)

    async def received(self, far: socket.socket) -> bytes:
        """What has arrived at the far end, at least something."""
        found = b""

        def arrived() -> bytes:
            nonlocal found
            with contextlib.suppress(BlockingIOError):
                found = far.recv(65536)
            return found

        await self.until(arrived)
        return found

    async def shake(self, far: socket.socket, server: TlsServer) -> bytes:
        """Serve TLS until something arrives inside it, and return that."""
        while not server.heard:
            far.send(server.receive(await self.received(far)))
        heard, server.heard = server.heard, b""
        return heard


class StreamServerTests(StreamServerCase):
    """Tests for L{StreamServer}."""

    async def test_interface(self) -> None:
        """It is a name server; its way is told."""
        server = self.make("tcp://192.0.2.1")
        verifyObject(INameServer, server)
        self.assertEqual(server.where, "")
        for via, where in (("proxy", " through the proxy"), ("office", " through office")):
            self.assertEqual(self.make("tls://192.0.2.1", via).where, where)

    async def test_tcp(self) -> None:
        """A plain server is asked at its address, and its messages are not touched."""
        server = self.make("tcp://192.0.2.1:5353")
        self.ask(server)
        self.assertEqual(self.upstream.asked, [Endpoint("192.0.2.1", 5353)])
        self.assertIsInstance(self.upstream.asked[0], LiteralEndpoint)
        far = self.opened()
        query = (await self.received(far))[2:]
        self.assertEqual(query[2:], ask()[2:])
        far.send(framed(query[:2] + PADDED[2:]))
        await self.until(lambda: self.heard)
        self.assertEqual(self.heard, [query[:2] + PADDED[2:]])
        self.assertEqual((self.counters.upstream, self.counters.upstreamStreams), (0, 1))

    async def test_tls(self) -> None:
        """Inside TLS the query is padded, and the answer is as if it had not been."""
        server = self.make("tls://192.0.2.1#proxy.example")
        self.ask(server)
        far, tls = self.opened(), TlsServer()
        query = (await self.shake(far, tls))[2:]
        self.assertEqual((len(query), tls.name), (128, "proxy.example"))
        far.send(tls.say(framed(query[:2] + PADDED[2:])))
        await self.until(lambda: self.heard)
        self.assertEqual(self.heard, [query[:2] + answer(ask())[2:]])

    async def test_together(self) -> None:
        """Queries of one turn are one record, so that TLS costs no more than for one query."""
        server = self.make("tls://192.0.2.1#proxy.example")
        self.ask(server)
        far, tls = self.opened(), TlsServer()
        await self.shake(far, tls)
        for _ in range(3):
            self.ask(server)
        record = await self.received(far)
        # A record's header ends with the length of the rest (RFC 8446, section 5.1).
        self.assertEqual(int.from_bytes(record[3:5], "big"), len(record) - 5)
        tls.receive(record)
        self.assertEqual(len(tls.heard), 3 * (2 + 128))

    async def test_https(self) -> None:
        """Over HTTPS, too; and answers are as old as the server says."""
        server = self.make("https://proxy.example:8443/a?b", addresses=("192.0.2.1",))
        self.ask(server, edns())
        self.assertEqual(self.upstream.asked, [Endpoint("192.0.2.1", 8443)])
        far, tls, http = self.opened(), TlsServer(protocols=("h2",)), HttpServer()
        while not http.ended:
            http.take(await self.shake(far, tls))
        self.assertEqual(
            (http.requests[1][b":authority"], http.requests[1][b":path"]),
            (b"proxy.example:8443", b"/a?b"),
        )
        self.assertEqual((len(http.bodies[1]), http.bodies[1][:2]), (128, b"\0\0"))
        body = b"\0\0" + PADDED[2:]
        http.reply(1, (b"age", b"100"), body=body)
        far.send(tls.say(http.h2.data_to_send()))
        await self.until(lambda: self.heard)
        (found,) = self.heard
        assert isinstance(found, bytes)
        self.assertEqual(found[-11:], edns())
        # The address's TTL was 300.
        self.assertIn((200).to_bytes(4, "big"), found)
        self.assertNotIn((300).to_bytes(4, "big"), found)
        self.assertEqual(found[-10:-8], OPT.to_bytes(2, "big"))

    async def test_withoutHttp(self) -> None:
        """A server that does not agree on HTTP/2 is told so by its kind."""
        server = self.make("https://192.0.2.1/dns-query#proxy.example")
        self.ask(server)
        far, tls = self.opened(), TlsServer()
        far.send(tls.receive(await self.received(far)))
        await self.until(lambda: self.heard)
        self.assertEqual(
            self.lines,
            [
                "The DNS server https://192.0.2.1/dns-query#proxy.example does not speak HTTP/2, "
                "which DNS over HTTPS needs; check the URL."
            ],
        )

    async def test_resumed(self) -> None:
        """The next connection resumes the session, but none in another network does."""
        server = self.make("tls://192.0.2.1#proxy.example")
        context = None
        for renewed in (False, True, True, False):
            self.ask(server)
            far, tls = self.opened(), TlsServer(context=context)
            context = tls.context
            query = (await self.shake(far, tls))[2:]
            self.assertEqual(tls.tls.session_reused, renewed)
            count = len(self.heard)
            far.send(tls.say(framed(answer(query))))
            await self.until(lambda: len(self.heard) > count)  # noqa: B023
            if len(self.heard) == 3:
                server.renew()
            far.close()
            await self.until(lambda: server._stream._connection is None)

    async def test_name(self) -> None:
        """A server that has a name is looked up; its addresses are tried in turn."""
        asked: list[int] = []
        addresses: list[Deferred[list[str]]] = [Deferred(), Deferred()]

        def lookUp(name: str, family: int) -> Deferred[list[str]]:
            asked.append(family)
            return addresses[(4, 6).index(family)] if len(asked) <= 2 else Deferred()

        self.lookUp = lookUp
        server = self.make("tls://dns.example")
        self.ask(server)
        self.assertEqual(self.upstream.asked, [])
        addresses[0].callback(["192.0.2.1", "192.0.2.2"])
        addresses[1].callback(["2001:db8::1"])
        self.upstream.fail(UpstreamRefused("No."))
        self.upstream.fail(DestinationSilent("No."))
        hosts = [endpoint.host for endpoint in self.upstream.asked]
        self.assertEqual((hosts, self.lines), (["192.0.2.1", "192.0.2.2", "2001:db8::1"], []))
        self.opened().close()
        await self.until(lambda: self.heard)
        self.clock.advance(FIRST_PAUSE)
        self.ask(server)
        self.assertEqual(self.upstream.asked[3].host, "2001:db8::1")
        for _ in range(3):
            self.upstream.fail(UpstreamRefused("No."))
        self.assertEqual((len(self.heard), asked), (2, [4, 6]))
        # None of them was reached, so the name is soon looked up again.
        self.clock.advance(UNREACHED_AGE)
        self.ask(server)
        self.assertEqual(asked, [4, 6, 4, 6])

    async def test_nameRenewed(self) -> None:
        """In another network the name is looked up again at once."""
        asked: list[int] = []

        def lookUp(name: str, family: int) -> Deferred[list[str]]:
            asked.append(family)
            return succeed(["192.0.2.1"])

        self.lookUp = lookUp
        server = self.make("tls://dns.example")
        self.ask(server)
        server.renew()
        self.assertEqual((asked, self.upstream.cancelled), ([4, 6, 4, 6], 1))

    async def test_nameUnknown(self) -> None:
        """If it cannot be looked up, the sentence says what to write."""
        self.lookUp = lambda name, family: succeed([])
        error = self.assertRaises(OSError, self.ask, self.make("tls://dns.example"))
        self.assertEqual(
            str(error),
            "The DNS server tls://dns.example:853 cannot be asked, because dns.example cannot be "
            "looked up (it has no address); give its address, as in {server: "
            "'tls://dns.example:853', address: 192.0.2.53}.",
        )
        self.assertEqual((self.lines, self.tally.trouble), ([str(error)], str(error)))

    async def test_forbidden(self) -> None:
        """What the proxy forbids, or a proxy that is down, is not tried for each address."""
        for error in (UpstreamForbids("No."), ProxyError("Down.")):
            server = self.make("tls://a", "proxy", addresses=("192.0.2.1", "192.0.2.2"))
            self.ask(server)
            self.upstream.fail(error)
            self.assertRaises(UpstreamError, self.ask, server)
        self.assertEqual(len(self.upstream.asked), 2)

    async def test_cancelled(self) -> None:
        """To stop ends the dial, and the wait for the address."""
        server = self.make("tls://192.0.2.1")
        self.ask(server)
        server.stop()
        self.assertEqual(self.upstream.cancelled, 1)
        self.lookUp = lambda name, family: Deferred()
        server = self.make("tls://dns.example")
        self.ask(server)
        server.stop()
        self.assertEqual((self.heard, self.lines), ([], []))

    async def test_pauses(self) -> None:
        """A server that cannot be reached is left alone for a second, then for longer."""
        for text, via in (("tls://192.0.2.1", "direct"), ("tcp://192.0.2.1", "proxy")):
            server = self.make(text, via)
            for pause in (FIRST_PAUSE, 2 * FIRST_PAUSE):
                self.ask(server)
                self.upstream.fail(UpstreamRefused("No."))
                self.clock.advance(pause / 2 - 0.1)
                self.assertRaises(OSError, self.ask, server)
                self.clock.advance(pause / 2 + 0.1)
        self.assertEqual(len(self.upstream.asked), 4)

    def test_authority(self) -> None:
        """A request's authority is as in the URL, but with the name behind #."""
        for text, expected in (
            ("https://dns.example", "dns.example"),
            ("https://dns.example:8443/x", "dns.example:8443"),
            ("https://192.0.2.1#dns.example", "dns.example"),
            ("https://[2001:db8::1]:444", "[2001:db8::1]:444"),
        ):
            self.assertEqual(authorityOf(parsed(text, addressed=True)), expected)
