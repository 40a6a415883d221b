"""
Tests for L{nanotun.gateway.datagrams}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.addresses import GATEWAY4, GATEWAY6
from nanotun.flow import Datagram, Endpoint, Flow, Protocol
from nanotun.gateway.datagrams import DatagramServices, DnsDatagramProtocol, Strangers
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.linux.locality import Locality
from tests.unit.gateway.gateway_cases import (
    FIRST,
    FakeEngine,
    FakeQueries,
    FakeReactor,
    answer,
    ask,
    choiceOf,
)

APP = Endpoint("127.0.0.1", 40000)
GATEWAY = Endpoint(GATEWAY4, 53)
OTHER = Endpoint("192.0.2.53", 53)


class Echo(DatagramProtocol):
    """Sends everything back, as any Twisted protocol would."""

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Reply, or fail."""
        if datagram == b"fail":
            raise ValueError("as it was told to")
        host, port = addr
        assert self.transport is not None and host and port
        self.transport.write(datagram, addr)


class ServicesTests(SynchronousTestCase):
    """Tests for L{DatagramServices}."""

    def setUp(self) -> None:
        """An echo on port 7."""
        self.reactor = FakeReactor()
        self.engine = FakeEngine()
        self.counters = Counters()
        engine: Any = self.engine
        self.services = DatagramServices(self.reactor, engine, self.counters)
        self.echo = Echo()
        self.transport = self.services.listenUDP(7, self.echo)

    def test_interface(self) -> None:
        """The transport is a datagram transport on the gateway's address."""
        verifyObject(IUDPTransport, self.transport)
        self.assertEqual(self.engine.listening, [(Protocol.UDP, 7)])
        host = self.transport.getHost()
        self.assertEqual((host.host, host.port), (GATEWAY4, 7))
        self.transport.setBroadcastAllowed(True)
        self.assertFalse(self.transport.getBroadcastAllowed())
        self.assertRaises(RuntimeError, self.transport.connect, "192.0.2.1", 1)

    def test_batch(self) -> None:
        """Replies to a batch are sent in one batch, each from the address that was asked."""
        asked = [Endpoint(GATEWAY4, 7), Endpoint("192.0.2.9", 7), Endpoint(GATEWAY6, 7)]
        batch = [Datagram(APP, each, b"hello") for each in asked]
        self.services.datagramsReceived(batch)
        self.assertEqual(self.engine.sent, [[Datagram(each, APP, b"hello") for each in asked]])

    def test_later(self) -> None:
        """Later datagrams are sent together, from the gateway if they reply to no query."""
        for host in ("198.18.0.2", "fdfe:dcba:9876::2"):
            self.transport.write(b"x", (host, 5))
        self.assertEqual(self.engine.sent, [])
        self.reactor.advance(0)
        sources = [(each.source, each.destination.host) for each in self.engine.sent[0]]
        expected = [(Endpoint(GATEWAY4, 7), "198.18.0.2")]
        expected += [(Endpoint(GATEWAY6, 7), "fdfe:dcba:9876::2")]
        self.assertEqual(sources, expected)

    def test_wrongWrites(self) -> None:
        """A packet without an address, or one that is too long, raises."""
        self.assertRaises(ValueError, self.transport.write, b"x")
        self.assertRaises(MessageLengthError, self.transport.write, bytes(65508), ("::1", 1))

    def test_failure(self) -> None:
        """An exception for one datagram does not affect the others of its batch."""
        asked = Endpoint(GATEWAY4, 7)
        batch = [Datagram(APP, asked, each) for each in (b"fail", b"fine")]
        self.services.datagramsReceived(batch)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.engine.sent, [[Datagram(asked, APP, b"fine")]])

    def test_unserved(self) -> None:
        """Datagrams to a port without a service are counted; a port has one service."""
        self.services.datagramsReceived([Datagram(APP, GATEWAY, b"x")])
        self.assertEqual((self.engine.sent, self.counters.unserved), ([], 1))
        self.assertRaises(ValueError, self.services.listenUDP, 7, Echo())

    def test_stop(self) -> None:
        """After stop the protocols have no transport, and nothing is sent."""
        self.transport.write(b"x", ("127.0.0.1", 5))
        self.services.stop()
        self.services.datagramsReceived([Datagram(APP, Endpoint(GATEWAY4, 7), b"x")])
        self.reactor.advance(1)
        self.assertIsNone(self.echo.transport)
        self.assertEqual((self.engine.sent, self.reactor.getDelayedCalls()), ([], []))


