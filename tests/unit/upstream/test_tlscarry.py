"""
Tests of L{nanotun.upstream.handshakes.tlscarry}: C{https} from the URL to the app's bytes,
on real sockets of the loopback interface.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import HandshakeError, UpstreamError
from nanotun.interfaces import Connection
from nanotun.upstream.handshakes import tlscarry
from nanotun.upstream.handshakes.tls import TlsStream, makeContext
from nanotun.upstream.handshakes.tlscarry import AppSide, WireSide, carryTls
from nanotun.upstream.proxy import ProxyUpstream
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.upstream.tls_cases import CA, TlsServer
from tests.unit.upstream.upstream_cases import DESTINATION, ReactorCase, unmarkedContext

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
ASK = b"HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=r, nonce=n\r\nConnection: close\r\n\r\n"


@implementer(IHalfCloseableProtocol)
class Proxy(Protocol):
    """
    A proxy with TLS that sends back what it hears, and C{"!"} once the client has
    ended; if told so, it asks for a log-in first.

    @ivar closes: whether it sends close_notify with its OK, and nothing more.
    @ivar atEnd: what it does instead when the client ends, if anything.
    @ivar lost: fires with whether the connection ended by a reset.
    """

    transport: Any

    def __init__(self, ask: bool, greeting: bytes = b"", closes: bool = False) -> None:
        self.ask = ask
        self.closes = closes
        self.greeting = greeting
        self.server = TlsServer()
        self.open = False
        self.ended = False
        self.atEnd: Callable[[], object] | None = None
        self.lost: Deferred[bool] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Answer."""
        self.transport.write(self.server.receive(data))
        if not self.open:
            if b"\r\n\r\n" not in self.server.heard:
                return
            if self.ask and b"Proxy-Authorization" not in self.server.heard:
                self.transport.write(self.server.say(ASK))
                self.transport.loseConnection()
                return
            self.open = True
            self.server.heard = b""
            said = self.server.say(OPEN + self.greeting)
            self.ended = self.closes
            self.transport.write(said + (self.server.end() if self.closes else b""))
        heard, self.server.heard = self.server.heard, b""
        if heard:
            self.transport.write(self.server.say(heard))
        if self.server.ended and not self.ended:
            self.ended = True
            if self.atEnd is not None:
                self.atEnd()
                return
            self.transport.write(self.server.say(b"!") + self.server.end())

    def readConnectionLost(self) -> None:
        """The client has sent a FIN."""
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """The proxy has sent a FIN."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The connection has ended."""
        self.lost.callback(reason.check(ConnectionDone) is None)


@implementer(IHalfCloseableProtocol)
class App(Protocol):
    """
    The engine's end of a leg.

    @ivar lost: fires with whether the leg ended by a reset.
    """

    transport: Any

    def __init__(self) -> None:
        self.heard = b""
        self.ended: Deferred[None] = Deferred()
        self.lost: Deferred[bool] = Deferred()
        self.waiting: tuple[int, Deferred[None]] | None = None

    def dataReceived(self, data: bytes) -> None:
        """Note it."""
        self.heard += data
        if self.waiting is not None and len(self.heard) >= self.waiting[0]:
            waiting, self.waiting = self.waiting, None
            waiting[1].callback(None)

    def until(self, count: int) -> Deferred[None]:
        """Fires once that many bytes have arrived."""
        waiter: Deferred[None] = Deferred()
        self.waiting = (count, waiter)
        self.dataReceived(b"")
        return waiter

    def readConnectionLost(self) -> None:
        """The other side has ended."""
        self.ended.callback(None)

    def writeConnectionLost(self) -> None:
        """This side has ended."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Both directions have ended."""
        self.lost.callback(reason.check(ConnectionDone) is None)


