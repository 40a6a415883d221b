"""
Tests for L{nanotun.gateway.passing}, and for the way there from L{nanotun.gateway.streams}.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import TestCase

from nanotun.errors import UpstreamRefused
from nanotun.flow import Endpoint, Flow, Protocol, Refusal
from nanotun.gateway import streams
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.gateway.passing import QUIET
from nanotun.gateway.streams import IDLE, DnsStreams
from nanotun.interfaces import Connection
from nanotun.linux.delivery import LOOK, PATIENCE
from nanotun.linux.locality import Locality
from tests.unit.gateway.gateway_cases import FIRST, FakeQueries, answer, ask, choiceOf, rcode

AXFR = 252
UPDATE = ask("corp.example", flags=0x2800)


def unacknowledged(sock: socket.socket) -> int:
    """How many bytes the other kernel has not acknowledged."""
    (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(count)


def framed(*messages: bytes) -> bytes:
    """Messages as a stream carries them (RFC 1035, section 4.2.2)."""
    return b"".join(struct.pack("!H", len(message)) + message for message in messages)


class Reactor:
    """The real reactor, with a clock that the test moves."""

    def __init__(self, reactor: Any, clock: Clock) -> None:
        self.adoptStreamConnection = reactor.adoptStreamConnection
        self.callLater = clock.callLater
        self.seconds = clock.seconds


class Request:
    """
    An app's request for a connection.

    @ivar app: the app's end, if it was joined.
    @ivar refused: whether it was refused.
    """

    app: socket.socket

    def __init__(self) -> None:
        self.flow = Flow(1, Protocol.TCP, Endpoint("127.0.0.1", 40000), Endpoint("198.18.0.1", 53))
        self.refused = False

    def join(self, fd: int, note: int) -> bool:
        """Keep the engine's end as the app's."""
        self.app = socket.socket(fileno=fd)
        return True

    def refuse(self, reason: Refusal) -> None:
        """Remember."""
        self.refused = True


class PassingTests(TestCase):
    """An app's connection to the relay, and the server that it was meant for."""

    timeout = 20

    def setUp(self) -> None:
        """Connect the app."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.clock = Clock()
        self.counters = Counters()
        self.queries = FakeQueries(FIRST)
        relay = DnsRelay(self.clock, choiceOf(self.queries), self.counters, 10, 1_000_000)
        self.way: Deferred[Connection] | None = None
        self.opened: list[Flow] = []
        locality = Locality(self.clock.seconds)
        with_clock: Any = Reactor(reactor, self.clock)
        self.streams = DnsStreams(relay, locality, with_clock, self.originalOf, limit=1)
        self.connect()
        self.addCleanup(self.end)

    def connect(self) -> None:
        """Connect the app, and make a server for it."""
        request: Any = Request()
        self.streams.acceptStream(request, self.openOnward)
        self.app = request.app
        server, self.server = socket.socketpair()
        server.setblocking(False)
        self.server.setblocking(False)
        self.connection = Connection(server.detach(), b"")

    def originalOf(self, flow: Flow) -> Flow | None:
        """See L{DnsStreams}."""
        self.opened.append(flow)
        return None if self.way is None else flow

    def openOnward(self, flow: Flow) -> Deferred[Connection]:
        """See L{nanotun.interfaces.IGateway.acceptStream}."""
        assert self.way is not None
        return self.way

    async def end(self) -> None:
        """Close everything."""
        self.app.close()
        self.server.close()
        self.streams.stop()
        await self.until(lambda: not len(self.streams))
        if not self.counters.passed:
            socket.socket(fileno=self.connection.fd).close()
        for _ in range(3):
            await deferLater(self.reactor, 0)

    async def until(self, condition: Any) -> None:
        """Let the reactor turn until a condition holds."""
        while not condition():
            await deferLater(self.reactor, 0)

    async def read(self, end: socket.socket, size: int) -> bytes:
        """Read C{size} bytes, or to the end."""
        got = b""
        while len(got) < size:
            try:
                data = end.recv(size - len(got))
            except BlockingIOError:
                await deferLater(self.reactor, 0)
                continue
            except ConnectionResetError:
                break
            if not data:
                break
            got += data
        return got

    async def test_passed(self) -> None:
        """
        A transfer goes on to the server, with all that follows, and the server's bytes to the
        app; after a half-close too.
        """
        self.way = succeed(self.connection._replace(leftover=b"first "))
        for byte in framed(ask(kind=AXFR)):
            self.app.send(bytes((byte,)))
        self.app.send(framed(ask("more")))
        expected = framed(ask(kind=AXFR), ask("more"))
        self.assertEqual(await self.read(self.server, len(expected)), expected)
        self.app.shutdown(socket.SHUT_WR)
        self.assertEqual(await self.read(self.server, 1), b"")
        self.server.send(b"zone")
        self.assertEqual(await self.read(self.app, 10), b"first zone")
        self.server.shutdown(socket.SHUT_WR)
        self.assertEqual(await self.read(self.app, 1), b"")
        await self.until(lambda: not len(self.streams))
        self.assertEqual((self.counters.passed, self.counters.queries), (1, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_answersFirst(self) -> None:
        """Queries before are answered by the relay first, and nothing is opened until then."""
        self.way = succeed(self.connection)
        self.app.send(framed(ask("before"), UPDATE))
        await self.until(lambda: self.queries.asked)
        for _ in range(5):
            await deferLater(self.reactor, 0)
        self.assertEqual(self.opened, [])
        self.queries.answer(answer(ask("before")))
        expected = framed(answer(ask("before")))
        self.assertEqual(await self.read(self.app, len(expected)), expected)
        self.assertEqual(await self.read(self.server, len(framed(UPDATE))), framed(UPDATE))

    async def test_halfClosedBefore(self) -> None:
        """An app that has shut down its side before it is passed on gets its zone."""
        way: Deferred[Connection] = Deferred()
        self.way = way
        self.app.send(framed(ask(kind=AXFR)))
        self.app.shutdown(socket.SHUT_WR)
        await self.until(lambda: self.opened)
        way.callback(self.connection)
        expected = framed(ask(kind=AXFR))
        self.assertEqual(await self.read(self.server, len(expected) + 1), expected)
        self.server.send(b"zone")
        self.server.close()
        self.assertEqual(await self.read(self.app, 5), b"zone")

    async def test_short(self) -> None:
        """What ends before it could be a query's header is passed on, after what came before."""
        self.way = succeed(self.connection)
        self.app.send(framed(ask()) + b"finger\r\n")
        self.app.shutdown(socket.SHUT_WR)
        await self.until(lambda: self.queries.asked)
        self.assertEqual(self.opened, [])
        self.queries.answer(answer(ask()))
        self.assertEqual(await self.read(self.server, 9), b"finger\r\n")
        self.assertEqual(self.counters.queries, 1)

    async def test_cutOff(self) -> None:
        """A query that ends in its name goes nowhere."""
        self.way = succeed(self.connection)
        self.app.send(framed(ask())[:20])
        self.app.shutdown(socket.SHUT_WR)
        self.assertEqual(await self.read(self.app, 1), b"")
        self.assertEqual(self.opened, [])

    async def test_slow(self) -> None:
        """A side that does not read has the other wait, and loses nothing."""
        self.way = succeed(self.connection)
        self.app.send(b"SSH-2.0-OpenSSH_9.2p1")
        await self.read(self.server, 21)
        sent = 0
        chunk = bytes(65536)
        for _ in range(1000):
            try:
                sent += self.server.send(chunk)
            except BlockingIOError:
                await deferLater(self.reactor, 0)
        self.assertLess(sent, 4_000_000)
        self.server.shutdown(socket.SHUT_WR)
        self.assertEqual(len(await self.read(self.app, sent + 1)), sent)

    async def test_lost(self) -> None:
        """The server's end takes the app's with it, and the app's the server's."""
        self.way = succeed(self.connection)
        self.app.send(framed(UPDATE))
        await self.read(self.server, len(framed(UPDATE)))
        self.app.close()
        self.assertEqual(await self.read(self.server, 1), b"")
        self.server.close()
        await self.until(lambda: not len(self.streams))

    async def test_quiet(self) -> None:
        """Without a byte for a minute both ends are closed."""
        self.way = succeed(self.connection)
        self.app.send(framed(UPDATE))
        await self.read(self.server, len(framed(UPDATE)))
        self.clock.advance(QUIET - 1)
        self.server.send(b"x")
        await self.read(self.app, 1)
        self.clock.advance(QUIET - 1)
        self.assertEqual(len(self.streams), 1)
        self.clock.advance(1)
        self.assertEqual(await self.read(self.server, 1), b"")
        self.assertEqual(await self.read(self.app, 1), b"")
        await self.until(lambda: not len(self.streams))

    async def test_unread(self) -> None:
        """
        Where both have shut down their sides and the server reads nothing, it is given a minute,
        and the connection counts until then.
        """
        own = socket.socket(fileno=self.connection.fd)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self.way = succeed(self.connection._replace(fd=own.detach()))
        sent = framed(UPDATE) + bytes(40_000)
        self.app.sendall(sent)
        self.app.shutdown(socket.SHUT_WR)
        self.server.shutdown(socket.SHUT_WR)
        self.assertEqual(await self.read(self.app, 1), b"")
        for _ in range(5):
            await deferLater(self.reactor, 0)
        self.assertEqual(len(self.streams), 1)
        self.clock.advance(QUIET)
        await self.until(lambda: not len(self.streams))
        self.assertLess(len(await self.read(self.server, len(sent))), len(sent))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def fromTCP(self, size: int) -> bytes:
        """Have a server that can reset, whose bytes are all underway to an app that waits."""
        socket.socket(fileno=self.connection.fd).close()
        self.server.close()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            own = socket.socket()
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            own.connect(listener.getsockname())
            self.server, _ = listener.accept()
        self.server.setblocking(False)
        own.setblocking(False)
        self.connection = Connection(own.detach(), b"")
        self.way = succeed(self.connection)
        self.app.send(framed(UPDATE))
        await self.read(self.server, len(framed(UPDATE)))
        sent = os.urandom(size)
        left = memoryview(sent)
        while left:
            try:
                left = left[self.server.send(left) :]
            except BlockingIOError:
                await deferLater(self.reactor, 0)
        while unacknowledged(self.server):
            await deferLater(self.reactor, 0.001)
        for _ in range(5):
            await deferLater(self.reactor, 0)
        return sent

    async def reset(self) -> None:
        """Reset the server's connection."""
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.close()
        for _ in range(5):
            await deferLater(self.reactor, 0.001)

    async def test_serverResets(self) -> None:
        """An app that reads slowly, and maybe sends more, gets all that came before a reset."""
        for size, more in ((270_000, b""), (400_000, b"more")):
            sent = await self.fromTCP(size)
            await self.reset()
            if more:
                self.app.send(more)
            got = b""
            while len(self.streams) or not got.endswith(sent[-10:]):
                await deferLater(self.reactor, 0)
                self.clock.pump([LOOK] * 50)
                try:
                    got += self.app.recv(20_000)
                except BlockingIOError:
                    pass
                except ConnectionResetError:
                    break
            self.assertEqual((len(got), got == sent), (size, True))
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.app.close()
            self.connect()

    async def test_takesNothing(self) -> None:
        """An app that takes nothing is not waited for long after the server's reset."""
        await self.fromTCP(400_000)
        await self.reset()
        self.app.send(b"more")
        for _ in range(5):
            await deferLater(self.reactor, 0.001)
        self.clock.pump([LOOK] * round(PATIENCE / LOOK + 1))
        await self.until(lambda: not len(self.streams))
        self.assertLess(len(await self.read(self.app, 400_000)), 400_000)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def test_passedLimit(self) -> None:
        """Of the connections, some are left to queries."""
        self.patch(streams, "PASSED_LIMIT", 0)
        self.way = succeed(self.connection)
        with capturedLogs() as seen:
            self.app.send(framed(UPDATE))
            self.assertEqual(await self.read(self.app, 1), b"")
        self.assertIn("0 others are passed on already.", formatEvent(seen[0]))
        self.assertEqual((self.opened, self.counters.streamsLimited), ([], 1))

    async def test_stopped(self) -> None:
        """The relay's stop ends both sides."""
        self.way = succeed(self.connection)
        self.app.send(framed(UPDATE))
        await self.read(self.server, len(framed(UPDATE)))
        self.streams.stop()
        self.assertEqual(await self.read(self.server, 1), b"")
        self.assertEqual(await self.read(self.app, 1), b"")

    async def test_forTheRelay(self) -> None:
        """What was meant for the relay itself is refused by it, and the connection goes on."""
        self.app.send(framed(UPDATE, ask(kind=AXFR), ask()))
        await self.until(lambda: self.queries.asked)
        self.queries.answer(answer(ask()))
        got = [
            await self.read(self.app, struct.unpack("!H", await self.read(self.app, 2))[0])
            for _ in range(3)
        ]
        self.assertEqual([rcode(message) for message in got], [4, 5, 0])
        self.assertEqual(len(self.opened), 1)
        self.clock.advance(IDLE)
        await self.until(lambda: not len(self.streams))

    async def test_notOpened(self) -> None:
        """If no connection can be opened, the app's ends, and the log says why."""
        self.way = fail(UpstreamRefused("192.168.50.1:53 refuses it."))
        with capturedLogs() as seen:
            self.app.send(framed(ask(kind=AXFR)))
            self.assertEqual(await self.read(self.app, 1), b"")
        self.assertIn("192.168.50.1:53 refuses it.", formatEvent(seen[0]))

    async def test_goneMeanwhile(self) -> None:
        """An app that leaves while the connection is opened has that given up."""
        given: list[object] = []
        way: Deferred[Connection] = Deferred(given.append)
        self.way = way
        self.app.send(framed(ask(kind=AXFR)))
        await self.until(lambda: self.opened)
        self.streams.stop()
        await self.until(lambda: given)
        self.assertEqual(len(self.streams), 0)
        way.addErrback(lambda reason: reason.trap(CancelledError))

    async def test_limit(self) -> None:
        """A connection that is passed on counts until its end."""
        self.way = succeed(self.connection)
        self.app.send(framed(UPDATE))
        await self.read(self.server, len(framed(UPDATE)))
        other: Any = Request()
        self.streams.acceptStream(other, self.openOnward)
        self.assertTrue(other.refused)
