"""
Tests for L{nanotun.upstream.dial.connector}, without a network.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import (
    DestinationSilent,
    ProxyError,
    UnexpectedEvent,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamRefused,
    UpstreamTimeout,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection
from nanotun.upstream.dial.connector import Connector, Dial, DialEvent, DialState
from nanotun.upstream.dial.resolver import HostAddresses
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.pool.reuse import ReuseDial
from tests.garbage import garbageOf
from tests.unit.upstream.upstream_cases import FakeReactor, FakeStream, unmarkedContext


class AddressCase(SynchronousTestCase):
    """
    Dials with sockets, lookups and a clock in memory.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        self.reactor = FakeReactor()
        self.streams: list[FakeStream] = []
        self.families: list[int] = []
        self.upstream = self.makeUpstream()

    def makeUpstream(self) -> DirectUpstream:
        """One whose sockets come from L{makeStream}."""
        context = unmarkedContext(self.reactor, 6.0)
        return DirectUpstream(context._replace(openStream=self.makeStream))

    def makeStream(self, family: int) -> Any:
        """A socket whose connect does not complete at once."""
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
        """The attempt under way succeeds."""
        (transport,) = self.reactor.writers
        self.streams[-1].peer = True
        transport.doWrite()

    def refused(self, error: int) -> None:
        """The attempt under way fails."""
        (transport,) = self.reactor.writers
        self.streams[-1].error = error
        transport.doWrite()

    def assertIdle(self) -> None:
        """No timer and no descriptor is left."""
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertEqual(self.reactor.readers + self.reactor.writers, [])


class GarbageTests(AddressCase):
    """
    Tests for what a dial leaves behind.
    """

    def begin(self) -> Deferred[None]:
        """A dial to an address."""
        self.streams.clear()
        dial = self.upstream.connect(Endpoint("192.0.2.1", 80))
        return dial.addCallbacks(lambda leg: None, lambda reason: None)

    def test_noGarbage(self) -> None:
        """
        However a dial ends, nothing is left to the garbage collector.
        """

        def connected() -> None:
            self.begin()
            self.connected()

        def refused() -> None:
            self.begin()
            self.refused(errno.ECONNREFUSED)

        def expired() -> None:
            self.begin()
            self.reactor.advance(6.0)

        def cancelled() -> None:
            self.begin().cancel()

        for end in (connected, refused, expired, cancelled):
            self.assertEqual(garbageOf(end), [], end)
        self.assertIdle()


class TableTests(AddressCase):
    """
    Tests for L{TRANSITIONS} as a whole.
    """

    def test_ends(self) -> None:
        """
        Nothing can happen to a dial that has ended, and each dial that has begun can
        fail and be cancelled.
        """
        for table in (Dial.transitions, ReuseDial.transitions):
            begun = {state for state, _ in table} - {DialState.NEW}
            ended = {DialState.DONE, DialState.FAILED, DialState.CANCELLED}
            self.assertEqual(begun & ended, set())
            for state in begun:
                self.assertEqual(table[state, DialEvent.FAILED], DialState.FAILED)
                self.assertEqual(table[state, DialEvent.CANCELLED], DialState.CANCELLED)

    def test_unexpected(self) -> None:
        """
        An event that a state does not allow is an error that names both.
        """
        connector = Connector(
            self.reactor, "x", 6.0, lambda error, address: ProxyError("x"), None, self.makeStream
        )
        dial = Dial(connector, HostAddresses(self.reactor, "192.0.2.1", 80), None)
        dial.start()
        self.assertIs(dial.state, DialState.CONNECTING)
        dial.deferred.cancel()
        self.failureResultOf(dial.deferred, CancelledError)
        error = self.assertRaises(UnexpectedEvent, dial.start)
        self.assertIn("found in the state cancelled", str(error))
        self.assertIdle()


