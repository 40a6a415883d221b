"""
One leg by the first upstream of several that opens it.

Rules::

    start     -> the first is asked
    an upstream that was asked, and is the latest asked:
       at fault                    -> the next is asked, or, if there is none and no
                                      other is under way, failed with the first error
       carries no such addresses   -> likewise, but that is nobody's fault
       silent for PATIENCE         -> the next is asked, and the first one goes on
    any that was asked:
       stands                      -> done; those still under way are given up
       the destination's error     -> failed; likewise
       an error of our own         -> failed; likewise
    deadline                       -> failed; likewise
    cancel                         -> failed; likewise

Nothing of the app's was sent before a leg stands, so there is no harm in asking
two.  The one that is silent is not given up when the next is asked: it may be the
destination that takes its time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from nanotun.errors import (
    DatagramsUnsupported,
    FamilyUnsupported,
    NameUnknown,
    ProxyError,
    UpstreamError,
    UpstreamTimeout,
)
from nanotun.interfaces import IUpstream
from nanotun.upstream.group.members import Member
from nanotun.upstream.group.outcomes import Outcomes

#: Seconds, and no more than half of the deadline.  Two lost SYNs take less, and
#: few destinations that answer at all do so later.
PATIENCE = 3.0

#: Seconds after which an app that gives up leaves a doubt about the upstream.
DOUBT_TIME = 1.0

#: What an upstream cannot carry, which says little where another should have.
UNSUPPORTED = (DatagramsUnsupported, FamilyUnsupported)


class _Try:
    """One upstream that was asked."""

    __slots__ = ("leg", "member", "since")

    def __init__(self, member: Member, since: float) -> None:
        self.member = member
        self.since = since
        self.leg: Deferred[Any] | None = None


class Tries:
    """
    The asking for one leg.

    @ivar deferred: fires with the leg, or fails with an L{UpstreamError}.
    @param candidates: at least one, in the order to ask.
    @param ask: asks an upstream for the leg.
    @param timeout: seconds for all together.
    """

    __slots__ = (
        "_ask",
        "_clock",
        "_deadline",
        "_fault",
        "_names",
        "_outcomes",
        "_timeout",
        "_timer",
        "_underWay",
        "_untried",
        "deferred",
    )

    def __init__(
        self,
        candidates: Sequence[Member],
        ask: Callable[[IUpstream], Deferred[Any]],
        clock: IReactorTime,
        timeout: float,
        outcomes: Outcomes,
    ) -> None:
        self._untried = list(candidates)
        self._ask = ask
        self._clock = clock
        self._timeout = timeout
        self._deadline = clock.seconds() + timeout
        self._outcomes = outcomes
        self._fault: Failure | None = None
        self._names: list[str] = []
        self._underWay: list[_Try] = []
        self._timer: IDelayedCall | None = None
        self.deferred: Deferred[Any] = Deferred(self._cancelled)

    def begin(self) -> None:
        """Ask the next."""
        now = self._clock.seconds()
        one = _Try(self._untried.pop(0), now)
        self._names.append(one.member.name)
        self._underWay.append(one)
        self._stopTimer()
        left = max(0.0, self._deadline - now)
        if self._untried and self._untried[0].healthy:
            left = min(left, PATIENCE, self._timeout / 2)
        self._timer = self._clock.callLater(left, self._waited)
        # May fire at once, and then this object is done or has asked the next.
        leg = one.leg = self._ask(one.member.upstream)
        leg.addCallbacks(self._stands, self._failed, callbackArgs=(one,), errbackArgs=(one,))

    def _stands(self, result: Any, one: _Try) -> None:
        now = self._clock.seconds()
        self._underWay.remove(one)
        for other in self._giveUp():
            self._outcomes.outrun(other.member, now - other.since)
        self._outcomes.stood(one.member, now - one.since)
        self.deferred.callback(result)

    def _failed(self, reason: Failure, one: _Try) -> None:
        if one not in self._underWay:
            # It was given up.
            return
        self._underWay.remove(one)
        error = reason.value
        if not isinstance(error, (ProxyError, UpstreamTimeout, *UNSUPPORTED)):
            if _isAnswer(error):
                self._outcomes.answered(one.member)
            self._giveUp()
            self.deferred.errback(reason)
            return
        if not isinstance(error, FamilyUnsupported):
            self._outcomes.faulted(one.member, error)
        if self._fault is None or self._fault.check(*UNSUPPORTED):
            self._fault = reason
        if self._untried and self._clock.seconds() < self._deadline:
            self.begin()
        elif not self._underWay:
            self._stopTimer()
            self.deferred.errback(self._fault)

    def _waited(self) -> None:
        """The timer: the latest had its time, or all had."""
        self._timer = None
        if self._untried and self._clock.seconds() < self._deadline:
            self.begin()
            return
        for one in self._giveUp():
            self._outcomes.doubtful(one.member)
        names = " or ".join(self._names)
        self.deferred.errback(
            UpstreamTimeout(f"No answer came within {self._timeout:g} s by way of {names}.")
        )

    def _cancelled(self, deferred: Deferred[Any]) -> None:
        # Deferred.cancel fails it with CancelledError itself.
        now = self._clock.seconds()
        for one in self._giveUp():
            if now - one.since >= DOUBT_TIME:
                self._outcomes.doubtful(one.member)

    def _giveUp(self) -> list[_Try]:
        """Give up those that are under way, and return them."""
        self._stopTimer()
        self._untried = []
        givenUp, self._underWay = self._underWay, []
        for one in givenUp:
            assert one.leg is not None
            one.leg.cancel()
        return givenUp

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


def _isAnswer(error: object) -> bool:
    """Whether an upstream said it: L{UpstreamError} itself and unknown names are our own."""
    return isinstance(error, UpstreamError) and type(error) not in (UpstreamError, NameUnknown)
