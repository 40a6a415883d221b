"""
Decides where each flow goes, and takes it there.

A flow is dialled first; only a leg that stands completes the handshake with
the app.  What the app sees of a leg that fails is in L{REFUSALS}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import (
    FlowLimitError,
    UpstreamError,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamProhibited,
    UpstreamRefused,
)
from nanotun.flow import Connection, FlowEnd, Refusal
from nanotun.interfaces import IFlowHandler, IFlowRequest, IUpstream

#: What the app sees of an error.  Everything else, a proxy at fault and a
#: deadline that passed included, is a reset: the app shall try no longer.
REFUSALS: dict[type[UpstreamError], Refusal] = {
    UpstreamRefused: Refusal.RESET,
    UpstreamHostUnreachable: Refusal.HOST_UNREACHABLE,
    UpstreamNetUnreachable: Refusal.NET_UNREACHABLE,
    UpstreamProhibited: Refusal.PROHIBITED,
}

#: Seconds between two lines about one cause.
REPORT_INTERVAL = 10.0

#: Causes told apart at a time.  Texts come from peers as well; a proxy that
#: invents them must not fill the memory.
CAUSE_LIMIT = 64


@implementer(IFlowHandler)
class FlowRouter:
    """
    Sends every flow to one upstream.

    @ivar logFlows: whether each flow gets its debug lines.  Off unless someone
        reads them: a line costs more than half of what the flow does.
    @ivar followsFlows: the same: only those lines tell of a flow's end.
    @param clock: for the summary lines.
    """

    _log = Logger()

    def __init__(
        self,
        upstream: IUpstream,
        clock: IReactorTime,
        logFlows: bool = False,
    ) -> None:
        self.logFlows = self.followsFlows = logFlows
        self._upstream = upstream
        self._trouble = TroubleLog(clock, self._log)
        self._pending: dict[int, _Dial] = {}
        self._stopped = False

    def flowRequested(self, request: IFlowRequest) -> None:
        """See L{IFlowHandler.flowRequested}."""
        if self._stopped:
            request.refuse(Refusal.RESET)
            return
        # The one place where a flow's way is chosen.
        self._dial(request, self._upstream)

    def flowAbandoned(self, flowID: int) -> None:
        """See L{IFlowHandler.flowAbandoned}."""
        dial = self._pending.pop(flowID, None)
        if dial is not None:
            if self.logFlows:
                self._log.debug("Flow {flow} was given up by the app", flow=flowID)
            dial.cancel()

    def flowClosed(self, end: FlowEnd) -> None:
        """See L{IFlowHandler.flowClosed}."""
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
        self._trouble.stop()

    def _dial(self, request: IFlowRequest, upstream: IUpstream) -> None:
        flow = request.flow
        if self.logFlows:
            self._log.debug(
                "Flow {flow} from {source} to {destination} by {upstream}",
                flow=flow.id,
                source=flow.source,
                destination=flow.destination,
                upstream=upstream.describe(),
            )
        dial = self._pending[flow.id] = _Dial(self, request)
        dial.begin(upstream.connect(flow.destination))

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
        if not there and self.logFlows:
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


class TroubleLog:
    """
    One error line per cause: the first at once, then a count every
    L{REPORT_INTERVAL} while it goes on.  A proxy that is down under a load of
    hundreds of flows per second must not fill the disk.
    """

    def __init__(self, clock: IReactorTime, log: Logger) -> None:
        self._clock = clock
        self._log = log
        self._counts: dict[str, int] = {}
        self._others = 0
        self._timer: IDelayedCall | None = None

    def report(self, cause: str) -> None:
        """
        @param cause: one sentence for the user; equal sentences are one cause.
        """
        if cause in self._counts:
            self._counts[cause] += 1
        elif len(self._counts) >= CAUSE_LIMIT:
            self._others += 1
        else:
            self._counts[cause] = 0
            self._log.error("{cause}", cause=cause)
        if self._timer is None:
            self._timer = self._clock.callLater(REPORT_INTERVAL, self._summarise)

    def stop(self) -> None:
        """Tell what is left to tell."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._tell("{cause} ({count} more)")
            self._counts = {}

    def _summarise(self) -> None:
        self._timer = None
        self._tell("{cause} ({count} more in {seconds:g} s)")
        # A cause that is over is forgotten: its return is news.
        self._counts = {cause: 0 for cause, count in self._counts.items() if count}
        if self._counts:
            self._timer = self._clock.callLater(REPORT_INTERVAL, self._summarise)

    def _tell(self, line: str) -> None:
        for cause, count in self._counts.items():
            if count:
                self._log.error(line, cause=cause, count=count, seconds=REPORT_INTERVAL)
        if self._others:
            self._log.error("{count} more flows failed of other causes", count=self._others)
            self._others = 0
