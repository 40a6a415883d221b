"""
How late the reactor is: what a flow waits for while Python does something else.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from nanotun.timer import Durations, Timer

#: Seconds between two looks.
INTERVAL = 1.0

#: Seconds after the last scrape during which somebody still looks; Prometheus asks every minute
#: or more often.
WATCHED_TIME = 300.0

#: Seconds.  The reactor's own clock has milliseconds, and a second is felt by everybody.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class ReactorLag:
    """
    Measures by a timer how late it is called, while somebody looks.

    @ivar durations: what was measured.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.durations = Durations(BOUNDS)
        self._clock = clock
        self._timer = Timer(clock, self._look)
        self._due = 0.0
        self._until = 0.0

    @property
    def active(self) -> bool:
        """Whether it measures."""
        return self._timer.active

    def watched(self) -> None:
        """Somebody has looked."""
        self._until = self._clock.seconds() + WATCHED_TIME
        if not self._timer.active:
            self._wait()

    def stop(self) -> None:
        """Measure no more."""
        self._timer.close()

    def _wait(self) -> None:
        self._due = self._clock.seconds() + INTERVAL
        self._timer.start(INTERVAL)

    def _look(self) -> None:
        now = self._clock.seconds()
        self.durations.add(max(0.0, now - self._due))
        if now < self._until:
            self._wait()
