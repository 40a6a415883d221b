"""
Tests for L{nanotun.gateway.streams}.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nanotun.errors import FlowLimitError
from nanotun.flow import Endpoint, Flow, Protocol, Refusal
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.gateway.streams import IDLE, QUERIES_LIMIT, DnsStreamProtocol, DnsStreams
from nanotun.interfaces import IFlowRequest
from nanotun.linux.locality import Locality
from tests.unit.gateway.gateway_cases import FIRST, A, FakeQueries, answer, ask, choiceOf, record


def framed(*messages: bytes) -> bytes:
    """Messages as a stream carries them (RFC 1035, section 4.2.2)."""
    return b"".join(struct.pack("!H", len(message)) + message for message in messages)


class Transport(StringTransport):
    """A connection in memory that notes whether it was aborted."""

    aborted = False

    def abortConnection(self) -> None:
        """Remember."""
        self.aborted = True


class StreamTests(SynchronousTestCase):
    """Tests for L{DnsStreamProtocol}."""

    def setUp(self) -> None:
        """A connection to the relay."""
        self.clock = Clock()
        self.queries = FakeQueries(FIRST)
        self.counters = Counters()
        self.relay = DnsRelay(self.clock, choiceOf(self.queries), self.counters, 10, 1_000_000)
        self.ended: list[DnsStreamProtocol] = []
        self.transport = Transport()
        self.protocol = DnsStreamProtocol(self.relay, self.clock, "h", self.ended.append)
        self.protocol.makeConnection(self.transport)

    def test_connections(self) -> None:
        """Connections of one host share its limit; equal queries on two are no repetition."""
        self.relay = DnsRelay(self.clock, choiceOf(self.queries), self.counters, 0, 0, 4, 2)
        for number in range(3):
            transport = Transport()
            protocol = DnsStreamProtocol(self.relay, self.clock, "h", self.ended.append)
            protocol.makeConnection(transport)
            protocol.dataReceived(framed(ask()))
            self.assertEqual(len(transport.value()) > 0, number == 2)
            self.addCleanup(protocol.connectionLost, Failure(ConnectionResetError()))
        self.assertEqual((self.counters.joined, self.counters.limited), (2, 1))

    def lose(self) -> None:
        """The connection ends."""
        self.protocol.connectionLost(Failure(ConnectionResetError()))

    def test_interfaces(self) -> None:
        """The protocol learns of half-closes and of a client that does not read."""
        verifyObject(IHalfCloseableProtocol, self.protocol)
        verifyObject(IPushProducer, self.protocol)
        self.assertIs(self.transport.producer, self.protocol)

    def test_outOfOrder(self) -> None:
        """Each of several queries is answered as soon as its answer is there."""
        queries = [ask(f"a{number}", ident=number) for number in range(3)]
        self.protocol.dataReceived(framed(*queries))
        for number in (2, 0, 1):
            self.queries.answer(answer(queries[number]), attempt=number)
        expected = framed(*(answer(queries[number]) for number in (2, 0, 1)))
        self.assertEqual(self.transport.value(), expected)

    def test_bytewise(self) -> None:
        """Queries are read however the stream is split."""
        for byte in framed(ask("a"), ask("b")):
            self.protocol.dataReceived(bytes((byte,)))
        self.assertEqual(len(self.queries.asked), 2)

    def test_largest(self) -> None:
        """An answer of 65,535 bytes passes whole."""
        self.protocol.dataReceived(framed(ask()))
        padding = 65535 - len(answer(ask(), [])) - 12
        large = answer(ask(), [record(A, 300, bytes(padding))])
        self.assertEqual(len(large), 65535)
        self.queries.answer(large)
        self.assertEqual(self.transport.value(), framed(large))

    def test_idle(self) -> None:
        """A connection is closed after ten seconds without a whole query or an answer."""
        self.clock.advance(IDLE - 1)
        self.protocol.dataReceived(framed(ask()))
        self.clock.advance(1)
        self.queries.answer(answer(ask()))
        self.clock.advance(IDLE - 1)
        self.protocol.dataReceived(framed(ask("b"))[:-1])
        self.assertFalse(self.transport.aborted)
        self.clock.advance(1)
        self.assertTrue(self.transport.aborted)
        self.lose()
        self.assertEqual((self.ended, self.clock.getDelayedCalls()), ([self.protocol], []))

    def test_queriesLimit(self) -> None:
        """With many queries under way the next one waits, and none is lost."""
        queries = [ask(f"a{number}", ident=number) for number in range(QUERIES_LIMIT + 3)]
        self.protocol.dataReceived(framed(*queries))
        self.assertEqual(len(self.queries.asked), QUERIES_LIMIT)
        self.assertEqual(self.transport.producerState, "paused")
        for number, query in enumerate(queries):
            self.queries.answer(answer(query), attempt=number)
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(self.transport.value(), framed(*map(answer, queries)))

    def test_queriesLimitFromCache(self) -> None:
        """Queries that are answered at once do not disturb the reading of the next ones."""
        self.protocol.dataReceived(framed(ask()))
        self.queries.answer(answer(ask()))
        self.protocol.dataReceived(framed(*[ask()] * 100))
        self.assertEqual(self.transport.value(), framed(*[answer(ask())] * 101))

    def test_doesNotRead(self) -> None:
        """Nothing is read from a client that does not read, until it does."""
        self.protocol.pauseProducing()
        self.assertEqual(self.transport.producerState, "paused")
        self.protocol.dataReceived(framed(ask()))
        self.assertEqual(self.queries.asked, [])
        self.protocol.resumeProducing()
        self.assertEqual(self.transport.producerState, "producing")
        self.assertEqual(len(self.queries.asked), 1)

    def test_halfClose(self) -> None:
        """A client that has shut down its side gets its answers, then the connection closes."""
        self.protocol.dataReceived(framed(ask("a"), ask("b")))
        self.protocol.readConnectionLost()
        self.queries.answer(answer(ask("a")), attempt=0)
        self.assertFalse(self.transport.disconnecting)
        self.queries.answer(answer(ask("b")), attempt=1)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(self.transport.value(), framed(answer(ask("a")), answer(ask("b"))))

    def test_halfCloseIdle(self) -> None:
        """Without a query under way a half-close closes the connection, on either side."""
        self.protocol.readConnectionLost()
        self.assertTrue(self.transport.disconnecting)
        self.protocol.writeConnectionLost()
        self.assertTrue(self.transport.aborted)

    def test_notAnswered(self) -> None:
        """A query that gets no answer does not count as under way."""
        self.protocol.dataReceived(framed(b"", b"short", answer(ask()), ask(), ask()))
        self.queries.answer(answer(ask()))
        self.protocol.readConnectionLost()
        self.assertTrue(self.transport.disconnecting)

    def test_lateAnswer(self) -> None:
        """An answer after the connection has ended is not written."""
        self.protocol.dataReceived(framed(ask()))
        self.lose()
        self.queries.answer(answer(ask()))
        self.assertEqual(self.transport.value(), b"")


@implementer(IFlowRequest)
class App:
    """
    An app's request for a connection.

    @param there: whether the app still waits.
    @param error: raised by L{join}, if set.
    @ivar events: what was decided, but for L{join}.
    @ivar end: the app's end of the connection, if it was joined.
    """

    def __init__(
        self, host: str = "127.0.0.1", there: bool = True, error: Exception | None = None
    ) -> None:
        gateway = Endpoint("198.18.0.1", 53)
        self.flow = Flow(1, Protocol.TCP, Endpoint(host, 40000), gateway)
        self.events: list[object] = []
        self.end: socket.socket | None = None
        self._there = there
        self._error = error

    def sniff(self) -> Deferred[str]:
        """See L{IFlowRequest.sniff}."""
        raise AssertionError("nobody asks for the name of a stream to the gateway")

    def join(self, fd: int, leftover: bytes = b"", form: Any = None, note: int = 0) -> bool:
        """See L{IFlowRequest.join}."""
        end = socket.socket(fileno=fd)
        if not self._there or self._error is not None:
            end.close()
        else:
            self.end = end
        if self._error is not None:
            raise self._error
        return self._there

    def dial(self, plan: Any, note: int = 0) -> None:
        """See L{IFlowRequest.dial}."""
        raise AssertionError("the gateway has a leg of its own")

    def undial(self) -> None:
        """See L{IFlowRequest.undial}."""

    def refuse(self, reason: Refusal) -> None:
        """See L{IFlowRequest.refuse}."""
        self.events.append(reason)

    def drop(self) -> None:
        """See L{IFlowRequest.drop}."""
        self.events.append("drop")


class StreamsTests(TestCase):
    """Tests for L{DnsStreams}, with real pairs of sockets."""

    timeout = 5

    def setUp(self) -> None:
        """At most two connections, and one of each host."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.queries = FakeQueries(FIRST)
        self.counters = Counters()
        self.relay = DnsRelay(Clock(), choiceOf(self.queries), self.counters, 10, 1_000_000)
        locality = Locality(Clock().seconds)
        self.streams = DnsStreams(self.relay, locality, reactor, limit=2, hostLimit=1)
        self.addCleanup(self.streams.stop)

    def accept(self, app: App) -> App:
        """Accept an app's request."""
        self.streams.acceptStream(app, self.fail)
        return app

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
            if not data:
                break
            got += data
        return got

    async def test_served(self) -> None:
        """An app's queries are answered through the pair, also after a half-close."""
        app = self.accept(App())
        assert app.end is not None
        app.end.send(framed(ask()))
        await self.until(lambda: self.queries.asked)
        app.end.shutdown(socket.SHUT_WR)
        large = answer(ask(), [record(A, 300, bytes(60_000))])
        self.queries.answer(large)
        self.assertEqual(await self.read(app.end, 70_000), framed(large))
        await self.until(lambda: not len(self.streams))
        app.end.close()
        self.assertEqual(self.counters.streams, 1)

    async def test_limits(self) -> None:
        """Over the limit of a host, or of all, an app is refused."""
        first = self.accept(App())
        self.assertEqual(self.accept(App()).events, [Refusal.RESET])
        second = self.accept(App("127.0.0.2"))
        self.assertEqual(self.accept(App("127.0.0.3")).events, [Refusal.RESET])
        self.assertEqual((len(self.streams), self.counters.streamsLimited), (2, 2))
        self.streams.stop()
        await self.until(lambda: not len(self.streams))
        for app in (first, second):
            assert app.end is not None
            self.assertEqual(await self.read(app.end, 1), b"")
            app.end.close()

    def test_outside(self) -> None:
        """A connection from another host is dropped."""
        self.assertEqual(self.accept(App("192.0.2.66")).events, ["drop"])
        self.assertEqual(self.counters.outside, 1)

    def test_noDescriptor(self) -> None:
        """A lack of file descriptors, or of room for flows, is logged once for each cause."""

        def full(*arguments: Any) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        with capturedLogs() as seen:
            for _ in range(5):
                self.accept(App(error=FlowLimitError(1)))
            self.patch(socket, "socketpair", full)
            for _ in range(5):
                self.assertEqual(self.accept(App()).events, [Refusal.RESET])
        lines = [formatEvent(event) for event in seen]
        self.assertEqual(len(lines), 2)
        self.assertEqual(
            lines[1], "A DNS connection cannot be served: [Errno 24] Too many open files"
        )

    def test_gone(self) -> None:
        """An app that has left, or a flow over the limit, leaves nothing behind."""
        for app in (App(there=False), App(error=FlowLimitError(1)), App(error=OSError("no"))):
            self.accept(app)
        self.assertEqual((len(self.streams), self.counters.streams), (0, 0))
