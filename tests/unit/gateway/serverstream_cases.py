"""
Shared by the tests of L{nanotun.gateway.dns.tcp} and L{nanotun.gateway.dns.serverconnection}: a
real server and a stream to it.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ServerFactory
from twisted.internet.task import Clock, deferLater
from twisted.protocols.basic import Int16StringReceiver
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from nanotun.errors import UpstreamError
from nanotun.gateway.dns.backoff import Backoff
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.framedtalk import FramedTalk
from nanotun.gateway.dns.serverconnection import IDLE, StreamQuery
from nanotun.gateway.dns.tcp import ServerStream
from nanotun.interfaces import Connection
from tests.unit.gateway.gateway_cases import answer, ask, read


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
        self.adoptStreamConnection = reactor.adoptStreamConnection
        self.callLater = clock.callLater
        self.seconds = clock.seconds


class StreamCase(TestCase):
    """A L{ServerStream} to a real server."""

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
        self.legs: list[Deferred[Connection]] = []
        self.dials = 0
        self.troubles: list[str] = []
        self.open: Any = self.connect
        self.makeTalk: Any = FramedTalk
        self.stream = self.make()
        self.addCleanup(self.settle)

    def connect(self) -> Deferred[Connection]:
        """A leg that is ready at once."""
        made = socket.create_connection(("127.0.0.1", self.port.getHost().port))
        made.setblocking(False)
        return succeed(Connection(made.detach(), b""))

    def later(self) -> Deferred[Connection]:
        """A leg that the test opens."""
        self.legs.append(Deferred())
        return self.legs[-1]

    def make(
        self, delay: Callable[[int], float] = lambda failures: 0.0, idle: float = IDLE
    ) -> ServerStream:
        """
        A stream whose ids count from 0, each offered twice.

        @param delay: see L{Backoff}.
        """
        idents = itertools.count()

        def opened() -> Deferred[Connection]:
            self.dials += 1
            made: Deferred[Connection] = self.open()
            return made

        def troubled(error: UpstreamError) -> UpstreamError:
            self.troubles.append(str(error))
            return UpstreamError(f"Trouble: {error}")

        def complain(trouble: str) -> OSError:
            self.troubles.append(trouble)
            return OSError(trouble)

        return ServerStream(
            opened,
            lambda: self.makeTalk(lambda: (next(idents) // 2).to_bytes(2, "big")),
            ReactorWithClock(self.reactor, self.clock),
            self.counters,
            troubled,
            complain,
            Backoff(delay),
            idle,
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
        """Let the reactor turn until a condition holds; the clock's turns come with it."""
        while not condition():
            self.clock.advance(0)
            await deferLater(self.reactor, 0)

    def ask(self, number: int) -> StreamQuery:
        """Ask for the name with a number; note the number at its failure or answer."""

        def answered(message: bytes, age: int) -> None:
            self.heard.append((number, message[2:]))

        wire = ask(f"a{number}")
        return self.stream.ask(wire, read(wire), answered, partial(self.heard.append, number))

    async def answer(self, number: int, server: int = 0) -> None:
        """Have a server answer its query with a number, and wait for that."""
        query = (await self.queries(number + 1, server))[number]
        count = len(self.heard)
        self.servers[server].sendString(answer(query))
        await self.until(lambda: len(self.heard) > count)

    async def queries(self, count: int, server: int = 0) -> list[bytes]:
        """Wait for so many queries on a connection; return all that it has had."""
        await self.until(lambda: len(self.servers) > server)
        await self.until(lambda: len(self.servers[server].heard) >= count)
        return self.servers[server].heard
