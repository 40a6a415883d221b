"""
Tests for L{nanotun.upstream}: real sockets on the loopback interface, real
reactor, unmarked so that they need no root.
"""

from __future__ import annotations

import errno
import os
import socket
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import ITransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyClass, verifyObject

from nanotun.errors import (
    AuthenticationError,
    ConfigError,
    HandshakeError,
    ProxyError,
    UpstreamError,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamProhibited,
    UpstreamRefused,
    UpstreamTimeout,
)
from nanotun.flow import Connection, Endpoint
from nanotun.interfaces import IUpstream
from nanotun.proxyurl import parseProxyURL
from nanotun.upstream import upstreamFor
from nanotun.upstream.direct import ERRORS, DirectUpstream
from nanotun.upstream.protocol import UpstreamFactory
from nanotun.upstream.proxy import ProxyUpstream
from nanotun.upstream.resolver import SocketAddress
from nanotun.upstream.sockets import openStream
from nanotun.upstream.socks5 import Socks5Handshake
from nanotun.upstream.transport import HandshakeTransport

unmarked = partial(openStream, mark=0)
DESTINATION = Endpoint("192.0.2.1", 443)
REPLY = b"\5\0\0\1\0\0\0\0\0\0"


class Script(Protocol):
    """
    A proxy that says what it is told to.

    @ivar heard: all bytes that came.
    """

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers
        self.heard = b""
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        """Say the next."""
        self.heard += data
        assert self.transport is not None
        if not self.answers:
            return
        answer = self.answers.pop(0)
        if answer:
            self.transport.write(answer)
        else:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The end."""
        self.ended.callback(None)


class ReactorCase(TestCase):
    """
    A test with a listening socket; at its end no descriptors are left.
    """

    timeout = 5

    def setUp(self) -> None:
        """Remember the fds."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.scripts: list[Script] = []

    def listen(self, *answers: bytes) -> int:
        """Listen with a L{Script}; returns the port."""

        def build(address: object) -> Script:
            script = Script(list(answers))
            self.scripts.append(script)
            return script

        factory = Factory()
        factory.noisy = False
        factory.buildProtocol = build  # type: ignore[assignment, method-assign]
        port = self.reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return int(port.getHost().port)

    def closedPort(self) -> int:
        """A port that nobody listens on."""
        probe = socket.socket()
        probe.bind(("127.0.0.1", 0))
        self.addCleanup(probe.close)
        return int(probe.getsockname()[1])

    def proxy(self, port: int, timeout: float = 5.0, user: str = "") -> ProxyUpstream:
        """The upstream by way of the L{Script}."""
        url = parseProxyURL(f"socks5://{user}127.0.0.1:{port}")
        credentials = (b"user", b"secret") if user else None
        return ProxyUpstream(
            url,
            lambda destination: Socks5Handshake(destination, str(url), credentials),
            self.reactor,
            timeout,
            unmarked,
        )

    def assertClean(self) -> None:
        """No transport of ours is left with the reactor."""
        left = [
            each
            for each in self.reactor.getReaders() + self.reactor.getWriters()
            if isinstance(each, HandshakeTransport)
        ]
        self.assertEqual(left, [])

    async def failure(self, kind: type[UpstreamError], leg: Deferred[Connection]) -> str:
        """The text of the error that C{leg} fails with."""
        error = await self.assertFailure(leg, UpstreamError)
        self.assertEqual(type(error), kind)
        self.assertClean()
        return str(error)

    async def ended(self) -> None:
        """The proxy's side is closed too."""
        for script in self.scripts:
            await script.ended


