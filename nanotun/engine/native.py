"""
What both engines share: a stack in the native library, fed by L{pump}, whose
events come up through an eventfd that the reactor watches.

Nothing here runs per packet or per byte, but everything in L{_deliver} runs
once per connection: keep it short.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.addresses import GATEWAY4, GATEWAY6
from nanotun.engine import abi
from nanotun.engine.decisions import Decisions
from nanotun.engine.request import DatagramFlowRequest, FlowRequest
from nanotun.engine.services import ServiceDatagrams
from nanotun.errors import EngineError
from nanotun.flow import Datagram, Endpoint, Flow, FlowEnd, Protocol, Stats
from nanotun.interfaces import IFlowHandler, IPacketEngine, ITunDevice

#: Flows that may wait for a decision.  Each is a dial with a socket of ours and
#: one of the proxy's: a SYN flood must not become a dial flood.
PENDING_LIMIT = 4096

#: The same for one source address.  Half, because all programs of this machine
#: share one address and a machine behind it must still get through.
PENDING_PER_SOURCE = 2048

#: Pairs of a UDP source and a destination: a small record each, without an fd.
#: One more than these costs whoever was silent for longest a new decision.
DATAGRAM_FLOW_LIMIT = 65536

#: Seconds.  An app on this machine cannot vanish without a word, a machine
#: behind it can; most NATs forget a silent flow after five minutes or more.
KEEPALIVE = 300

#: Seconds without a byte.  The time that Linux servers commonly grant.
HALF_CLOSED = 600

#: Events moved in one call; 256 of them are 18 KB.
DRAIN_BATCH = 256

#: Seconds between two looks at the flows that are left, and how many in all.
QUIESCE_INTERVAL = 0.02
QUIESCE_LIMIT = 1.0

#: Packets per look while stopping: acknowledgements of what is under way.
QUIESCE_BUDGET = 512


_REQUESTS = (abi.NS_EVENT_TCP_REQUEST, abi.NS_EVENT_UDP_REQUEST)


@implementer(IPacketEngine, IReadDescriptor)
class NativeEngine(Decisions):
    """
    An engine that is not started.

    @cvar stack: C{NS_STACK_...}, which stack the library makes.
    @param udpTimeout: seconds after which an idle association ends.
    @param load: makes the L{abi.NativeLibrary}.  Called by L{start}.
    """

    stackMode = ""
    stack = 0

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        udpTimeout: float,
        load: Callable[[], abi.NativeLibrary] = abi.NativeLibrary.load,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._udpTimeout = udpTimeout
        self._load = load
        self._handler: IFlowHandler | None = None
        self._eventFD = -1
        self._events = abi.EventBuffer(DRAIN_BATCH)
        self._stopping: list[Deferred[None]] | None = None
        self._stopDeadline = 0.0
        self._returned: Callable[[], None] | None = None
        self._services = ServiceDatagrams()
        self._more: IDelayedCall | None = None

    def start(self, device: ITunDevice, handler: IFlowHandler) -> None:
        """See L{IPacketEngine.start}."""
        if self._handle:
            raise EngineError("the packet engine runs already; please report this.")
        library = self._load()
        handle = library.ns_open(self._configFor(device))
        if handle <= 0:
            raise EngineError(
                f"the {self.stackMode} stack cannot be made on {device.name}: "
                f"{os.strerror(-handle)}."
            )
        eventFD = library.ns_event_fd(handle)
        if eventFD < 0:
            library.ns_close(handle)
            raise EngineError(
                f"the {self.stackMode} stack on {device.name} has no event descriptor: "
                f"{os.strerror(-eventFD)}."
            )
        self._library, self._handle, self._eventFD = library, handle, eventFD
        self._handler = handler
        self._reactor.addReader(self)

    def _configFor(self, device: ITunDevice) -> abi.ns_config:
        return abi.ns_config(
            size=abi.CONFIG_SIZE,
            tun_fd=device.fileno(),
            mtu=device.mtu,
            stack=self.stack,
            vnet_header=device.vnetHeader,
            pending_limit=PENDING_LIMIT,
            pending_per_source=PENDING_PER_SOURCE,
            flow_limit=self.flowLimit,
            keepalive_s=KEEPALIVE,
            half_closed_s=HALF_CLOSED,
            association_limit=self.associationLimit,
            datagram_flow_limit=DATAGRAM_FLOW_LIMIT,
            udp_timeout_ms=round(self._udpTimeout * 1000),
            gateway4=abi.bytes4(inet_pton(AF_INET, GATEWAY4)),
            gateway6=abi.bytes16(inet_pton(AF_INET6, GATEWAY6)),
        )

    def pump(self, budget: int) -> int:
        """See L{IPacketEngine.pump}."""
        library = self._library
        if library is None:
            return 0
        total = 0
        while True:
            taken = library.ns_pump(self._handle, budget - total)
            if taken < 0:
                raise OSError(-taken, os.strerror(-taken))
            total += taken
            # The library stops early when events wait.  To handle them here and
            # go on saves a turn of the reactor for every connection.
            if not self._deliver() or total >= budget or not self._handle:
                return total

    def lend(self, returned: Callable[[], None]) -> bool:
        """See L{IPacketEngine.lend}."""
        if self._library is None or self._stopping is not None or self._returned is not None:
            return False
        if self._library.ns_lend(self._handle) < 0:
            return False
        self._returned = returned
        return True

    def receiveDatagrams(self, receiver: Callable[[list[Datagram]], None]) -> None:
        """See L{IPacketEngine.receiveDatagrams}."""
        self._services.receiver = receiver

    def sendDatagrams(self, datagrams: list[Datagram]) -> None:
        """See L{IPacketEngine.sendDatagrams}."""
        if self._library is not None:
            self._services.send(self._library, self._handle, datagrams)

    def _receive(self) -> None:
        """Some datagrams for the services; the rest of them soon, if there are many."""
        self._more = None
        if self._library is not None and self._services.receive(self._library, self._handle):
            self._more = self._reactor.callLater(0, self._receive)

    def stats(self) -> Stats:
        """See L{IPacketEngine.stats}."""
        if self._library is None:
            return Stats(*(0 for _ in Stats._fields))
        return abi.readStats(self._library, self._handle)

    def stop(self) -> Deferred[None]:
        """See L{IPacketEngine.stop}."""
        if self._library is None:
            return succeed(None)
        done: Deferred[None] = Deferred()
        if self._stopping is not None:
            self._stopping.append(done)
            return done
        self._stopping = [done]
        self._stopDeadline = self._reactor.seconds() + QUIESCE_LIMIT
        self._quiesce()
        return done

    def _quiesce(self) -> None:
        library = self._library
        assert library is not None
        left = library.ns_quiesce(self._handle)
        if left > 0 and self._reactor.seconds() < self._stopDeadline:
            # The device's reader may be gone already, and without the app's
            # acknowledgements nothing would ever finish.
            library.ns_pump(self._handle, QUIESCE_BUDGET)
            self._deliver()
            self._reactor.callLater(QUIESCE_INTERVAL, self._quiesce)
            return
        self._deliver()
        self._reactor.removeReader(self)
        if self._more is not None:
            self._more.cancel()
            self._more = None
        handle, self._handle, self._library, self._eventFD = self._handle, 0, None, -1
        self._ended.clear()
        result = library.ns_close(handle)
        if result < 0:
            self._log.error("The stack closed with an error: {error}", error=os.strerror(-result))
        waiting, self._stopping = self._stopping or [], None
        for done in waiting:
            done.callback(None)

    # IReadDescriptor: the eventfd.

    def fileno(self) -> int:
        """See L{IFileDescriptor.fileno}."""
        return self._eventFD

    def logPrefix(self) -> str:
        """See L{ILoggingContext.logPrefix}."""
        return "engine"

    def doRead(self) -> Failure | None:
        """See L{IReadDescriptor.doRead}."""
        self._deliver()
        return None

    def connectionLost(self, reason: Failure) -> None:
        """See L{IFileDescriptor.connectionLost}."""
        # An eventfd does not break; the reactor says this of every reader that
        # is left when it ends.
        self._log.debug("No more events: {reason}", reason=reason.getErrorMessage())

    def _deliver(self) -> int:
        """Hand all waiting events to the handler.  Returns how many there were."""
        total = 0
        events, handler = self._events, self._handler
        assert handler is not None
        while self._library is not None:
            count = self._library.ns_drain(self._handle, events.array, events.capacity)
            if count < 0:
                self._log.error("Events are lost: {error}", error=os.strerror(-count))
                break
            # Read once for all of these, and before any is decoded: the addresses
            # of an end cost more than all else that Python does for it.
            unread = None if handler.followsFlows else abi.NS_EVENT_CLOSED
            for event in events.unpack(count):
                if event[3] == unread:
                    continue
                try:
                    self._dispatch(event, handler)
                except Exception:
                    self._log.failure("The flow {flow} is dropped", flow=event[0])
                    if event[3] in _REQUESTS and self._library is not None:
                        # Perhaps it was decided before the exception; then the
                        # library does not know it, which is as well.
                        self._library.ns_drop(self._handle, event[0])
            total += count
            if count < events.capacity:
                break
        return total

    def _dispatch(self, event: tuple[Any, ...], handler: IFlowHandler) -> None:
        (
            flowID, bytesUp, bytesDown, kind, error,
            sourcePort, destinationPort, family, protocol, source, destination,
        ) = event  # fmt: skip
        if kind == abi.NS_EVENT_ABANDONED:
            handler.flowAbandoned(flowID)
            return
        if kind == abi.NS_EVENT_DATAGRAMS:
            if self._more is None:
                self._receive()
            return
        if kind == abi.NS_EVENT_ASSOCIATION_CLOSED:
            ended = self._ended.pop(flowID, None)
            if ended is not None:
                ended(error)
            return
        if kind == abi.NS_EVENT_DEVICE_RETURNED:
            returned, self._returned = self._returned, None
            if returned is not None:
                returned()
            return
        if family == 4:
            sourceHost, destinationHost = (
                inet_ntop(AF_INET, source[:4]),
                inet_ntop(AF_INET, destination[:4]),
            )
        else:
            sourceHost, destinationHost = (
                inet_ntop(AF_INET6, source),
                inet_ntop(AF_INET6, destination),
            )
        flow = Flow(
            flowID,
            Protocol(protocol),
            Endpoint(sourceHost, sourcePort),
            Endpoint(destinationHost, destinationPort),
        )
        if kind == abi.NS_EVENT_TCP_REQUEST:
            handler.flowRequested(FlowRequest(flow, self))
        elif kind == abi.NS_EVENT_UDP_REQUEST:
            handler.datagramFlowRequested(DatagramFlowRequest(flow, self))
        elif kind == abi.NS_EVENT_CLOSED:
            handler.flowClosed(FlowEnd(flow, error, bytesUp, bytesDown))
        else:
            raise EngineError(f"The native library reported an unknown event {kind}.")
