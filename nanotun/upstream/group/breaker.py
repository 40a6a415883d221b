"""
The circuit breaker of one upstream: whether new flows should use it.

Flows prefer upstreams whose breaker is closed.  An open breaker closes again after
L{SUCCESSES}, of checks or flows.  Nothing here knows the time; it is passed in, as
seconds of any one clock.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable

from nanotun.errors import UnexpectedEvent

#: Faults in a row that open the breaker.  One may be a restart, and two a coincidence.
FAULTS = 3

#: Successes in a row that close it, so that a proxy that has only just started does
#: not swing flows back and forth.
SUCCESSES = 2

#: Seconds of the first back-off and of the longest.
BACKOFF_FIRST = 2.0
BACKOFF_LIMIT = 60.0

#: Seconds.  An upstream that fails again sooner than this after a recovery did not
#: really recover, and its back-off continues where it was.
STEADY_TIME = 120.0


# Also str, whose hash is not Python code: a group reads the table for each flow.
class BreakerState(enum.StrEnum):
    """Whether the upstream is used."""

    #: It works.
    CLOSED = "closed"
    #: It is down, until its back-off is over.
    OPEN = "open"
    #: It was down, and is being tried again.
    HALF_OPEN = "half open"


class BreakerEvent(enum.StrEnum):
    """What happens to the upstream."""

    SUCCESS = "success"
    #: The last of L{SUCCESSES}.
    RECOVERED = "recovered"
    FAULT = "fault"
    #: The last of L{FAULTS}, or any that is certain or comes while half open.
    TRIPPED = "tripped"
    #: A check begins, and the back-off is over.
    CHECK = "check"


#: The state that follows each event.  Any other event is a bug.
TRANSITIONS = {
    (BreakerState.CLOSED, BreakerEvent.SUCCESS): BreakerState.CLOSED,
    (BreakerState.CLOSED, BreakerEvent.FAULT): BreakerState.CLOSED,
    (BreakerState.CLOSED, BreakerEvent.TRIPPED): BreakerState.OPEN,
    (BreakerState.CLOSED, BreakerEvent.CHECK): BreakerState.CLOSED,
    (BreakerState.OPEN, BreakerEvent.SUCCESS): BreakerState.HALF_OPEN,
    (BreakerState.OPEN, BreakerEvent.FAULT): BreakerState.OPEN,
    (BreakerState.OPEN, BreakerEvent.CHECK): BreakerState.HALF_OPEN,
    (BreakerState.HALF_OPEN, BreakerEvent.SUCCESS): BreakerState.HALF_OPEN,
    (BreakerState.HALF_OPEN, BreakerEvent.RECOVERED): BreakerState.CLOSED,
    (BreakerState.HALF_OPEN, BreakerEvent.TRIPPED): BreakerState.OPEN,
    (BreakerState.HALF_OPEN, BreakerEvent.CHECK): BreakerState.HALF_OPEN,
}


class Breaker:
    """
    One breaker; see L{TRANSITIONS}.

    @ivar faults: how many came in a row while it is closed.
    @ivar retryAt: when the back-off of an open one is over.
    @param backOff: takes the number of back-offs so far and returns the seconds of the
        next one.
    """

    __slots__ = ("_backOff", "_closedAt", "_openings", "_successes", "faults", "retryAt", "state")

    def __init__(self, backOff: Callable[[int], float]) -> None:
        self.state = BreakerState.CLOSED
        self.faults = 0
        self.retryAt = -math.inf
        self._backOff = backOff
        self._closedAt = -math.inf
        self._openings = 0
        self._successes = 0

    def succeeded(self, now: float) -> None:
        """A handshake succeeded."""
        self.faults = 0
        self._to(BreakerEvent.SUCCESS)
        if self.state is BreakerState.HALF_OPEN:
            self._successes += 1
            if self._successes >= SUCCESSES:
                self._to(BreakerEvent.RECOVERED)
                self._closedAt = now

    def failed(self, now: float, certain: bool = False) -> None:
        """
        A handshake failed, and the upstream is at fault.

        @param certain: whether this one is enough, as it has never worked.
        """
        if self.state is BreakerState.CLOSED:
            self.faults += 1
            if self.faults < FAULTS and not certain:
                self._to(BreakerEvent.FAULT)
                return
            if now - self._closedAt > STEADY_TIME:
                self._openings = 0
        elif self.state is BreakerState.OPEN:
            self._to(BreakerEvent.FAULT)
            return
        self._to(BreakerEvent.TRIPPED)
        self.retryAt = now + self._backOff(self._openings)
        self._openings += 1
        self._successes = self.faults = 0

    def forgive(self, now: float) -> None:
        """End the back-off, and begin with the shortest one should it fail again."""
        self.retryAt = min(self.retryAt, now)
        self._openings = 0

    def checking(self, now: float) -> None:
        """A check begins.  It changes nothing before the back-off is over."""
        if now >= self.retryAt:
            self._to(BreakerEvent.CHECK)

    def _to(self, event: BreakerEvent) -> None:
        try:
            self.state = TRANSITIONS[self.state, event]
        except KeyError:
            raise UnexpectedEvent("A breaker", self.state, event) from None
