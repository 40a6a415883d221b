"""
What the tests of L{nanotun.engine} share: a library made of Python.
"""

from __future__ import annotations

import errno
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from nanotun.engine import abi
from nanotun.engine.native import NativeEngine
from nanotun.flow import Flow, FlowEnd
from nanotun.interfaces import DialEnd, IDatagramFlowRequest, IFlowHandler, IFlowRequest
from nanotun.testing import MemoryTunOpener

HANDLE = 11
EVENT_FD = 22
UDP_TIMEOUT = 60.0


class FakeLibrary:
    """
    Stands for L{abi.NativeLibrary}.

    @ivar calls: every call but drains, with its arguments.
    @ivar results: the result of each function, 0 unless it is set; of a list, one for each
        call.
    @ivar events: those that wait to be drained.
    @ivar dialEnds: by a flow's id: how its dial ended, as the fields of C{struct ns_dialled}
        but C{length}, and what was received.
    @ivar flows: what C{ns_flows} lists, as fields of C{struct ns_flow}, by ascending ids.
    @ivar stood: the records that wait, as fields of C{struct ns_stood}.
    @ivar received: the batches that wait for the services.
    @ivar name: what C{ns_name} finds.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.results: dict[str, Any] = {"ns_open": HANDLE, "ns_event_fd": EVENT_FD}
        self.events: list[dict[str, Any]] = []
        self.dialEnds: dict[int, tuple[dict[str, int], bytes]] = {}
        self.flows: list[dict[str, Any]] = []
        self.stood: list[dict[str, int]] = []
        self.received: list[bytes] = []
        self.name = b"", False
        self.config: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.calls.append((name, *arguments))
            result = self.results.get(name, 0)
            return int(result.pop(0) if isinstance(result, list) else result)

        return call

    def ns_open(self, config: Any) -> int:
        """Note the configuration."""
        self.config = {name: getattr(config, name) for name, _ in config._fields_}
        return int(self.results["ns_open"])

    def ns_drain(self, handle: int, array: Any, capacity: int) -> int:
        """Move events."""
        if "ns_drain" in self.results:
            return int(self.results["ns_drain"])
        batch, self.events = self.events[:capacity], self.events[capacity:]
        for index, event in enumerate(batch):
            array[index] = abi.ns_event()
            _fill(array[index], event)
        return len(batch)

    def ns_flows(self, handle: int, after: int, array: Any, capacity: int) -> int:
        """List them."""
        self.calls.append(("ns_flows", handle, after, capacity))
        page = [each for each in self.flows if each["flow"] > after][:capacity]
        for index, flow in enumerate(page):
            _fill(array[index], flow)
        return len(page)

    def ns_receive(self, handle: int, buffer: Any, capacity: int) -> int:
        """Move a batch."""
        if "ns_receive" in self.results:
            return int(self.results["ns_receive"])
        batch = self.received.pop(0) if self.received else b""
        buffer[: len(batch)] = batch
        return len(batch)

    def ns_name(self, handle: int, flowID: int, buffer: Any, outer: Any) -> int:
        """Tell the name."""
        self.calls.append(("ns_name", handle, flowID))
        name, isOuter = self.name
        buffer[: len(name)] = name
        outer._obj.value = isOuter
        return len(name)

    def ns_dialled(self, handle: int, flowID: int, end: Any, buffer: Any, capacity: int) -> int:
        """Tell how a dial ended, once."""
        if flowID not in self.dialEnds:
            return -errno.ENOENT
        fields, received = self.dialEnds.pop(flowID)
        assert len(received) <= capacity
        for name, value in fields.items():
            setattr(end, name, value)
        end.length = len(received)
        buffer[: len(received)] = received
        return 0

    def ns_stood(self, handle: int, array: Any, capacity: int) -> int:
        """Move records."""
        self.calls.append(("ns_stood", handle))
        batch, self.stood = self.stood[:capacity], self.stood[capacity:]
        for index, record in enumerate(batch):
            array[index] = abi.ns_stood(**record)
        return len(batch)

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of all calls of one function."""
        return [call[1:] for call in self.calls if call[0] == name]