class ProxyTests(ReactorCase):
    """
    Tests for L{ProxyUpstream}.
    """

    async def test_connects(self) -> None:
        """
        A leg is a connected, non-blocking socket that no-one else has.
        """
        port = self.listen(b"\5\0", REPLY + b"220 hello")
        upstream = self.proxy(port)
        verifyClass(IUpstream, ProxyUpstream)
        verifyObject(IUpstream, upstream)
        connection = await upstream.connect(DESTINATION)
        self.assertEqual(connection.leftover, b"220 hello")
        self.assertFalse(os.get_blocking(connection.fd))
        self.assertFalse(os.get_inheritable(connection.fd))
        self.assertClean()
        os.close(connection.fd)
        await self.ended()
        self.assertEqual(self.scripts[0].heard, b"\5\1\0" + b"\5\1\0\1\xc0\0\2\1\1\xbb")

    async def test_refused(self) -> None:
        """
        A proxy that is not there is named.
        """
        port = self.closedPort()
        text = await self.failure(ProxyError, self.proxy(port).connect(DESTINATION))
        self.assertIn(f"socks5://127.0.0.1:{port}", text)
        self.assertIn("Connection refused", text)

    async def test_says_no(self) -> None:
        """
        A refusal of the proxy's comes through.
        """
        port = self.listen(b"\5\0", b"\5\5\0\1\0\0\0\0\0\0")
        await self.failure(UpstreamRefused, self.proxy(port).connect(DESTINATION))
        await self.ended()

    async def test_closesEarly(self) -> None:
        """
        So does the end of the connection in mid-handshake.
        """
        for answers in ((b"",), (b"\5\0", b"")):
            port = self.listen(*answers)
            text = await self.failure(ProxyError, self.proxy(port).connect(DESTINATION))
            self.assertIn("closed the connection before its answer", text)
        await self.ended()

    async def test_nonsense(self) -> None:
        """
        A server of another protocol is recognised.
        """
        port = self.listen(b"HTTP/1.0 400 Bad Request\r\n")
        await self.failure(HandshakeError, self.proxy(port).connect(DESTINATION))
        await self.ended()

    async def test_wrongPassword(self) -> None:
        """
        The password stays out of the text.
        """
        port = self.listen(b"\5\2", b"\1\1")
        upstream = self.proxy(port, user="user:secret@")
        text = await self.failure(AuthenticationError, upstream.connect(DESTINATION))
        self.assertNotIn("secret", text + upstream.describe())
        self.assertIn(b"secret", self.scripts[0].heard)
        await self.ended()

    async def test_hangs(self) -> None:
        """
        A proxy that says nothing has until the deadline.
        """
        port = self.listen()
        text = await self.failure(UpstreamTimeout, self.proxy(port, 0.05).connect(DESTINATION))
        self.assertIn("did not answer within 0.05 s", text)
        self.assertIn("waiting for its answer", text)
        await self.ended()

    async def test_cancel(self) -> None:
        """
        Giving up closes the connection.
        """
        port = self.listen()
        leg = self.proxy(port).connect(DESTINATION)
        leg.cancel()
        await self.assertFailure(leg, CancelledError)
        self.assertClean()

    async def test_name(self) -> None:
        """
        The proxy may have a name.
        """
        port = self.listen(b"\5\0", REPLY)
        url = parseProxyURL(f"socks5://localhost:{port}")
        upstream = ProxyUpstream(
            url, lambda end: Socks5Handshake(end, str(url)), self.reactor, 5.0, unmarked
        )
        for _ in range(2):
            connection = await upstream.connect(DESTINATION)
            os.close(connection.fd)
        await self.ended()

    async def test_noSockets(self) -> None:
        """
        A socket that cannot be made fails the leg.
        """

        def noStream(family: int) -> socket.socket:
            raise UpstreamError("no more")

        upstream = DirectUpstream(self.reactor, 5.0, noStream)
        self.assertEqual(
            await self.failure(UpstreamError, upstream.connect(DESTINATION)), "no more"
        )


