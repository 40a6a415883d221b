"""
Flows whose owner could not be found in time: they wait, and are looked up again.

A guess could be wrong: an excluded process would be proxied, and a flow of a proxy on this
machine would come back as a new flow.  A flow that is not decided costs nothing but a
packet that waits, so there is no need to guess.

What a lookup has no time for, a thread does: it sweeps the processes once for all flows
that wait, and gathers those that come meanwhile for the next sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime

from nanotun.flow import Flow, Owner
from nanotun.owners.budget import LOOKUP_LIMIT
from nanotun.owners.descriptors import OutOfTime
from nanotun.timer import Timer

#: Seconds between two rounds of lookups.
ROUND_INTERVAL = 0.01

#: Seconds that a flow waits at most, if a guess cannot loop.  A kernel repeats its SYN
#: after one second.
PATIENCE = 1.0

#: Flows that may wait at a time, if a guess cannot loop.  If it can, the engine's own limits
#: hold.
WAITING_LIMIT = 1024

#: Looks up the owner of a flow; if the second argument is true, it is the last attempt,
#: which does not raise L{OutOfTime}.
Attempt: TypeAlias = Callable[[Flow, bool], Owner | None]

#: See L{nanotun.owners.lookup.OwnerLookup.sweep}.
Sweep: TypeAlias = Callable[[frozenset[int], Callable[[], object]], bool]


#: See L{nanotun.interfaces.IOwners.ownerOf}.
Ask: TypeAlias = "Callable[[Flow], Owner | Deferred[Owner | None] | None]"


class _WaitingFlow(NamedTuple):
    """
    A flow that waits.

    @ivar until: when the next attempt is the last one, if a guess cannot loop; as a value
        of the clock.
    @ivar inode: of the socket that a sweep has to find before the next attempt; 0 if there
        is nothing to find.
    """

    flow: Flow
    until: float
    inode: int


class WaitingFlows:
    """
    Looks up flows again, in turn, until their owner is found.

    @param attempt: see L{Attempt}.
    @param spent: see L{nanotun.owners.budget.LookupBudget}.
    @param mayGuess: whether a flow may be decided without its owner.
    """

    def __init__(
        self,
        attempt: Attempt,
        clock: IReactorTime,
        spent: Callable[[], float],
        mayGuess: Callable[[], bool],
        sweep: Sweep,
    ) -> None:
        self._attempt = attempt
        self._clock = clock
        self._spent = spent
        self._mayGuess = mayGuess
        self._sweep = sweep
        self._timer = Timer(clock, self._lookUp)
        self._flows: dict[Deferred[Owner | None], _WaitingFlow] = {}
        # What others do for those that were handed over.
        self._elsewhere: dict[Deferred[Owner | None], Deferred[Owner | None]] = {}

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def full(self) -> bool:
        """Whether no more flows can wait."""
        return len(self._flows) >= WAITING_LIMIT and self._mayGuess()

    def add(self, flow: Flow, inode: int) -> Deferred[Owner | None]:
        """
        Have a flow wait.

        @param inode: see L{OutOfTime}.
        @return: fires with the owner; if a guess cannot loop, with L{None} if it was not
            found within L{PATIENCE}.  It may be cancelled, and does not fail otherwise.
        """
        waiting: Deferred[Owner | None] = Deferred(self._forget)
        self._flows[waiting] = _WaitingFlow(flow, self._clock.seconds() + PATIENCE, inode)
        if not self._timer.active:
            self._timer.start(ROUND_INTERVAL)
        return waiting

    def handOver(self, ask: Ask) -> None:
        """Leave all flows that wait to somebody else, who finds their owners."""
        flows, self._flows = self._flows, {}
        for waiting, held in flows.items():
            # It may have been cancelled by what an earlier answer led to.
            if waiting.called:
                continue
            answer = ask(held.flow)
            if isinstance(answer, Deferred):
                self._elsewhere[waiting] = answer
                answer.addCallbacks(
                    self._found, lambda reason: reason.trap(CancelledError), (waiting,)
                )
            else:
                waiting.callback(answer)

    def _found(self, owner: Owner | None, waiting: Deferred[Owner | None]) -> None:
        del self._elsewhere[waiting]
        waiting.callback(owner)

    def stop(self) -> None:
        """Make the last attempt for each flow at once."""
        self._timer.cancel()
        for waiting in list(self._flows):
            held = self._flows.pop(waiting, None)
            if held is not None:
                waiting.callback(self._attempt(held.flow, True))

    def _forget(self, waiting: Deferred[Owner | None]) -> None:
        self._flows.pop(waiting, None)
        elsewhere = self._elsewhere.pop(waiting, None)
        if elsewhere is not None:
            elsewhere.cancel()

    def _lookUp(self) -> None:
        deadline = self._spent() + LOOKUP_LIMIT
        now = self._clock.seconds()
        guesses = self._mayGuess()
        for waiting in list(self._flows):
            held = self._flows.get(waiting)
            # It may have been cancelled by what an earlier answer led to.
            if held is None or (held.inode and not (guesses and now >= held.until)):
                continue
            del self._flows[waiting]
            try:
                owner = self._attempt(held.flow, guesses and now >= held.until)
            except OutOfTime as late:
                # The others come first in the next round.
                self._flows[waiting] = held._replace(inode=late.inode)
                if not late.inode:
                    # They wait for the same.
                    break
            else:
                waiting.callback(owner)
            if self._spent() > deadline:
                break
        self._find()
        if self._flows and not self._timer.active:
            self._timer.start(ROUND_INTERVAL)

    def _find(self) -> None:
        """Sweep for the flows that need it."""
        inodes = frozenset(held.inode for held in self._flows.values() if held.inode)
        if inodes:
            self._sweep(inodes, lambda: self._swept(inodes))

    def _swept(self, inodes: frozenset[int]) -> None:
        for waiting, held in self._flows.items():
            if held.inode in inodes:
                self._flows[waiting] = held._replace(inode=0)
        self._lookUp()