class DialTests(AddressCase):
    """
    Tests for the course of a dial.
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
        dial = self.upstream.connect(Endpoint("192.0.2.1", 80))
        self.assertNoResult(dial)
        self.connected()
        self.assertEqual(self.successResultOf(dial), Connection(77, b""))
        self.assertIdle()

    def test_spuriousWrite(self) -> None:
        """
        A stale event for an older descriptor of the same number does not count as connected.
        """
        dial = self.upstream.connect(Endpoint("192.0.2.1", 80))
        self.reactor.writers[0].doWrite()
        self.assertNoResult(dial)
        dial.cancel()
        self.failureResultOf(dial, CancelledError)
        self.assertTrue(self.streams[0].closed)
        self.assertIdle()

    def test_failsAtOnce(self) -> None:
        """
        A connect that fails at once fails the dial.
        """
        self.makeStream = lambda family: FakeStream([errno.ENETUNREACH])  # type: ignore
        upstream = self.makeUpstream()
        dial = upstream.connect(Endpoint("192.0.2.1", 80))
        self.failureResultOf(dial, UpstreamNetUnreachable)
        self.assertIdle()

    def test_missingFamily(self) -> None:
        """
        If this machine lacks the first address's family, the next address is tried.
        """

        def makeStream(family: int) -> Any:
            if family == socket.AF_INET6:
                raise UpstreamNetUnreachable("no IPv6 here")
            return self.makeStream(family)

        context = unmarkedContext(self.reactor, 6.0)._replace(openStream=makeStream)
        upstream = DirectUpstream(context)
        dial = upstream.connect(Endpoint("example.com", 80))
        self.addresses()
        self.connected()
        self.successResultOf(dial)
        self.assertIdle()

    def test_nextAddress(self) -> None:
        """
        If one address fails, the next one is tried.
        """
        dial = self.upstream.connect(Endpoint("example.com", 80))
        self.addresses()
        self.refused(errno.ENETUNREACH)
        self.connected()
        self.successResultOf(dial)
        self.assertEqual(self.families, [socket.AF_INET6, socket.AF_INET])
        self.assertIdle()

    def test_lastAddress(self) -> None:
        """
        If all addresses fail, the last one's error is raised.
        """
        dial = self.upstream.connect(Endpoint("example.com", 80))
        self.addresses()
        self.refused(errno.ENETUNREACH)
        self.refused(errno.ECONNREFUSED)
        self.failureResultOf(dial, UpstreamRefused)
        self.assertIdle()

    def test_lostAddress(self) -> None:
        """
        A connect whose failure the reactor reports fails the dial too.
        """
        dial = self.upstream.connect(Endpoint("192.0.2.1", 80))
        self.streams[0].error = errno.EHOSTUNREACH
        self.reactor.writers[0].connectionLost(Failure(ZeroDivisionError()))
        self.failureResultOf(dial, UpstreamHostUnreachable)

    def test_blackhole(self) -> None:
        """
        An address that does not answer gets only its share of the time.
        """
        dial = self.upstream.connect(Endpoint("example.com", 80))
        self.addresses()
        self.reactor.advance(3.5)
        self.reactor.advance(0)
        self.assertEqual(self.families[-1], socket.AF_INET)
        self.assertTrue(self.streams[0].closed)
        self.reactor.advance(3)
        error = self.failureResultOf(dial, DestinationSilent).value
        self.assertEqual(str(error), "The destination example.com:80 did not answer within 6 s.")
        self.assertTrue(error.news)
        self.assertIdle()

    def test_lookupHangs(self) -> None:
        """
        The deadline covers the lookup.
        """
        dial = self.upstream.connect(Endpoint("example.com", 80))
        self.reactor.advance(6)
        error = self.failureResultOf(dial, UpstreamTimeout).value
        self.assertIn("looking up its name", str(error))
        self.addresses()
        self.assertIdle()

    def test_noAddress(self) -> None:
        """
        A name without an address fails.
        """
        dial = self.upstream.connect(Endpoint("example.com", 80))
        self.resolve()
        error = self.failureResultOf(dial, ProxyError).value
        self.assertIn("example.com", str(error))
        self.assertIdle()

    def test_cancelLookup(self) -> None:
        """
        Cancelling during the lookup leaves nothing behind.
        """
        dial = self.upstream.connect(Endpoint("example.com", 80))
        dial.cancel()
        self.failureResultOf(dial, CancelledError)
        self.addresses()
        self.assertIdle()
