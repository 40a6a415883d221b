"""
Takes each flow where the judge says.

The upstream is dialled first, and the handshake with the app is completed only once there
is a leg.  L{REFUSALS} has what the app sees of a dial that fails.  Datagrams leave through
an association of their source: L{nanotun.router.udp.associations}.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from zope.interface import implementer

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
from nanotun.flow import Decision, Flow, FlowEnd, Refusal, Verdict
from nanotun.interfaces import (
    Connection,
    IDatagramFlowRequest,
    IFlowHandler,
    IFlowRequest,
    IGateway,
    IJudge,
    INames,
    IPacketEngine,
    IScript,
    IUpstream,
    IUpstreams,
)
from nanotun.log.trouble import TroubleLog
from nanotun.policy.decisions import leadsOut, nameOf
from nanotun.router.following import Following
from nanotun.router.named import dialled, shown
from nanotun.router.onward import openOnward
from nanotun.router.plainhttp import PlainHttpFlows
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


@implementer(IFlowHandler)
class FlowRouter:
    """
    Has every flow judged, and carries out the decision.

    @ivar trouble: told of what goes wrong; stopped with the router.
    @ivar carried: how many flows have been joined.
    @ivar associations: those that datagrams leave by.
    @ivar tally: counts what is decided.
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
        logFlows: bool,
        names: INames,
        trouble: TroubleLog,
        script: IScript | None = None,
        judgesAgain: bool = False,
    ) -> None:
        self._names = names
        self._countsFlows = bool(names.followsFlows)
        self._gateway = gateway
        self.trouble = trouble
        self._said = TroubleLog(clock, saidLog, LogLevel.info, SAID_LIMIT)
        self._plainHttp = PlainHttpFlows(names, self._said)
        self.tally = Tally(clock, self._log, names)
        self.associations = Associations(engine, clock, self.trouble, self._said, names)
        self._redirection = Redirection(names, self.associations, self.trouble)
        self._undecided = UndecidedFlows()
        self._following = Following(clock, engine, gateway, names, self.tally, self._redirection)
        self._pending: dict[int, PendingFlow] = {}
        self._stopped = False
        self.carried = 0
        self.configure(judge, upstreams, logFlows, script, judgesAgain)

    @property
    def followsFlows(self) -> bool:
        """See L{IFlowHandler}: fake addresses and plain http need it, and L{Following}."""
        return self._countsFlows or self._following.active or bool(self._plainHttp.flows)

    @property
    def logFlows(self) -> bool:
        """Whether each flow gets debug lines, which cost more than half of what it does."""
        return self._following.logFlows

    def configure(
        self,
        judge: IJudge,
        upstreams: IUpstreams,
        logFlows: bool,
        script: IScript | None = None,
        judgesAgain: bool = False,
    ) -> None:
        """
        Have new flows judged by another judge and taken to other upstreams.

        @param script: see L{Following.configure}; likewise C{logFlows} and C{judgesAgain}.
        """
        self._judge = judge
        self._upstreams = upstreams
        self._following.configure(judge, upstreams, logFlows, script, judgesAgain)

    def report(self) -> dict[str, Any]:
        """
        Counters for the user.

        @return: C{verdicts}, C{rules} and C{upstreams}: how many flows since the start, each
            by name; C{dialling} and C{legs}: how many dials and associations there are now.
        """
        return {
            **self.tally.report(),
            "dialling": len(self._pending),
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
            self._tellHalt(request.flow, decision)
            self._gateway.acceptStream(request, partial(openByRules, self))
        else:
            self._halt(request, decision)

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
            self._tellHalt(request.flow, decision)
            request.serve()
        else:
            self._halt(request, decision)

    def flowAbandoned(self, flowID: int) -> None:
        """See L{IFlowHandler.flowAbandoned}."""
        if self._undecided.abandon(flowID):
            return
        pending = self._pending.pop(flowID, None)
        if pending is not None:
            if self.logFlows:
                self._log.debug("Flow {flow} was given up by the app, or made way", flow=flowID)
            pending.cancel()

    def flowClosed(self, end: FlowEnd) -> None:
        """See L{IFlowHandler.flowClosed}."""
        if self._countsFlows:
            self._names.flowClosed(end.flow.destination.host)
        self._following.ended(end)
        self._plainHttp.ended(end.flow.id)

    def flowNotHttp(self, flow: Flow, reason: int) -> None:
        """See L{IFlowHandler.flowNotHttp}."""
        self._plainHttp.refused(flow, reason, shown(self._names, flow.destination))

    @property
    def pending(self) -> int:
        """How many flows wait for a leg."""
        return len(self._pending)

    def stop(self) -> None:
        """Cancel all dials and refuse their flows, and close all associations."""
        self._stopped = True
        self._undecided.stop()
        self._following.stop()
        dialled, self._pending = self._pending, {}
        for pending in dialled.values():
            pending.cancel()
            pending.request.refuse(Refusal.RESET)
        self._redirection.stop()
        self.associations.stop()
        self.trouble.stop()
        self._said.stop()

    def _dial(self, request: IFlowRequest, judge: IJudge, decision: Decision) -> None:
        flow = request.flow
        upstream = self._upstreams.leaving(decision, flow)
        self._tellUpstream(flow, decision, upstream)
        follow = self._following.expect(flow, judge, decision, upstream)
        pending = self._pending[flow.id] = PendingFlow(self, request, decision, follow)
        pending.begin(upstream.connect(dialled(self._names, flow, decision)))

    def _send(self, request: IDatagramFlowRequest, judge: IJudge, decision: Decision) -> None:
        flow = request.flow
        upstream = self._upstreams.leaving(decision, flow)
        self._tellUpstream(flow, decision, upstream)
        if self._names.isFake(request.flow.destination.host):
            self._redirection.send(request, upstream)
        else:
            self.associations.send(request, upstream)
        self._following.sent(flow, judge, decision, upstream)

    def _halt(self, request: IFlowRequest | IDatagramFlowRequest, decision: Decision) -> None:
        """Refuse a flow, or drop it."""
        if decision.trouble:
            self.trouble.report(decision.trouble)
        self._tellHalt(request.flow, decision)
        if decision.verdict is Verdict.REJECT:
            request.refuse(Refusal.PROHIBITED)
        else:
            request.drop()

    def _tellUpstream(self, flow: Flow, decision: Decision, upstream: IUpstream) -> None:
        if self.logFlows:
            self.tally.tellUpstream(flow, decision, upstream)

    def _tellHalt(self, flow: Flow, decision: Decision) -> None:
        if self.logFlows:
            self.tally.tellHalt(flow, decision)

    def connected(self, pending: PendingFlow, connection: Connection) -> None:
        """A pending flow has its leg."""
        request = pending.request
        self._pending.pop(request.flow.id, None)
        try:
            joined = self._plainHttp.join(request, connection)
        except FlowLimitError as error:
            # The app's kernel repeats its SYN by itself.
            self.trouble.report(str(error))
            return
        except OSError as error:
            # The engine owns the fd even so, and has ended the flow.
            self.trouble.report(f"A flow cannot be joined: {error}.")
            return
        if joined:
            self.carried += 1
            if self._countsFlows:
                self._names.flowJoined(request.flow.destination.host)
            pending.follow()
        elif self.logFlows:
            self._log.debug("Flow {flow} was gone already", flow=request.flow.id)

    def failed(self, request: IFlowRequest, reason: Failure) -> None:
        """The dial of a pending flow failed."""
        self._pending.pop(request.flow.id, None)
        error = reason.value
        refusal = Refusal.RESET
        if not isinstance(error, UpstreamError):
            self._log.failure(
                "The dial to {destination} failed: internal error",
                failure=reason,
                destination=request.flow.destination,
            )
        elif type(error) in REFUSALS or isinstance(error, DestinationSilent):
            # Nothing is wrong with the proxy, and most of it the app sees itself.
            refusal = REFUSALS.get(type(error), refusal)
            if error.news:
                self._said.report(str(error))
            elif self.logFlows:
                self._log.debug("Flow {flow}: {error}", flow=request.flow.id, error=str(error))
        else:
            self.trouble.report(str(error))
        request.refuse(refusal)


def firstPending(router: FlowRouter) -> str:
    """Where the flow goes that has waited longest for its leg; empty if none waits."""
    for pending in router._pending.values():
        return shown(router._names, pending.request.flow.destination)
    return ""


def firstLeaving(router: FlowRouter) -> str:
    """The name of the upstream by which that flow is to leave; empty if none waits."""
    for pending in router._pending.values():
        return nameOf(pending.decision)
    return ""


def openByRules(router: FlowRouter, flow: Flow) -> Deferred[Connection]:
    """Connect to where a flow was meant for, by the rules in force now."""
    return openOnward(router._judge, router._upstreams, flow)


class PendingFlow:
    """A flow that waits for its leg, and the dial that is to open it."""

    __slots__ = ("_cancelled", "_dial", "_router", "decision", "follow", "request")

    def __init__(
        self,
        router: FlowRouter,
        request: IFlowRequest,
        decision: Decision,
        follow: Callable[[], None],
    ) -> None:
        """
        @param follow: to be called when the flow was joined.
        """
        self.request = request
        self.decision = decision
        self.follow = follow
        self._router = router
        self._dial: Deferred[Connection] | None = None
        self._cancelled = False

    def begin(self, dial: Deferred[Connection]) -> None:
        """Wait for the dial's result."""
        self._dial = dial
        dial.addCallbacks(self._connected, self._failed)

    def cancel(self) -> None:
        """Cancel the dial; the router is not told of its end."""
        self._cancelled = True
        if self._dial is not None:
            self._dial.cancel()

    def _connected(self, connection: Connection) -> None:
        self._router.connected(self, connection)

    def _failed(self, reason: Failure) -> None:
        if self._cancelled and reason.check(CancelledError, UpstreamError):
            return
        self._router.failed(self.request, reason)
