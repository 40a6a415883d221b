"""
When to look after the routes again.

A change is waited out for L{SETTLE}, as changes come in swarms.  Who keeps taking
our rules away gets them back more and more slowly, up to L{SLOWEST}, which still
keeps the promise of 3 s.  And every L{CHECK} seconds the routes are looked after
without a reason: a message can be lost, and a machine wakes up elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from nanotun.errors import RoutingError

SETTLE = 0.25  #: Seconds; one reconfiguration of a link is over by then.
SLOWEST = 2.0  #: Seconds.
CHECK = 2.5  #: Seconds; a check costs some milliseconds, and nobody tells of firewalls.

#: Repairs, one after the other, until it is a fight and worth a line in the log.
FIGHT = 3

#: Seconds without a repair after which it is over.
PEACE = 30.0


class Follower:
    """
    @ivar complaint: what keeps it from following, or nothing.
    @param work: looks after the routes; returns whether something of ours had been
        taken away, and raises L{RoutingError} if it could not do what it had to.
    """

    _log = Logger()

    def __init__(self, clock: Any, work: Callable[[], bool]) -> None:
        self._clock = clock
        self._work = work
        self._call: IDelayedCall | None = None
        self._repairs = 0
        self._lastRepair = 0.0
        self.complaint = ""
        self._loop = LoopingCall(self._check)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin."""
        self._loop.start(CHECK, now=False)

    def stop(self) -> None:
        """Nothing is called after this; harmless before the start."""
        if self._loop.running:
            self._loop.stop()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def notice(self) -> None:
        """Something has changed."""
        if self._call is None and self._loop.running:
            self._call = self._clock.callLater(self._pause(), self._run)

    def _pause(self) -> float:
        return float(min(SETTLE * 2 ** max(0, self._repairs - 1), SLOWEST))

    def _check(self) -> None:
        if self._call is None:
            self._run()

    def _run(self) -> None:
        self._call = None
        now = self._clock.seconds()
        try:
            repaired = self._work()
        except RoutingError as error:
            # Half of it may have been done and undone, which is a change as well.
            self._repairs += 1
            self._lastRepair = now
            self._complain(str(error))
            return
        except Exception:
            self._log.failure("While looking after the routes")
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
        """Once for each trouble, not for each look."""
        if sentence != self.complaint:
            self.complaint = sentence
            self._log.error("The routes cannot follow: {error}", error=sentence)
