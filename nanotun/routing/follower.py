"""
When to check the routes again.

After a change of the network L{SETTLE} seconds pass first, because changes come in
swarms.  If something keeps removing our rules, they are put back more and more slowly,
up to L{SLOWEST}, which still keeps the promise of 3 s.  And the routes are checked every
L{CHECK} seconds without a reason: a message can be lost, and a machine can wake up in
another network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from nanotun.errors import RoutingError
from nanotun.timer import Timer, backOff

SETTLE = 0.25  #: Seconds; one reconfiguration of a link is over by then.
SLOWEST = 2.0  #: Seconds.
CHECK = 2.5  #: Seconds; a check costs some milliseconds, and firewalls send no messages.

#: Repairs in a row that are reported as a fight with another program.
FIGHT = 3

#: Seconds without a repair after which the fight is over.
PEACE = 30.0

#: From the number of repairs before, less one, to the seconds until the next check.
_pause = backOff(SETTLE, SLOWEST, chance=lambda: 1.0)


class Follower:
    """
    @ivar complaint: why the last check failed, in one sentence; empty if it did not.
    @param work: checks and repairs the routes; returns whether one of nanotun's changes
        had been undone, and raises L{RoutingError} if it could not put something right.
    """

    _log = Logger()

    def __init__(self, clock: Any, work: Callable[[], bool]) -> None:
        self._clock = clock
        self._work = work
        self._timer = Timer(clock, self._run)
        self._repairs = 0
        self._lastRepair = 0.0
        self.complaint = ""
        self._loop = LoopingCall(self._check)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin to check every L{CHECK} seconds."""
        self._loop.start(CHECK, now=False)

    def stop(self) -> None:
        """Nothing is called after this; harmless before the start."""
        if self._loop.running:
            self._loop.stop()
        self._timer.cancel()

    def notice(self) -> None:
        """Something has changed: check soon."""
        if not self._timer.active and self._loop.running:
            self._timer.start(_pause(max(0, self._repairs - 1)))

    def now(self) -> None:
        """Something has changed that cannot wait: check at once."""
        if self._loop.running:
            self._timer.cancel()
            self._run()

    def _check(self) -> None:
        if not self._timer.active:
            self._run()

    def _run(self) -> None:
        now = self._clock.seconds()
        try:
            repaired = self._work()
        except RoutingError as error:
            # Half of the plan may have been applied and undone, which is a change as well.
            self._repairs += 1
            self._lastRepair = now
            self._complain(str(error))
            return
        except Exception:
            self._log.failure("Checking the routes failed: internal error")
            return
        self.complaint = ""
        if repaired:
            self._repairs += 1
            self._lastRepair = now
            if self._repairs == FIGHT:
                self._log.warn(
                    "Something keeps removing nanotun's rules, routes or firewall table; they "
                    "are put back each time. Look for another VPN or a network manager's script."
                )
        elif now - self._lastRepair > PEACE:
            self._repairs = 0

    def _complain(self, sentence: str) -> None:
        """Log a failure once, not at each check that meets it."""
        if sentence != self.complaint:
            self.complaint = sentence
            self._log.error("The routes cannot follow: {error}", error=sentence)
