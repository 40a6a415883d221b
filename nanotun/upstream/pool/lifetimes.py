"""
How long a proxy keeps connections on which nothing is said: what the pool learns
from those it had.

Rules::

    ended by the proxy     a mark against it.  If the last ALIKE_ENDS were of about
                           the same age, that is the proxy's limit, and from now
                           on they are used before it
    request got no answer  the same; after LOST_LIMIT in a row, disliked
    the proxy is away      what ended just before that says nothing
    worked                 a mark for it
    lived as long as it    the same; after a while, longer lives are tried
      was to
    more against than for  disliked: the pool is not worth its connections
    an age too low to use  the same

All that ends within L{EVENT_TIME} is one event: a proxy that restarts ends all
connections at once, whatever their age.  Nothing here knows the time; it is passed
in, as seconds of any one clock.
"""

from __future__ import annotations

from collections import deque

#: Seconds that a connection waits at most.  Dante, like others, gives a client 30
#: to say what it wants.
AGE_LIMIT = 30.0

#: Seconds.  A pool whose connections must be newer than this is nothing but a
#: stream of new ones.
AGE_MIN = 2.0

#: Seconds between two ends that are two events.
EVENT_TIME = 1.0

#: How much ages that are about the same may differ: the largest by the smallest, and
#: seconds that a busy machine adds.  And how many have to be.
ALIKE = 1.25
ALIKE_SECONDS = 0.5
ALIKE_ENDS = 3

#: Requests in a row that got no answer.  One or two may be chance.
LOST_LIMIT = 3

#: Of the age at which the proxy ends them, what is used.
SAFE_SHARE = 0.75

#: Seconds before longer lives are tried, and how much longer.
RELEARN_TIME = 600.0
RELEARN_FACTOR = 1.5

#: The last events, and how many of them may be bad.
EVENTS = 16
BAD_LIMIT = 8


class Lifetimes:
    """
    What is known of one proxy.

    @ivar limit: seconds that a connection may wait.
    @ivar disliked: whether the proxy does not want any to wait.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.limit = AGE_LIMIT
        self.disliked = False
        self._events: deque[bool] = deque(maxlen=EVENTS)
        self._ages: deque[float] = deque(maxlen=ALIKE_ENDS)
        self._endedAt: float | None = None
        self._lost = 0
        self._learnedAt = 0.0

    def ended(self, age: float, now: float, lost: bool) -> None:
        """
        The proxy ended a connection that waited.

        @param age: seconds since it was ready.
        @param lost: whether that was found out by a request.
        """
        last, self._endedAt = self._endedAt, now
        if last is not None and now - last < EVENT_TIME:
            return
        self._mark(False)
        if lost:
            self._lost += 1
        ages = self._ages
        ages.append(age)
        if len(ages) == ALIKE_ENDS and max(ages) <= ALIKE * min(ages) + ALIKE_SECONDS:
            self.limit = min(self.limit, SAFE_SHARE * min(ages))
            self._learnedAt = now
            ages.clear()
        if self.limit < AGE_MIN or self._lost >= LOST_LIMIT:
            self.disliked = True

    def away(self) -> None:
        """The proxy cannot be reached."""
        self._ages.clear()

    def worked(self) -> None:
        """A request went through on a connection that had waited."""
        self._lost = 0
        self._mark(True)

    def lived(self, now: float) -> None:
        """A connection waited as long as it may."""
        self._mark(True)
        if self.limit < AGE_LIMIT and now - self._learnedAt >= RELEARN_TIME:
            self.limit = min(AGE_LIMIT, RELEARN_FACTOR * self.limit)
            self._learnedAt = now

    def _mark(self, good: bool) -> None:
        self._events.append(good)
        if self._events.count(False) > BAD_LIMIT:
            self.disliked = True
