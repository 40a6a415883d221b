"""
Opens one leg through the first upstream of several that can.

The first upstream is asked.  If it is at fault, or stays silent for L{PATIENCE}, the
next one is asked; a silent one is kept waiting as well, because the destination may be
what takes its time.  The first that opens the leg wins.  What an upstream says about the
destination is final.  A fault is not, while another upstream is left to ask or to wait
for; if all are at fault, the first fault is the error.

Nothing of the app's is sent before a leg is open, so asking two does no harm.

The first upstream's dial may have begun elsewhere: the engine carries out its plan, and the
tries are made only when there is something to decide.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from nanotun.errors import (
    DestinationSilent,
    UnexpectedEvent,
    UpstreamTimeout,
)
from nanotun.timer import Timer
from nanotun.upstream.group.member import Member
from nanotun.upstream.group.outcomes import UNSUPPORTED, IOutcomes, tellOutcome

#: Seconds, and no more than half of the deadline.  Two lost SYNs take less, and
#: few destinations that answer at all take longer.
PATIENCE = 3.0

#: Seconds.  An app that gives up after this leaves a doubt about the upstream.
DOUBT_TIME = 1.0


def patience(timeout: float) -> float:
    """For how many seconds an upstream may be silent before the next one is asked as well."""
    return min(PATIENCE, timeout / 2)


# Also str, whose hash is not Python code: the table is read twice a flow.
class TriesState(enum.StrEnum):
    """How far the tries are."""

    NEW = "new"
    #: At least one upstream is being asked.
    ASKING = "asking"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TriesEvent(enum.StrEnum):
    """What happens to the tries."""

    #: The next upstream is asked: the first of all, or after a fault or a silence.
    NEXT = "next"
    #: An upstream is at fault and none is left to ask, but another is being asked.
    WAIT = "wait"
    #: An upstream opened the leg.
    OPENED = "opened"
    #: An error of the destination, or our own.
    ANSWERED = "answered"
    #: An upstream is at fault, and none is left to ask or to wait for.
    EXHAUSTED = "exhausted"
    #: The deadline for all together.
    EXPIRED = "expired"
    CANCELLED = "cancelled"


#: The state that follows each event.  Any other event is a bug.  Whenever L{ASKING}
#: ends, the upstreams that are still being asked are cancelled.
TRANSITIONS = {
    (TriesState.NEW, TriesEvent.NEXT): TriesState.ASKING,
    (TriesState.ASKING, TriesEvent.NEXT): TriesState.ASKING,
    (TriesState.ASKING, TriesEvent.WAIT): TriesState.ASKING,
    (TriesState.ASKING, TriesEvent.OPENED): TriesState.DONE,
    (TriesState.ASKING, TriesEvent.ANSWERED): TriesState.FAILED,
    (TriesState.ASKING, TriesEvent.EXHAUSTED): TriesState.FAILED,
    (TriesState.ASKING, TriesEvent.EXPIRED): TriesState.FAILED,
    (TriesState.ASKING, TriesEvent.CANCELLED): TriesState.CANCELLED,
}


class _Try:
    """One upstream that is being asked."""

    __slots__ = ("dial", "member", "since")

    def __init__(self, member: Member, since: float) -> None:
        self.member = member
        self.since = since
        self.dial: Deferred[Any] | None = None


class Tries:
    """
    Asks several upstreams for one leg; see L{TRANSITIONS}.

    @ivar state: how far it is.
    @ivar deferred: fires with the leg, or fails with an L{UpstreamError}.
    @param candidates: at least one, in the order to ask.
    @param ask: asks a member for the leg.
    @param timeout: seconds for all together.
    @param outcomes: provides L{IOutcomes}.
    @param destination: where the leg is to lead, for an error; empty for an association.
    @raise UnexpectedEvent: from any method, for an event that the state does not allow.
    """

    __slots__ = (
        "_ask",
        "_clock",
        "_deadline",
        "_destination",
        "_fault",
        "_names",
        "_outcomes",
        "_timeout",
        "_timer",
        "_underWay",
        "_untried",
        "deferred",
        "state",
    )

    def __init__(
        self,
        candidates: Sequence[Member],
        ask: Callable[[Member], Deferred[Any]],
        clock: IReactorTime,
        timeout: float,
        outcomes: IOutcomes,
        destination: str = "",
    ) -> None:
        self.state = TriesState.NEW
        self._untried = list(candidates)
        self._ask = ask
        self._clock = clock
        self._timeout = timeout
        self._deadline = clock.seconds() + timeout
        self._outcomes = outcomes
        self._destination = destination
        self._fault: Failure | None = None
        self._names: list[str] = []
        self._underWay: list[_Try] = []
        self._timer = Timer(clock, self._waited)
        self.deferred: Deferred[Any] = Deferred(self._cancelled)

    def askNext(self) -> None:
        """Ask the first of the upstreams that have not been asked."""
        self._begin(self._ask, self._clock.seconds())

    def goOn(self, dial: Deferred[Any], seconds: float) -> None:
        """
        Begin in place of L{askNext}, with the first upstream asked already.

        @param dial: that upstream's; it may have ended.
        @param seconds: how long ago it began.  Patience and deadline count from then.
        """
        since = self._clock.seconds() - seconds
        self._deadline = since + self._timeout
        self._begin(lambda member: dial, since)

    def _begin(self, ask: Callable[[Member], Deferred[Any]], since: float) -> None:
        self._to(TriesEvent.NEXT)
        now = self._clock.seconds()
        one = _Try(self._untried.pop(0), since)
        self._names.append(one.member.name)
        self._underWay.append(one)
        left = self._deadline - now
        if self._untried and self._untried[0].healthy:
            left = min(left, patience(self._timeout) - (now - since))
        self._timer.start(max(0.0, left))
        # Its callbacks may run at once, so nothing may follow them here.
        dial = one.dial = ask(one.member)
        dial.addCallbacks(self._opened, self._failed, callbackArgs=(one,), errbackArgs=(one,))

    def _to(self, event: TriesEvent) -> None:
        try:
            self.state = TRANSITIONS[self.state, event]
        except KeyError:
            raise UnexpectedEvent("A group's try", self.state, event) from None

    def _opened(self, leg: Any, one: _Try) -> None:
        self._to(TriesEvent.OPENED)
        now = self._clock.seconds()
        self._underWay.remove(one)
        for other in self._cancelOthers():
            self._outcomes.outrun(other.member, now - other.since)
        self._outcomes.opened(one.member, now - one.since)
        self.deferred.callback(leg)

    def _failed(self, reason: Failure, one: _Try) -> None:
        if one not in self._underWay:
            # It was cancelled.
            return
        self._underWay.remove(one)
        if not tellOutcome(self._outcomes, one.member, reason.value):
            self._to(TriesEvent.ANSWERED)
            self._cancelOthers()
            self.deferred.errback(reason)
            return
        # That it cannot carry the flow tells the user less than the fault of one that could.
        if self._fault is None or self._fault.check(*UNSUPPORTED):
            self._fault = reason
        if self._canAskNext():
            self.askNext()
        elif self._underWay:
            self._to(TriesEvent.WAIT)
        else:
            self._to(TriesEvent.EXHAUSTED)
            self._timer.close()
            self.deferred.errback(self._fault)

    def _waited(self) -> None:
        """The patience with the upstream asked last is over, or the deadline has come."""
        if self._canAskNext():
            self.askNext()
            return
        self._to(TriesEvent.EXPIRED)
        for one in self._cancelOthers():
            self._outcomes.doubtful(one.member)
        self.deferred.errback(self._silence())

    def _silence(self) -> UpstreamTimeout:
        when = f"came within {self._timeout:g} s from {' or '.join(self._names)}"
        if not self._destination:
            return UpstreamTimeout(f"No answer {when}.")
        return DestinationSilent(
            f"No answer about {self._destination} {when}; most likely the destination is filtered "
            "or down.",
            news=True,
        )

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        self._to(TriesEvent.CANCELLED)
        # Deferred.cancel itself fails it with CancelledError.
        now = self._clock.seconds()
        for one in self._cancelOthers():
            if now - one.since >= DOUBT_TIME:
                self._outcomes.doubtful(one.member)

    def _canAskNext(self) -> bool:
        return bool(self._untried) and self._clock.seconds() < self._deadline

    def _cancelOthers(self) -> list[_Try]:
        """Cancel the upstreams that are still being asked, and return them."""
        self._timer.close()
        self._untried = []
        cancelled, self._underWay = self._underWay, []
        for one in cancelled:
            assert one.dial is not None
            one.dial.cancel()
        return cancelled
