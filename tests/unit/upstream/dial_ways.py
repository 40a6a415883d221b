"""
The two ways to a leg: L{nanotun.interfaces.IUpstream.connect}, and a plan that the engine carries
out.  Whatever is learned of an upstream must be the same by both.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, DialEnd, DialEndKind, DialPlan, IUpstream
from nanotun.testing import NamedFakeUpstream, PlannedFakeUpstream
from nanotun.upstream.group.dials import planOf


class DialledFake(PlannedFakeUpstream, NamedFakeUpstream):
    """
    One whose plans a L{PlanEngine} carries out.  The test answers such a dial as it would a
    leg, and it counts as one.
    """

    def __init__(self, name: str, engine: PlanEngine) -> None:
        super().__init__(name)
        self._engine = engine

    def plan(self, destination: Endpoint) -> DialPlan | None:
        """See L{IPlanned.plan}.  The request is a number that no other plan has."""
        plan = super().plan(destination)
        if plan is None:
            return None
        self.asked.append(destination)
        return plan._replace(request=self._engine.add(self._leg()))

    def _resumed(self) -> Deferred[Connection]:
        return self._engine.takeResult()


class PlanEngine:
    """
    Carries out the plans of L{DialledFake}s as the engine and the router do.

    @ivar result: what the dial that is about to end comes to.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.result: Connection | Failure | None = None
        self._begun: dict[bytes, Deferred[Connection]] = {}
        self._count = 0

    def connect(self, upstream: IUpstream, destination: Endpoint) -> Deferred[Connection]:
        """Open a leg by a plan, if there is one."""
        plan = planOf(upstream, destination)
        if plan is None:
            return upstream.connect(destination)
        dial = PlannedDial(self, plan, self._begun.pop(plan.request))
        return dial.deferred

    def add(self, dial: Deferred[Connection]) -> bytes:
        """
        Take a dial that the test answers.

        @return: the request of its plan.
        """
        self._count += 1
        request = b"%d" % self._count
        self._begun[request] = dial
        return request

    def takeResult(self) -> Deferred[Connection]:
        """The L{result}, once."""
        result, self.result = self.result, None
        assert result is not None
        return fail(result) if isinstance(result, Failure) else succeed(result)


class PlannedDial:
    """
    One dial of a plan.

    @ivar deferred: fires with the leg.
    @param dial: answered by the test.
    """

    def __init__(self, engine: PlanEngine, plan: DialPlan, dial: Deferred[Connection]) -> None:
        self.deferred: Deferred[Connection] = Deferred(self._cancelled)
        self._engine = engine
        self._outcomes = plan.outcomes
        self._dial = dial
        self._began = engine.clock.seconds()
        self._end: Deferred[DialEnd] | None = None
        self._leg: Deferred[Connection] | None = None
        patience = plan.course.patience
        self._timer = engine.clock.callLater(patience, self._silent) if patience else None
        dial.addCallbacks(self._opened, self._failed)

    def _seconds(self) -> float:
        return self._engine.clock.seconds() - self._began

    def _opened(self, connection: Connection) -> None:
        self._stopTimer()
        if self._end is None:
            self._outcomes.opened(1, self._seconds(), 0)
            self.deferred.callback(connection)
        else:
            self._ended(DialEndKind.HANDED, connection)

    def _failed(self, reason: Failure) -> None:
        self._stopTimer()
        if reason.check(CancelledError) is None:
            self._ended(DialEndKind.FAILED, reason)

    def _ended(self, kind: DialEndKind, result: Connection | Failure) -> None:
        self._engine.result = result
        # The connection is with the result.
        end = DialEnd(kind, seconds=self._seconds())
        if self._end is not None:
            self._end.callback(end)
        else:
            self._take(self._outcomes.resume(end))

    def _silent(self) -> None:
        self._timer = None
        dial = self._dial
        self._end = Deferred(lambda end: dial.cancel())
        self._take(self._outcomes.silent(self._end, self._seconds()))

    def _take(self, leg: Deferred[Connection]) -> None:
        self._leg = leg
        leg.addCallbacks(self.deferred.callback, self.deferred.errback)

    def _cancelled(self, deferred: Deferred[Connection]) -> None:
        self._stopTimer()
        if self._leg is not None:
            self._leg.cancel()
        else:
            self._dial.cancel()
            self._outcomes.abandoned(self._seconds())

    def _stopTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
