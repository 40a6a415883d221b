"""
Tests for L{nanotun.gateway.dns.backoff}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns.backoff import Backoff


class BackoffTests(SynchronousTestCase):
    """Tests for L{Backoff}."""

    def test_none(self) -> None:
        """Without delays there is never a pause."""
        backoff = Backoff()
        backoff.failed(5.0)
        self.assertFalse(backoff.isPaused(5.0))

    def test_longer(self) -> None:
        """Each pause is the delay for the failures before it, until the server works."""
        backoff = Backoff(lambda failures: 1.0 + failures)
        self.assertFalse(backoff.isPaused(0.0))
        for now, until in ((0.0, 1.0), (1.0, 3.0), (10.0, 13.0)):
            backoff.failed(now)
            self.assertTrue(backoff.isPaused(until - 0.1))
            self.assertFalse(backoff.isPaused(until))
        backoff.failed(13.0)
        backoff.worked()
        self.assertFalse(backoff.isPaused(13.0))
        backoff.failed(13.0)
        self.assertFalse(backoff.isPaused(14.0))

    def test_together(self) -> None:
        """Failures in a pause make it no longer, nor the one after it."""
        backoff = Backoff(lambda failures: 1.0 + failures)
        for _ in range(5):
            backoff.failed(0.0)
        self.assertFalse(backoff.isPaused(1.0))
        backoff.failed(1.0)
        self.assertFalse(backoff.isPaused(3.0))