class RelayTests(ReactorCase):
    """Legs through a proxy with TLS."""

    def setUp(self) -> None:
        """There are no proxies yet."""
        super().setUp()
        self.proxies: list[Proxy] = []

    def upstream(
        self, ask: bool = False, greeting: bytes = b"", query: str = "", closes: bool = False
    ) -> ProxyUpstream:
        """Listen, and make the upstream for it."""

        def build(address: object) -> Proxy:
            self.proxies.append(Proxy(ask, greeting, closes))
            return self.proxies[-1]

        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = build  # type: ignore[assignment, method-assign]
        port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = parseProxyURL(f"https://u:p@127.0.0.1:{port.getHost().port}?{query or f'ca={CA}'}")
        upstream = url.scheme.make(url, unmarkedContext(self.reactor))
        assert isinstance(upstream, ProxyUpstream)
        return upstream

    def adopt(self, connection: Connection) -> App:
        """Take a leg, as the engine does."""
        app = App()
        factory = Factory.forProtocol(lambda: app)  # type: ignore[arg-type]
        factory.noisy = False
        self.assertFalse(os.get_blocking(connection.fd))
        with socket.socket(fileno=connection.fd) as end:
            self.reactor.adoptStreamConnection(end.fileno(), end.family, factory)
        app.dataReceived(connection.leftover)
        return app

    async def clean(self) -> None:
        """All connections of proxies and of the pair are closed."""
        for proxy in self.proxies:
            await proxy.lost
        left = [
            each
            for each in self.reactor.getReaders() + self.reactor.getWriters()
            if isinstance(getattr(each, "protocol", None), AppSide | WireSide)
        ]
        self.assertEqual(left, [])
        self.assertClean()

    async def test_carries(self) -> None:
        """Many bytes arrive in both directions, and so does a half-close."""
        app = self.adopt(await self.upstream().connect(DESTINATION))
        data = os.urandom(5_000_000)
        app.transport.write(data)
        app.transport.loseWriteConnection()
        await app.ended
        self.assertEqual(app.heard[-1:], b"!")
        self.assertEqual(app.heard[:-1] == data, True)
        app.transport.loseConnection()
        await self.clean()

    async def test_leftover(self) -> None:
        """Bytes that arrive with the proxy's answer reach the app."""
        app = self.adopt(await self.upstream(greeting=b"220 hello").connect(DESTINATION))
        await app.until(9)
        self.assertEqual(app.heard, b"220 hello")
        app.transport.loseConnection()
        await self.clean()

    async def test_keepAlive(self) -> None:
        """The kernel probes whether a silent proxy is still there."""
        app = self.adopt(await self.upstream().connect(DESTINATION))
        (wire,) = [
            each
            for each in self.reactor.getReaders()
            if isinstance(getattr(each, "protocol", None), WireSide)
        ]
        self.assertTrue(wire.getTcpKeepAlive())
        for name, value in tlscarry.KEEPALIVE:
            set_ = wire.socket.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            self.assertEqual(set_, value)
        app.transport.abortConnection()
        await self.clean()

    async def test_slowReader(self) -> None:
        """An app that does not read slows the proxy down, and loses nothing."""
        app = self.adopt(await self.upstream(greeting=bytes(20_000_000)).connect(DESTINATION))
        app.transport.pauseProducing()
        pause: Deferred[None] = Deferred()
        self.reactor.callLater(0.2, pause.callback, None)
        await pause
        (side,) = [
            each.protocol
            for each in self.reactor.getWriters()
            if isinstance(getattr(each, "protocol", None), AppSide)
        ]
        held = len(side.transport.dataBuffer) + sum(map(len, side.transport._tempDataBuffer))
        self.assertLess(held, 1_000_000)
        app.transport.resumeProducing()
        await app.until(20_000_000)
        app.transport.loseConnection()
        await self.clean()

    async def wasReset(self, app: App) -> None:
        """The leg ends by a reset, and nothing else ends it before."""
        self.assertTrue(await app.lost)
        self.assertFalse(app.ended.called)
        await self.clean()

    async def test_appReset(self) -> None:
        """An app's reset is a reset for the proxy: what was sent does not look complete."""
        app = self.adopt(await self.upstream().connect(DESTINATION))
        app.transport.write(b"x")
        await app.until(1)
        app.transport.abortConnection()
        (proxy,) = self.proxies
        self.assertTrue(await proxy.lost)
        self.assertFalse(proxy.server.ended)
        await self.clean()

    async def test_appResetAfterItsEnd(self) -> None:
        """An app's reset after its end is passed on once there is an answer that nobody takes."""
        app = self.adopt(await self.upstream().connect(DESTINATION))
        (proxy,) = self.proxies
        proxy.atEnd = app.transport.abortConnection
        app.transport.loseWriteConnection()
        await app.lost
        proxy.transport.write(proxy.server.say(b"answer"))
        self.assertTrue(await proxy.lost)
        await self.clean()

    async def test_proxyReset(self) -> None:
        """The proxy's reset is a reset for the app, after the bytes that arrived before."""
        app = self.adopt(await self.upstream().connect(DESTINATION))
        (proxy,) = self.proxies
        proxy.transport.write(proxy.server.say(b"half of it"))
        await app.until(10)
        proxy.transport.abortConnection()
        await self.wasReset(app)

    async def test_proxyResetAfterTheAppsEnd(self) -> None:
        """
        The proxy's reset is passed on to an app that has ended its half and waits for
        an answer.
        """
        app = self.adopt(await self.upstream().connect(DESTINATION))
        (proxy,) = self.proxies
        proxy.atEnd = proxy.transport.abortConnection
        app.transport.loseWriteConnection()
        await self.wasReset(app)

    async def test_proxyEnds(self) -> None:
        """An end without close_notify, which many servers leave out, is an end."""
        app = self.adopt(await self.upstream().connect(DESTINATION))
        (proxy,) = self.proxies
        proxy.transport.write(proxy.server.say(b"all of it"))
        proxy.transport.loseConnection()
        await app.ended
        self.assertEqual(app.heard, b"all of it")
        app.transport.loseConnection()
        await self.clean()

    async def test_endWithTheAnswer(self) -> None:
        """A close_notify in one piece with the proxy's answer ends that half."""
        upstream = self.upstream(greeting=b"bye", closes=True)
        app = self.adopt(await upstream.connect(DESTINATION))
        await app.ended
        self.assertEqual(app.heard, b"bye")
        app.transport.loseConnection()
        await self.clean()

    async def test_proxyWrong(self) -> None:
        """Bytes that are not TLS, or are forged, are a reset for the app."""
        for wrong in (b"plain text, which is no record of TLS", b"\x17\3\3\0\x20" + bytes(32)):
            app = self.adopt(await self.upstream().connect(DESTINATION))
            proxy = self.proxies[-1]
            proxy.transport.write(proxy.server.say(b"half of it"))
            await app.until(10)
            proxy.transport.write(wrong)
            await self.wasReset(app)

    async def test_again(self) -> None:
        """A proxy that closes after its 407 is dialled again."""
        upstream = self.upstream(ask=True)
        app = self.adopt(await upstream.connect(DESTINATION))
        app.transport.write(b"x")
        await app.until(1)
        app.transport.loseConnection()
        await self.clean()

    async def test_untrusted(self) -> None:
        """A certificate that is not trusted fails the leg, unless the URL has insecure=1."""
        upstream = self.upstream(query="ca=/etc/ssl/certs/ca-certificates.crt")
        await self.failure(HandshakeError, upstream.connect(DESTINATION))
        await self.clean()
        self.proxies.clear()
        app = self.adopt(await self.upstream(query="insecure=1").connect(DESTINATION))
        app.transport.loseConnection()
        await self.clean()

    def test_noDescriptors(self) -> None:
        """Without descriptors for the pair the connection is closed, and the error says so."""

        def none() -> None:
            raise OSError(24, "Too many open files")

        self.patch(tlscarry, "makePair", none)
        wire = socket.socket()
        fd = wire.detach()
        error = self.assertRaises(UpstreamError, carryTls, None, Connection(fd, b""), self.reactor)
        self.assertIn("ulimit", str(error))
        self.assertRaises(OSError, os.fstat, fd)

    def test_stranger(self) -> None:
        """Another program that connects while the pair is made gets no part in it."""
        strangers: list[socket.socket] = []

        def listen(listener: socket.socket) -> None:
            real(listener)
            strangers.append(socket.create_connection(listener.getsockname()))

        real = socket.socket.listen
        self.patch(socket.socket, "listen", listen)
        near, far = tlscarry.makePair()
        self.assertEqual(near.getpeername(), far.getsockname())
        self.assertEqual(strangers[0].recv(1), b"")
        for each in (near, far, *strangers):
            self.assertFalse(each.get_inheritable())
            each.close()

    def test_noLoopback(self) -> None:
        """If the loopback interface carries nothing the error says so."""

        def none() -> None:
            raise TimeoutError("timed out")

        self.patch(tlscarry, "makePair", none)
        connection = Connection(socket.socket().detach(), b"")
        error = self.assertRaises(UpstreamError, carryTls, None, connection, self.reactor)
        self.assertIn("timed out); check that the loopback", str(error))

    def test_goneAlready(self) -> None:
        """If the proxy is gone before the pair is made the error says so."""
        connection = Connection(socket.socket().detach(), b"")
        stream = TlsStream(makeContext("", True), "h")
        error = self.assertRaises(UpstreamError, carryTls, stream, connection, self.reactor)
        self.assertIn("The proxy reset the connection", str(error))

    async def test_notAdopted(self) -> None:
        """If only one end of the pair can be adopted the connection is closed."""
        real = self.reactor
        adopted: list[object] = []

        class Reactor:
            """Adopts one connection and no more."""

            def adoptStreamConnection(self, fd: int, family: int, factory: Factory) -> None:
                if adopted:
                    raise OSError(24, "Too many open files")
                adopted.append(real.adoptStreamConnection(fd, family, factory))

        upstream = self.upstream()
        url = parseProxyURL(upstream.describe().replace("***", "p"))
        other = url.scheme.make(url, unmarkedContext(Reactor()))
        upstream._handshakes = other._handshakes  # type: ignore[attr-defined]
        text = await self.failure(UpstreamError, upstream.connect(DESTINATION))
        self.assertIn("ulimit", text)
        await self.clean()
