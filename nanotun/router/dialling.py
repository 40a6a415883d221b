"""
Opens legs for flows, and joins the flows to them.

A leg is opened in one of three ways.  If the upstream has a plan, the engine does it; if besides
the decision stands, the engine does it for the next flows without a question; if there is no
plan, the upstream does it, and so it does when the engine could not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.errors import (
    DestinationSilent,
    FamilyUnsupported,
    FlowLimitError,
    NameUnknown,
    UpstreamError,
    UpstreamForbids,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamProhibited,
    UpstreamRefused,
)
from nanotun.flow import Decision, Endpoint, Refusal
from nanotun.interfaces import (
    Connection,
    DialEnd,
    DialEndKind,
    DialPlan,
    IFlowRequest,
    IGateway,
    IJudge,
    INames,
    IPacketEngine,
    IPlanned,
    IUpstream,
)
from nanotun.log.trouble import TroubleLog
from nanotun.policy.decisions import nameOf
from nanotun.router.following import Following
from nanotun.router.named import dialled
from nanotun.router.notes import NoteTable
from nanotun.router.pending import PendingFlow, PlannedFlow, discard
from nanotun.router.plainhttp import PlainHttpFlows
from nanotun.router.programs import FlowPrograms
from nanotun.router.standing import StandingDecisions
from nanotun.router.tally import Tally

if TYPE_CHECKING:
    from nanotun.router.dialtimes import DialTimes

#: What the app sees of an error.  Any other error, a proxy at fault and a deadline that
#: passed included, is a reset: the app should not go on trying.  So is a proxy's ban, since
#: ICMP's "prohibited" becomes "no route" or "permission denied" depending on the family, and
#: the latter sends people to look for a wrong key.
REFUSALS: dict[type[UpstreamError], Refusal] = {
    UpstreamRefused: Refusal.RESET,
    UpstreamHostUnreachable: Refusal.HOST_UNREACHABLE,
    UpstreamNetUnreachable: Refusal.NET_UNREACHABLE,
    FamilyUnsupported: Refusal.NET_UNREACHABLE,
    NameUnknown: Refusal.HOST_UNREACHABLE,
    UpstreamProhibited: Refusal.PROHIBITED,
    UpstreamForbids: Refusal.RESET,
}

#: Upstreams of which it is remembered whether they have plans.  Programs with log-ins of their
#: own come and go.
PLANNERS_LIMIT = 1024


class Dialling:
    """
    The flows that wait for a leg.

    @ivar standing: the decisions that the engine has.
    @ivar paths: how many flows were joined: C{engine}, by a plan; C{standing}, by a standing
        decision; C{general}, in any other way.
    @ivar times: counts how long dials take; L{None} if nobody wants to know.
    @param notes: gives what is decided a number.
    @param programs: told of the flows that are joined.
    @param log: for the debug lines, and for bugs.
    @param said: told what a proxy says of destinations.
    """

    def __init__(
        self,
        engine: IPacketEngine,
        clock: IReactorTime,
        gateway: IGateway,
        names: INames,
        following: Following,
        notes: NoteTable,
        programs: FlowPrograms,
        tally: Tally,
        plainHttp: PlainHttpFlows,
        trouble: TroubleLog,
        said: TroubleLog,
        log: Logger,
    ) -> None:
        self.paths = {"engine": 0, "standing": 0, "general": 0}
        self.times: DialTimes | None = None
        self._clock = clock
        self._names = names
        self._countsFlows = bool(names.followsFlows)
        self._following = following
        self._notes = notes
        self._programs = programs
        self._tally = tally
        self._plainHttp = plainHttp
        self._trouble = trouble
        self._said = said
        self._log = log
        self._pending: dict[int, PendingFlow] = {}
        # To find out each time would cost as much as the rest of L{dial}.
        self._planners: dict[IUpstream, IPlanned | None] = {}
        self.standing = StandingDecisions(
            engine, clock, gateway, names, tally, self._countsFlows, self._standingJoined
        )

    @property
    def carried(self) -> int:
        """How many flows have been joined."""
        return sum(self.paths.values())

    @property
    def flows(self) -> int:
        """How many flows wait."""
        return len(self._pending)

    def waiting(self) -> Iterator[PendingFlow]:
        """All of them, the one that has waited for longest first."""
        return iter(self._pending.values())

    def pendingOf(self, flowID: int) -> PendingFlow | None:
        """That of a flow; L{None} if it does not wait here."""
        return self._pending.get(flowID)

    def dial(
        self,
        request: IFlowRequest,
        judge: IJudge,
        decision: Decision,
        upstream: IUpstream,
        stands: bool,
    ) -> None:
        """
        Open a leg for a flow.

        @param judge: who has decided about it.
        @param stands: whether the decision may be one for the next flows as well.
        """
        flow = request.flow
        destination = dialled(self._names, flow, decision)
        note = self._notes.numberOf(decision, upstream)
        follow = self._following.expect(flow, judge, decision, upstream)
        plan = self._planOf(upstream, destination)
        now = self._clock.seconds()
        if plan is None:
            pending = PendingFlow(self, request, decision, note, follow, now)
            self._pending[flow.id] = pending
            pending.begin(upstream.connect(destination))
            return
        planned = PlannedFlow(self, request, decision, note, follow, now, plan)
        self._pending[flow.id] = planned
        try:
            request.dial(plan, note)
        except OSError as error:
            self._log.debug("The engine cannot dial: {error}", error=error)
            planned.dialEnded(DialEnd(DialEndKind.GENERAL, error.errno or 0))
            return
        # By a name that this flow has said, others may not be meant.
        if stands and plan.standing and destination is flow.destination:
            self.standing.consider(flow, judge, decision, upstream, plan, note)

    def forgetUpstreams(self) -> None:
        """There are others now."""
        self._planners.clear()

    def _planOf(self, upstream: IUpstream, destination: Endpoint) -> DialPlan | None:
        try:
            planned = self._planners[upstream]
        except KeyError:
            if len(self._planners) >= PLANNERS_LIMIT:
                self._planners.clear()
            planned = self._planners[upstream] = IPlanned(upstream, None)
        return None if planned is None else planned.plan(destination)

    def abandoned(self, flowID: int) -> bool:
        """
        An app has given up.

        @return: whether its flow waited here.
        """
        pending = self._pending.pop(flowID, None)
        if pending is None:
            return False
        pending.cancel(self._clock.seconds())
        return True

    def joined(self, flowID: int, seconds: float, address: int) -> None:
        """See L{nanotun.interfaces.IFlowHandler.flowJoined}."""
        pending = self._pending.pop(flowID, None)
        if not isinstance(pending, PlannedFlow):
            return  # all was stopped meanwhile
        pending.plan.outcomes.opened(1, seconds, address)
        if self.times is not None:
            self.times.add(nameOf(pending.decision), seconds)
        self._isJoined(pending, "engine")

    def dialEnded(self, request: IFlowRequest, end: DialEnd, standing: int) -> None:
        """See L{nanotun.interfaces.IFlowHandler.flowDialEnded}."""
        planned = self._plannedOf(request, standing, end.seconds)
        if planned is None:
            discard(end)
        else:
            planned.dialEnded(end)

    def silent(self, request: IFlowRequest, standing: int) -> None:
        """See L{nanotun.interfaces.IFlowHandler.flowSilent}."""
        known = self.standing.known.get(standing)
        seconds = 0.0 if known is None else known.plan.course.patience
        planned = self._plannedOf(request, standing, seconds)
        if planned is not None:
            planned.goSilent(self._clock.seconds())

    def _plannedOf(
        self, request: IFlowRequest, standing: int, seconds: float
    ) -> PlannedFlow | None:
        """
        The flow whose dial is in trouble.

        @param seconds: how long ago that dial began.
        @return: L{None} if it is nobody's any more.
        """
        flow = request.flow
        pending = self._pending.get(flow.id)
        if pending is None and standing:
            known = self.standing.known[standing]
            follow = self._following.expect(flow, known.judge, known.decision, known.upstream)
            began = self._clock.seconds() - seconds
            pending = PlannedFlow(
                self, request, known.decision, known.note, follow, began, known.plan
            )
            self._pending[flow.id] = pending
        return pending if isinstance(pending, PlannedFlow) else None

    def stop(self) -> None:
        """Cancel all dials and refuse their flows."""
        self.standing.withdraw()
        waiting, self._pending = self._pending, {}
        now = self._clock.seconds()
        for pending in waiting.values():
            pending.cancel(now)
            pending.request.refuse(Refusal.RESET)

    def connected(self, pending: PendingFlow, connection: Connection) -> None:
        """A pending flow has its leg."""
        request = pending.request
        self._pending.pop(request.flow.id, None)
        if self.times is not None:
            self.times.add(nameOf(pending.decision), self._clock.seconds() - pending.began)
        try:
            joined = self._plainHttp.join(request, connection, pending.note)
        except FlowLimitError as error:
            # The app's kernel repeats its SYN by itself.
            self._trouble.report(str(error))
            return
        except OSError as error:
            # The engine owns the fd even so, and has ended the flow.
            self._trouble.report(f"A flow cannot be joined: {error}.")
            return
        if joined:
            self._isJoined(pending, "general")
        elif self._tally.debug:
            self._log.debug("Flow {flow} was gone already", flow=request.flow.id)

    def _isJoined(self, pending: PendingFlow, path: str) -> None:
        self.paths[path] += 1
        if self._countsFlows:
            self._names.flowJoined(pending.request.flow.destination.host)
        pending.follow()
        self._programs.look(pending.request.flow, pending.decision)

    def _standingJoined(self, decision: Decision, flows: int, seconds: float) -> None:
        self.paths["standing"] += flows
        if self.times is not None:
            self.times.add(nameOf(decision), seconds, flows)

    def failed(self, pending: PendingFlow, reason: Failure) -> None:
        """The dial of a pending flow failed."""
        request, error, refusal = pending.request, reason.value, Refusal.RESET
        self._pending.pop(request.flow.id, None)
        ofDestination = type(error) in REFUSALS or isinstance(error, DestinationSilent)
        if self.times is not None:
            self.times.addFailure(nameOf(pending.decision), ofDestination)
        if not isinstance(error, UpstreamError):
            self._log.failure(
                "The dial to {destination} failed: internal error",
                failure=reason,
                destination=request.flow.destination,
            )
        elif ofDestination:
            # Nothing is wrong with the proxy, and most of it the app sees itself.
            refusal = REFUSALS.get(type(error), refusal)
            if error.news:
                self._said.report(str(error))
            elif self._tally.debug:
                self._log.debug("Flow {flow}: {error}", flow=request.flow.id, error=str(error))
        else:
            self._trouble.report(str(error))
        request.refuse(refusal)

    def report(self) -> dict[str, Any]:
        """
        Counters for the user.

        @return: C{dialling}: how many flows wait; C{paths}: see there.
        """
        return {"dialling": len(self._pending), "paths": dict(self.paths)}
