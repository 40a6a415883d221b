"""
How long a server that fails is left alone.
"""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """
    The pauses of one server, which get longer while it goes on failing.

    @param delay: takes the number of failures so far and returns the seconds of the next pause,
        as what L{nanotun.timer.backOff} makes does.
    """

    def __init__(self, delay: Callable[[int], float] = lambda failures: 0.0) -> None:
        self._delay = delay
        self._failures = 0
        self._until = 0.0

    def isPaused(self, now: float) -> bool:
        """Whether the server is left alone at C{now}, in seconds."""
        return now < self._until

    def failed(self, now: float) -> None:
        """Note a failure: a pause begins, unless there is one.  What was sent before may fail."""
        if now >= self._until:
            self._until = now + self._delay(self._failures)
            self._failures += 1

    def worked(self) -> None:
        """End the pause, as the server answers or might do so now."""
        self._failures = 0
        self._until = 0.0
