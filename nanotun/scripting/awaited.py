"""
One answer of the script that is awaited.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from nanotun.timer import Timer

T = TypeVar("T")


class Awaited(Generic[T]):
    """
    Is given once: by the script, by the clock, or not at all because the asker gives up.

    @ivar given: whether it is given, or given up.
    @ivar value: what was given.
    @param work: what the script does for it; it fires whatever happens to the answer.
    """

    def __init__(self, work: Deferred[Any]) -> None:
        self.given = False
        self.value: T | None = None
        self._work = work
        self._timer: Timer | None = None
        self._answer: Deferred[T] | None = None

    def wait(self, clock: IReactorTime, timeout: float, late: Callable[[], object]) -> Deferred[T]:
        """
        Wait for the answer.

        @param late: called after C{timeout} seconds.
        @return: fires with the answer; to cancel it cancels the work.
        """
        self._timer = Timer(clock, late)
        self._timer.start(timeout)
        self._answer = Deferred(self._giveUp)
        return self._answer

    def give(self, value: T) -> None:
        """This is the answer."""
        self.value = value
        self._end()
        if self._answer is not None:
            self._answer.callback(value)

    def _giveUp(self, answer: Deferred[T]) -> None:
        self._end()
        self._work.cancel()

    def _end(self) -> None:
        self.given = True
        if self._timer is not None:
            self._timer.close()
