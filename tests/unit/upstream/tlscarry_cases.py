"""
C{https} from the URL to the app's bytes, on real sockets of the loopback interface.
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
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.interfaces import Connection
from nanotun.upstream.handshakes.tlscarry import AppSide, WireSide
from nanotun.upstream.proxy import ProxyUpstream
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.upstream.tls_cases import CA, TlsServer
from tests.unit.upstream.upstream_cases import ReactorCase, unmarkedContext

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


class RelayCase(ReactorCase):
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
        # The test times out unless they do.
        while any(
            isinstance(getattr(each, "protocol", None), AppSide | WireSide)
            for each in self.reactor.getReaders() + self.reactor.getWriters()
        ):
            await deferLater(self.reactor, 0.001)
        self.assertClean()

    async def wasReset(self, app: App) -> None:
        """The leg ends by a reset, and nothing else ends it before."""
        self.assertTrue(await app.lost)
        self.assertFalse(app.ended.called)
        await self.clean()
