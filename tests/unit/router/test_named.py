"""
Tests for L{nanotun.router.named}.
"""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nanotun.errors import (
    DestinationSilent,
    FamilyUnsupported,
    NamesUnsupported,
    NameUnknown,
    ProxyError,
    UnexpectedEvent,
    UpstreamError,
    UpstreamNetUnreachable,
    UpstreamRefused,
    UpstreamTimeout,
)
from nanotun.flow import Endpoint, KnownEndpoint, LiteralEndpoint
from nanotun.interfaces import (
    Connection,
    Course,
    DatagramLeg,
    DialPlan,
    IHealthCheck,
    INamedDatagrams,
    IPlanned,
    IUpstream,
)
from nanotun.router.named import ATTEMPTS, NamedDial, NamedUpstream
from nanotun.testing import FakeNames, FakeUpstream, NamedFakeUpstream
from tests.garbage import garbageOf

FAKE4, FAKE6 = Endpoint("198.19.0.1", 443), Endpoint("fdfe:dcba:9876:1::1", 443)
TIMEOUT = 10.0
REAL = Endpoint("192.0.2.1", 443)


class NamedCase(SynchronousTestCase):
    """A fake upstream that is wrapped to know names."""

    sendsNames = False

    def setUp(self) -> None:
        """One name with a fake address of each family."""
        self.inner = FakeUpstream()
        self.names = FakeNames()
        self.names.known = {FAKE4.host: "www.example.com", FAKE6.host: "www.example.com"}
        self.clock = Clock()
        self.upstream = NamedUpstream(self.inner, self.names, self.clock, TIMEOUT, self.sendsNames)


class SendingTests(NamedCase):
    """Tests for an upstream that is sent names."""

    sendsNames = True

    def test_interface(self) -> None:
        """It is an upstream, with the properties of the one that it wraps."""
        verifyObject(IUpstream, self.upstream)
        verifyObject(IHealthCheck, self.upstream)
        verifyObject(INamedDatagrams, self.upstream)
        self.inner.sharesLegs = True
        self.assertEqual((self.upstream.sharesLegs, self.upstream.sendsNames), (True, True))
        self.assertEqual(self.upstream.describe(), self.inner.describe())
        self.upstream.associate(6)
        self.assertEqual(self.inner.families, [6])

    def test_name(self) -> None:
        """A destination with a known name is asked for by name, any other by address."""
        self.names.known[REAL.host] = "real.example"
        other = Endpoint("192.0.2.2", 80)
        for destination in (FAKE4, FAKE6, REAL, other):
            self.upstream.connect(destination)
        name = Endpoint("www.example.com", 443)
        self.assertEqual(self.inner.asked, [name, name, Endpoint("real.example", 443), other])
        self.assertEqual(self.names.asked, [])

    def test_known(self) -> None:
        """The name that is said with a destination counts, whatever was asked for last."""
        self.names.known[REAL.host] = "last.example"
        self.upstream.connect(KnownEndpoint(*REAL, "first.example"))
        self.assertEqual(self.inner.asked, [Endpoint("first.example", 443)])

    def test_literal(self) -> None:
        """A literal endpoint is passed on as it is, though apps got its address for a name."""
        self.names.known[REAL.host] = "evil.example"
        literal = LiteralEndpoint(*REAL)
        self.upstream.connect(literal)
        self.assertIs(self.inner.asked[0], literal)

    def test_forgotten(self) -> None:
        """A fake address without a name is an error, and nothing is dialled."""
        error = self.failureResultOf(self.upstream.connect(Endpoint("198.19.9.9", 1)))
        self.assertIs(error.type, UpstreamError)
        self.assertIn("198.19.9.9", str(error.value))
        self.assertEqual(self.inner.asked, [])


@implementer(IPlanned)
class PlanningUpstream(FakeUpstream):
    """An upstream whose plans say what they are for."""

    stands = True

    def plan(self, destination: Endpoint) -> DialPlan | None:
        """See L{IPlanned.plan}."""
        course = Course((), 5.0)
        return DialPlan(course, str(destination).encode(), self, standing=self.stands)  # type: ignore