def _fill(structure: Any, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if isinstance(value, bytes):
            getattr(structure, name)[: len(value)] = value
        else:
            setattr(structure, name, value)


@implementer(IFlowHandler)
class RecordingHandler:
    """
    Writes down its calls; may raise once.

    @ivar dials: what it heard of dials, in order, each with the name of the method.
    """

    followsFlows = True

    def __init__(self) -> None:
        self.requests: list[IFlowRequest] = []
        self.datagramRequests: list[IDatagramFlowRequest] = []
        self.abandoned: list[int] = []
        self.ends: list[FlowEnd] = []
        #: With how many flows had ended.
        self.notHttp: list[tuple[Flow, int, int]] = []
        self.dials: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None

    def flowRequested(self, request: IFlowRequest) -> None:
        """Note it, or raise."""
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self.requests.append(request)

    def datagramFlowRequested(self, request: IDatagramFlowRequest) -> None:
        """Note it, or raise."""
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self.datagramRequests.append(request)

    def flowAbandoned(self, flowID: int) -> None:
        """Note it."""
        self.abandoned.append(flowID)

    def flowClosed(self, end: FlowEnd) -> None:
        """Note it."""
        self.ends.append(end)

    def flowNotHttp(self, flow: Flow, reason: int) -> None:
        """Note it."""
        self.notHttp.append((flow, reason, len(self.ends)))

    def flowJoined(self, flowID: int, seconds: float, address: int) -> None:
        """Note it."""
        self.dials.append(("joined", flowID, seconds, address))

    def flowLimitReached(self, limit: int) -> None:
        """Note it."""
        self.dials.append(("full", limit))

    def flowDialEnded(self, request: IFlowRequest, end: DialEnd, standing: int) -> None:
        """Note it, or raise."""
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self.dials.append(("ended", request, end, standing))

    def flowSilent(self, request: IFlowRequest, standing: int) -> None:
        """Note it."""
        self.dials.append(("silent", request, standing))

    def stood(
        self,
        number: int,
        decided: int,
        joined: int,
        seconds: float,
        address: int,
        abandoned: float,
    ) -> None:
        """Note it."""
        self.dials.append(("stood", number, decided, joined, seconds, address, abandoned))

    def standingEnded(self, number: int) -> None:
        """Note it."""
        self.dials.append(("over", number))


def request(
    flowID: int, host: str = "192.0.2.1", kind: int = abi.NS_EVENT_TCP_REQUEST
) -> dict[str, Any]:
    """An app asks for C{host}, port 80."""
    family = AF_INET6 if ":" in host else AF_INET
    return {
        "flow": flowID,
        "kind": kind,
        "family": 6 if ":" in host else 4,
        "protocol": 6 if kind == abi.NS_EVENT_TCP_REQUEST else 17,
        "source_port": 4000,
        "destination_port": 80,
        "source": inet_pton(family, "2001:db8::2" if ":" in host else "198.18.0.2"),
        "destination": inet_pton(family, host),
    }


class EngineCase(SynchronousTestCase):
    """An engine on a fake library."""

    def setUp(self) -> None:
        """Make what the tests use."""
        self.library = FakeLibrary()
        self.reactor = MemoryReactorClock()
        self.handler = RecordingHandler()
        self.device = MemoryTunOpener().open("nano0", 1500, "auto")
        self.makeEngine("gvisor")

    def makeEngine(self, stackMode: str) -> None:
        """Make the engine."""
        library: Any = self.library
        self.engine = NativeEngine(self.reactor, stackMode, UDP_TIMEOUT, lambda: library)

    def start(self) -> None:
        """Start the engine."""
        self.engine.start(self.device, self.handler)

    def readEvents(self, *events: dict[str, Any]) -> None:
        """The library has events, and the reactor finds its eventfd readable."""
        self.library.events += events
        (reader,) = self.reactor.getReaders()
        self.assertIsNone(reader.doRead())
