"""
Judges open flows again when there are new rules, for C{reloadFlows: judge}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.flow import Decision
from nanotun.interfaces import IJudge, IUpstreams
from nanotun.router.openflows import OpenFlow
from nanotun.timer import Timer

#: Flows in a turn of the reactor: some 0.3 ms.
BATCH = 64

#: Seconds that the decision about a flow, whose owner has to be found, may take.
ANSWER_LIMIT = 5.0

#: Rules that say something about routes, which may be otherwise in a moment.
_MOMENTARY = ("loop", "no-way")


class Rejudging:
    """
    Goes through open flows, some in each turn of the reactor, and has those ended that would go
    elsewhere now.  In doubt a flow is left alone.

    @param end: ends a flow, if it is still open, and tells whether it was.
    """

    _log = Logger()

    def __init__(self, clock: Any, end: Callable[[OpenFlow], bool]) -> None:
        self._clock = clock
        self._end = end
        self._timer = Timer(clock, self._turn)
        self._judge: IJudge | None = None
        self._upstreams: IUpstreams | None = None
        self._left: Iterable[OpenFlow] = iter(())
        self._waiting: set[Deferred[Any]] = set()
        self._looked = self._ended = 0

    def begin(self, judge: IJudge, upstreams: IUpstreams, flows: Iterable[OpenFlow]) -> None:
        """Judge flows again; an earlier round that is not over has other rules, and is given up."""
        self.stop()
        self._judge, self._upstreams = judge, upstreams
        self._left = iter(flows)
        self._looked = self._ended = 0
        self._turn()

    def add(self, flow: OpenFlow) -> None:
        """
        Judge a flow again whose dial, or whose decision, was under way when the rules changed.
        L{begin} was called.
        """
        self._looked += 1
        self._look(flow)
        self._tell()

    def stop(self) -> None:
        """Leave all others alone."""
        self._timer.cancel()
        self._left = iter(())
        for waiting in list(self._waiting):
            waiting.cancel()

    def _turn(self) -> None:
        batch = list(islice(self._left, BATCH))
        for flow in batch:
            self._looked += 1
            self._look(flow)
        if len(batch) == BATCH:
            self._timer.start(0)
            return
        self._left = iter(())
        self._tell()

    def _look(self, flow: OpenFlow) -> None:
        if flow.decision.rule == "script":
            return  # it may have asked a person
        assert self._judge is not None
        decision = self._judge.judgeAgain(flow.flow, flow.decision)
        if not isinstance(decision, Deferred):
            self._decide(decision, flow)
            return
        self._waiting.add(decision)
        decision.addTimeout(ANSWER_LIMIT, self._clock)
        decision.addBoth(self._answered, decision)
        decision.addCallbacks(self._decide, self._failed, callbackArgs=(flow,))
        decision.addErrback(self._broke)
        decision.addCallback(lambda _: self._tell())

    def _answered(self, result: Any, waiting: Deferred[Any]) -> Any:
        self._waiting.discard(waiting)
        return result

    def _failed(self, reason: Failure) -> None:
        """It took too long, or nobody waits any more."""
        reason.trap(CancelledError, TimeoutError)

    def _broke(self, reason: Failure) -> None:
        self._log.failure("A flow cannot be judged again: internal error", failure=reason)

    def _decide(self, decision: Decision | None, flow: OpenFlow) -> None:
        assert self._upstreams is not None
        if decision is None or decision.rule in _MOMENTARY:
            return
        if self._upstreams.wayOf(decision) == flow.way:
            return
        if self._end(flow):
            self._ended += 1

    def _tell(self) -> None:
        """All of them have been looked at."""
        if self._timer.active or self._waiting or not self._ended:
            return
        self._log.info(
            "The rules have changed: of {open} open connections, {ended} were ended, because they "
            "would go elsewhere now",
            open=self._looked,
            ended=self._ended,
        )
        self._looked = self._ended = 0