class PlanTests(SynchronousTestCase):
    """Tests for the plans of an upstream that is wrapped to know names."""

    def plans(self, sends: bool, guesses: bool, *destinations: Endpoint) -> list[object]:
        """For whom each plan is, and whether it stands; L{None} where there is none."""
        names = FakeNames()
        names.known = {FAKE4.host: "www.example.com"}
        if guesses:
            names.known[REAL.host] = "real.example"
        upstream = NamedUpstream(PlanningUpstream(), names, Clock(), TIMEOUT, sends, guesses)
        verifyObject(IPlanned, upstream)
        plans = [upstream.plan(each) for each in destinations]
        return [None if each is None else (each.request.decode(), each.standing) for each in plans]

    def test_sent(self) -> None:
        """
        A name that is sent has a plan, which stands if it is behind a fake address: another may
        be behind a real one at any time.
        """
        said = KnownEndpoint(*REAL, "first.example")
        forgotten, other = Endpoint("198.19.9.9", 1), Endpoint("192.0.2.2", 443)
        self.assertEqual(
            self.plans(True, True, FAKE4, REAL, said, forgotten, other, LiteralEndpoint(*REAL)),
            [
                ("www.example.com:443", True),
                ("real.example:443", False),
                ("first.example:443", False),
                None,
                ("192.0.2.2:443", False),
                ("192.0.2.1:443", True),
            ],
        )

    def test_certain(self) -> None:
        """
        Where only fake addresses have names, a real one has a plan that stands; but not under
        the name that one app has said.
        """
        said = KnownEndpoint(*REAL, "first.example")
        self.assertEqual(
            self.plans(True, False, FAKE4, REAL, said),
            [("www.example.com:443", True), ("192.0.2.1:443", True), ("first.example:443", False)],
        )

    def test_lookedUp(self) -> None:
        """
        A name that is looked up here has no plan; an address has one, by whatever name.
        """
        said = KnownEndpoint(*REAL, "first.example")
        by = ("192.0.2.1:443", True)
        self.assertEqual(self.plans(False, True, FAKE4, REAL, said), [None, by, by])

    def test_otherwise(self) -> None:
        """
        What does not stand by itself does not stand with a name either, and an upstream that
        knows nothing of plans has none.
        """
        self.patch(PlanningUpstream, "stands", False)
        self.assertEqual(self.plans(True, False, FAKE4), [("www.example.com:443", False)])
        upstream = NamedUpstream(FakeUpstream(), FakeNames(), Clock(), TIMEOUT, True)
        self.assertIsNone(upstream.plan(REAL))


class DatagramTests(SynchronousTestCase):
    """Tests for legs that take names."""

    def ask(self, inner: FakeUpstream, sends: bool) -> Deferred[DatagramLeg]:
        """Ask for one through an upstream."""
        return NamedUpstream(inner, FakeNames(), Clock(), TIMEOUT, sends).associateNamed(6)

    def test_named(self) -> None:
        """An upstream that is sent names is asked for a leg that takes them."""
        inner = NamedFakeUpstream()
        leg = self.ask(inner, True)
        inner.answerDatagrams()
        os.close(self.successResultOf(leg).fd)
        self.assertEqual((inner.namedFamilies, inner.families), ([6], []))

    def test_unnamed(self) -> None:
        """One that is not sent names is not asked, nor one that knows nothing of them."""
        for inner, sends in ((NamedFakeUpstream(), False), (FakeUpstream(), True)):
            self.failureResultOf(self.ask(inner, sends), NamesUnsupported)
            self.assertEqual(inner.families, [])


