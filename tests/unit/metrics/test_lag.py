"""Tests of L{nanotun.metrics.lag}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.metrics.lag import INTERVAL, WATCHED_TIME, ReactorLag


class ReactorLagTests(SynchronousTestCase):
    """L{ReactorLag}."""

    def setUp(self) -> None:
        """A meter that nobody looks at."""
        self.clock = Clock()
        self.lag = ReactorLag(self.clock)

    def test_late(self) -> None:
        """What is measured is how much later than due the timer is called."""
        self.lag.watched()
        self.clock.advance(INTERVAL)
        self.clock.advance(INTERVAL + 0.5)
        self.assertEqual(sum(self.lag.durations.counts), 2)
        self.assertAlmostEqual(self.lag.durations.total, 0.5)

    def test_unwatched(self) -> None:
        """Nothing is measured before somebody looks, and no longer than they go on looking."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.lag.watched()
        self.clock.pump([INTERVAL] * int(WATCHED_TIME - 1))
        self.lag.watched()
        self.clock.pump([INTERVAL] * int(WATCHED_TIME - 1))
        self.assertTrue(self.lag.active)
        self.clock.pump([INTERVAL] * 2)
        self.assertFalse(self.lag.active)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.lag.watched()
        self.assertTrue(self.lag.active)

    def test_once(self) -> None:
        """However many look, there is one measurement in each interval."""
        for _ in range(5):
            self.lag.watched()
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_stop(self) -> None:
        """Nothing is left after the stop."""
        self.lag.watched()
        self.lag.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