class DnsTests(SynchronousTestCase):
    """Tests for L{DnsDatagramProtocol}."""

    def setUp(self) -> None:
        """A relay on port 53."""
        self.reactor = FakeReactor()
        self.engine = FakeEngine()
        self.queries = FakeQueries(FIRST)
        self.counters = Counters()
        engine: Any = self.engine
        self.services = DatagramServices(self.reactor, engine, self.counters)
        self.relay = DnsRelay(
            self.reactor, choiceOf(self.queries), self.counters, 10, 100_000, 6, 4
        )
        locality = Locality(self.reactor.seconds)
        protocol = DnsDatagramProtocol(self.relay, locality)
        self.transport = self.services.listenUDP(53, protocol)

    def test_whoeverIsAsked(self) -> None:
        """Each answer is sent from the address that was asked, also for one query to two."""
        batch = [Datagram(APP, each, ask()) for each in (GATEWAY, OTHER, OTHER)]
        self.services.datagramsReceived(batch)
        self.queries.answer(answer(ask()))
        self.reactor.advance(0)
        expected = [Datagram(each, APP, answer(ask())) for each in (GATEWAY, OTHER)]
        self.assertEqual(self.engine.sent, [expected])

    def test_strangers(self) -> None:
        """
        What is no DNS is told with the server that was meant, once a second at most; what is
        sent to the gateway itself is not.
        """
        said: list[str] = []
        meant = Flow(0, Protocol.UDP, Endpoint("10.0.0.9", 5), Endpoint("203.0.113.9", 53))
        known: list[Flow | None] = [meant]
        asked: list[Flow] = []

        def originalOf(flow: Flow) -> Flow | None:
            asked.append(flow)
            return known[0]

        note = Strangers(self.reactor.seconds, originalOf, said.append).note
        self.services.remove(53, self.transport)
        protocol = DnsDatagramProtocol(self.relay, Locality(self.reactor.seconds), note)
        self.services.listenUDP(53, protocol)
        vpn = b"\1\0\0\0" + b"\7" * 144

        def send(destination: Endpoint, payload: bytes = vpn) -> None:
            self.services.datagramsReceived([Datagram(APP, destination, payload)])

        send(OTHER, ask())
        send(GATEWAY, ask(flags=0x2800))
        self.assertEqual(said, [])
        send(OTHER)
        self.assertIn(f"at 127.0.0.1 sends datagrams to port 53 of {OTHER.host} that", said[0])
        send(GATEWAY)
        self.assertEqual((len(said), asked), (1, []))
        self.reactor.advance(1)
        send(GATEWAY)
        self.assertIn("at 10.0.0.9 sends datagrams to port 53 of 203.0.113.9 that", said[1])
        self.assertEqual(asked, [Flow(0, Protocol.UDP, APP, GATEWAY)])
        self.reactor.advance(1)
        known[0] = None
        send(GATEWAY)
        self.assertEqual(len(said), 2)

    def test_sockets(self) -> None:
        """All sockets of one host share its limit; another address has its own."""
        many = [Endpoint(APP.host, port) for port in range(40000, 40005)]
        asked = [OTHER, GATEWAY, GATEWAY, GATEWAY, GATEWAY]
        for number, (source, destination) in enumerate(zip(many, asked, strict=True)):
            query = Datagram(source, destination, ask(f"a{number}"))
            self.services.datagramsReceived([query])
        self.assertEqual((len(self.queries.asked), self.counters.limited), (4, 1))
        other = Datagram(Endpoint("127.0.0.2", 40000), GATEWAY, ask("b"))
        self.services.datagramsReceived([other])
        self.assertEqual((len(self.queries.asked), self.counters.limited), (5, 1))
        self.queries.answer(answer(ask("a0")), attempt=0)
        self.services.datagramsReceived([Datagram(APP, GATEWAY, ask("c"))])
        self.assertEqual((len(self.queries.asked), self.counters.limited), (6, 1))

    def test_outside(self) -> None:
        """Queries of other hosts are not answered, not even from the cache."""
        self.services.datagramsReceived([Datagram(APP, GATEWAY, ask())])
        self.queries.answer(answer(ask()))
        stranger = Datagram(Endpoint("192.0.2.66", 40000), GATEWAY, ask())
        self.services.datagramsReceived([stranger])
        self.reactor.advance(0)
        self.assertEqual([len(batch) for batch in self.engine.sent], [1])
        self.assertEqual(self.counters.outside, 1)

    def test_afterStop(self) -> None:
        """An answer after the service has stopped is not sent."""
        self.services.datagramsReceived([Datagram(APP, GATEWAY, ask())])
        self.services.stop()
        self.queries.answer(answer(ask()))
        self.reactor.advance(0)
        self.assertEqual(self.engine.sent, [])
