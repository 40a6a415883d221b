"""
One delayed call that can be restarted or cancelled at any time, how long to wait after
trouble, how long things took, and the reactor whose clock nobody sets.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Timer:
    """
    Calls one function, at most once for each L{start}.

    A timer whose function is a method of the timer's owner is part of a reference cycle
    until L{close}.

    @param clock: what the time is taken from.
    @param function: called without arguments.
    """

    __slots__ = ("_call", "_clock", "_function")

    def __init__(self, clock: IReactorTime, function: Callable[[], object]) -> None:
        self._clock = clock
        self._function: Callable[[], object] | None = function
        self._call: IDelayedCall | None = None

    @property
    def active(self) -> bool:
        """Whether the call is still to come."""
        return self._call is not None

    def start(self, delay: float) -> None:
        """
        Call after C{delay} seconds.  A call that was still to come is not made.

        @raise RuntimeError: the timer is closed.
        """
        if self._function is None:
            raise RuntimeError("A closed timer cannot be started.")
        self.cancel()
        self._call = self._clock.callLater(delay, self._fire)

    def cancel(self) -> None:
        """Do not call.  Harmless where no call is to come."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def close(self) -> None:
        """
        Do not call, now or ever, and forget the function.  Harmless if it was done before.
        """
        self.cancel()
        self._function = None

    def _fire(self) -> Any:
        # Before the call, which may start the timer again.
        self._call = None
        assert self._function is not None
        return self._function()


class Durations:
    """
    Counts how long things took, in ranges.

    @ivar bounds: seconds, in ascending order; each is the last of its range.
    @ivar counts: how many were in each range, and at the end those that took longer.
    @ivar total: seconds of all together.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Some of the same length."""
        self.counts[bisect_left(self.bounds, seconds)] += count
        self.total += seconds * count

    def __add__(self, other: Durations) -> Durations:
        """Both together; they have the same bounds."""
        made = Durations(self.bounds)
        made.counts = [one + two for one, two in zip(self.counts, other.counts, strict=True)]
        made.total = self.total + other.total
        return made


def steadyReactor() -> Any:
    """
    Twisted's reactor on the monotonic clock.  By default its calls wait for a time of day:
    set that back by an hour, and all that is due comes an hour late.

    Call it before anything is scheduled, as the functions that put a program together do.
    """
    from twisted.internet import reactor

    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    return reactor


def backOff(first: float, limit: float, chance: Callable[[], float]) -> Callable[[int], float]:
    """
    Make an exponential back-off: each delay is twice the one before it, and between
    half and all of that is used, so that clients that failed together do not come back
    together.

    @param first: seconds of the first delay.
    @param limit: seconds of the longest delay.
    @param chance: returns a number from 0 to 1.
    @return: takes the number of delays so far and returns the seconds of the next one.
    """

    def delay(attempt: int) -> float:
        # Imported after the first trouble: it loads Automat, which would make each start
        # 40 ms slower.
        from twisted.application.internet import backoffPolicy

        whole = backoffPolicy(first, limit, 2.0, jitter=lambda: 0.0)(attempt)
        return whole * (1.0 + chance()) / 2.0

    return delay
