"""
Flows whose owner could not be found in time: they wait, and are looked up again.

A guess could be wrong: an excluded process would be proxied, and a flow of a proxy on this
machine would come back as a new flow.  A flow that is not decided costs nothing but a
packet that waits, so there is no need to guess.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from nanotun.flow import Flow, Owner
from nanotun.owners.budget import LOOKUP_LIMIT
from nanotun.owners.descriptors import OutOfTime
from nanotun.timer import Timer

#: Seconds between two rounds of lookups, in which at least one flow gets further.
ROUND_INTERVAL = 0.01

#: Seconds that a flow waits at most.  A kernel repeats its SYN after one second.
PATIENCE = 1.0

#: Flows that may wait at a time.
WAITING_LIMIT = 1024

#: Looks up the owner of a flow; if the second argument is true, it is the last attempt,
#: which does not raise L{OutOfTime}.
Attempt = Callable[[Flow, bool], Owner | None]


class _WaitingFlow(NamedTuple):
    """
    A flow that waits.

    @ivar until: when the next attempt is the last one, as a value of the clock.
    """

    flow: Flow
    until: float


class WaitingFlows:
    """
    Looks up flows again, in turn, until their owner is found.

    @param attempt: see L{Attempt}.
    @param spent: see L{nanotun.owners.budget.LookupBudget}.
    """

    def __init__(self, attempt: Attempt, clock: IReactorTime, spent: Callable[[], float]) -> None:
        self._attempt = attempt
        self._clock = clock
        self._spent = spent
        self._timer = Timer(clock, self._lookUp)
        self._flows: dict[Deferred[Owner | None], _WaitingFlow] = {}

    @property
    def full(self) -> bool:
        """Whether no more flows can wait."""
        return len(self._flows) >= WAITING_LIMIT

    def add(self, flow: Flow) -> Deferred[Owner | None]:
        """
        Have a flow wait.

        @return: fires with the owner, or with L{None} if it was not found within
            L{PATIENCE}.  It may be cancelled, and does not fail otherwise.
        """
        waiting: Deferred[Owner | None] = Deferred(self._forget)
        self._flows[waiting] = _WaitingFlow(flow, self._clock.seconds() + PATIENCE)
        if not self._timer.active:
            self._timer.start(ROUND_INTERVAL)
        return waiting

    def stop(self) -> None:
        """Make the last attempt for each flow at once."""
        self._timer.cancel()
        for waiting in list(self._flows):
            held = self._flows.pop(waiting, None)
            if held is not None:
                waiting.callback(self._attempt(held.flow, True))

    def _forget(self, waiting: Deferred[Owner | None]) -> None:
        self._flows.pop(waiting, None)

    def _lookUp(self) -> None:
        deadline = self._spent() + LOOKUP_LIMIT
        for waiting in list(self._flows):
            held = self._flows.pop(waiting, None)
            if held is None:
                # Cancelled by what an earlier answer led to.
                continue
            try:
                owner = self._attempt(held.flow, self._clock.seconds() >= held.until)
            except OutOfTime:
                # The others come first in the next round.
                self._flows[waiting] = held
                break
            waiting.callback(owner)
            if self._spent() > deadline:
                break
        if self._flows and not self._timer.active:
            self._timer.start(ROUND_INTERVAL)