class DirectTests(ReactorCase):
    """
    Tests for L{DirectUpstream}.
    """

    async def test_connects(self) -> None:
        """
        The destination itself is dialled.
        """
        port = self.listen()
        upstream = DirectUpstream(self.reactor, 5.0, unmarked)
        verifyClass(IUpstream, DirectUpstream)
        verifyObject(IUpstream, upstream)
        connection = await upstream.connect(Endpoint("127.0.0.1", port))
        self.assertEqual(connection.leftover, b"")
        self.assertClean()
        os.close(connection.fd)
        await self.ended()

    async def test_refused(self) -> None:
        """
        Nobody listens.
        """
        upstream = DirectUpstream(self.reactor, 5.0, unmarked)
        leg = upstream.connect(Endpoint("127.0.0.1", self.closedPort()))
        self.assertIn("Connection refused", await self.failure(UpstreamRefused, leg))

    def test_errors(self) -> None:
        """
        What the kernel says is what the app will see.
        """
        upstream = DirectUpstream(Clock(), 5.0)
        for code, kind in (
            (errno.EHOSTUNREACH, UpstreamHostUnreachable),
            (errno.ENETUNREACH, UpstreamNetUnreachable),
            (errno.EACCES, UpstreamProhibited),
            (errno.ETIMEDOUT, UpstreamTimeout),
            (errno.EADDRNOTAVAIL, UpstreamError),
        ):
            address = SocketAddress(socket.AF_INET6, ("2001:db8::1", 80))
            error = upstream._notReached(code, address)
            self.assertEqual(type(error), kind)
            self.assertIn("[2001:db8::1]:80", str(error))
        self.assertEqual(ERRORS[errno.ECONNREFUSED], UpstreamRefused)


class FakeStream:
    """
    A socket that connects when the test says so.
    """

    def __init__(self, results: list[int]) -> None:
        self.results = results
        self.peer = False
        self.error = 0
        self.closed = False

    def connect_ex(self, address: object) -> int:
        """The first result."""
        return self.results.pop(0)

    def getpeername(self) -> tuple[str, int]:
        """Only once connected."""
        if not self.peer:
            raise OSError(errno.ENOTCONN, "not connected")
        return ("192.0.2.9", 1)

    def getsockopt(self, level: int, option: int) -> int:
        """SO_ERROR."""
        return self.error

    def setsockopt(self, *arguments: object) -> None:
        """Nothing."""

    def fileno(self) -> int:
        """A number."""
        return 77

    def detach(self) -> int:
        """A number."""
        return 77

    def close(self) -> None:
        """Note it."""
        self.closed = True


class FakeReactor(Clock):
    """Time, descriptors and a resolver that the test answers."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[object] = []
        self.writers: list[Any] = []
        self.addReader = self.readers.append
        self.addWriter = self.writers.append
        self.removeReader = self.readers.remove
        self.removeWriter = self.writers.remove
        self.nameResolver = self
        self.lookups: list[tuple[Any, str]] = []

    def resolveHostName(self, receiver: Any, name: str, port: int = 0) -> None:
        """Note it."""
        self.lookups.append((receiver, name))


class AddressCase(SynchronousTestCase):
    """
    Tests for lookups and for the order of the tries, without a network.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        self.reactor = FakeReactor()
        self.streams: list[FakeStream] = []
        self.families: list[int] = []
        self.upstream = DirectUpstream(self.reactor, 6.0, self.makeStream)

    def makeStream(self, family: int) -> Any:
        """A socket whose connect takes its time."""
        stream = FakeStream([errno.EINPROGRESS])
        self.families.append(family)
        self.streams.append(stream)
        return stream

    def resolve(self, *addresses: Any) -> None:
        """Answer the oldest lookup."""
        receiver, _ = self.reactor.lookups.pop(0)
        receiver.resolutionBegan(None)
        for address in addresses:
            receiver.addressResolved(address)
        receiver.resolutionComplete()

    def connected(self) -> None:
        """The oldest attempt gets its connection."""
        (transport,) = self.reactor.writers
        self.streams[-1].peer = True
        transport.doWrite()

    def refused(self, error: int) -> None:
        """The attempt under way fails."""
        (transport,) = self.reactor.writers
        self.streams[-1].error = error
        transport.doWrite()

    def assertIdle(self) -> None:
        """Nothing is left."""
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.readers + self.reactor.writers, [])


