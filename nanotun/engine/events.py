"""
Hears what happens in a stack of the native library.

Nothing here runs per packet or per byte, but everything in L{EventReader.deliver} runs
once per connection: keep it short.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.engine import abi
from nanotun.engine.decisions import Decisions
from nanotun.engine.dials import discard
from nanotun.engine.request import DatagramFlowRequest, FlowRequest
from nanotun.flow import Crowd, CrowdKind, Endpoint, Flow, FlowEnd, Protocol
from nanotun.interfaces import IFlowHandler

#: Events read in one call; 256 of them are 22 KB.
DRAIN_BATCH = 256

#: The uid of programs that cannot be told apart.
_NO_USER = 0xFFFFFFFF

#: Of flows that wait for a decision, and wait for ever if there is none.
_WAITING = (
    abi.NS_EVENT_TCP_REQUEST,
    abi.NS_EVENT_UDP_REQUEST,
    abi.NS_EVENT_DIAL_ENDED,
    abi.NS_EVENT_DIAL_SILENT,
)
_OF_FLOWS = (*_WAITING, abi.NS_EVENT_CLOSED, abi.NS_EVENT_NOT_HTTP)


@implementer(IReadDescriptor)
class EventReader:
    """
    Reads the events of one stack, and tells the handler of those about flows.

    @ivar handler: decides flows.
    @param eventFD: readable while events wait.  It belongs to the library.
    @param other: told of all other events: the kind (C{NS_EVENT_...}), the id and the
        error of each.
    @param crowded: told that flows had to make way.
    """

    _log = Logger()

    def __init__(
        self,
        library: abi.NativeLibrary,
        handle: int,
        eventFD: int,
        handler: IFlowHandler,
        decisions: Decisions,
        other: Callable[[int, int, int], None],
        crowded: Callable[[Crowd], None],
    ) -> None:
        self._library: abi.NativeLibrary | None = library
        self._handle = handle
        self._eventFD = eventFD
        self.handler = handler
        self._decisions = decisions
        self._dials = decisions.dials
        self._other = other
        self._crowded = crowded
        self._events = abi.EventBuffer(DRAIN_BATCH)
        # Whether that was asked for since the last events were read.
        self._stoodTold = False

    def close(self) -> None:
        """The stack is about to be closed: read nothing more."""
        self._library, self._eventFD = None, -1

    def fileno(self) -> int:
        """See L{IFileDescriptor.fileno}."""
        return self._eventFD

    def logPrefix(self) -> str:
        """See L{ILoggingContext.logPrefix}."""
        return "engine"

    def doRead(self) -> Failure | None:
        """See L{IReadDescriptor.doRead}."""
        self.deliver()
        return None

    def connectionLost(self, reason: Failure) -> None:
        """See L{IFileDescriptor.connectionLost}."""
        # An eventfd does not break; the reactor calls this for every reader that
        # is left when it ends.
        self._log.debug("No more events: {reason}", reason=reason.getErrorMessage())

    def deliver(self) -> int:
        """Hand on all events that wait, and return how many there were."""
        total = 0
        events, handler = self._events, self.handler
        # A handler may stop the engine, which closes this.
        while self._library is not None:
            count = self._library.ns_drain(self._handle, events.array, events.capacity)
            if count < 0:
                self._log.error("Events are lost: {error}", error=os.strerror(-count))
                break
            # Read once for all of these, and before any is decoded: decoding the addresses
            # of an end costs more than everything else that Python does for it.
            unread = None if handler.followsFlows else abi.NS_EVENT_CLOSED
            # Whatever was counted before any of these happened is there by now.
            self._stoodTold = False
            for event in events.unpack(count):
                if event[abi.EVENT_KIND] == unread:
                    continue
                try:
                    self._dispatch(event, handler)
                except Exception:
                    self._log.failure("The flow {flow} is dropped", flow=event[0])
                    if event[abi.EVENT_KIND] in _WAITING and self._library is not None:
                        # If it was decided before the exception, the library no longer
                        # knows it and this does nothing.
                        self._library.ns_drop(self._handle, event[0])
            total += count
            if count < events.capacity:
                break
        return total

    def _dispatch(self, event: tuple[Any, ...], handler: IFlowHandler) -> None:
        (
            flowID, bytesUp, bytesDown, note, microseconds, kind, error,
            sourcePort, destinationPort, family, protocol, standing, source, destination,
        ) = event  # fmt: skip
        if kind == abi.NS_EVENT_JOINED:
            self._dials.requests.pop(flowID, None)
            handler.flowJoined(flowID, bytesUp / 1e6, error)
            return
        if kind == abi.NS_EVENT_ABANDONED:
            self._dials.requests.pop(flowID, None)
            handler.flowAbandoned(flowID)
            if error == errno.EMFILE:
                handler.flowLimitReached(self._decisions.flowLimit)
            return
        if kind == abi.NS_EVENT_SNIFFED:
            self._decisions.flowSniffed(flowID)
            return
        if kind == abi.NS_EVENT_CROWDED:
            host = inet_ntop(AF_INET, source[:4]) if family == 4 else inet_ntop(AF_INET6, source)
            uid = -1 if bytesUp == _NO_USER else bytesUp
            self._crowded(Crowd(CrowdKind(error), host, uid, bytesDown, flowID))
            return
        if kind not in _OF_FLOWS:
            self._heard(kind, flowID, error, handler)
            return
        if family == 4:
            sourceHost = inet_ntop(AF_INET, source[:4])
            destinationHost = inet_ntop(AF_INET, destination[:4])
        else:
            sourceHost = inet_ntop(AF_INET6, source)
            destinationHost = inet_ntop(AF_INET6, destination)
        flow = Flow(
            flowID,
            Protocol(protocol),
            Endpoint(sourceHost, sourcePort),
            Endpoint(destinationHost, destinationPort),
        )
        if kind == abi.NS_EVENT_TCP_REQUEST:
            handler.flowRequested(FlowRequest(flow, self._decisions))
        elif kind == abi.NS_EVENT_UDP_REQUEST:
            handler.datagramFlowRequested(DatagramFlowRequest(flow, self._decisions))
        elif kind == abi.NS_EVENT_NOT_HTTP:
            handler.flowNotHttp(flow, error)
        elif kind == abi.NS_EVENT_CLOSED:
            seconds = microseconds / 1e6
            end = FlowEnd(flow, error, bytesUp, bytesDown, note, seconds, bool(standing))
            handler.flowClosed(end)
        else:
            self._dialEvent(kind, flow, bytesUp, handler)

    def _dialEvent(self, kind: int, flow: Flow, standing: int, handler: IFlowHandler) -> None:
        """The engine's dial of a flow that waits has ended, or takes long."""
        dials = self._dials
        request = dials.requests.get(flow.id)
        if request is None and standing:
            request = FlowRequest(flow, self._decisions)
        if standing:
            # Each is counted before it is told that it failed.
            self._tellStood(handler)
        if kind == abi.NS_EVENT_DIAL_SILENT:
            if request is not None:
                dials.requests[flow.id] = request
                handler.flowSilent(request, standing)
            return
        end = dials.endOf(flow.id)
        if end is None:
            return  # the app has given up, or that dial was dropped and there is another one
        dials.requests.pop(flow.id, None)
        if request is None:
            discard(end.fd)  # the dial was dropped when it had ended
        else:
            handler.flowDialEnded(request, end, standing)

    def _tellStood(self, handler: IFlowHandler) -> None:
        """Tell what was counted for standing decisions, once for all events that were read."""
        if not self._stoodTold:
            self._stoodTold = True
            self._dials.tellStood(handler)

    def _heard(self, kind: int, number: int, error: int, handler: IFlowHandler) -> None:
        """An event that is about no flow of its own."""
        if kind in (abi.NS_EVENT_STOOD, abi.NS_EVENT_STANDING_ENDED):
            self._tellStood(handler)
            if kind == abi.NS_EVENT_STANDING_ENDED:
                handler.standingEnded(number)
        else:
            self._other(kind, number, error)