class ResolvingTests(NamedCase):
    """Tests for an upstream that is not sent names."""

    def asked(self) -> list[str]:
        """The hosts that were dialled."""
        return [host for host, _ in self.inner.asked]

    def test_noGarbage(self) -> None:
        """However a dial ends, nothing is left to the garbage collector."""

        def begin() -> Deferred[None]:
            dial = self.upstream.connect(FAKE4)
            return dial.addCallbacks(lambda leg: os.close(leg.fd), lambda reason: None)

        def connected() -> None:
            begin()
            self.names.answer("192.0.2.7")
            self.inner.answer().close()

        def noAddress() -> None:
            begin()
            self.names.answer()
            self.names.answer()

        def refused() -> None:
            begin()
            self.names.answer("192.0.2.7")
            self.inner.fail(ProxyError("x"))

        def expired() -> None:
            begin()
            self.clock.advance(TIMEOUT)

        def expiredDialling() -> None:
            begin()
            self.names.answer("192.0.2.7")
            self.clock.advance(TIMEOUT)

        def cancelled() -> None:
            begin().cancel()

        for end in (connected, noAddress, refused, expired, expiredDialling, cancelled):
            self.assertEqual(garbageOf(end), [], end)

    def test_known(self) -> None:
        """Also with a name that is said, a real address is dialled."""
        self.upstream.connect(KnownEndpoint(*REAL, "first.example"))
        self.assertEqual(self.inner.asked, [REAL])

    def test_real(self) -> None:
        """A real address is dialled as it is, whatever its name."""
        self.names.known[REAL.host] = "real.example"
        self.upstream.connect(REAL)
        self.assertEqual((self.inner.asked, self.names.asked), ([REAL], []))

    def test_lookedUp(self) -> None:
        """The name of a fake address is looked up and its address dialled."""
        dial = self.upstream.connect(FAKE4)
        self.assertEqual(self.names.asked, [("www.example.com", 4)])
        self.names.answer("192.0.2.1", "192.0.2.2")
        self.assertEqual(self.inner.asked, [REAL])
        far = self.inner.answer(b"hello")
        self.addCleanup(far.close)
        connection = self.successResultOf(dial)
        self.assertIsInstance(connection, Connection)
        self.assertEqual(connection.leftover, b"hello")
        os.close(connection.fd)

    def test_otherFamily(self) -> None:
        """A name without addresses of the app's family is reached through the other family."""
        for destination, families in ((FAKE6, [6, 4]), (FAKE4, [4, 6])):
            self.names.asked.clear()
            self.upstream.connect(destination)
            self.names.answer()
            self.names.answer("192.0.2.1")
            self.assertEqual(self.names.asked, [("www.example.com", each) for each in families])
        self.assertEqual(self.asked(), ["192.0.2.1"] * 2)

    def test_noAddress(self) -> None:
        """A name without any address is a host that cannot be reached."""
        dial = self.upstream.connect(FAKE4)
        self.names.answer()
        self.names.answer()
        self.failureResultOf(dial, NameUnknown)

    def test_noServer(self) -> None:
        """The error of a lookup is the dial's, if the other family's lookup finds nothing."""
        for last in (lambda: self.names.fail(UpstreamError("still none")), self.names.answer):
            dial = self.upstream.connect(FAKE4)
            self.names.fail(UpstreamError("no DNS"))
            last()
            self.assertEqual(str(self.failureResultOf(dial, UpstreamError).value), "no DNS")

    def test_otherLookup(self) -> None:
        """After a lookup that failed the other family is looked up and dialled."""
        self.upstream.connect(FAKE6)
        self.names.fail(UpstreamError("no DNS"))
        self.names.answer("192.0.2.1")
        self.assertEqual(self.asked(), ["192.0.2.1"])

    def test_otherAddresses(self) -> None:
        """If all addresses of one family failed, those of the other family are dialled."""
        dial = self.upstream.connect(FAKE6)
        self.names.answer("2001:db8::1")
        self.inner.fail(FamilyUnsupported("no IPv6"))
        self.names.answer("192.0.2.1")
        self.assertEqual(self.asked(), ["2001:db8::1", "192.0.2.1"])
        self.inner.fail(UpstreamRefused("refused"))
        self.failureResultOf(dial, UpstreamRefused)

    def test_reason(self) -> None:
        """An unreachable network does not replace an error that says more."""
        for last in (FamilyUnsupported("no IPv6"), UpstreamNetUnreachable("no IPv6")):
            dial = self.upstream.connect(FAKE4)
            self.names.answer("192.0.2.1")
            self.inner.fail(UpstreamRefused("refused"))
            self.names.answer("2001:db8::1")
            self.inner.fail(last)
            self.failureResultOf(dial, UpstreamRefused)

    def test_proxyFault(self) -> None:
        """If the proxy is at fault the other family is not tried."""
        dial = self.upstream.connect(FAKE4)
        self.names.answer("192.0.2.1")
        self.inner.fail(ProxyError("no proxy"))
        self.failureResultOf(dial, ProxyError)
        self.assertEqual(self.names.pending, 0)

    def test_next(self) -> None:
        """A few addresses are tried in turn; the last error counts."""
        dial = self.upstream.connect(FAKE4)
        hosts = [f"192.0.2.{number}" for number in range(1, 9)]
        self.names.answer(*hosts)
        for number in range(ATTEMPTS):
            self.assertNoResult(dial)
            self.inner.fail(UpstreamRefused(str(number)))
        self.assertEqual(self.asked(), hosts[:ATTEMPTS])
        self.names.answer()
        self.assertEqual(str(self.failureResultOf(dial, UpstreamRefused).value), str(ATTEMPTS - 1))

    def test_timeout(self) -> None:
        """After a timeout no other address is tried: the app has waited enough."""
        dial = self.upstream.connect(FAKE4)
        self.names.answer("192.0.2.1", "192.0.2.2")
        self.inner.fail(UpstreamTimeout("late"))
        self.failureResultOf(dial, UpstreamTimeout)

    def test_cancelledLookup(self) -> None:
        """Cancelled during the lookup, it cancels the lookup and dials nothing."""
        dial = self.upstream.connect(FAKE4)
        dial.cancel()
        self.failureResultOf(dial, CancelledError)
        self.assertEqual((self.names.pending, self.inner.asked), (0, []))

    def test_cancelledDial(self) -> None:
        """Cancelled while dialling, it cancels that dial and tries no other address."""
        dial = self.upstream.connect(FAKE4)
        self.names.answer("192.0.2.1", "192.0.2.2")
        dial.cancel()
        self.failureResultOf(dial, CancelledError)
        self.assertEqual((self.inner.cancelled, self.asked()), (1, ["192.0.2.1"]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_deadline(self) -> None:
        """Lookups and dials together have the time of one connect."""
        dial = self.upstream.connect(FAKE4)
        self.clock.advance(TIMEOUT / 2)
        self.names.answer("192.0.2.1", "192.0.2.2")
        self.clock.advance(TIMEOUT / 4)
        self.inner.fail(UpstreamRefused("refused"))
        self.clock.advance(TIMEOUT / 4 - 1)
        self.assertNoResult(dial)
        self.clock.advance(1)
        error = self.failureResultOf(dial, DestinationSilent)
        self.assertIn("www.example.com", str(error.value))
        self.assertEqual((self.inner.cancelled, self.asked()), (1, ["192.0.2.1", "192.0.2.2"]))

    def test_deadlineOfLookup(self) -> None:
        """A lookup that takes too long is cancelled."""
        dial = self.upstream.connect(FAKE4)
        self.clock.advance(TIMEOUT)
        self.failureResultOf(dial, DestinationSilent)
        self.assertEqual((self.names.pending, self.inner.asked), (0, []))

    def test_noTimer(self) -> None:
        """No timer is left, however the dial ended."""
        self.upstream.connect(FAKE4).addErrback(lambda reason: None)
        self.names.answer("192.0.2.1")
        self.inner.fail(UpstreamTimeout("late"))
        dial = self.upstream.connect(FAKE4)
        self.names.answer("192.0.2.1")
        self.addCleanup(self.inner.answer().close)
        os.close(self.successResultOf(dial).fd)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_unexpected(self) -> None:
        """A lookup that is answered after the end is an error that names the state."""
        dial = NamedDial(self.inner, self.names, "a.example", FAKE4, self.clock, TIMEOUT)
        answered: list[Deferred[list[str]]] = []

        def resolve(name: str, family: int) -> Deferred[list[str]]:
            answered.append(Deferred(lambda lookup: lookup.callback(["192.0.2.1"])))
            return answered[-1]

        self.patch(self.names, "resolve", resolve)
        dial.start()
        dial.deferred.cancel()
        self.failureResultOf(dial.deferred, CancelledError)
        error = self.failureResultOf(answered[0], UnexpectedEvent)
        self.assertIn("cancelled", str(error.value))
        self.assertEqual(self.inner.asked, [])
