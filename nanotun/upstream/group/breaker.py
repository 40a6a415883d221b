"""
The circuit breaker of one upstream: whether new flows should go by it.

States::

    CLOSED     success                        -> CLOSED; earlier faults are forgotten
               fault, fewer than FAULTS       -> CLOSED
               fault, the last of FAULTS      -> OPEN for a back-off
    OPEN       its time came, a check begins  -> HALF_OPEN
               success                        -> HALF_OPEN with one success
               fault                          -> OPEN
    HALF_OPEN  success, fewer than SUCCESSES  -> HALF_OPEN
               success, the last of SUCCESSES -> CLOSED
               fault                          -> OPEN for a longer back-off

Flows prefer CLOSED upstreams.  Nothing here knows the time; it is passed in,
as seconds of any one clock.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable

#: Faults in a row.  One may be a restart, and two a coincidence.
FAULTS = 3

#: Successes in a row, so that a proxy that is only just up does not swing flows
#: to and fro.
SUCCESSES = 2

#: Seconds of the first back-off and the longest.  Each is twice the one before;
#: what counts is between half of it and all, so that daemons that lost a proxy
#: together do not come back together.
BACKOFF_FIRST = 2.0
BACKOFF_LIMIT = 60.0

#: Seconds.  Who fails again sooner than this after a recovery did not recover,
#: and its back-off goes on where it was.
STEADY_TIME = 120.0


class State(enum.Enum):
    """See the table above."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half open"


class Breaker:
    """
    One breaker.

    @ivar faults: how many came in a row while it is closed.
    @ivar retryAt: when an open one is to be checked again.
    @param chance: C{random.random}, for the back-off.
    """

    __slots__ = ("_chance", "_closedAt", "_openings", "_successes", "faults", "retryAt", "state")

    def __init__(self, chance: Callable[[], float]) -> None:
        self.state = State.CLOSED
        self.faults = 0
        self.retryAt = -math.inf
        self._chance = chance
        self._closedAt = -math.inf
        self._openings = 0
        self._successes = 0

    def succeeded(self, now: float) -> None:
        """A handshake went through."""
        self.faults = 0
        if self.state is State.CLOSED:
            return
        if self.state is State.OPEN:
            self._halfOpen()
        self._successes += 1
        if self._successes >= SUCCESSES:
            self.state = State.CLOSED
            self._closedAt = now

    def failed(self, now: float) -> None:
        """A handshake failed, and the upstream is at fault."""
        if self.state is State.HALF_OPEN:
            self._open(now)
        elif self.state is State.CLOSED:
            self.faults += 1
            if self.faults >= FAULTS:
                if now - self._closedAt > STEADY_TIME:
                    self._openings = 0
                self._open(now)

    def checking(self, now: float) -> None:
        """A check begins."""
        if self.state is State.OPEN and now >= self.retryAt:
            self._halfOpen()

    def _halfOpen(self) -> None:
        self.state = State.HALF_OPEN
        self._successes = 0

    def _open(self, now: float) -> None:
        # The exponent is bounded as well: a proxy may be down for years.
        whole = min(BACKOFF_LIMIT, BACKOFF_FIRST * 2.0 ** min(self._openings, 16))
        self._openings += 1
        self.faults = 0
        self.state = State.OPEN
        self.retryAt = now + whole * (1.0 + self._chance()) / 2.0