class LegTests(AddressCase):
    """
    Tests for the table of L{nanotun.upstream.connector}.
    """

    def addresses(self) -> None:
        """Answer a lookup with one address of each family."""
        from twisted.internet.address import IPv4Address, IPv6Address

        self.resolve(
            IPv6Address("TCP", "2001:db8::1", 80),
            IPv4Address("TCP", "192.0.2.1", 80),
            object(),
        )

    def test_literal(self) -> None:
        """
        An address needs no lookup.
        """
        leg = self.upstream.connect(Endpoint("192.0.2.1", 80))
        self.assertNoResult(leg)
        self.connected()
        self.assertEqual(self.successResultOf(leg), Connection(77, b""))
        self.assertIdle()

    def test_spuriousWrite(self) -> None:
        """
        A stale event of an older descriptor of the same number is no connection.
        """
        leg = self.upstream.connect(Endpoint("192.0.2.1", 80))
        self.reactor.writers[0].doWrite()
        self.assertNoResult(leg)
        leg.cancel()
        self.failureResultOf(leg, CancelledError)
        self.assertTrue(self.streams[0].closed)
        self.assertIdle()

    def test_failsAtOnce(self) -> None:
        """
        A connect may fail before it begins.
        """
        self.makeStream = lambda family: FakeStream([errno.ENETUNREACH])  # type: ignore
        upstream = DirectUpstream(self.reactor, 6.0, self.makeStream)
        leg = upstream.connect(Endpoint("192.0.2.1", 80))
        self.failureResultOf(leg, UpstreamNetUnreachable)
        self.assertIdle()

    def test_nextAddress(self) -> None:
        """
        Where one address fails the next is tried.
        """
        leg = self.upstream.connect(Endpoint("example.com", 80))
        self.addresses()
        self.refused(errno.ENETUNREACH)
        self.connected()
        self.successResultOf(leg)
        self.assertEqual(self.families, [socket.AF_INET6, socket.AF_INET])
        self.assertIdle()

    def test_lastAddress(self) -> None:
        """
        After the last one its error counts.
        """
        leg = self.upstream.connect(Endpoint("example.com", 80))
        self.addresses()
        self.refused(errno.ENETUNREACH)
        self.refused(errno.ECONNREFUSED)
        self.failureResultOf(leg, UpstreamRefused)
        self.assertIdle()

    def test_lostAddress(self) -> None:
        """
        The reactor's way to say that a connect failed is the same.
        """
        leg = self.upstream.connect(Endpoint("192.0.2.1", 80))
        self.streams[0].error = errno.EHOSTUNREACH
        self.reactor.writers[0].connectionLost(Failure(ZeroDivisionError()))
        self.failureResultOf(leg, UpstreamHostUnreachable)

    def test_blackhole(self) -> None:
        """
        An address that does not answer has its share of the time only.
        """
        leg = self.upstream.connect(Endpoint("example.com", 80))
        self.addresses()
        self.reactor.advance(3.5)
        self.reactor.advance(0)
        self.assertEqual(self.families[-1], socket.AF_INET)
        self.assertTrue(self.streams[0].closed)
        self.reactor.advance(3)
        error = self.failureResultOf(leg, UpstreamTimeout).value
        self.assertIn("within 6 s", str(error))
        self.assertIn("connecting", str(error))
        self.assertIdle()

    def test_lookupHangs(self) -> None:
        """
        The deadline covers the lookup.
        """
        leg = self.upstream.connect(Endpoint("example.com", 80))
        self.reactor.advance(6)
        error = self.failureResultOf(leg, UpstreamTimeout).value
        self.assertIn("looking up its name", str(error))
        self.addresses()
        self.assertIdle()

    def test_noAddress(self) -> None:
        """
        A name without an address fails.
        """
        leg = self.upstream.connect(Endpoint("example.com", 80))
        self.resolve()
        error = self.failureResultOf(leg, ProxyError).value
        self.assertIn("example.com", str(error))
        self.assertIdle()

    def test_cancelLookup(self) -> None:
        """
        Giving up during the lookup leaves nothing.
        """
        leg = self.upstream.connect(Endpoint("example.com", 80))
        leg.cancel()
        self.failureResultOf(leg, CancelledError)
        self.addresses()
        self.assertIdle()


