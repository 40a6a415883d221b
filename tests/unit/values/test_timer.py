"""Tests of L{nanotun.timer}."""

from __future__ import annotations

import time

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.timer import Durations, Timer, backOff, steadyReactor
from tests.garbage import garbageOf


class TimerTests(SynchronousTestCase):
    """L{Timer}."""

    def setUp(self) -> None:
        """A timer that counts its calls."""
        self.clock = Clock()
        self.calls = 0
        self.timer = Timer(self.clock, self.called)

    def called(self) -> None:
        """One call; the timer is at rest by now."""
        self.assertFalse(self.timer.active)
        self.calls += 1

    def test_calls(self) -> None:
        """It calls once, when its time has come."""
        self.timer.start(2.0)
        self.clock.advance(1.9)
        self.assertEqual((self.calls, self.timer.active), (0, True))
        self.clock.advance(0.2)
        self.clock.advance(10.0)
        self.assertEqual((self.calls, self.timer.active), (1, False))

    def test_cancel(self) -> None:
        """A cancelled timer does not call and leaves nothing with the clock."""
        self.timer.start(1.0)
        self.timer.cancel()
        self.assertEqual((self.clock.getDelayedCalls(), self.timer.active), ([], False))

    def test_cancelIdle(self) -> None:
        """Cancelling is harmless before the first start and after the call."""
        self.timer.cancel()
        self.timer.start(1.0)
        self.clock.advance(1.0)
        self.timer.cancel()
        self.assertEqual(self.calls, 1)

    def test_restart(self) -> None:
        """Starting anew replaces the call that was still to come."""
        self.timer.start(1.0)
        self.timer.start(5.0)
        self.clock.advance(4.9)
        self.assertEqual(self.calls, 0)
        self.clock.advance(0.1)
        self.assertEqual(self.calls, 1)

    def test_again(self) -> None:
        """The function may start the timer again."""
        timer = Timer(self.clock, lambda: timer.start(1.0))
        timer.start(1.0)
        self.clock.advance(1.0)
        self.assertTrue(timer.active)

    def test_close(self) -> None:
        """A closed timer does not call, and cannot be started; closing twice is harmless."""
        self.timer.start(1.0)
        for _ in range(2):
            self.timer.close()
            self.assertEqual((self.clock.getDelayedCalls(), self.timer.active), ([], False))
        self.timer.cancel()
        self.assertRaises(RuntimeError, self.timer.start, 1.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closeInCall(self) -> None:
        """The function may close the timer."""
        timer = Timer(self.clock, lambda: timer.close())
        timer.start(1.0)
        self.clock.advance(1.0)
        self.assertRaises(RuntimeError, timer.start, 1.0)

    def test_forgets(self) -> None:
        """A closed timer does not keep its owner alive."""

        class Owner:
            def __init__(self, clock: Clock) -> None:
                self.timer = Timer(clock, self.called)

            def called(self) -> None:
                """Never called."""

        def closed() -> None:
            Owner(self.clock).timer.close()

        self.assertEqual(garbageOf(closed), [])


class BackOffTests(SynchronousTestCase):
    """L{backOff}."""

    def test_doubles(self) -> None:
        """Each delay is twice the one before, up to the limit, however many there were."""
        delay = backOff(2.0, 60.0, lambda: 1.0)
        self.assertEqual(
            [delay(attempt) for attempt in (0, 1, 2, 4, 5, 10**9)],
            [2.0, 4.0, 8.0, 32.0, 60.0, 60.0],
        )

    def test_chance(self) -> None:
        """Chance takes away up to half of a delay."""
        self.assertEqual(backOff(2.0, 60.0, lambda: 0.0)(1), 2.0)
        self.assertEqual(backOff(2.0, 60.0, lambda: 0.5)(1), 3.0)


class DurationsTests(SynchronousTestCase):
    """L{Durations}."""

    def test_ranges(self) -> None:
        """Each is counted in the range that it ends at most, and the longest ones apart."""
        durations = Durations((0.1, 1.0))
        for seconds in (0.0, 0.1, 0.2, 1.0, 1.5):
            durations.add(seconds)
        self.assertEqual(durations.counts, [2, 2, 1])
        self.assertAlmostEqual(durations.total, 2.8)

    def test_several(self) -> None:
        """Several of the same length count as often."""
        durations = Durations((0.1, 1.0))
        durations.add(0.5, 4)
        self.assertEqual((durations.counts, durations.total), ([0, 4, 0], 2.0))

    def test_together(self) -> None:
        """The sum of two has what both have, and leaves them as they are."""
        one, other = Durations((0.1, 1.0)), Durations((0.1, 1.0))
        one.add(0.5)
        other.add(2.0, 2)
        both = one + other
        self.assertEqual((both.counts, both.total), ([0, 1, 2], 4.5))
        self.assertEqual(one.counts, [0, 1, 0])


class SteadyReactorTests(SynchronousTestCase):
    """L{steadyReactor}."""

    def test_clock(self) -> None:
        """Its calls wait on the monotonic clock."""
        reactor = steadyReactor()
        call = reactor.callLater(60.0, self.fail)
        self.addCleanup(call.cancel)
        self.assertLess(abs(call.getTime() - time.monotonic()), 61.0)
