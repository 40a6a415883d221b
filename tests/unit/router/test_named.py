"""
Tests for L{nanotun.router.named}.
"""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import (
    FamilyUnsupported,
    NameUnknown,
    ProxyError,
    UpstreamError,
    UpstreamNetUnreachable,
    UpstreamRefused,
    UpstreamTimeout,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, IHealthCheck, IUpstream
from nanotun.router.named import ATTEMPTS, NamedUpstream
from nanotun.testing import FakeNames, FakeUpstream

FAKE4, FAKE6 = Endpoint("198.19.0.1", 443), Endpoint("fdfe:dcba:9876:1::1", 443)
TIMEOUT = 10.0
REAL = Endpoint("192.0.2.1", 443)


class NamedCase(SynchronousTestCase):
    """An upstream of memory with names around it."""

    sendsNames = False

    def setUp(self) -> None:
        """One name with a fake address of each family."""
        self.inner = FakeUpstream()
        self.inner.sendsNames = self.sendsNames
        self.names = FakeNames()
        self.names.known = {FAKE4.host: "www.example.com", FAKE6.host: "www.example.com"}
        self.clock = Clock()
        self.upstream = NamedUpstream(self.inner, self.names, self.clock, TIMEOUT)


class SendingTests(NamedCase):
    """Tests for an upstream that is sent names."""

    sendsNames = True

    def test_interface(self) -> None:
        """It is an upstream like the one inside."""
        verifyObject(IUpstream, self.upstream)
        verifyObject(IHealthCheck, self.upstream)
        self.inner.sharesLegs = True
        self.assertEqual((self.upstream.sharesLegs, self.upstream.sendsNames), (True, True))
        self.assertEqual(self.upstream.describe(), self.inner.describe())
        self.upstream.associate(6)
        self.assertEqual(self.inner.families, [6])

    def test_name(self) -> None:
        """Fake addresses and known ones go by name, unknown ones as they are."""
        self.names.known[REAL.host] = "real.example"
        other = Endpoint("192.0.2.2", 80)
        for destination in (FAKE4, FAKE6, REAL, other):
            self.upstream.connect(destination)
        name = Endpoint("www.example.com", 443)
        self.assertEqual(self.inner.asked, [name, name, Endpoint("real.example", 443), other])
        self.assertEqual(self.names.asked, [])

    def test_forgotten(self) -> None:
        """A fake address without a name goes nowhere."""
        error = self.failureResultOf(self.upstream.connect(Endpoint("198.19.9.9", 1)))
        self.assertIs(error.type, UpstreamError)
        self.assertIn("198.19.9.9", str(error.value))
        self.assertEqual(self.inner.asked, [])


class ResolvingTests(NamedCase):
    """Tests for an upstream that is not sent names."""

    def asked(self) -> list[str]:
        """The hosts that were dialled."""
        return [host for host, _ in self.inner.asked]

    def test_real(self) -> None:
        """An address that is real is not looked at, whatever its name."""
        self.names.known[REAL.host] = "real.example"
        self.upstream.connect(REAL)
        self.assertEqual((self.inner.asked, self.names.asked), ([REAL], []))

    def test_lookedUp(self) -> None:
        """The name of a fake address is looked up and its address dialled."""
        leg = self.upstream.connect(FAKE4)
        self.assertEqual(self.names.asked, [("www.example.com", 4)])
        self.names.answer("192.0.2.1", "192.0.2.2")
        self.assertEqual(self.inner.asked, [REAL])
        far = self.inner.answer(b"hello")
        self.addCleanup(far.close)
        connection = self.successResultOf(leg)
        self.assertIsInstance(connection, Connection)
        self.assertEqual(connection.leftover, b"hello")
        os.close(connection.fd)

    def test_otherFamily(self) -> None:
        """A name without addresses of the app's family is reached by the other one."""
        for destination, families in ((FAKE6, [6, 4]), (FAKE4, [4, 6])):
            self.names.asked.clear()
            self.upstream.connect(destination)
            self.names.answer()
            self.names.answer("192.0.2.1")
            self.assertEqual(self.names.asked, [("www.example.com", each) for each in families])
        self.assertEqual(self.asked(), ["192.0.2.1"] * 2)

    def test_noAddress(self) -> None:
        """A name without any address is a host that cannot be reached."""
        leg = self.upstream.connect(FAKE4)
        self.names.answer()
        self.names.answer()
        self.failureResultOf(leg, NameUnknown)

    def test_noServer(self) -> None:
        """An error of the lookup is the leg's, if the other family's tells no more."""
        for last in (lambda: self.names.fail(UpstreamError("still none")), self.names.answer):
            leg = self.upstream.connect(FAKE4)
            self.names.fail(UpstreamError("no DNS"))
            last()
            self.assertEqual(str(self.failureResultOf(leg, UpstreamError).value), "no DNS")

    def test_otherLookup(self) -> None:
        """After a lookup that failed the other family is looked up and dialled."""
        self.upstream.connect(FAKE6)
        self.names.fail(UpstreamError("no DNS"))
        self.names.answer("192.0.2.1")
        self.assertEqual(self.asked(), ["192.0.2.1"])

    def test_otherAddresses(self) -> None:
        """After a family whose addresses all failed the other one's are dialled."""
        leg = self.upstream.connect(FAKE6)
        self.names.answer("2001:db8::1")
        self.inner.fail(FamilyUnsupported("no IPv6"))
        self.names.answer("192.0.2.1")
        self.assertEqual(self.asked(), ["2001:db8::1", "192.0.2.1"])
        self.inner.fail(UpstreamRefused("refused"))
        self.failureResultOf(leg, UpstreamRefused)

    def test_reason(self) -> None:
        """That a network cannot be reached hides no error that says more."""
        for last in (FamilyUnsupported("no IPv6"), UpstreamNetUnreachable("no IPv6")):
            leg = self.upstream.connect(FAKE4)
            self.names.answer("192.0.2.1")
            self.inner.fail(UpstreamRefused("refused"))
            self.names.answer("2001:db8::1")
            self.inner.fail(last)
            self.failureResultOf(leg, UpstreamRefused)

    def test_proxyFault(self) -> None:
        """With a proxy that is at fault the other family would do no better."""
        leg = self.upstream.connect(FAKE4)
        self.names.answer("192.0.2.1")
        self.inner.fail(ProxyError("no proxy"))
        self.failureResultOf(leg, ProxyError)
        self.assertEqual(self.names.pending, 0)

    def test_next(self) -> None:
        """Addresses are tried in turn, a few of them; the last error counts."""
        leg = self.upstream.connect(FAKE4)
        hosts = [f"192.0.2.{number}" for number in range(1, 9)]
        self.names.answer(*hosts)
        for number in range(ATTEMPTS):
            self.assertNoResult(leg)
            self.inner.fail(UpstreamRefused(str(number)))
        self.assertEqual(self.asked(), hosts[:ATTEMPTS])
        self.names.answer()
        self.assertEqual(str(self.failureResultOf(leg, UpstreamRefused).value), str(ATTEMPTS - 1))

    def test_timeout(self) -> None:
        """After a timeout no other address is tried: the app has waited enough."""
        leg = self.upstream.connect(FAKE4)
        self.names.answer("192.0.2.1", "192.0.2.2")
        self.inner.fail(UpstreamTimeout("late"))
        self.failureResultOf(leg, UpstreamTimeout)

    def test_cancelledLookup(self) -> None:
        """Given up during the lookup nothing is left."""
        leg = self.upstream.connect(FAKE4)
        leg.cancel()
        self.failureResultOf(leg, CancelledError)
        self.assertEqual((self.names.pending, self.inner.asked), (0, []))

    def test_cancelledLeg(self) -> None:
        """Given up while dialling it is given up there, and no other address tried."""
        leg = self.upstream.connect(FAKE4)
        self.names.answer("192.0.2.1", "192.0.2.2")
        leg.cancel()
        self.failureResultOf(leg, CancelledError)
        self.assertEqual((self.inner.cancelled, self.asked()), (1, ["192.0.2.1"]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_deadline(self) -> None:
        """Lookups and dials have the time of one connect, all together."""
        leg = self.upstream.connect(FAKE4)
        self.clock.advance(TIMEOUT / 2)
        self.names.answer("192.0.2.1", "192.0.2.2")
        self.clock.advance(TIMEOUT / 4)
        self.inner.fail(UpstreamRefused("refused"))
        self.clock.advance(TIMEOUT / 4 - 1)
        self.assertNoResult(leg)
        self.clock.advance(1)
        error = self.failureResultOf(leg, UpstreamTimeout)
        self.assertIn("www.example.com", str(error.value))
        self.assertEqual((self.inner.cancelled, self.asked()), (1, ["192.0.2.1", "192.0.2.2"]))

    def test_deadlineOfLookup(self) -> None:
        """A lookup that takes too long is given up."""
        leg = self.upstream.connect(FAKE4)
        self.clock.advance(TIMEOUT)
        self.failureResultOf(leg, UpstreamTimeout)
        self.assertEqual((self.names.pending, self.inner.asked), (0, []))

    def test_noTimer(self) -> None:
        """What is over leaves no timer, however it ended."""
        self.upstream.connect(FAKE4).addErrback(lambda reason: None)
        self.names.answer("192.0.2.1")
        self.inner.fail(UpstreamTimeout("late"))
        leg = self.upstream.connect(FAKE4)
        self.names.answer("192.0.2.1")
        self.addCleanup(self.inner.answer().close)
        os.close(self.successResultOf(leg).fd)
        self.assertEqual(self.clock.getDelayedCalls(), [])
