"""
Takes each flow where the judge says.

A flow is dialled first; only a leg that stands completes the handshake with
the app.  What the app sees of a leg that fails is in L{REFUSALS}.  Datagrams
leave by a leg of their source: L{nanotun.router.udp.associations}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import (
    FamilyUnsupported,
    FlowLimitError,
    NameUnknown,
    UpstreamError,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamProhibited,
    UpstreamRefused,
)
from nanotun.flow import Decision, Endpoint, Flow, FlowEnd, Refusal, Verdict
from nanotun.interfaces import (
    Connection,
    IDatagramFlowRequest,
    IFlowHandler,
    IFlowRequest,
    IGateway,
    IJudge,
    IPacketEngine,
    IUpstream,
)
from nanotun.log.trouble import TroubleLog
from nanotun.router.named import Names
from nanotun.router.tally import Ledger
from nanotun.router.udp.associations import Associations
from nanotun.router.udp.redirection import Redirection

#: What the app sees of an error.  Everything else, a proxy at fault and a
#: deadline that passed included, is a reset: the app shall try no longer.
REFUSALS: dict[type[UpstreamError], Refusal] = {
    UpstreamRefused: Refusal.RESET,
    UpstreamHostUnreachable: Refusal.HOST_UNREACHABLE,
    UpstreamNetUnreachable: Refusal.NET_UNREACHABLE,
    FamilyUnsupported: Refusal.NET_UNREACHABLE,
    NameUnknown: Refusal.HOST_UNREACHABLE,
    UpstreamProhibited: Refusal.PROHIBITED,
}


@implementer(IFlowHandler)
class FlowRouter:
    """
    Has every flow judged, and executes the judgement.

    @ivar logFlows: whether each flow gets its debug lines.  Off unless someone
        reads them: a line costs more than half of what the flow does.
    @param upstream: where the proxied go.
    @param direct: where those go that pass it by.
    @param gateway: who answers on the gateway's addresses.
    @param names: what addresses stand for, where that is of interest.  The upstreams
        know of it too: L{nanotun.router.named.NamedUpstream}.
    """

    _log = Logger()

    def __init__(
        self,
        judge: IJudge,
        upstream: IUpstream,
        direct: IUpstream,
        engine: IPacketEngine,
        gateway: IGateway,
        clock: IReactorTime,
        logFlows: bool = False,
        names: Names | None = None,
    ) -> None:
        self.logFlows = logFlows
        self._names = names
        self._countsFlows = names is not None and names.followsFlows
        self._judge = judge
        self._upstream = upstream
        self._direct = direct
        self._gateway = gateway
        self._trouble = TroubleLog(clock, self._log)
        self._ledger = Ledger(clock, self._log)
        self._associations = Associations(engine, clock, self._trouble)
        self._redirection: Redirection | None = None
        if names is not None:
            self._redirection = Redirection(names, self._associations, self._trouble)
        self._pending: dict[int, _Dial] = {}
        self._stopped = False

    @property
    def hasNames(self) -> bool:
        """Whether names are looked after, so that ways out can be sent them."""
        return self._names is not None

    @property
    def followsFlows(self) -> bool:
        """
        See L{IFlowHandler}: for those lines, or for fake addresses; nothing else needs
        to hear of a flow's end.
        """
        return self.logFlows or self._countsFlows or bool(self._ledger.entries)

    def reconfigure(
        self, judge: IJudge, upstream: IUpstream, direct: IUpstream, logFlows: bool
    ) -> None:
        """
        Have flows to come judged by another judge, and sent other ways.  Flows that are
        under way go on as they were.
        """
        self._judge = judge
        self._upstream = upstream
        self._direct = direct
        self.logFlows = logFlows

    def report(self) -> dict[str, Any]:
        """
        Counters for the user.

        @return: C{verdicts} and C{rules}: how many flows since the start, each by
            name; C{dialling} and C{legs}: how many there are now.
        """
        return {
            **self._ledger.report(),
            "dialling": len(self._pending),
            "legs": len(self._associations.legs),
        }

    def flowRequested(self, request: IFlowRequest) -> None:
        """See L{IFlowHandler.flowRequested}."""
        if self._stopped:
            request.refuse(Refusal.RESET)
            return
        decision = self._judge.judge(request.flow)
        self._ledger.count(decision)
        verdict = decision.verdict
        if verdict is Verdict.PROXY:
            self._dial(request, decision, self._upstream)
        elif verdict is Verdict.DIRECT:
            self._dial(request, decision, self._direct)
        elif verdict is Verdict.SERVE:
            self._tellHalt(request.flow, decision)
            self._gateway.acceptStream(request)
        else:
            self._halt(request, decision)

    def datagramFlowRequested(self, request: IDatagramFlowRequest) -> None:
        """See L{IFlowHandler.datagramFlowRequested}."""
        if self._stopped:
            request.drop()
            return
        decision = self._judge.judge(request.flow)
        self._ledger.count(decision)
        verdict = decision.verdict
        if verdict is Verdict.PROXY:
            self._send(request, decision, self._upstream)
        elif verdict is Verdict.DIRECT:
            self._send(request, decision, self._direct)
        elif verdict is Verdict.SERVE:
            self._tellHalt(request.flow, decision)
            request.serve()
        else:
            self._halt(request, decision)

    def flowAbandoned(self, flowID: int) -> None:
        """See L{IFlowHandler.flowAbandoned}."""
        dial = self._pending.pop(flowID, None)
        if dial is not None:
            if self.logFlows:
                self._log.debug("Flow {flow} was given up by the app", flow=flowID)
            dial.cancel()

    def flowClosed(self, end: FlowEnd) -> None:
        """See L{IFlowHandler.flowClosed}."""
        if self._names is not None and self._countsFlows:
            self._names.flowClosed(end.flow.destination.host)
        if self._ledger.entries:
            self._ledger.ended(end, self._told(end.flow.destination))

    @property
    def pending(self) -> int:
        """How many flows wait for their leg."""
        return len(self._pending)

    def stop(self) -> None:
        """Give up all legs that are under way and refuse their flows."""
        self._stopped = True
        pending, self._pending = self._pending, {}
        for dial in pending.values():
            dial.cancel()
            dial.request.refuse(Refusal.RESET)
        if self._redirection is not None:
            self._redirection.stop()
        self._associations.stop()
        self._trouble.stop()

    def _dial(self, request: IFlowRequest, decision: Decision, upstream: IUpstream) -> None:
        flow = request.flow
        if self.logFlows:
            self._ledger.tellWay(flow, decision, upstream, self._told(flow.destination))
        dial = self._pending[flow.id] = _Dial(self, request, decision, upstream)
        dial.begin(upstream.connect(flow.destination))

    def _send(self, request: IDatagramFlowRequest, decision: Decision, upstream: IUpstream) -> None:
        flow = request.flow
        if self.logFlows:
            self._ledger.tellWay(flow, decision, upstream, self._told(flow.destination))
        redirection = self._redirection
        if redirection is not None and redirection.names.isFake(flow.destination.host):
            redirection.send(request, upstream)
        else:
            self._associations.send(request, upstream)

    def _halt(self, request: IFlowRequest | IDatagramFlowRequest, decision: Decision) -> None:
        """Refuse a flow, or drop it."""
        if decision.trouble:
            self._trouble.report(decision.trouble)
        self._tellHalt(request.flow, decision)
        if decision.verdict is Verdict.REJECT:
            request.refuse(Refusal.PROHIBITED)
        else:
            request.drop()

    def _tellHalt(self, flow: Flow, decision: Decision) -> None:
        if self.logFlows:
            self._ledger.tellHalt(flow, decision, self._told(flow.destination))

    def _told(self, destination: Endpoint) -> str:
        """A destination with the name that it is known by."""
        name = None if self._names is None else self._names.nameOf(destination.host)
        return str(destination) if name is None else f"{destination} ({name})"

    def connected(self, dial: _Dial, connection: Connection) -> None:
        """A leg stands.  Called by its dial."""
        request = dial.request
        self._pending.pop(request.flow.id, None)
        try:
            there = request.join(connection.fd, connection.leftover)
        except FlowLimitError as error:
            # The app asks again by itself, as long as it cares.
            self._trouble.report(str(error))
            return
        except OSError as error:
            # The engine owns the fd all the same, and ended the flow.
            self._trouble.report(f"A flow cannot be joined: {error}.")
            return
        if there:
            if self._names is not None and self._countsFlows:
                self._names.flowJoined(request.flow.destination.host)
            if self.logFlows:
                self._ledger.joined(request.flow, dial.decision, dial.upstream)
        elif self.logFlows:
            self._log.debug("Flow {flow} was gone already", flow=request.flow.id)

    def failed(self, request: IFlowRequest, reason: Failure) -> None:
        """A leg failed.  Called by its dial."""
        self._pending.pop(request.flow.id, None)
        error = reason.value
        refusal = Refusal.RESET
        if not isinstance(error, UpstreamError):
            self._log.failure(
                "The leg to {destination} failed by a mistake of ours",
                failure=reason,
                destination=request.flow.destination,
            )
        elif type(error) in REFUSALS:
            # The destination's business: the app sees it itself.
            refusal = REFUSALS[type(error)]
            if self.logFlows:
                self._log.debug("Flow {flow}: {error}", flow=request.flow.id, error=str(error))
        else:
            self._trouble.report(str(error))
        request.refuse(refusal)


class _Dial:
    """One leg under way, and the request that waits for it."""

    __slots__ = ("_cancelled", "_leg", "_router", "decision", "request", "upstream")

    def __init__(
        self, router: FlowRouter, request: IFlowRequest, decision: Decision, upstream: IUpstream
    ) -> None:
        self.request = request
        self.decision = decision
        self.upstream = upstream
        self._router = router
        self._leg: Deferred[Connection] | None = None
        self._cancelled = False

    def begin(self, leg: Deferred[Connection]) -> None:
        """Wait for the leg."""
        self._leg = leg
        leg.addCallbacks(self._connected, self._failed)

    def cancel(self) -> None:
        """Give the leg up; the router hears no more of it."""
        self._cancelled = True
        if self._leg is not None:
            self._leg.cancel()

    def _connected(self, connection: Connection) -> None:
        self._router.connected(self, connection)

    def _failed(self, reason: Failure) -> None:
        if self._cancelled and reason.check(CancelledError, UpstreamError):
            return
        self._router.failed(self.request, reason)
