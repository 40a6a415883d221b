"""
One delayed call that can be set again and taken back at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Timer:
    """
    Calls one function, at most once for each L{start}.

    @param clock: what the time is taken from.
    @param function: called without arguments.
    """

    __slots__ = ("_call", "_clock", "_function")

    def __init__(self, clock: IReactorTime, function: Callable[[], object]) -> None:
        self._clock = clock
        self._function = function
        self._call: IDelayedCall | None = None

    @property
    def active(self) -> bool:
        """Whether the call is still to come."""
        return self._call is not None

    def start(self, delay: float) -> None:
        """
        Call after C{delay} seconds.  A call that was still to come is not made.
        """
        self.cancel()
        self._call = self._clock.callLater(delay, self._fire)

    def cancel(self) -> None:
        """Do not call.  Harmless where no call is to come."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _fire(self) -> Any:
        # Before the call, which may start the timer again.
        self._call = None
        return self._function()
