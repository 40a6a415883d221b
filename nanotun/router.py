"""
Decides where each flow goes, and takes it there.

A flow is dialled first; only a leg that stands completes the handshake with
the app.  What the app sees of a leg that fails is in L{REFUSALS}.  Datagrams
leave by a leg of their source: L{nanotun.associations}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.addresses import GATEWAY4, GATEWAY6, isUnicast
from nanotun.associations import DNS_PORT, Associations
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
from nanotun.flow import Connection, Endpoint, Flow, FlowEnd, Refusal
from nanotun.interfaces import (
    IDatagramFlowRequest,
    IFlowHandler,
    IFlowRequest,
    IGateway,
    IPacketEngine,
    IUpstream,
)
from nanotun.naming import Names
from nanotun.redirection import Redirection
from nanotun.trouble import TroubleLog

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

GATEWAYS = (GATEWAY4, GATEWAY6)


@implementer(IFlowHandler)
class FlowRouter:
    """
    Sends every flow to one upstream, but for those to services of ours.

    @ivar logFlows: whether each flow gets its debug lines.  Off unless someone
        reads them: a line costs more than half of what the flow does.
    @ivar followsFlows: whether there are those lines, or fake addresses: nothing
        else needs to hear of a flow's end.
    @param gateway: who answers on the gateway's addresses.
    @param dnsOverride: whether the services answer every DNS query of this machine
        that would go to the upstream, whoever it is sent to.
    @param names: what addresses stand for, where that is of interest.  The upstream
        knows of it too: L{nanotun.naming.NamedUpstream}.
    """

    _log = Logger()

    def __init__(
        self,
        upstream: IUpstream,
        engine: IPacketEngine,
        gateway: IGateway,
        clock: IReactorTime,
        dnsOverride: bool = False,
        logFlows: bool = False,
        names: Names | None = None,
    ) -> None:
        self.logFlows = logFlows
        self._names = names
        self._countsFlows = names is not None and names.followsFlows
        self.followsFlows = logFlows or self._countsFlows
        self._upstream = upstream
        self._gateway = gateway
        self._dnsOverride = dnsOverride
        self._trouble = TroubleLog(clock, self._log)
        self._associations = Associations(engine, clock, self._trouble)
        self._redirection: Redirection | None = None
        if names is not None:
            self._redirection = Redirection(names, self._associations, self._trouble)
        self._pending: dict[int, _Dial] = {}
        self._stopped = False

    def flowRequested(self, request: IFlowRequest) -> None:
        """See L{IFlowHandler.flowRequested}."""
        if self._stopped:
            request.refuse(Refusal.RESET)
            return
        # The one place where a connection's way is chosen.
        if request.flow.destination.host in GATEWAYS:
            self._gateway.acceptStream(request)
        else:
            self._dial(request, self._upstream)

    def datagramFlowRequested(self, request: IDatagramFlowRequest) -> None:
        """See L{IFlowHandler.datagramFlowRequested}."""
        host, port = request.flow.destination
        # The one place where datagrams' way is chosen.  Those for a service on
        # the gateway's addresses are no requests, and no way out carries more
        # than what is for one host.
        if self._stopped or host in GATEWAYS or not isUnicast(host):
            request.drop()
        elif (
            self._dnsOverride
            and port == DNS_PORT
            # The services answer nobody else, who is better off with no override.
            and self._gateway.isLocal(request.flow.source.host)
        ):
            request.serve()
        else:
            if self.logFlows:
                self._tellWay(request.flow, self._upstream)
            if self._redirection is not None and self._redirection.names.isFake(host):
                self._redirection.send(request, self._upstream)
            else:
                self._associations.send(request, self._upstream)

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
        if self.logFlows:
            self._log.debug(
                "Flow {flow} to {destination} ended: {up} bytes up, {down} down, errno {error}",
                flow=end.flow.id,
                destination=end.flow.destination,
                up=end.bytesUp,
                down=end.bytesDown,
                error=end.error,
            )

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

    def _dial(self, request: IFlowRequest, upstream: IUpstream) -> None:
        flow = request.flow
        if self.logFlows:
            self._tellWay(flow, upstream)
        dial = self._pending[flow.id] = _Dial(self, request)
        dial.begin(upstream.connect(flow.destination))

    def _tellWay(self, flow: Flow, upstream: IUpstream) -> None:
        self._log.debug(
            "{protocol} flow {flow} from {source} to {destination} by {upstream}",
            protocol=flow.protocol.name,
            flow=flow.id,
            source=flow.source,
            destination=self._told(flow.destination),
            upstream=upstream.describe(),
        )

    def _told(self, destination: Endpoint) -> str:
        """A destination with the name that it is known by."""
        name = None if self._names is None else self._names.nameOf(destination.host)
        return str(destination) if name is None else f"{destination} ({name})"

    def connected(self, request: IFlowRequest, connection: Connection) -> None:
        """A leg stands.  Called by its dial."""
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

    __slots__ = ("_cancelled", "_leg", "_router", "request")

    def __init__(self, router: FlowRouter, request: IFlowRequest) -> None:
        self.request = request
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
        self._router.connected(self.request, connection)

    def _failed(self, reason: Failure) -> None:
        if self._cancelled and reason.check(CancelledError, UpstreamError):
            return
        self._router.failed(self.request, reason)
