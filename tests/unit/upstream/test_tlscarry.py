"""
Tests of L{nanotun.upstream.handshakes.tlscarry}, but for what becomes of resets.
"""

from __future__ import annotations

import os
import socket

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from nanotun.errors import HandshakeError, UpstreamError
from nanotun.interfaces import Connection, Via
from nanotun.testing import FakeUpstream
from nanotun.upstream.handshakes import tlscarry
from nanotun.upstream.handshakes.tlscarry import AppSide, WireSide, carryTls
from nanotun.upstream.schemes.table import parseProxyURL
from nanotun.upstream.tlsstream import TlsStream, makeContext
from tests.unit.upstream.tls_cases import CA
from tests.unit.upstream.tlscarry_cases import Proxy, RelayCase
from tests.unit.upstream.upstream_cases import DESTINATION, unmarkedContext


class RelayTests(RelayCase):
    """Legs through a proxy with TLS."""

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

    async def test_unixSocket(self) -> None:
        """A proxy that is dialled through one at a unix socket carries as any other does."""
        via, proxy = FakeUpstream(), Proxy(False, b"220 hello")
        self.proxies.append(proxy)
        url = parseProxyURL(f"https://proxy.example?ca={CA}")
        context = unmarkedContext(self.reactor)._replace(via=Via("one", via))
        dial = url.scheme.make(url, context).connect(DESTINATION)
        with via.answer() as far:
            far.setblocking(False)
            factory = Factory.forProtocol(lambda: proxy)  # type: ignore[arg-type]
            self.reactor.adoptStreamConnection(far.fileno(), far.family, factory)
        app = self.adopt(await dial)
        await app.until(9)
        data = os.urandom(1_000_000)
        app.transport.write(data)
        app.transport.loseWriteConnection()
        await app.ended
        self.assertEqual(app.heard == b"220 hello" + data + b"!", True)
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
