"""
Tests for L{nanotun.gateway.dns.tcp} and L{nanotun.gateway.dns.connecting}, with a real server.
"""

from __future__ import annotations

import itertools
import socket
from functools import partial
from typing import Any

from twisted.internet.interfaces import IWriteDescriptor
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import Clock, deferLater
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from nanotun.errors import UnexpectedEvent
from nanotun.flow import Endpoint
from nanotun.gateway.dns.connecting import ConnectWaiter
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.tcp import IDLE, ServerStream, StreamQuery
from tests.unit.gateway.gateway_cases import A, FakeReactor, answer, ask, makeStream, read, record


class Server(Int16StringReceiver):
    """
    A server that the test answers for.

    @ivar heard: the queries.
    """

    MAX_LENGTH = 65535

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.lost = False

    def stringReceived(self, string: bytes) -> None:
        """Remember."""
        self.heard.append(string)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Remember."""
        self.lost = True


class ReactorWithClock:
    """The real reactor with a clock that the test moves."""

    def __init__(self, reactor: Any, clock: Clock) -> None:
        self.addWriter = reactor.addWriter
        self.removeWriter = reactor.removeWriter
        self.adoptStreamConnection = reactor.adoptStreamConnection
        self.callLater = clock.callLater


class PipelineTests(TestCase):
    """Tests for L{ServerStream}."""

    timeout = 5

    def setUp(self) -> None:
        """A server that listens, and a stream to it."""
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.clock = Clock()
        self.servers: list[Server] = []
        self.heard: list[object] = []
        self.counters = Counters()
        port: Any = self.reactor.listenTCP(0, self.factory(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port
        self.stream = self.make(port.getHost().port)
        self.addCleanup(self.settle)

    def make(self, port: int) -> ServerStream:
        """A stream whose ids count from 0, each offered twice."""
        idents = itertools.count()
        return ServerStream(
            makeStream,
            lambda: (next(idents) // 2).to_bytes(2, "big"),
            ReactorWithClock(self.reactor, self.clock),
            self.counters,
            Endpoint("127.0.0.1", port),
        )

    def factory(self) -> ServerFactory:
        """Makes servers and remembers them."""

        class Remember(ServerFactory):
            noisy = False

            def buildProtocol(inner, addr: object) -> Server:
                self.servers.append(Server())
                return self.servers[-1]

        return Remember()

    async def settle(self) -> None:
        """After stop no connection is open, and no delayed call is left."""
        self.stream.stop()
        await self.until(lambda: all(server.lost for server in self.servers))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    async def until(self, condition: Any) -> None:
        """Let the reactor turn until a condition holds."""
        while not condition():
            await deferLater(self.reactor, 0)

    def ask(self, number: int) -> StreamQuery:
        """Ask for the name with a number; note the number at its failure or answer."""

        def answered(message: bytes) -> None:
            self.heard.append((number, message[2:]))

        wire = ask(f"a{number}")
        return self.stream.ask(wire, read(wire), answered, partial(self.heard.append, number))

    async def queries(self, count: int, server: int = 0) -> list[bytes]:
        """Wait for so many queries on a connection; return all that it has had."""
        await self.until(lambda: len(self.servers) > server)
        await self.until(lambda: len(self.servers[server].heard) >= count)
        return self.servers[server].heard

    async def test_pipelined(self) -> None:
        """Queries share a connection, with ids of their own; answers come in any order."""
        for number in range(3):
            self.ask(number)
        heard = await self.queries(3)
        self.assertEqual(len({query[:2] for query in heard}), 3)
        for number in (2, 0, 1):
            self.servers[0].sendString(answer(heard[number]))
        await self.until(lambda: len(self.heard) == 3)
        expected = [(number, answer(ask(f"a{number}"))[2:]) for number in (2, 0, 1)]
        self.assertEqual(self.heard, expected)
        self.ask(3)
        await self.queries(4)
        self.assertEqual(len(self.servers), 1)

    async def test_largest(self) -> None:
        """An answer of 65,535 bytes arrives whole."""
        self.ask(0)
        (query,) = await self.queries(1)
        padding = 65535 - len(answer(query, [])) - 12
        large = answer(query, [record(A, 300, bytes(padding))])
        self.assertEqual(len(large), 65535)
        self.servers[0].sendString(large)
        await self.until(lambda: self.heard)
        self.assertEqual(self.heard, [(0, large[2:])])

    async def test_wrong(self) -> None:
        """Messages that answer no query are ignored, and so is the answer to a cancelled query."""
        given = self.ask(0)
        self.ask(1)
        first, second = await self.queries(2)
        given.cancel()
        given.cancel()
        for wrong in (b"", first, answer(first), second[:2] + answer(first)[2:]):
            self.servers[0].sendString(wrong)
        self.servers[0].sendString(answer(second))
        await self.until(lambda: self.heard)
        self.assertEqual(self.heard, [(1, answer(ask("a1"))[2:])])
        self.assertEqual(self.counters.ignored, 4)

    async def test_keptAndClosed(self) -> None:
        """If a connection that has worked is closed, its query is sent again, once."""
        self.ask(0)
        (query,) = await self.queries(1)
        self.servers[0].sendString(answer(query))
        await self.until(lambda: self.heard)
        self.ask(1)
        await self.queries(2)
        self.servers[0].transport.loseConnection()  # type: ignore[union-attr]
        await self.queries(1, server=1)
        self.assertEqual(len(self.heard), 1)
        self.servers[1].transport.loseConnection()  # type: ignore[union-attr]
        await self.until(lambda: len(self.heard) == 2)
        self.assertEqual(self.heard[1:], [1])

    async def test_freshAndClosed(self) -> None:
        """If a fresh connection is closed, its query has failed."""
        self.ask(0)
        await self.queries(1)
        self.servers[0].transport.abortConnection()  # type: ignore[union-attr]
        await self.until(lambda: self.heard)
        self.assertEqual((self.heard, len(self.servers)), ([0], 1))

    async def test_manyAndClosed(self) -> None:
        """However many queries are under way when a connection ends, each is handled once."""
        count = 500
        self.ask(count)
        (query,) = await self.queries(1)
        self.servers[0].sendString(answer(query))
        await self.until(lambda: self.heard)
        for number in range(count):
            self.ask(number).retried = bool(number % 2)
        await self.queries(count + 1)
        compared = 0

        def isSame(one: object, other: object) -> bool:
            nonlocal compared
            compared += 1
            return one is other

        self.patch(StreamQuery, "__eq__", isSame)
        self.servers[0].transport.loseConnection()  # type: ignore[union-attr]
        await self.queries(count // 2, server=1)
        self.assertEqual(self.heard[1:], list(range(1, count, 2)))
        self.assertLess(compared, count)

    async def test_idle(self) -> None:
        """An idle connection is closed, and the next query opens another."""
        self.ask(0)
        (query,) = await self.queries(1)
        self.clock.advance(IDLE - 1)
        self.servers[0].sendString(answer(query))
        await self.until(lambda: self.heard)
        self.clock.advance(IDLE - 1)
        self.assertFalse(self.servers[0].lost)
        self.clock.advance(1)
        await self.until(lambda: self.servers[0].lost)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.ask(1)
        await self.queries(1, server=1)

    async def test_silent(self) -> None:
        """A connection without answers is closed, however many queries are sent on it."""
        self.ask(0)
        await self.queries(1)
        self.clock.advance(IDLE / 2)
        self.ask(1)
        self.clock.advance(IDLE / 2)
        await self.until(lambda: self.servers[0].lost)
        self.assertEqual(self.heard, [0, 1])

    async def test_refused(self) -> None:
        """A query to a server that does not listen fails."""
        await self.port.stopListening()
        self.ask(0)
        await self.until(lambda: self.heard)
        self.assertEqual(self.heard, [0])

    async def test_stop(self) -> None:
        """After stop, a connection that was being made is reported to nobody."""
        self.ask(0)
        self.stream.stop()
        await deferLater(self.reactor, 0)
        self.assertEqual(self.heard, [])

    def test_noWay(self) -> None:
        """A query to an address without a route raises, every time."""
        stream = ServerStream(
            makeStream, bytes, FakeReactor(), self.counters, Endpoint("255.255.255.255", 53)
        )
        for _ in range(2):
            self.assertRaises(OSError, stream.ask, ask(), read(ask()), self.heard.append, self.fail)
        self.assertEqual(self.heard, [])

    def test_unexpected(self) -> None:
        """An event that the state of the connection does not allow names both."""
        error = self.assertRaises(UnexpectedEvent, self.stream._ended, None)
        self.assertIn("unexpected event ended in the state closed", str(error))


class ConnectWaiterTests(SynchronousTestCase):
    """Tests for L{ConnectWaiter}."""

    def setUp(self) -> None:
        """A socket that is not connected yet."""
        self.reactor = FakeReactor()
        self.done: list[socket.socket | None] = []
        self.socket = makeStream(socket.AF_INET)
        self.waiter = ConnectWaiter(self.socket, self.reactor, self.done.append)
        self.addCleanup(self.socket.close)

    def test_connected(self) -> None:
        """The connected socket is handed over, and the waiter lets go of it."""
        verifyObject(IWriteDescriptor, self.waiter)
        self.waiter.doWrite()
        self.assertEqual(self.done, [self.socket])
        self.assertEqual((self.reactor.writers, self.waiter.fileno()), (set(), -1))

    def test_lost(self) -> None:
        """If the reactor removes the waiter, that is reported once, and the socket closed."""
        for _ in range(2):
            self.waiter.connectionLost(Failure(ConnectionRefusedError()))
        self.assertEqual((self.done, self.socket.fileno()), ([None], -1))

    def test_cancel(self) -> None:
        """A cancelled waiter closes its socket and reports nothing."""
        self.waiter.cancel()
        self.waiter.cancel()
        self.assertEqual((self.done, self.socket.fileno()), ([], -1))
