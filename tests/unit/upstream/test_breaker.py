"""
Tests for L{nanotun.upstream.group.breaker}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import UnexpectedEvent
from nanotun.timer import backOff
from nanotun.upstream.group import breaker
from nanotun.upstream.group.breaker import (
    BACKOFF_FIRST,
    BACKOFF_LIMIT,
    FAULTS,
    STEADY_TIME,
    SUCCESSES,
    TRANSITIONS,
    Breaker,
    BreakerEvent,
    BreakerState,
)


def makeBreaker(chance: float) -> Breaker:
    """A breaker with this chance."""
    return Breaker(backOff(BACKOFF_FIRST, BACKOFF_LIMIT, lambda: chance))


class BreakerTests(SynchronousTestCase):
    """
    Tests for L{Breaker}.
    """

    #: Events and the states after each: f is a fault, s a success, c a check after the
    #: back-off, e a check before its end.
    TABLE = (
        ("s", "C"),
        ("fff", "CCO"),
        # Only faults in a row count.
        ("ffsfff", "CCCCCO"),
        # Open: neither a fault nor a check during the back-off changes the state.
        ("fffffe", "CCOOOO"),
        ("fffc", "CCOH"),
        ("fffcss", "CCOHHC"),
        ("fffcf", "CCOHO"),
        ("fffcsf", "CCOHHO"),
        # A flow that succeeds counts like a check.
        ("fffss", "CCOHC"),
        # A success before the fault is forgotten.
        ("fffcsfcs", "CCOHHOHH"),
        # Closed again, it takes as many faults as at first.
        ("fffcssfff", "CCOHHCCCO"),
        # A check does not change a closed breaker.
        ("ffcf", "CCCO"),
    )

    def test_table(self) -> None:
        """
        Each sequence of events leads through the states that it should.
        """
        letters = {BreakerState.CLOSED: "C", BreakerState.OPEN: "O", BreakerState.HALF_OPEN: "H"}
        for events, expected in self.TABLE:
            one, now, states = makeBreaker(0.5), 0.0, ""
            for event in events:
                if event == "f":
                    one.failed(now)
                elif event == "s":
                    one.succeeded(now)
                elif event == "e":
                    one.checking(one.retryAt - 0.01)
                else:
                    now = max(now, one.retryAt)
                    one.checking(now)
                states += letters[one.state]
            self.assertEqual(states, expected, events)

    def test_unexpected(self) -> None:
        """
        Every state has an entry for a success, a fault of some kind and a check; a state
        without an entry for an event raises an error that names both.
        """
        for state in BreakerState:
            self.assertIn((state, BreakerEvent.SUCCESS), TRANSITIONS)
            self.assertIn((state, BreakerEvent.CHECK), TRANSITIONS)
            kinds = {BreakerEvent.FAULT, BreakerEvent.TRIPPED}
            self.assertTrue({event for each, event in TRANSITIONS if each is state} & kinds)
        self.patch(breaker, "TRANSITIONS", {})
        error = self.assertRaises(UnexpectedEvent, makeBreaker(0.5).succeeded, 0.0)
        self.assertIn("success in the state closed", str(error))

    def backOffs(self, chance: float, count: int) -> list[float]:
        """The back-offs of an upstream that stays down."""
        one, now, found = makeBreaker(chance), 1000.0, []
        for _ in range(FAULTS):
            one.failed(now)
        for _ in range(count):
            found.append(one.retryAt - now)
            now = one.retryAt
            one.checking(now)
            one.failed(now)
        return found

    def test_backOff(self) -> None:
        """
        Each back-off is twice the one before, up to the limit; chance takes away up to
        half of it.
        """
        whole = self.backOffs(1.0, 100)
        self.assertEqual(whole[:4], [BACKOFF_FIRST * factor for factor in (1, 2, 4, 8)])
        self.assertEqual(set(whole[5:]), {BACKOFF_LIMIT})
        half = self.backOffs(0.0, 100)
        self.assertEqual([2 * each for each in half], whole)

    def afterRecovery(self, steady: float) -> float:
        """The back-off of an upstream that recovered and failed again after so long."""
        one = makeBreaker(1.0)
        for _ in range(FAULTS):
            one.failed(0.0)
        for _ in range(SUCCESSES):
            one.succeeded(10.0)
        self.assertIs(one.state, BreakerState.CLOSED)
        for _ in range(FAULTS):
            one.failed(10.0 + steady)
        return one.retryAt - 10.0 - steady

    def test_certain(self) -> None:
        """
        A fault that is certain opens it without others.
        """
        breaker = Breaker(lambda openings: 2.0)
        breaker.failed(10.0, certain=True)
        self.assertEqual((breaker.state, breaker.retryAt), (BreakerState.OPEN, 12.0))

    def test_flapping(self) -> None:
        """
        An upstream that soon fails again gets a longer back-off; one that worked for long
        starts with the first.
        """
        self.assertEqual(self.afterRecovery(STEADY_TIME), 2 * BACKOFF_FIRST)
        self.assertEqual(self.afterRecovery(STEADY_TIME + 1), BACKOFF_FIRST)
