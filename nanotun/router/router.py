"""
Takes each flow where the judge says.

The upstream is dialled first, and the handshake with the app is completed only once there
is a leg: L{nanotun.router.dialling}.  Datagrams leave through an association of their source:
L{nanotun.router.udp.associations}.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from zope.interface import implementer

from nanotun.errors import FlowLimitError
from nanotun.flow import Decision, Flow, FlowEnd, Protocol, Refusal, Verdict
from nanotun.interfaces import (
    Connection,
    DialEnd,
    IDatagramFlowRequest,
    IFlowHandler,
    IFlowRequest,
    IGateway,
    IJudge,
    INames,
    IPacketEngine,
    IScript,
    IUpstreams,
)
from nanotun.log.trouble import TroubleLog
from nanotun.policy.decisions import leadsOut, nameOf
from nanotun.router.dialling import Dialling
from nanotun.router.ends import EndObservers
from nanotun.router.flowlines import FlowLines
from nanotun.router.following import Following
from nanotun.router.listing import FlowListing
from nanotun.router.named import shown
from nanotun.router.notes import NoteTable
from nanotun.router.onward import openOnward
from nanotun.router.pending import discard
from nanotun.router.plainhttp import PlainHttpFlows
from nanotun.router.programs import FlowPrograms
from nanotun.router.tally import Tally
from nanotun.router.udp.associations import Associations
from nanotun.router.udp.redirection import Redirection
from nanotun.router.undecided import UndecidedFlows

#: The namespace of the lines that tell what a proxy says about destinations.
SAID = "nanotun.router.said"
saidLog = Logger(namespace=SAID)

#: Sentences of that kind told apart at a time.  A scan must not fill the log, and ten are
#: enough to see what is going on.
SAID_LIMIT = 10


@implementer(IFlowHandler)
class FlowRouter:
    """
    Has every flow judged, and carries out the decision.

    @ivar trouble: told of what goes wrong; stopped with the router.
    @ivar associations: those that datagrams leave by.
    @ivar dialling: opens legs for connections.
    @ivar tally: counts what is decided.
    @ivar notes: knows what was decided about each flow of the engine's.
    @ivar programs: looks up the processes of flows, if that is wanted.
    @ivar ends: tells how flows end.
    @ivar listing: lists the open flows, and ends some.
    @param upstreams: asked where each flow leaves whose verdict is PROXY or DIRECT.
    @param gateway: answers connections to the gateway's addresses.
    @param names: the names behind addresses; see L{nanotun.router.named.NamedUpstream}.
    """

    _log = Logger()

    def __init__(
        self,
        judge: IJudge,
        upstreams: IUpstreams,
        engine: IPacketEngine,
        gateway: IGateway,
        clock: IReactorTime,
        debug: bool,
        names: INames,
        trouble: TroubleLog,
        script: IScript | None = None,
        judgesAgain: bool = False,
        logFlows: bool = False,
    ) -> None:
        self._names = names
        self._countsFlows = bool(names.followsFlows)
        self._gateway = gateway
        self.trouble = trouble
        self._said = TroubleLog(clock, saidLog, LogLevel.info, SAID_LIMIT)
        self._plainHttp = PlainHttpFlows(names, self._said)
        self.tally = Tally(clock, self._log, names)
        self.notes = NoteTable()
        self.programs = FlowPrograms(clock, gateway.isLocal)
        self.ends = EndObservers(engine, self.notes, self.programs, names)
        self._lines = FlowLines(names)
        self.associations = Associations(engine, clock, self.trouble, self._said, names)
        self._redirection = Redirection(names, self.associations, self.trouble)
        self._undecided = UndecidedFlows()
        self._following = Following(clock, engine, gateway, names, self.tally, self._redirection)
        self.dialling = Dialling(
            engine,
            clock,
            gateway,
            names,
            self._following,
            self.notes,
            self.programs,
            self.tally,
            self._plainHttp,
            self.trouble,
            self._said,
            self._log,
        )
        self.listing = FlowListing(engine, self.notes, self.dialling, names, self.programs)
        # See L{IFlowHandler}.
        self.flowJoined = self.dialling.joined
        self.stood = self.dialling.standing.stood
        self.standingEnded = self.dialling.standing.ended
        self._engine = engine
        self._stopped = False
        self.configure(judge, upstreams, debug, script, judgesAgain, logFlows)

    @property
    def followsFlows(self) -> bool:
        """See L{IFlowHandler}: fake addresses and plain http need it, and who follows flows."""
        follows = self._following.active or self.ends.active
        return follows or self._countsFlows or bool(self._plainHttp.flows)

    @property
    def carried(self) -> int:
        """How many flows have been joined."""
        return self.dialling.carried

    def configure(
        self,
        judge: IJudge,
        upstreams: IUpstreams,
        debug: bool,
        script: IScript | None = None,
        judgesAgain: bool = False,
        logFlows: bool = False,
    ) -> None:
        """
        Have new flows judged by another judge and taken to other upstreams.

        @param script: see L{Following.configure}; likewise C{debug} and C{judgesAgain}.
        @param logFlows: whether there is a line for each flow that has ended.
        """
        self.withdraw()
        self.dialling.forgetUpstreams()
        self.notes.forgetUpstreams()
        self.ends.set(self._lines, logFlows)
        self._judge = judge
        self._upstreams = upstreams
        self._following.configure(judge, upstreams, debug, script, judgesAgain)

    def withdraw(self) -> None:
        """End all standing decisions, whenever something of theirs may have changed; cheap."""
        self.dialling.standing.withdraw()

    def report(self) -> dict[str, Any]:
        """
        Counters for the user.

        @return: C{verdicts}, C{rules} and C{upstreams}: how many flows since the start, each
            by name, and C{paths}, by L{Dialling.paths}; C{dialling} and C{legs}: how many dials
            and associations there are now.
        """
        self._engine.tellStood()
        return {
            **self.tally.report(),
            **self.dialling.report(),
            "legs": len(self.associations.present),
        }

    def flowRequested(self, request: IFlowRequest) -> None:
        """See L{IFlowHandler.flowRequested}."""
        if self._stopped:
            request.refuse(Refusal.RESET)
            return
        decision = self._judge.judge(request.flow, request.sniff)
        if isinstance(decision, Deferred):
            self._undecided.hold(request, decision, partial(self._take, self._judge))
        else:
            self._take(self._judge, request, decision)

    def _take(self, judge: IJudge, request: IFlowRequest, decision: Decision) -> None:
        """Carry out the decision about a TCP flow."""
        self.tally.count(decision)
        if leadsOut(decision):
            self._dial(request, judge, decision)
        elif decision.verdict is Verdict.SERVE:
            self.tally.tellHalt(request.flow, decision)
            note = self.notes.numberOf(decision, None)
            self._gateway.acceptStream(request, partial(openByRules, self), note)
        else:
            halt(self, request, decision)

    def datagramFlowRequested(self, request: IDatagramFlowRequest) -> None:
        """See L{IFlowHandler.datagramFlowRequested}."""
        if self._stopped:
            request.drop()
            return
        decision = self._judge.judge(request.flow, request.sniff)
        if isinstance(decision, Deferred):
            self._undecided.hold(request, decision, partial(self._takeDatagrams, self._judge))
        else:
            self._takeDatagrams(self._judge, request, decision)

    def _takeDatagrams(
        self, judge: IJudge, request: IDatagramFlowRequest, decision: Decision
    ) -> None:
        """Carry out the decision about a UDP flow."""
        self.tally.count(decision)
        if leadsOut(decision):
            self._send(request, judge, decision)
        elif decision.verdict is Verdict.SERVE:
            self.tally.tellHalt(request.flow, decision)
            request.serve()
        else:
            halt(self, request, decision)

    def flowAbandoned(self, flowID: int) -> None:
        """See L{IFlowHandler.flowAbandoned}."""
        if self._undecided.abandon(flowID):
            return
        if self.dialling.abandoned(flowID) and self.tally.debug:
            self._log.debug("Flow {flow} was given up by the app, or made way", flow=flowID)

    def flowLimitReached(self, limit: int) -> None:
        """See L{IFlowHandler.flowLimitReached}."""
        self.trouble.report(str(FlowLimitError(limit)))

    def flowDialEnded(self, request: IFlowRequest, end: DialEnd, standing: int) -> None:
        """See L{IFlowHandler.flowDialEnded}."""
        if not self._stopped:
            self.dialling.dialEnded(request, end, standing)
            return
        discard(end)
        if standing:
            request.refuse(Refusal.RESET)

    def flowSilent(self, request: IFlowRequest, standing: int) -> None:
        """See L{IFlowHandler.flowSilent}."""
        if not self._stopped:
            self.dialling.silent(request, standing)

    def flowClosed(self, end: FlowEnd) -> None:
        """See L{IFlowHandler.flowClosed}."""
        # Before its name may be forgotten.
        self.ends.ended(end)
        # Standing decisions hold the names of their flows, and associations those of theirs.
        if self._countsFlows and end.flow.protocol is Protocol.TCP and not end.standing:
            self._names.flowClosed(end.flow.destination.host)
        self._following.ended(end)
        self._plainHttp.ended(end.flow.id)

    def flowNotHttp(self, flow: Flow, reason: int) -> None:
        """See L{IFlowHandler.flowNotHttp}."""
        self._plainHttp.refused(flow, reason, shown(self._names, flow.destination))

    @property
    def pending(self) -> int:
        """How many flows wait for a leg."""
        return self.dialling.flows

    def stop(self) -> None:
        """Cancel all dials and refuse their flows, and close all associations."""
        self._stopped = True
        self._undecided.stop()
        self._following.stop()
        self.programs.use(None)
        self.dialling.stop()
        self._redirection.stop()
        self.associations.stop()
        self.trouble.stop()
        self._said.stop()

    def _dial(self, request: IFlowRequest, judge: IJudge, decision: Decision) -> None:
        flow = request.flow
        upstream = self._upstreams.leaving(decision, flow)
        self.tally.tellUpstream(flow, decision, upstream)
        # Only what is in force now may be asked whether it holds for others.
        wanted = self._following.wants or self.programs.active
        stands = judge is self._judge and not wanted
        self.dialling.dial(request, judge, decision, upstream, stands)

    def _send(self, request: IDatagramFlowRequest, judge: IJudge, decision: Decision) -> None:
        flow = request.flow
        upstream = self._upstreams.leaving(decision, flow)
        note = self.notes.numberOf(decision, upstream)
        self.tally.tellUpstream(flow, decision, upstream)
        if self._names.isFake(flow.destination.host):
            self._redirection.send(request, upstream, note)
        else:
            self.associations.send(request, upstream, note=note)
        self.programs.look(flow, decision)
        self._following.sent(flow, judge, decision, upstream)


def halt(
    router: FlowRouter, request: IFlowRequest | IDatagramFlowRequest, decision: Decision
) -> None:
    """Refuse a flow, or drop it."""
    if decision.trouble:
        router.trouble.report(decision.trouble)
    router.tally.tellHalt(request.flow, decision)
    if decision.verdict is Verdict.REJECT:
        request.refuse(Refusal.PROHIBITED)
    else:
        request.drop()


def firstPending(router: FlowRouter) -> str:
    """Where the flow goes that has waited longest for its leg; empty if none waits."""
    for pending in router.dialling.waiting():
        return shown(router._names, pending.request.flow.destination)
    return ""


def firstLeaving(router: FlowRouter) -> str:
    """The name of the upstream by which that flow is to leave; empty if none waits."""
    for pending in router.dialling.waiting():
        return nameOf(pending.decision)
    return ""


def openByRules(router: FlowRouter, flow: Flow) -> Deferred[Connection]:
    """Connect to where a flow was meant for, by the rules in force now."""
    return openOnward(router._judge, router._upstreams, flow)
