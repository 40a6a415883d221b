"""
Tests for L{nanotun.upstream.pool.lifetimes}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.upstream.pool.lifetimes import (
    AGE_LIMIT,
    ALIKE_ENDS,
    BAD_LIMIT,
    EVENTS,
    LOST_LIMIT,
    RELEARN_TIME,
    SAFE_SHARE,
    Lifetimes,
)


class LifetimesTests(SynchronousTestCase):
    """
    Tests for the rules of L{Lifetimes}.
    """

    def setUp(self) -> None:
        """Begin without any experience."""
        self.known = Lifetimes()
        self.now = 1000.0

    def end(self, *ages: float, lost: bool = False) -> None:
        """Connections of these ages end, a minute apart."""
        for age in ages:
            self.now += 60
            self.known.ended(age, self.now, lost)

    def test_learns(self) -> None:
        """
        Ends at about the same age show the proxy's limit, and connections are used well
        before it.
        """
        self.end(*[10.2, 10.0, 10.4][: ALIKE_ENDS - 1])
        self.assertEqual(self.known.limit, AGE_LIMIT)
        self.end(10.4)
        self.assertAlmostEqual(self.known.limit, SAFE_SHARE * 10.0, places=6)
        self.assertFalse(self.known.disliked)

    def test_unlike(self) -> None:
        """
        Ends at very different ages show no limit.
        """
        self.end(3, 9, 25, 4, 12)
        self.assertEqual(self.known.limit, AGE_LIMIT)

    def test_oneEvent(self) -> None:
        """
        Connections that end together are one event, as when a proxy restarts.
        """
        for _ in range(EVENTS * 4):
            self.known.ended(5.0, self.now, False)
        self.assertEqual((self.known.limit, self.known.disliked), (AGE_LIMIT, False))

    def test_away(self) -> None:
        """
        Ends just before the proxy was away teach nothing.
        """
        for _ in range(ALIKE_ENDS * 2):
            self.end(10.0)
            self.known.away()
        self.assertEqual(self.known.limit, AGE_LIMIT)

    def test_tooShort(self) -> None:
        """
        A proxy that ends connections at once is disliked.
        """
        self.end(*[0.1] * ALIKE_ENDS)
        self.assertTrue(self.known.disliked)

    def test_mostEnd(self) -> None:
        """
        So is a proxy that ends most of them, but not one where most of them are used.
        """
        ages = [3.0, 9.0, 25.0]
        for turn in range(EVENTS):
            self.end(ages[turn % 3])
            self.known.worked()
        self.assertFalse(self.known.disliked)
        for turn in range(BAD_LIMIT):
            self.end(ages[turn % 3])
        self.assertTrue(self.known.disliked)

    def test_lost(self) -> None:
        """
        So is a proxy that loses several requests in a row; one that is answered ends the row.
        """
        self.end(1, 5, lost=True)
        self.known.worked()
        self.end(2, 9, lost=True)
        self.assertFalse(self.known.disliked)
        self.end(25, lost=True)
        self.assertTrue(self.known.disliked)
        self.assertEqual(LOST_LIMIT, 3)

    def test_relearns(self) -> None:
        """
        After a while longer lives are tried, up to the initial limit, which forgetting
        restores at once.
        """
        self.end(*[10.0] * ALIKE_ENDS)
        before = self.known.limit
        self.known.lived(self.now + RELEARN_TIME - 1)
        self.assertEqual(self.known.limit, before)
        for turn in range(1, 9):
            self.known.lived(self.now + RELEARN_TIME * turn)
        self.assertEqual(self.known.limit, AGE_LIMIT)
        self.end(*[10.0] * ALIKE_ENDS)
        self.known.forget()
        self.assertEqual(self.known.limit, AGE_LIMIT)
