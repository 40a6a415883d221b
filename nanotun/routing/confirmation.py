"""
The user's word that the machine can still be reached with its new routes.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from nanotun.timer import Timer


class Confirmation:
    """
    Waits for L{confirm}, once.

    @ivar seconds: how long it waits; 0 for no need to confirm.
    @param expired: called if nobody confirms in time.
    """

    def __init__(self, clock: IReactorTime, seconds: int, expired: Callable[[], None]) -> None:
        self.seconds = seconds
        self._timer = Timer(clock, expired)

    @property
    def isAwaited(self) -> bool:
        """Whether L{confirm} may still be called in time."""
        return self._timer.active

    def start(self) -> bool:
        """
        Begin to wait.

        @return: whether there is anything to wait for.
        """
        if self.seconds:
            self._timer.start(self.seconds)
        return bool(self.seconds)

    def confirm(self) -> bool:
        """
        Wait no more.

        @return: whether the confirmation was awaited.
        """
        awaited = self.isAwaited
        self._timer.cancel()
        return awaited

    def stop(self) -> None:
        """Call nothing any more; harmless at any time."""
        self._timer.cancel()
