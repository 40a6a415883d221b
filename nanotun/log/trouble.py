"""
Logs each cause of errors once and then counts it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel

from nanotun.timer import Timer

if TYPE_CHECKING:
    from constantly import NamedConstant

#: Seconds between two lines about one cause.
REPORT_INTERVAL = 10.0

#: Causes told apart at a time.  Some texts come from peers, and a proxy that
#: invents new ones must not fill the memory.
CAUSE_LIMIT = 64


class TroubleLog:
    """
    Logs one line per cause: the first at once, then a count every
    L{REPORT_INTERVAL} while it lasts.  A proxy that is down under a load of
    hundreds of flows per second must not fill the disk.

    @param level: the lines' level.
    @param limit: how many causes are told apart at a time.
    """

    def __init__(
        self,
        clock: IReactorTime,
        log: Logger,
        level: NamedConstant = LogLevel.error,
        limit: int = CAUSE_LIMIT,
    ) -> None:
        self._log = log
        self._level = level
        self._limit = limit
        self._counts: dict[str, int] = {}
        self._others = 0
        self._timer = Timer(clock, self._summarise)

    def report(self, cause: str, times: int = 1) -> None:
        """
        Log or count an error.

        @param cause: one sentence for the user; equal sentences are one cause.
        @param times: how often it happened.
        """
        if cause in self._counts:
            self._counts[cause] += times
        elif len(self._counts) >= self._limit:
            self._others += times
        else:
            self._counts[cause] = times - 1
            self._log.emit(self._level, "{cause}", cause=cause)
        if not self._timer.active:
            self._timer.start(REPORT_INTERVAL)

    def stop(self) -> None:
        """Log the counts that are still held back."""
        if self._timer.active:
            self._timer.cancel()
            self._logCounts("{cause} ({count} more)")
            self._counts = {}

    def _summarise(self) -> None:
        self._logCounts("{cause} ({count} more in {seconds:g} s)")
        # A cause that is over is forgotten, and logged at once if it comes back.
        self._counts = {cause: 0 for cause, count in self._counts.items() if count}
        if self._counts:
            self._timer.start(REPORT_INTERVAL)

    def _logCounts(self, line: str) -> None:
        for cause, count in self._counts.items():
            if count:
                self._log.emit(self._level, line, cause=cause, count=count, seconds=REPORT_INTERVAL)
        if self._others:
            self._log.emit(
                self._level, "{count} more flows failed for other causes", count=self._others
            )
            self._others = 0
