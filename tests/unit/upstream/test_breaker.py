"""
Tests for L{nanotun.upstream.group.breaker}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.upstream.group.breaker import (
    BACKOFF_FIRST,
    BACKOFF_LIMIT,
    FAULTS,
    STEADY_TIME,
    SUCCESSES,
    Breaker,
    State,
)


class BreakerTests(SynchronousTestCase):
    """
    Tests for L{Breaker}.
    """

    #: Events and the states after each: f is a fault, s a success, c a check that
    #: begins when its time has come, e one that begins too early.
    TABLE = (
        ("s", "C"),
        ("fff", "CCO"),
        # Only faults in a row count.
        ("ffsfff", "CCCCCO"),
        # Open: neither a fault nor a check before its time changes a thing.
        ("fffffe", "CCOOOO"),
        ("fffc", "CCOH"),
        ("fffcss", "CCOHHC"),
        ("fffcf", "CCOHO"),
        ("fffcsf", "CCOHHO"),
        # A flow that got through counts like a check.
        ("fffss", "CCOHC"),
        # One success before is forgotten.
        ("fffcsfcs", "CCOHHOHH"),
        # Closed again, it takes as many faults as ever.
        ("fffcssfff", "CCOHHCCCO"),
        # A check says nothing of a closed one.
        ("ffcf", "CCCO"),
    )

    def test_table(self) -> None:
        """
        Each event leads to the state that the module's table says.
        """
        letters = {State.CLOSED: "C", State.OPEN: "O", State.HALF_OPEN: "H"}
        for events, expected in self.TABLE:
            breaker, now, states = Breaker(lambda: 0.5), 0.0, ""
            for event in events:
                if event == "f":
                    breaker.failed(now)
                elif event == "s":
                    breaker.succeeded(now)
                elif event == "e":
                    breaker.checking(breaker.retryAt - 0.01)
                else:
                    now = max(now, breaker.retryAt)
                    breaker.checking(now)
                states += letters[breaker.state]
            self.assertEqual(states, expected, events)

    def backOffs(self, chance: float, count: int) -> list[float]:
        """The back-offs of a proxy that stays down."""
        breaker, now, found = Breaker(lambda: chance), 1000.0, []
        for _ in range(FAULTS):
            breaker.failed(now)
        for _ in range(count):
            found.append(breaker.retryAt - now)
            now = breaker.retryAt
            breaker.checking(now)
            breaker.failed(now)
        return found

    def test_backOff(self) -> None:
        """
        Each back-off is twice the one before, up to the limit, with jitter.
        """
        whole = self.backOffs(1.0, 100)
        self.assertEqual(whole[:4], [BACKOFF_FIRST * factor for factor in (1, 2, 4, 8)])
        self.assertEqual(set(whole[5:]), {BACKOFF_LIMIT})
        half = self.backOffs(0.0, 100)
        self.assertEqual([2 * each for each in half], whole)

    def afterRecovery(self, steady: float) -> float:
        """The back-off of one that was closed for so long since its first."""
        breaker = Breaker(lambda: 1.0)
        for _ in range(FAULTS):
            breaker.failed(0.0)
        for _ in range(SUCCESSES):
            breaker.succeeded(10.0)
        self.assertIs(breaker.state, State.CLOSED)
        for _ in range(FAULTS):
            breaker.failed(10.0 + steady)
        return breaker.retryAt - 10.0 - steady

    def test_flapping(self) -> None:
        """
        Who fails again soon waits longer; who was well for long begins anew.
        """
        self.assertEqual(self.afterRecovery(STEADY_TIME), 2 * BACKOFF_FIRST)
        self.assertEqual(self.afterRecovery(STEADY_TIME + 1), BACKOFF_FIRST)
