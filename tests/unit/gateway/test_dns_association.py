"""
Tests for L{nanotun.gateway.dns.association}, with a real socket as the proxy's UDP relay.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import DatagramsUnsupported, ProxyError, UnexpectedEvent, UpstreamError
from nanotun.flow import Endpoint
from nanotun.gateway.dns.association import (
    DOUBT,
    DOUBT_TIME,
    PAUSE,
    SHARED_GRACE,
    SHARED_QUERIES,
    SHARED_TIME,
    DatagramQuery,
    QueryAssociation,
    QueryAssociations,
)
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import IAttempt
from nanotun.gateway.dns.message import Query
from nanotun.interfaces import DatagramLeg, LegKind, unwrapDatagram, wrapDatagram
from nanotun.testing import FakeControl, FakeUpstream
from tests.unit.gateway.gateway_cases import FakeAttempt, FakeReactor, answer, ask, read

SERVER4, OTHER4 = Endpoint("192.0.2.1", 53), Endpoint("192.0.2.2", 53)
SERVER6 = Endpoint("2001:db8::1", 53)


class AssociationCase(SynchronousTestCase):
    """Associations of a fake upstream."""

    def setUp(self) -> None:
        """A socket that stands for the proxy's UDP relay."""
        self.reactor = FakeReactor()
        self.upstream = FakeUpstream()
        self.counters = Counters()
        idents = itertools.count()
        self.associations = QueryAssociations(
            self.reactor,
            lambda: self.upstream,
            self.counters,
            # Each is offered twice.
            lambda: (next(idents) // 2).to_bytes(2, "big"),
            " through office",
        )
        self.addCleanup(self.settle)
        self.relay = self.bound(socket.AF_INET)
        self.heard: list[object] = []
        self.instead: list[tuple[bytes, FakeAttempt]] = []
        self.refusal: Exception | None = None

    def settle(self) -> None:
        """After stop, no reader and no delayed call is left."""
        self.associations.stop()
        self.associations.stop()
        self.assertEqual((self.reactor.readers, self.reactor.getDelayedCalls()), (set(), []))

    def bound(self, family: int) -> socket.socket:
        """A UDP socket on the loopback."""
        made = socket.socket(family, socket.SOCK_DGRAM)
        self.addCleanup(made.close)
        made.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        made.setblocking(False)
        return made

    def leg(self, kind: LegKind = LegKind.SOCKS5, family: int = socket.AF_INET) -> FakeControl:
        """Grant the oldest association."""
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.setblocking(False)
        if kind is LegKind.SOCKS5:
            made.connect(self.relay.getsockname())
        self.control = FakeControl()
        control = self.control if kind is LegKind.SOCKS5 else None
        self.upstream._datagramLegs.pop(0).callback(DatagramLeg(made.detach(), kind, control))
        return self.control

    def ask(self, number: int, server: Endpoint = SERVER4) -> IAttempt:
        """Ask for the name with a number; note the number at its failure or answer."""
        wire = ask(f"a{number}")

        def answered(message: bytes) -> None:
            self.heard.append((number, message[2:]))

        return self.associations.ask(
            server, wire, read(wire), answered, partial(self.heard.append, number), self.byTCP
        )

    def byTCP(
        self,
        wire: bytes,
        query: Query,
        answered: Callable[[bytes], None],
        failed: Callable[[], None],
    ) -> FakeAttempt:
        """Stands for the connection to the server."""
        if self.refusal is not None:
            raise self.refusal
        attempt = FakeAttempt()
        self.instead.append((wire, attempt))
        return attempt

    def received(self) -> tuple[Endpoint, bytes]:
        """The next datagram at the proxy's UDP relay."""
        datagram, self.client = self.relay.recvfrom(1000)
        got = unwrapDatagram(datagram)
        assert got is not None
        return got

    def send(self, datagram: bytes) -> None:
        """The proxy's UDP relay sends a datagram."""
        self.relay.sendto(datagram, self.client)
        self.reactor.turn()

    def answer(self) -> None:
        """The next query's server answers it."""
        server, query = self.received()
        self.send(wrapDatagram(server, answer(query)))


class SharedTests(AssociationCase):
    """Queries in an association."""

    def test_shared(self) -> None:
        """All queries to all servers share one association, each with an id of its own."""
        for number, server in enumerate((SERVER4, OTHER4, SERVER4)):
            self.ask(number, server)
        self.assertEqual(self.upstream.families, [4])
        self.leg()
        got = [self.received() for _ in range(3)]
        self.assertEqual([server for server, _ in got], [SERVER4, OTHER4, SERVER4])
        self.assertNotEqual(got[0][1][:2], got[2][1][:2])
        for server, query in reversed(got):
            self.send(wrapDatagram(server, answer(query)))
        expected = [(number, answer(ask(f"a{number}"))[2:]) for number in (2, 1, 0)]
        self.assertEqual(self.heard, expected)
        self.ask(3)
        self.answer()
        self.assertEqual((len(self.heard), self.upstream.families), (4, [4]))

    def test_wrong(self) -> None:
        """A datagram counts only if server, id and question are right."""
        self.ask(0)
        self.leg()
        server, query = self.received()
        for wrong in (
            b"",
            wrapDatagram(OTHER4, answer(query)),
            wrapDatagram(server, query),
            wrapDatagram(server, b"??" + answer(query)[2:]),
            wrapDatagram(server, answer(query[:2] + ask("b")[2:])),
        ):
            self.send(wrong)
        self.assertEqual((self.heard, self.counters.ignored), ([], 5))
        self.send(wrapDatagram(server, answer(query)))
        self.assertEqual(len(self.heard), 1)

    def test_cancelled(self) -> None:
        """The answer to a cancelled query is ignored."""
        attempt = self.ask(0)
        verifyObject(IAttempt, attempt)
        self.leg()
        attempt.cancel()
        attempt.cancel()
        self.answer()
        self.assertEqual((self.heard, self.counters.ignored), ([], 1))

    def test_direct(self) -> None:
        """A leg without a proxy has no header, and one for each family of servers."""
        for family, kind in ((4, socket.AF_INET), (6, socket.AF_INET6)):
            server = self.bound(kind)
            self.ask(family, Endpoint(*server.getsockname()[:2]))
            self.leg(LegKind.DIRECT, kind)
            query, client = server.recvfrom(1000)
            server.sendto(answer(query), client)
            self.reactor.turn()
        self.assertEqual(self.upstream.families, [4, 6])
        self.assertEqual([each[0] for each in self.heard], [4, 6])  # type: ignore[index]


class EndTests(AssociationCase):
    """How an association ends."""

    def test_retires(self) -> None:
        """After a while new queries get another one; the old one waits for its answers."""
        self.ask(0)
        old = self.leg()
        server, query = self.received()
        client = self.client
        self.reactor.advance(SHARED_TIME)
        self.ask(1)
        self.assertEqual(self.upstream.families, [4, 4])
        self.assertFalse(old.closed)
        self.relay.sendto(wrapDatagram(server, answer(query)), client)
        self.reactor.turn()
        self.assertEqual(len(self.heard), 1)
        self.assertTrue(old.closed)

    def test_idleEnd(self) -> None:
        """Without queries it is closed then, and one without an answer a little later."""
        self.ask(0)
        control = self.leg()
        self.answer()
        self.reactor.advance(SHARED_TIME)
        self.assertTrue(control.closed)
        self.ask(1)
        control = self.leg()
        self.reactor.advance(SHARED_TIME)
        self.assertFalse(control.closed)
        self.reactor.advance(SHARED_GRACE)
        self.assertTrue(control.closed)

    def test_full(self) -> None:
        """After so many queries it takes no more."""
        self.ask(0)
        self.leg()
        for number in range(1, SHARED_QUERIES):
            self.ask(number).cancel()
        self.assertEqual(self.upstream.families, [4])
        self.ask(SHARED_QUERIES)
        self.assertEqual(self.upstream.families, [4, 4])

    def test_lost(self) -> None:
        """If its control connection ends, its queries fail, and the next opens another one."""
        self.ask(0)
        self.leg().lose()
        self.assertEqual(self.heard, [0])
        self.ask(1)
        self.assertEqual(self.upstream.families, [4, 4])

    def test_lostAtOnce(self) -> None:
        """The control connection may have ended before it was watched."""
        self.ask(0)
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        control = FakeControl()
        control.lose()
        leg = DatagramLeg(made.detach(), LegKind.SOCKS5, control)
        self.upstream._datagramLegs.pop(0).callback(leg)
        self.assertEqual((self.heard, control.closed), ([0], True))

    def test_refused(self) -> None:
        """If the proxy's UDP relay does not listen, queries fail; a later one goes over TCP."""
        self.ask(0)
        control = self.leg()
        self.relay.close()
        self.ask(1)
        self.reactor.turn()
        self.assertEqual((sorted(map(str, self.heard)), control.closed), (["0", "1"], True))

    def test_sendFails(self) -> None:
        """A query that cannot be sent goes over TCP, and the others fail."""
        self.ask(0)
        self.leg()
        self.relay.close()
        self.reactor.readers.clear()
        for number in range(1, 4):
            self.ask(number)
        self.assertIn(0, self.heard)
        self.assertTrue(self.instead)

    def test_removed(self) -> None:
        """If the reactor removes it, its queries fail."""
        self.ask(0)
        self.leg()
        (reader,) = self.reactor.readers
        verifyObject(IReadDescriptor, reader)
        self.assertEqual(reader.logPrefix(), "dns")
        reader.connectionLost(Failure(OSError()))
        reader.connectionLost(Failure(OSError()))
        self.assertEqual((self.heard, reader.fileno()), ([0], -1))

    def test_stop(self) -> None:
        """Stop cancels the dial, and nobody hears anything."""
        self.ask(0)
        self.associations.stop()
        self.assertEqual((self.upstream.cancelled, self.heard, self.instead), (1, [], []))

    def test_renew(self) -> None:
        """
        In another network every query that waits has failed, wherever it waits, and the next
        one has a new association, whatever was thought of UDP before.
        """
        self.ask(0)
        self.leg()
        self.ask(1, SERVER6)
        self.reactor.advance(DOUBT)
        self.assertFalse(self.associations.usable())
        self.associations.renew()
        self.assertEqual((sorted(map(str, self.heard)), self.upstream.cancelled), (["0", "1"], 1))
        self.assertTrue(self.associations.usable())
        self.assertTrue(self.control.closed)
        self.ask(2)
        self.assertEqual(self.upstream.families, [4, 6, 4])
        self.upstream.failDatagrams(DatagramsUnsupported("No."))
        self.assertFalse(self.associations.usable())
        self.associations.renew()
        self.assertTrue(self.associations.usable())

    def test_unexpected(self) -> None:
        """An event that the state does not allow names both."""
        reactor: Any = self.reactor
        association = QueryAssociation(self.associations, reactor, self.counters)
        error = self.assertRaises(UnexpectedEvent, association._step, "retire")
        self.assertIn("unexpected event retire in the state opening", str(error))


class FallbackTests(AssociationCase):
    """When queries go over TCP."""

    def test_unsupported(self) -> None:
        """If the upstream grants none, the queries that wait go over TCP, and so do others."""
        attempts = [self.ask(number) for number in range(2)]
        self.upstream.failDatagrams(DatagramsUnsupported("No."))
        self.assertEqual([wire for wire, _ in self.instead], [ask("a0"), ask("a1")])
        attempts[0].cancel()
        self.assertEqual([each.cancelled for _, each in self.instead], [True, False])
        self.assertFalse(self.associations.usable())
        self.reactor.advance(PAUSE)
        self.assertTrue(self.associations.usable())

    def test_unsupportedAtOnce(self) -> None:
        """An upstream that refuses at once sends the query over TCP at once."""
        upstream: Any = self.upstream
        from twisted.internet.defer import fail

        upstream.associate = lambda family: fail(DatagramsUnsupported("No."))
        self.assertIs(self.ask(0), self.instead[0][1])
        self.refusal = UpstreamError("Neither.")
        self.assertRaises(UpstreamError, self.ask, 1)
        self.assertEqual(self.heard, [])

    def test_neither(self) -> None:
        """A query that cannot go over TCP either has failed."""
        attempt = self.ask(0)
        self.refusal = OSError("Neither.")
        self.upstream.failDatagrams(ProxyError("No."))
        self.assertEqual(self.heard, [0])
        attempt.cancel()

    def test_internalError(self) -> None:
        """An internal error of the upstream is logged, and the query goes over TCP."""
        self.ask(0)
        self.upstream._datagramLegs.pop(0).errback(ZeroDivisionError())
        self.assertEqual((len(self.instead), len(self.flushLoggedErrors())), (1, 1))

    def test_noDatagrams(self) -> None:
        """An upstream that carries no UDP is not asked for it."""
        self.upstream.carriesDatagrams = False
        self.assertFalse(self.associations.usable())

    def test_doubt(self) -> None:
        """Without an answer for a second, UDP is not used for ten minutes, then tried again."""
        self.ask(0)
        self.leg()
        self.reactor.advance(DOUBT - 0.1)
        self.assertTrue(self.associations.usable())
        self.reactor.advance(0.1)
        self.assertFalse(self.associations.usable())
        self.reactor.advance(DOUBT_TIME - 0.1)
        self.assertFalse(self.associations.usable())
        self.reactor.advance(0.1)
        self.assertTrue(self.associations.usable())

    def test_lateAnswer(self) -> None:
        """A late answer by UDP ends the doubt."""
        self.ask(0)
        self.leg()
        self.reactor.advance(DOUBT)
        self.assertFalse(self.associations.usable())
        self.answer()
        self.assertTrue(self.associations.usable())
        self.reactor.advance(DOUBT)
        self.assertTrue(self.associations.usable())

    def test_slowDial(self) -> None:
        """The time until the association is open is not held against it."""
        self.ask(0)
        self.reactor.advance(DOUBT)
        self.assertTrue(self.associations.usable())
        self.assertIsInstance(self.ask(1), DatagramQuery)
