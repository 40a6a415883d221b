"""
Tests for L{nanotun.upstream.group.tries} and L{nanotun.upstream.group.outcomes}, with the
connections of a group.
"""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.python.failure import Failure

from nanotun.errors import (
    AuthenticationError,
    DestinationSilent,
    FamilyUnsupported,
    HandshakeError,
    NameUnknown,
    ProxyError,
    UpstreamError,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamProhibited,
    UpstreamRefused,
    UpstreamTimeout,
)
from nanotun.upstream.group.breaker import FAULTS
from nanotun.upstream.group.tries import PATIENCE
from tests.garbage import garbageOf
from tests.unit.upstream.group_cases import DESTINATION, TIMEOUT, GroupCase, fault


def _ignore(reason: Failure) -> None:
    """Any end is fine."""


class TriesTests(GroupCase):
    """
    Tests for L{nanotun.upstream.group.tries.Tries}.
    """

    count = 3

    def tearDown(self) -> None:
        """No timer is left."""
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_first(self) -> None:
        """
        If the first upstream opens the leg, no other is asked.
        """
        self.through(0)
        self.assertEqual(self.asked(), [1, 0, 0])

    def test_noGarbage(self) -> None:
        """
        However the tries end, nothing is left to the garbage collector.
        """
        a, b, _ = self.fakes

        def begin() -> Deferred[None]:
            dial = self.dial()
            return dial.addCallbacks(lambda leg: os.close(leg.fd), _ignore)

        def opened() -> None:
            begin()
            a.answer().close()

        def second() -> None:
            begin()
            self.clock.advance(PATIENCE)
            b.answer().close()

        def answered() -> None:
            begin()
            a.fail(UpstreamRefused("x"))

        def exhausted() -> None:
            begin()
            a.fail(FamilyUnsupported("x"))
            b.fail(FamilyUnsupported("x"))

        def expired() -> None:
            begin()
            self.clock.advance(TIMEOUT)

        def cancelled() -> None:
            begin().cancel()

        for end in (opened, second, answered, exhausted, cancelled, expired):
            self.assertEqual(garbageOf(end), [], end)

    def test_fault(self) -> None:
        """
        After a proxy's fault the next one is asked at once, for the same destination.
        """
        for error in (ProxyError("x"), HandshakeError("x"), AuthenticationError("x")):
            self.group = self.makeGroup()
            dial = self.dial()
            self.fakes[0].fail(error)
            self.answer(1)
            self.took(dial)
            self.assertEqual(self.member(0).breaker.faults, 1)
            self.assertEqual(self.member(1).breaker.faults, 0)
        self.assertEqual(self.fakes[1].asked, [DESTINATION] * 3)

    def test_once(self) -> None:
        """
        Only one more is asked, and the first error is the one that is raised.
        """
        dial = self.dial()
        self.fakes[0].fail(fault("a"))
        self.fakes[1].fail(fault("b"))
        self.assertEqual(str(self.failureResultOf(dial, ProxyError).value), str(fault("a")))
        self.assertEqual(self.asked(), [1, 1, 0])

    def test_failsAtOnce(self) -> None:
        """
        Upstreams that fail before the call returns count like any others.
        """

        def connect(destination: object) -> Deferred[object]:
            failed: Deferred[object] = Deferred()
            failed.errback(fault())
            return failed

        for fake in self.fakes[:2]:
            self.patch(fake, "connect", connect)
        self.failureResultOf(self.dial(), ProxyError)

    def test_destination(self) -> None:
        """
        An error of the destination is final, and not the proxy's fault.
        """
        kinds = (
            UpstreamRefused,
            UpstreamHostUnreachable,
            UpstreamNetUnreachable,
            UpstreamProhibited,
        )
        for kind in kinds * FAULTS:
            dial = self.dial()
            self.fakes[0].fail(kind("x"))
            self.failureResultOf(dial, kind)
        self.assertEqual(self.asked(), [len(kinds) * FAULTS, 0, 0])
        self.assertTrue(self.member(0).healthy)

    def test_destinationProvesHealth(self) -> None:
        """
        A proxy that reports an error of the destination works: earlier faults are forgotten.
        """
        for error in [fault()] * (FAULTS - 1) + [UpstreamRefused("x")] + [fault()] * (FAULTS - 1):
            dial = self.dial()
            self.fakes[0].fail(error)
            if type(error) is ProxyError:
                self.answer(1)
                self.took(dial)
            else:
                self.failureResultOf(dial)
        self.assertTrue(self.member(0).healthy)

    def test_outOfSockets(self) -> None:
        """
        Running out of sockets is final, and says nothing about a proxy.
        """
        self.group.members.failed(self.member(0), "why")
        dial = self.dial()
        self.fakes[0].fail(UpstreamError("no more sockets"))
        self.failureResultOf(dial, UpstreamError)
        self.assertEqual((self.asked(), self.member(0).breaker.faults), ([1, 0, 0], 1))

    def test_familyUnsupported(self) -> None:
        """
        An upstream that does not carry such addresses makes way for the next one, and
        nothing is learned about it.
        """
        self.group.members.failed(self.member(0), "why")
        dial = self.dial()
        self.fakes[0].fail(FamilyUnsupported("x"))
        self.answer(1)
        self.took(dial)
        self.assertEqual(self.member(0).breaker.faults, 1)
        self.assertIsNone(self.member(0).heardAt)

    def test_familyUnsupportedByAll(self) -> None:
        """
        If no upstream carries such addresses, that is the error; if another one does but
        is at fault, that fault is.
        """
        for error, kind in ((FamilyUnsupported("b"), FamilyUnsupported), (fault("b"), ProxyError)):
            dial = self.dial()
            self.fakes[0].fail(FamilyUnsupported("a"))
            self.fakes[1].fail(error)
            self.failureResultOf(dial, kind)
        self.assertEqual([self.member(each).breaker.faults for each in (0, 1)], [0, 1])

    def test_deadWithMixedFlows(self) -> None:
        """
        A dead proxy's breaker opens even if flows that it cannot carry come between flows
        that it could.
        """
        for error in [fault(), FamilyUnsupported("x")] * (FAULTS - 1) + [fault()]:
            self.assertTrue(self.member(0).healthy)
            dial = self.dial()
            self.fakes[0].fail(error)
            self.answer(1)
            self.took(dial)
        self.assertFalse(self.member(0).healthy)
        self.trouble.stop()

    def test_nameUnknown(self) -> None:
        """
        A name without addresses is final, and says nothing about a proxy.
        """
        self.group.members.failed(self.member(0), "why")
        dial = self.dial()
        self.fakes[0].fail(NameUnknown("x"))
        self.failureResultOf(dial, NameUnknown)
        self.assertEqual((self.asked(), self.member(0).breaker.faults), ([1, 0, 0], 1))

    def test_internalError(self) -> None:
        """
        An internal error ends the tries, and is raised as it is.
        """
        dial = self.dial()
        self.fakes[0].fail(KeyError("x"))  # type: ignore[arg-type]
        self.failureResultOf(dial, KeyError)

    def test_silent(self) -> None:
        """
        If the first upstream is silent, the second one is asked as well. The one that
        opens the leg wins; the other is cancelled and was at fault.
        """
        dial = self.dial()
        self.clock.advance(PATIENCE - 0.1)
        self.assertEqual(self.asked(), [1, 0, 0])
        self.clock.advance(0.1)
        self.assertEqual(self.asked(), [1, 1, 0])
        self.answer(1)
        self.took(dial)
        self.assertEqual(self.fakes[0].cancelled, 1)
        self.assertEqual(self.member(0).breaker.faults, 1)
        self.assertEqual(self.member(0).latency, PATIENCE)

    def test_slow(self) -> None:
        """
        A first upstream that is only slow may still open the leg.
        """
        dial = self.dial()
        self.clock.advance(PATIENCE)
        self.clock.advance(1.0)
        self.answer(0)
        self.took(dial)
        self.assertEqual(self.fakes[1].cancelled, 1)
        self.assertEqual(self.member(0).latency, PATIENCE + 1)

    def test_secondFails(self) -> None:
        """
        The second one's fault does not end the tries, but an error of the destination
        that it reports does.
        """
        dial = self.dial()
        self.clock.advance(PATIENCE)
        self.fakes[1].fail(fault("b"))
        self.assertNoResult(dial)
        self.answer(0)
        self.took(dial)
        dial = self.dial()
        self.clock.advance(PATIENCE)
        self.fakes[1].fail(UpstreamRefused("x"))
        self.failureResultOf(dial, UpstreamRefused)
        self.assertEqual(self.fakes[0].cancelled, 1)

    def test_deadline(self) -> None:
        """
        All tries share one deadline.
        """
        dial = self.dial()
        self.clock.advance(PATIENCE)
        self.clock.advance(TIMEOUT - PATIENCE - 0.1)
        self.assertNoResult(dial)
        self.clock.advance(0.2)
        error = self.failureResultOf(dial, DestinationSilent).value
        self.assertEqual(
            str(error),
            "No answer about 192.0.2.1:443 came within 10 s from a or b; most likely the "
            "destination is filtered or down.",
        )
        self.assertTrue(error.news)
        self.assertEqual([fake.cancelled for fake in self.fakes], [1, 1, 0])
        # Perhaps the destination is silent.
        self.assertEqual([self.member(each).breaker.faults for each in (0, 1)], [0, 0])

    def test_shortDeadline(self) -> None:
        """
        If the whole time is short, the second upstream is asked after half of it.
        """
        self.group = self.makeGroup(2.0)
        dial = self.dial()
        self.clock.advance(1.0)
        self.assertEqual(self.asked(), [1, 1, 0])
        dial.cancel()
        self.failureResultOf(dial, CancelledError)

    def test_ownDeadline(self) -> None:
        """
        After an upstream's own deadline the next one is asked, if time is left.
        """
        dial = self.dial()
        self.clock.advance(1.0)
        self.fakes[0].fail(UpstreamTimeout("x"))
        self.assertEqual(self.asked(), [1, 1, 0])
        self.answer(1)
        self.took(dial)
        self.assertEqual(self.member(0).breaker.faults, 0)

    def test_cancel(self) -> None:
        """
        Cancelling cancels every upstream that is being asked.
        """
        dial = self.dial()
        self.clock.advance(PATIENCE)
        dial.cancel()
        self.failureResultOf(dial, CancelledError)
        self.assertEqual([fake.cancelled for fake in self.fakes], [1, 1, 0])

    def test_noPatienceWithThoseDown(self) -> None:
        """
        An upstream that is down is asked after a fault, but not because another is silent.
        """
        for index in (1, 2):
            self.bringDown(index)
        self.trouble.stop()
        dial = self.dial()
        self.clock.advance(PATIENCE)
        self.assertEqual(self.asked(), [1, 0, 0])
        self.fakes[0].fail(fault())
        self.assertEqual(self.asked(), [1, 1, 0])
        self.fakes[1].fail(fault())
        self.failureResultOf(dial, ProxyError)

    def test_destinationOfLoser(self) -> None:
        """
        An error from an upstream that was cancelled is ignored.
        """
        lost: Deferred[object] = Deferred(lambda dial: dial.errback(Failure(UpstreamRefused("x"))))
        self.patch(self.fakes[0], "connect", lambda destination: lost)
        dial = self.dial()
        self.clock.advance(PATIENCE)
        self.answer(1)
        self.took(dial)
        self.assertEqual(self.member(0).breaker.faults, 1)


class PlannedTriesTests(TriesTests):
    """The same, with the first dial by a plan."""

    plans = True

    def test_failsAtOnce(self) -> None:
        """
        An upstream that fails before its C{connect} returns counts like any other.
        """
        self.patch(self.fakes[1], "connect", lambda destination: fail(fault("b")))
        dial = self.dial()
        self.fakes[0].fail(fault("a"))
        self.assertEqual(str(self.failureResultOf(dial, ProxyError).value), str(fault("a")))
