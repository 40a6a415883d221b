"""
Tests for L{nanotun.upstream.dial.connector}, without a network.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import (
    ProxyError,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamRefused,
    UpstreamTimeout,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection
from nanotun.upstream.direct import DirectUpstream
from tests.unit.upstream.upstream_cases import FakeReactor, FakeStream


class AddressCase(SynchronousTestCase):
    """
    Legs on sockets, lookups and time of memory.
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
    Tests for the table of L{nanotun.upstream.dial.connector}.
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

    def test_missingFamily(self) -> None:
        """
        Where this machine lacks the first address's family the next is tried.
        """
        make = self.upstream._connector.makeStream

        def makeStream(family: int) -> Any:
            if family == socket.AF_INET6:
                raise UpstreamNetUnreachable("no IPv6 here")
            return make(family)

        self.upstream._connector.makeStream = makeStream
        leg = self.upstream.connect(Endpoint("example.com", 80))
        self.addresses()
        self.connected()
        self.successResultOf(leg)
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