class UpstreamForTests(SynchronousTestCase):
    """
    Tests for L{upstreamFor} and L{UpstreamFactory}.
    """

    def test_schemes(self) -> None:
        """
        Each scheme has its upstream, described without its password.
        """
        reactor = FakeReactor()
        direct = upstreamFor(parseProxyURL("direct://"), reactor, 5.0)
        self.assertEqual(direct.describe(), "direct://")
        proxy = upstreamFor(parseProxyURL("socks5://u:secret@h:1"), reactor, 5.0)
        self.assertNotIn("secret", proxy.describe())
        self.assertIsInstance(proxy, ProxyUpstream)
        unknown = parseProxyURL("direct://")._replace(scheme="gopher")
        self.assertRaises(ConfigError, upstreamFor, unknown, reactor, 5.0)

    def test_factory(self) -> None:
        """
        The factory makes no protocol that would not know its destination.
        """
        self.assertIsNone(UpstreamFactory("socks5://h:1").buildProtocol(None))


class TransportTests(ReactorCase):
    """
    Tests for what a handshake does not use of L{HandshakeTransport}.
    """

    def connect(self, port: int, protocol: Protocol) -> HandshakeTransport:
        """A transport to the port."""
        transport = HandshakeTransport(
            unmarked(socket.AF_INET), self.reactor, protocol, lambda: None, self.fail
        )
        transport.connect(("127.0.0.1", port))
        return transport

    async def test_longWrite(self) -> None:
        """
        What the kernel does not take at once is written later, then the
        connection is closed.
        """
        port = self.listen()
        data = b"x" * 8_000_000
        made: Deferred[None] = Deferred()
        lost: Deferred[None] = Deferred()

        class Writer(Protocol):
            def connectionMade(self) -> None:
                made.callback(None)

            def connectionLost(self, reason: Failure | None = None) -> None:
                lost.callback(None)

        transport = self.connect(port, Writer())
        verifyObject(ITransport, transport)
        await made
        self.assertEqual(transport.getPeer().port, port)  # type: ignore[attr-defined]
        self.assertEqual(transport.getHost().host, "127.0.0.1")  # type: ignore[attr-defined]
        transport.writeSequence([data, b"end"])
        transport.loseConnection()
        await lost
        await self.ended()
        self.assertEqual(len(self.scripts[0].heard), len(data) + 3)
        self.assertEqual(transport.fileno(), -1)
        # Nothing happens any more.
        transport.write(b"x")
        transport.abortConnection()
        transport.connectionLost(Failure(ZeroDivisionError()))
        self.assertClean()


class SocketTests(SynchronousTestCase):
    """
    Tests for L{openStream}.
    """

    def test_marked(self) -> None:
        """
        The mark is set, or the error says what is missing.
        """
        try:
            stream = openStream(socket.AF_INET)
        except UpstreamError as error:
            self.assertIn("run nanotun as root", str(error))
            return
        self.addCleanup(stream.close)
        self.assertEqual(stream.getsockopt(socket.SOL_SOCKET, socket.SO_MARK), 0x6E74)
        self.assertEqual(stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)

    def test_noFamily(self) -> None:
        """
        An address family that is not there is an L{UpstreamError}.
        """
        self.assertRaises(UpstreamError, openStream, 12345)
        self.assertRaises(UpstreamError, openStream, socket.AF_UNIX, 0)
