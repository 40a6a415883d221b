"""
Verified fakes: memory instead of a device, a stack and a proxy.

Each passes the same contract as the real thing (tests/contracts.py), so that
all other tests may use it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from nanotun.engine.request import FlowRequest
from nanotun.errors import DeviceError, EngineError, FlowLimitError, UpstreamError
from nanotun.flow import Connection, Endpoint, Flow, FlowEnd, Protocol, Refusal, Stats
from nanotun.interfaces import IFlowHandler, IPacketEngine, ITunDevice, ITunOpener, IUpstream

#: What a fake device says as its fd; nothing real is behind it.
FAKE_FD = 1_000_000


@implementer(ITunDevice)
class MemoryTun:
    """
    A device that is not there.

    @ivar closed: whether it was closed.
    """

    def __init__(self, opener: MemoryTunOpener, name: str, mtu: int, vnetHeader: int) -> None:
        self.name = name
        self.mtu = mtu
        self.vnetHeader = vnetHeader
        self.closed = False
        self._opener = opener

    def fileno(self) -> int:
        """See L{ITunDevice.fileno}."""
        return -1 if self.closed else FAKE_FD

    def close(self) -> None:
        """See L{ITunDevice.close}."""
        self.closed = True
        self._opener.devices.pop(self.name, None)


@implementer(ITunOpener)
class MemoryTunOpener:
    """
    @ivar devices: the open ones, by name.
    @ivar offloadWorks: what the kernel of this fake can do.
    @ivar failure: raised by the next L{open}, if set.
    """

    def __init__(self) -> None:
        self.devices: dict[str, MemoryTun] = {}
        self.offloadWorks = True
        self.failure: DeviceError | None = None

    def open(self, name: str, mtu: int, offload: str) -> ITunDevice:
        """See L{ITunOpener.open}."""
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if name in self.devices:
            raise DeviceError(f"an interface named {name} exists already.")
        if not 0 < len(name) <= 15 or "/" in name or "%" in name:
            raise DeviceError(f"{name!r} is not an interface's name.")
        if offload == "on" and not self.offloadWorks:
            raise DeviceError(f"the kernel refuses segmentation offload on {name}.")
        vnetHeader = 10 if offload != "off" and self.offloadWorks else 0
        device = self.devices[name] = MemoryTun(self, name, mtu, vnetHeader)
        return device


@implementer(IPacketEngine)
class MemoryEngine:
    """
    An engine without packets: the test says what apps do and looks at what
    became of their flows.

    @ivar handler: who decides, once started.
    @ivar joined: flow id to the fd, which is closed by L{stop}, and leftover.
    @ivar refused: flow id to the reason.
    @ivar dropped: flow ids.
    @ivar flowLimit: how many flows may be joined at a time.
    @ivar packets: how many packets a pump will find.
    @ivar pumpError: raised by the next pump, if set.
    """

    stackMode = "memory"

    def __init__(self) -> None:
        self.device: ITunDevice | None = None
        self.handler: IFlowHandler | None = None
        self.joined: dict[int, tuple[int, bytes]] = {}
        self.refused: dict[int, Refusal] = {}
        self.dropped: list[int] = []
        self.flowLimit = 1000
        self.packets = 0
        self.pumpError: OSError | None = None
        self._waiting: dict[int, Flow] = {}
        self._flows: dict[int, Flow] = {}
        self._lastID = 0
        self._returned: Callable[[], None] | None = None

    def start(self, device: ITunDevice, handler: IFlowHandler) -> None:
        """See L{IPacketEngine.start}."""
        if self.handler is not None:
            raise EngineError("the packet engine runs already.")
        self.device, self.handler = device, handler

    def pump(self, budget: int) -> int:
        """See L{IPacketEngine.pump}."""
        if self.pumpError is not None:
            error, self.pumpError = self.pumpError, None
            raise error
        taken = min(budget, self.packets)
        self.packets -= taken
        return taken

    def lend(self, returned: Callable[[], None]) -> bool:
        """See L{IPacketEngine.lend}."""
        if self.handler is None or self._returned is not None:
            return False
        self._returned = returned
        return True

    def stats(self) -> Stats:
        """See L{IPacketEngine.stats}."""
        gauges = {"flows": len(self._flows), "pending": len(self._waiting)}
        counters = {"refused": len(self.refused), "flows_total": len(self.joined)}
        return Stats(*(0 for _ in Stats._fields))._replace(**gauges, **counters)

    def stop(self) -> Deferred[None]:
        """See L{IPacketEngine.stop}."""
        self.handler = None
        self._waiting.clear()
        for flowID in self._flows:
            os.close(self.joined[flowID][0])
        self._flows.clear()
        return succeed(None)

    # What apps do.

    def request(
        self,
        destination: Endpoint = Endpoint("192.0.2.1", 80),  # noqa: B008
        source: Endpoint = Endpoint("198.18.0.2", 40000),  # noqa: B008
    ) -> FlowRequest:
        """An app asks for a connection; the handler hears of it at once."""
        assert self.handler is not None
        self._lastID += 1
        flow = Flow(self._lastID, Protocol.TCP, source, destination)
        self._waiting[flow.id] = flow
        request = FlowRequest(flow, self)
        self.handler.flowRequested(request)
        return request

    def abandon(self, flowID: int) -> None:
        """The app gives up."""
        assert self.handler is not None
        del self._waiting[flowID]
        self.handler.flowAbandoned(flowID)

    def end(self, flowID: int, error: int = 0) -> None:
        """A joined flow ends."""
        assert self.handler is not None
        flow = self._flows.pop(flowID)
        os.close(self.joined[flowID][0])
        if self.handler.followsFlows:
            self.handler.flowClosed(FlowEnd(flow, error, 0, 0))

    def giveBack(self) -> None:
        """The lent device was silent for a while."""
        returned, self._returned = self._returned, None
        assert returned is not None
        returned()

    # The decisions, for FlowRequest.

    def joinFlow(self, flowID: int, fd: int, leftover: bytes) -> bool:
        """See L{nanotun.interfaces.IFlowRequest.join}."""
        flow = self._waiting.pop(flowID, None)
        if flow is None:
            os.close(fd)
            return False
        if len(self._flows) >= self.flowLimit:
            os.close(fd)
            self.dropped.append(flowID)
            raise FlowLimitError(self.flowLimit)
        self._flows[flowID] = flow
        self.joined[flowID] = (fd, leftover)
        return True

    def refuseFlow(self, flowID: int, reason: Refusal) -> None:
        """See L{nanotun.interfaces.IFlowRequest.refuse}."""
        if self._waiting.pop(flowID, None) is not None:
            self.refused[flowID] = reason

    def dropFlow(self, flowID: int) -> None:
        """See L{nanotun.interfaces.IFlowRequest.drop}."""
        if self._waiting.pop(flowID, None) is not None:
            self.dropped.append(flowID)


@implementer(IUpstream)
class FakeUpstream:
    """
    An upstream whose legs the test answers.

    @ivar asked: the destinations, in order.
    @ivar cancelled: how many legs were given up.
    """

    def __init__(self) -> None:
        self.asked: list[Endpoint] = []
        self.cancelled = 0
        self._legs: list[Deferred[Connection]] = []

    def connect(self, destination: Endpoint) -> Deferred[Connection]:
        """See L{IUpstream.connect}."""
        self.asked.append(destination)
        leg: Deferred[Connection] = Deferred(self._cancel)
        self._legs.append(leg)
        return leg

    def describe(self) -> str:
        """See L{IUpstream.describe}."""
        return "fake://"

    def _cancel(self, leg: Deferred[Connection]) -> None:
        self.cancelled += 1
        self._legs.remove(leg)

    def answer(self, leftover: bytes = b"") -> socket.socket:
        """The oldest leg stands.  Returns the far end, which the test closes."""
        near, far = socket.socketpair()
        near.setblocking(False)
        self._legs.pop(0).callback(Connection(near.detach(), leftover))
        return far

    def fail(self, error: UpstreamError) -> None:
        """The oldest leg fails."""
        self._legs.pop(0).errback(error)
