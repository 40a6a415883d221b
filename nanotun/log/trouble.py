"""
What is worth an error line, told once and then counted.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

#: Seconds between two lines about one cause.
REPORT_INTERVAL = 10.0

#: Causes told apart at a time.  Texts come from peers as well; a proxy that
#: invents them must not fill the memory.
CAUSE_LIMIT = 64


class TroubleLog:
    """
    One error line per cause: the first at once, then a count every
    L{REPORT_INTERVAL} while it goes on.  A proxy that is down under a load of
    hundreds of flows per second must not fill the disk.
    """

    def __init__(self, clock: IReactorTime, log: Logger) -> None:
        self._clock = clock
        self._log = log
        self._counts: dict[str, int] = {}
        self._others = 0
        self._timer: IDelayedCall | None = None

    def report(self, cause: str) -> None:
        """
        @param cause: one sentence for the user; equal sentences are one cause.
        """
        if cause in self._counts:
            self._counts[cause] += 1
        elif len(self._counts) >= CAUSE_LIMIT:
            self._others += 1
        else:
            self._counts[cause] = 0
            self._log.error("{cause}", cause=cause)
        if self._timer is None:
            self._timer = self._clock.callLater(REPORT_INTERVAL, self._summarise)

    def stop(self) -> None:
        """Tell what is left to tell."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._tell("{cause} ({count} more)")
            self._counts = {}

    def _summarise(self) -> None:
        self._timer = None
        self._tell("{cause} ({count} more in {seconds:g} s)")
        # A cause that is over is forgotten: its return is news.
        self._counts = {cause: 0 for cause, count in self._counts.items() if count}
        if self._counts:
            self._timer = self._clock.callLater(REPORT_INTERVAL, self._summarise)

    def _tell(self, line: str) -> None:
        for cause, count in self._counts.items():
            if count:
                self._log.error(line, cause=cause, count=count, seconds=REPORT_INTERVAL)
        if self._others:
            self._log.error("{count} more flows failed of other causes", count=self._others)
            self._others = 0
