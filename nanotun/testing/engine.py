"""
A packet engine without packets.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from nanotun.addresses import GATEWAY4, GATEWAY6
from nanotun.errors import EngineError, FlowDecidedError, FlowLimitError
from nanotun.flow import (
    AbsoluteForm,
    Crowd,
    Datagram,
    Endpoint,
    Flow,
    Protocol,
    Refusal,
    Stats,
)
from nanotun.interfaces import (
    DatagramLeg,
    DialPlan,
    IDatagramFlowRequest,
    IFlowHandler,
    IFlowRequest,
    IPacketEngine,
    ITunDevice,
    LegKind,
)
from nanotun.testing.dials import MemoryDials
from nanotun.testing.listing import MemoryFlows

WEB = Endpoint("192.0.2.1", 80)
SOURCE = Endpoint("198.18.0.2", 40000)


@implementer(IFlowRequest, IDatagramFlowRequest)
class MemoryRequest:
    """
    A request of L{MemoryEngine}, for a connection or for datagrams.

    @ivar decided: whether the one decision was made.
    """

    def __init__(self, engine: MemoryEngine, flow: Flow) -> None:
        self.flow = flow
        self.decided = False
        self._engine = engine

    def sniff(self) -> Deferred[str]:
        """See L{IFlowRequest.sniff}."""
        self._checkUndecided()
        return self._engine.sniffFlow(self.flow.id)

    def join(
        self, fd: int, leftover: bytes = b"", form: AbsoluteForm | None = None, note: int = 0
    ) -> bool:
        """See L{IFlowRequest.join}."""
        self._decide()
        return self._engine.joinFlow(self.flow.id, fd, leftover, form, note)

    def dial(self, plan: DialPlan, note: int = 0) -> None:
        """See L{IFlowRequest.dial}."""
        if self.decided and plan.fd >= 0:
            os.close(plan.fd)
        self._checkUndecided()
        self._engine.dialFlow(self, plan, note)

    def undial(self) -> None:
        """See L{IFlowRequest.undial}."""
        self._engine.dropDial(self.flow.id)

    def attach(self, association: int, real: Endpoint | None = None, note: int = 0) -> bool:
        """See L{IDatagramFlowRequest.attach}."""
        self._checkUndecided()
        self.decided = self._engine.attachFlow(self.flow.id, association, real, note)
        return self.decided

    def serve(self) -> None:
        """See L{IDatagramFlowRequest.serve}."""
        self._decide()
        self._engine.serveFlow(self.flow.id)

    def refuse(self, reason: Refusal) -> None:
        """See L{IFlowRequest.refuse}."""
        self._decide()
        self._engine.refuseFlow(self.flow.id, reason)

    def drop(self) -> None:
        """See L{IFlowRequest.drop}."""
        self._decide()
        self._engine.dropFlow(self.flow.id)

    def _decide(self) -> None:
        self._checkUndecided()
        self.decided = True
        self._engine.takeBack(self.flow.id)

    def _checkUndecided(self) -> None:
        if self.decided:
            raise FlowDecidedError(f"The flow {self.flow.id} was decided already.")


class MemoryAssociations(MemoryFlows):
    """
    The associations of L{MemoryEngine}.

    @ivar handler: see L{MemoryEngine}, like C{attached} and C{redirected}.
    @ivar associations: number to leg of the open associations; a leg's fd is closed when
        its association ends.
    @ivar shared: the numbers of the shared associations.
    @ivar named: number to name of the associations that have one.
    @ivar busy: associations that take no flow, as if each had the same query under way.
    @ivar associationError: raised by the next L{openAssociation}, if set.
    @ivar refusals: what tells of a refused datagram, by the association's number.
    """

    def __init__(self) -> None:
        MemoryFlows.__init__(self)
        self.handler: IFlowHandler | None = None
        self.attached: dict[int, int] = {}
        self.redirected: dict[int, Endpoint] = {}
        self.associations: dict[int, DatagramLeg] = {}
        self.shared: set[int] = set()
        self.named: dict[int, str] = {}
        self.busy: set[int] = set()
        self.associationError: OSError | None = None
        self._ended: dict[int, Callable[[int], None]] = {}
        self.refusals: dict[int, Callable[[], None]] = {}
        self._ends: dict[int, tuple[Endpoint, str]] = {}
        self._lastID = 0

    def openAssociation(
        self,
        leg: DatagramLeg,
        ended: Callable[[int], None],
        refused: Callable[[], None],
        shared: bool = False,
        name: str = "",
    ) -> int:
        """See L{IPacketEngine.openAssociation}."""
        error, self.associationError = self.associationError, None
        if name and (shared or leg.kind != LegKind.SOCKS5):
            error = OSError(errno.EINVAL, "a name where there may be none")
        if self.handler is None:
            error = OSError(errno.ESHUTDOWN, "stopped")
        if error is not None:
            os.close(leg.fd)
            raise error
        self._lastID += 1
        self.associations[self._lastID] = leg
        self._ended[self._lastID] = ended
        self.refusals[self._lastID] = refused
        if shared:
            self.shared.add(self._lastID)
        if name:
            self.named[self._lastID] = name
        return self._lastID

    def closeAssociation(self, association: int) -> None:
        """See L{IPacketEngine.closeAssociation}."""
        leg = self.associations.pop(association, None)
        if leg is not None:
            self._close(association, leg, 0)

    def endAssociation(self, association: int, error: int = errno.ETIMEDOUT) -> None:
        """An association ends by itself."""
        ended = self._ended[association]
        leg = self.associations.pop(association)
        self._close(association, leg, 0 if error == errno.ETIMEDOUT else error)
        ended(error)

    def _close(self, association: int, leg: DatagramLeg, error: int) -> None:
        """Forget an association and its flows, whose end has this error."""
        del self._ended[association], self.refusals[association]
        os.close(leg.fd)
        for flowID in list(self._conversations):
            if self.attached[flowID] == association:
                self.endDatagrams(flowID, error)

    def attachFlow(
        self, flowID: int, association: int, real: Endpoint | None = None, note: int = 0
    ) -> bool:
        """See L{nanotun.interfaces.IDatagramFlowRequest.attach}."""
        if flowID not in self._waiting:
            return True
        if not self._takes(association, self._waiting[flowID], real):
            return False
        self._conversations[flowID] = self._waiting.pop(flowID)
        self._note(flowID, note)
        self.attached[flowID] = association
        if real is not None:
            self.redirected[flowID] = real
        return True

    def _takes(self, association: int, flow: Flow, real: Endpoint | None) -> bool:
        """Whether an association takes a flow."""
        if association not in self.associations or association in self.busy:
            return False
        if association not in self.named:
            return True
        if real is not None:
            raise OSError(errno.EINVAL, "an association with a name is not redirected")
        ends = flow.source, flow.destination.host
        return self._ends.setdefault(association, ends) == ends


@implementer(IPacketEngine)
class MemoryEngine(MemoryAssociations, MemoryDials):
    """
    An engine without packets: the test says what apps do, and looks at what became of
    their flows.

    @ivar handler: decides flows; L{None} until the start and after the stop.
    @ivar joined: flow id to the fd, which is closed by L{stop}, and leftover.
    @ivar forms: flow id to the form of its requests.
    @ivar refused: flow id to the reason.
    @ivar dropped: flow ids.
    @ivar sniffed: flow id to what its sniffing fires with, see L{say}.
    @ivar attached: flow id to association.
    @ivar redirected: flow id to where its datagrams really go, if that is elsewhere.
    @ivar served: ids of the flows that were given to the services.
    @ivar listening: protocols and ports.
    @ivar sent: what the services sent to apps.
    @ivar flowLimit: how many flows may be joined at a time.
    @ivar packets: how many packets a pump will find.
    @ivar pumpError: raised by the next pump, if set.
    @ivar crowd: what is told that flows had to make way.
    """

    stackMode = "memory"

    def __init__(self) -> None:
        MemoryAssociations.__init__(self)
        MemoryDials.__init__(self)
        self.device: ITunDevice | None = None
        self.joined: dict[int, tuple[int, bytes]] = {}
        self.forms: dict[int, AbsoluteForm | None] = {}
        self.refused: dict[int, Refusal] = {}
        self.dropped: list[int] = []
        self.sniffed: dict[int, Deferred[str]] = {}
        self.served: list[int] = []
        self.listening: set[tuple[Protocol, int]] = set()
        self.sent: list[Datagram] = []
        self.flowLimit = 1000
        self.packets = 0
        self.pumpError: OSError | None = None
        self.crowd: Callable[[Crowd], None] = lambda crowd: None
        self._waiting: dict[int, Flow] = {}
        self._flows: dict[int, Flow] = {}
        self._payloads: dict[int, bytes] = {}
        self._receiver: Callable[[list[Datagram]], None] | None = None
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

    def endFlows(self, flowIDs: list[int]) -> int:
        """See L{IPacketEngine.endFlows}."""
        return sum(self._endFlow(each) for each in flowIDs)

    def _endFlow(self, flowID: int) -> bool:
        if flowID in self._flows:
            self.end(flowID, errno.ECONNABORTED)
        elif flowID in self._conversations:
            self.endDatagrams(flowID, errno.ECONNABORTED)
        elif flowID in self._waiting:
            if self._waiting[flowID].protocol is Protocol.TCP:
                self.refused[flowID] = Refusal.RESET
            self.abandon(flowID)
        else:
            return False
        return True

    def listen(self, protocol: Protocol, port: int) -> None:
        """See L{IPacketEngine.listen}."""
        self.listening.add((protocol, port))

    def receiveDatagrams(self, receiver: Callable[[list[Datagram]], None]) -> None:
        """See L{IPacketEngine.receiveDatagrams}."""
        self._receiver = receiver

    def reportCrowds(self, receiver: Callable[[Crowd], None]) -> None:
        """See L{IPacketEngine.reportCrowds}."""
        self.crowd = receiver

    def sendDatagrams(self, datagrams: list[Datagram]) -> None:
        """See L{IPacketEngine.sendDatagrams}."""
        if self.handler is not None:
            self.sent += datagrams

    def stats(self) -> Stats:
        """See L{IPacketEngine.stats}."""
        gauges = {"flows": len(self._flows), "pending": len(self._waiting)}
        gauges["associations"] = len(self.associations)
        counters = {"refused": len(self.refused), "flows_total": len(self.joined)}
        return Stats(*(0 for _ in Stats._fields))._replace(**gauges, **counters)

    def stop(self) -> Deferred[None]:
        """See L{IPacketEngine.stop}."""
        self.handler = None
        self._waiting.clear()
        self.standing.clear()
        for flowID in list(self.dialled):
            self.dropDial(flowID)
        for flowID in self._flows:
            os.close(self.joined[flowID][0])
        self._flows.clear()
        for association in list(self.associations):
            self.closeAssociation(association)
        return succeed(None)

    # What apps do.

    def request(self, destination: Endpoint = WEB, source: Endpoint = SOURCE) -> MemoryRequest:
        """
        An app asks for a connection; the handler hears of it at once, unless there is a
        standing decision about it.
        """
        assert self.handler is not None
        request = MemoryRequest(self, self._flow(Protocol.TCP, source, destination))
        if not self._stands(request):
            self.handler.flowRequested(request)
        return request

    def requestDatagrams(
        self,
        destination: Endpoint = WEB,
        source: Endpoint = SOURCE,
        payload: bytes = b"",
    ) -> MemoryRequest:
        """An app sends to a new destination; the handler hears of it at once."""
        assert self.handler is not None
        request = MemoryRequest(self, self._flow(Protocol.UDP, source, destination))
        self._payloads[request.flow.id] = payload
        self.handler.datagramFlowRequested(request)
        return request

    def _flow(self, protocol: Protocol, source: Endpoint, destination: Endpoint) -> Flow:
        self._lastID += 1
        flow = self._waiting[self._lastID] = Flow(self._lastID, protocol, source, destination)
        return flow

    def deliver(self, datagrams: list[Datagram]) -> None:
        """
        Apps send to the services.  Datagrams to a port of the gateway that nothing
        listens on are dropped.
        """
        heard = [
            each
            for each in datagrams
            if each.destination.host not in (GATEWAY4, GATEWAY6)
            or (Protocol.UDP, each.destination.port) in self.listening
        ]
        if heard and self._receiver is not None:
            self._receiver(heard)

    def abandon(self, flowID: int, seconds: float = 0.0) -> None:
        """The app gives up, so long after a dial by a standing decision began."""
        assert self.handler is not None
        told = flowID in self._silent
        self.vanish(flowID)
        if not self._endOfStanding(flowID, 0.0 if told else seconds) or told:
            self.handler.flowAbandoned(flowID)

    def say(self, flowID: int, name: str = "") -> None:
        """The first bytes of an app, whose flow is sniffed, are there, or do not come."""
        sniffed = self.sniffed[flowID]
        if not sniffed.called:
            sniffed.callback(name)

    def vanish(self, flowID: int) -> None:
        """The app gives up, and the handler has yet to be told."""
        del self._waiting[flowID]
        self.dropDial(flowID)

    def end(self, flowID: int, error: int = 0) -> None:
        """A joined flow ends."""
        assert self.handler is not None
        flow = self._flows.pop(flowID)
        os.close(self.joined[flowID][0])
        standing = self._endOfStanding(flowID)
        if not standing or self.followsDatagrams:
            self._tellEnd(flow, error, standing)

    def giveBack(self) -> None:
        """The lent device was silent for a while, so it is returned."""
        returned, self._returned = self._returned, None
        assert returned is not None
        returned()

    # The decisions, for MemoryRequest.

    def sniffFlow(self, flowID: int) -> Deferred[str]:
        """See L{nanotun.interfaces.IFlowRequest.sniff}."""
        if flowID in self.sniffed:
            raise OSError(errno.EALREADY, "a second call")
        if flowID not in self._waiting:
            return succeed("")
        sniffed = self.sniffed[flowID] = Deferred()
        return sniffed

    def joinFlow(
        self, flowID: int, fd: int, leftover: bytes, form: AbsoluteForm | None, note: int = 0
    ) -> bool:
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
        self.forms[flowID] = form
        self._note(flowID, note)
        return True

    def serveFlow(self, flowID: int) -> None:
        """See L{nanotun.interfaces.IDatagramFlowRequest.serve}."""
        flow = self._waiting.pop(flowID, None)
        if flow is not None:
            self.served.append(flowID)
            self.deliver([Datagram(flow.source, flow.destination, self._payloads[flowID])])

    def refuseFlow(self, flowID: int, reason: Refusal) -> None:
        """See L{nanotun.interfaces.IFlowRequest.refuse}."""
        if self._waiting.pop(flowID, None) is not None:
            self.refused[flowID] = reason

    def dropFlow(self, flowID: int) -> None:
        """See L{nanotun.interfaces.IFlowRequest.drop}."""
        if self._waiting.pop(flowID, None) is not None:
            self.dropped.append(flowID)
