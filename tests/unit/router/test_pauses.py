"""
Tests for L{nanotun.router.udp.pauses}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.router.udp.pauses import ENDS, MEMORY, PAUSE_FIRST, PAUSE_LIMIT, RECORDS_LIMIT, Pauses


class PausesTests(SynchronousTestCase):
    """
    Tests for L{Pauses}.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        self.pauses = Pauses()

    def end(self, now: float, times: int = 1) -> None:
        """Young associations end."""
        for _ in range(times):
            self.pauses.ended("who", now)

    def assertPause(self, start: float, seconds: float) -> None:
        """A pause has begun, and lasts for C{seconds}."""
        self.assertTrue(self.pauses.holds("who", start + seconds - 0.01))
        self.assertFalse(self.pauses.holds("who", start + seconds))

    def test_ends(self) -> None:
        """
        A few ends in a row make no pause; after that each end makes one, longer each time.
        """
        self.end(0, ENDS - 1)
        self.assertFalse(self.pauses.holds("who", 0))
        now, seconds = 1.0, PAUSE_FIRST
        for _ in range(10):
            self.end(now)
            self.assertPause(now, seconds)
            now, seconds = now + seconds, min(2 * seconds, PAUSE_LIMIT)
        self.assertEqual(seconds, PAUSE_LIMIT)

    def test_together(self) -> None:
        """
        Ends during a pause do not make it longer.
        """
        self.end(0, 100)
        self.end(PAUSE_FIRST / 2)
        self.assertPause(0, PAUSE_FIRST)

    def test_matured(self) -> None:
        """
        An association that matures makes earlier ends forgotten.
        """
        self.pauses.matured("who")
        self.end(0, ENDS)
        self.end(PAUSE_FIRST)
        self.pauses.matured("who")
        self.assertEqual(len(self.pauses), 0)
        self.end(PAUSE_FIRST, ENDS - 1)
        self.assertFalse(self.pauses.holds("who", PAUSE_FIRST))

    def test_others(self) -> None:
        """
        The ends of one source do not pause another.
        """
        self.end(0, ENDS)
        self.assertFalse(self.pauses.holds("another", 0))

    def test_forgotten(self) -> None:
        """
        Old ends are forgotten, and so are the oldest when there are too many.
        """
        self.end(0, ENDS)
        self.pauses.ended("another", MEMORY)
        self.assertEqual(len(self.pauses), 1)
        for number in range(RECORDS_LIMIT):
            self.pauses.ended(number, MEMORY)
        self.assertEqual(len(self.pauses), RECORDS_LIMIT)
