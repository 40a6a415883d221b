"""
How long a proxy keeps connections on which nothing is sent: what the pool learns from
the connections it had.

Rules::

    the proxy ended one    counts against it.  If the last ALIKE_ENDS were of about the
                           same age, that age is the proxy's limit, and from now on
                           connections are used well before it
    a request got no       the same; after LOST_LIMIT in a row the proxy is disliked
      answer
    the proxy is away      the ends just before that teach nothing
    a request worked       counts for it
    one waited its whole   counts for it; after a while longer lives are tried
      life
    too many count         the proxy is disliked: the pool is not worth its connections
      against it
    the limit is too low   the same
      to be of use

All ends within L{EVENT_TIME} are one event, because a proxy that restarts ends all
connections at once, whatever their age.  Nothing here knows the time; it is passed
in, as seconds of any one clock.
"""

from __future__ import annotations

from collections import deque

#: Seconds that a connection waits at most.  Dante, like others, gives a client 30
#: seconds to send its request.
AGE_LIMIT = 30.0

#: Seconds.  A pool whose connections must be newer than this would do nothing but
#: dial new ones.
AGE_MIN = 2.0

#: Seconds between two ends that count as two events.
EVENT_TIME = 1.0

#: When ages are about the same: the ratio of the largest to the smallest, the seconds
#: that a busy machine may add, and how many ages it takes.
ALIKE = 1.25
ALIKE_SECONDS = 0.5
ALIKE_ENDS = 3

#: Requests in a row without an answer.  One or two may be chance.
LOST_LIMIT = 3

#: The share of the proxy's limit that is used.
SAFE_SHARE = 0.75

#: Seconds until longer lives are tried, and how much longer they are.
RELEARN_TIME = 600.0
RELEARN_FACTOR = 1.5

#: How many events are remembered, and how many of them may be bad.
EVENTS = 16
BAD_LIMIT = 8


class Lifetimes:
    """
    What is known of one proxy.

    @ivar limit: seconds that a connection may wait.
    @ivar disliked: whether the proxy does not let connections wait.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Forget all that was learned."""
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
        @param lost: whether a request on it found this out.
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
        """The proxy could not be reached."""
        self._ages.clear()

    def worked(self) -> None:
        """A request on a connection that had waited was answered."""
        self._lost = 0
        self._mark(True)

    def lived(self, now: float) -> None:
        """A connection waited for its whole life without ending."""
        self._mark(True)
        if self.limit < AGE_LIMIT and now - self._learnedAt >= RELEARN_TIME:
            self.limit = min(AGE_LIMIT, RELEARN_FACTOR * self.limit)
            self._learnedAt = now

    def _mark(self, good: bool) -> None:
        self._events.append(good)
        if self._events.count(False) > BAD_LIMIT:
            self.disliked = True
