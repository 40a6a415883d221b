"""
Tests for L{nanotun.gateway}: the parts together, between a fake engine and a server
on the loopback interface.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import GATEWAY4
from nanotun.errors import EngineError
from nanotun.flow import Datagram, Endpoint, Protocol
from nanotun.gateway import NameOptions, makeGateway
from nanotun.gateway.dns.exchange import ATTEMPT_TIMEOUT, ATTEMPTS
from tests.unit.gateway.gateway_cases import (
    FakeEngine,
    FakeReactor,
    answer,
    ask,
    edns,
    makeDatagram,
    makeStream,
)

APP = Endpoint("127.0.0.1", 40000)
GATEWAY = Endpoint(GATEWAY4, 53)


class GatewayTests(SynchronousTestCase):
    """Tests for what L{makeGateway} makes."""

    def setUp(self) -> None:
        """A gateway that runs."""
        self.reactor = FakeReactor()
        self.engine = FakeEngine()
        self.server = makeDatagram(socket.AF_INET)
        self.server.bind(("127.0.0.1", 0))
        self.addCleanup(self.server.close)
        servers = [Endpoint(*self.server.getsockname())]
        engine: Any = self.engine
        self.gateway = makeGateway(self.reactor, engine, servers, 100, makeDatagram, makeStream)
        self.gateway.start()
        self.addCleanup(self.gateway.stop)

    def app(self, *wires: bytes) -> None:
        """An app asks, with one batch."""
        self.engine.receiver([Datagram(APP, GATEWAY, wire) for wire in wires])

    def serve(self, message: bytes | None = None) -> bytes:
        """The server answers the next query."""
        wire, address = self.server.recvfrom(65535)
        self.server.sendto(answer(wire) if message is None else wire[:2] + message[2:], address)
        return wire

    def test_start(self) -> None:
        """It listens for datagrams and connections on port 53."""
        listening = [(Protocol.UDP, 53), (Protocol.TCP, 53)]
        self.assertEqual(self.engine.listening, listening)

    def test_reconfigure(self) -> None:
        """
        Other servers are asked from now on, and nothing is remembered; who waits for one
        of before gets its answer.
        """
        self.app(ask("a"))
        self.serve()
        self.reactor.turn()
        self.app(ask("waits", ident=2))
        other = makeDatagram(socket.AF_INET)
        other.bind(("127.0.0.1", 0))
        self.addCleanup(other.close)
        for _ in range(3):
            self.gateway.reconfigure([Endpoint(*other.getsockname())], 1)
        self.assertEqual(self.gateway.stats().cached, 0)
        self.serve()
        self.reactor.turn()
        self.app(ask("a", ident=3))
        wire, address = other.recvfrom(65535)
        other.sendto(answer(wire), address)
        self.reactor.turn()
        self.assertEqual(
            [datagram.payload[1] for batch in self.engine.sent for datagram in batch], [1, 2, 3]
        )
        self.assertEqual(self.gateway.stats().cached, 1)

    def test_noPort(self) -> None:
        """A start that fails leaves nothing behind: its stop is not called then."""
        self.gateway.stop()
        engine: Any = self.engine
        server = Endpoint("127.0.0.1", 53)
        gateway = makeGateway(
            self.reactor, engine, [server], 0, makeDatagram, makeStream, NameOptions(faked=True)
        )
        self.patch(self.engine, "listen", self.refuse)
        self.assertRaises(EngineError, gateway.start)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def refuse(self, protocol: Protocol, port: int) -> None:
        """The engine listens to nobody."""
        raise EngineError("no port")

    def test_isLocal(self) -> None:
        """It tells whom it answers."""
        self.assertTrue(self.gateway.isLocal("127.0.0.1"))
        self.assertFalse(self.gateway.isLocal("192.0.2.1"))

    def test_query(self) -> None:
        """A query goes to the server and its answer to the app; then the cache knows."""
        self.app(ask(ident=7))
        self.serve()
        self.reactor.turn()
        self.app(ask(ident=8), ask(ident=9))
        sent = [[datagram.payload for datagram in batch] for batch in self.engine.sent]
        self.assertEqual(sent[0], [answer(ask(ident=7))])
        self.assertEqual(sent[1], [answer(ask(ident=ident)) for ident in (8, 9)])
        stats = self.gateway.stats()
        self.assertEqual((stats.queries, stats.hits, stats.upstream), (3, 2, 1))
        self.assertEqual((stats.cached, stats.inFlight, stats.openStreams), (1, 0, 0))

    def test_clearCache(self) -> None:
        """After a reload the server is asked again."""
        self.app(ask())
        self.serve()
        self.reactor.turn()
        self.gateway.clearCache()
        self.app(ask())
        self.assertEqual(self.serve()[2:], ask()[2:])

    def test_stop(self) -> None:
        """After the stop no socket, call or reader is left, and nothing is sent."""
        self.app(ask())
        self.gateway.stop()
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), (set(), []))
        self.app(ask())
        self.assertEqual(self.engine.sent, [])

    def test_hostile(self) -> None:
        """
        10,000 mutated queries and as many mutated answers: no exception, no hang, and
        afterwards a good one is served.
        """
        chance = random.Random(3)
        seeds = [ask(), ask(extension=edns(4096)), ask("a.b.c.d.e.f", 65)]

        def mutate(wire: bytes, first: int) -> bytes:
            mutated = bytearray(wire)
            for _ in range(chance.randrange(1, 5)):
                mutated[chance.randrange(first, len(mutated))] = chance.randrange(256)
            end = chance.choice((len(mutated), chance.randrange(len(mutated))))
            return bytes(mutated[:end])

        def received() -> Iterator[tuple[bytes, tuple[str, int]]]:
            try:
                while True:
                    yield self.server.recvfrom(65535)
            except BlockingIOError:
                pass

        for _ in range(200):
            self.app(*(mutate(chance.choice(seeds), 2) for _ in range(50)))
            for wire, address in received():
                if len(wire) > 18:
                    self.server.sendto(mutate(answer(seeds[0]), 2), address)
                    self.server.sendto(wire[:2] + mutate(b"\x81\x80" + wire[4:], 10), address)
            self.reactor.turn()
            self.reactor.pump([ATTEMPT_TIMEOUT] * ATTEMPTS)
        self.assertEqual(self.gateway.stats().inFlight, 0)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertGreater(len(list(received())), 0)
        self.app(ask("good.example"))
        wire = self.serve()
        self.reactor.turn()
        self.assertEqual(self.engine.sent[-1][0].payload[2:], answer(wire)[2:])

    def remake(self, options: NameOptions) -> None:
        """Another gateway, by the same server."""
        self.gateway.stop()
        servers = [Endpoint(*self.server.getsockname())]
        engine: Any = self.engine
        self.gateway = makeGateway(
            self.reactor, engine, servers, 100, makeDatagram, makeStream, options
        )
        self.gateway.start()
        self.addCleanup(self.gateway.stop)

    def test_noted(self) -> None:
        """The names of the answers are known where they are wanted, and only there."""
        for noted, name in ((False, None), (True, "www.example.com")):
            self.remake(NameOptions(noted=noted))
            self.app(ask())
            self.serve()
            self.reactor.turn()
            self.assertEqual(self.gateway.names.nameOf("192.0.2.1"), name)
        self.gateway.clearCache()
        self.assertIsNone(self.gateway.names.nameOf("192.0.2.1"))

    def test_faked(self) -> None:
        """
        Names get fake addresses, those that are excluded real ones; what is fake is
        looked up by the servers, and the next run knows the names.
        """
        options = NameOptions(faked=True, exclude=("lan",), stateFile=self.mktemp())
        self.remake(options)
        self.app(ask(), ask("nas.lan"))
        (fake,) = self.engine.sent[-1]
        self.assertTrue(fake.payload.endswith(b"\xc6\x13\0\1"))
        self.assertEqual(self.serve()[2:], ask("nas.lan")[2:])
        self.reactor.turn()
        self.assertEqual(self.engine.sent[-1][0].payload, answer(ask("nas.lan")))
        self.assertEqual(self.gateway.names.nameOf("198.19.0.1"), "www.example.com")
        found = self.gateway.names.resolve("www.example.com", 4)
        self.serve()
        self.reactor.turn()
        self.assertEqual(self.successResultOf(found), ["192.0.2.1"])
        self.assertEqual(self.gateway.stats().faked, 1)
        self.remake(options)
        self.assertEqual(self.gateway.names.nameOf("198.19.0.1"), "www.example.com")
