"""
The dials of an engine without packets.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanotun.addresses import KERNEL4, KERNEL6
from nanotun.flow import Endpoint, Flow
from nanotun.interfaces import DialEnd, DialEndKind, DialPlan, IFlowHandler, IFlowRequest

if TYPE_CHECKING:
    from nanotun.testing.engine import MemoryRequest

#: The addresses that this machine's programs come from.
OURS = (KERNEL4.partition("/")[0], KERNEL6.partition("/")[0])


class NoDials:
    """What an L{IFlowHandler} needs in whose tests the engine dials nothing."""

    def flowLimitReached(self, limit: int) -> None:
        """See L{IFlowHandler.flowLimitReached}."""
        raise NotImplementedError

    def flowJoined(self, flowID: int, seconds: float, address: int) -> None:
        """See L{IFlowHandler.flowJoined}."""
        raise NotImplementedError

    def flowDialEnded(self, request: IFlowRequest, end: DialEnd, standing: int) -> None:
        """See L{IFlowHandler.flowDialEnded}."""
        raise NotImplementedError

    def flowSilent(self, request: IFlowRequest, standing: int) -> None:
        """See L{IFlowHandler.flowSilent}."""
        raise NotImplementedError

    def stood(
        self,
        number: int,
        decided: int,
        joined: int,
        seconds: float,
        address: int,
        abandoned: float,
    ) -> None:
        """See L{IFlowHandler.stood}."""
        raise NotImplementedError

    def standingEnded(self, number: int) -> None:
        """See L{IFlowHandler.standingEnded}."""
        raise NotImplementedError


@dataclass
class MemoryStanding:
    """
    A standing decision.

    @ivar seconds: how long it is valid.
    @ivar note: of the flows that it dials.
    @ivar current: whether new flows are dialled by it.
    @ivar flows: those that it has dialled and that have not ended.
    @ivar decided: how many it has dialled since that was told, and likewise C{joined}.
    @ivar took: seconds, of all dials that C{joined} counts.
    @ivar address: the number of the last one's address.
    @ivar abandoned: seconds that the longest dial had taken whose app has given up.
    """

    number: int
    destination: Endpoint
    ours: bool
    plan: DialPlan
    seconds: float
    flows: set[int]
    note: int = 0
    current: bool = True
    decided: int = 0
    joined: int = 0
    took: float = 0.0
    address: int = 0
    abandoned: float = 0.0


class MemoryDials:
    """
    The dials of L{nanotun.testing.engine.MemoryEngine}, which go on until the test ends them.

    @ivar handler: see there, like C{joined} and C{flowLimit}.
    @ivar dialled: flow id to the plan of each dial under way.
    @ivar standing: number to each standing decision that has not ended.
    @ivar dialError: raised by the next dial, if set.
    @ivar room: whether there is room for flows of standing decisions; without it they are
        requests.
    """

    handler: IFlowHandler | None
    joined: dict[int, tuple[int, bytes]]
    flowLimit: int
    _waiting: dict[int, Flow]
    _flows: dict[int, Flow]

    def __init__(self) -> None:
        self.dialled: dict[int, DialPlan] = {}
        self.standing: dict[int, MemoryStanding] = {}
        self.dialError: OSError | None = None
        self.room = True
        self._requests: dict[int, MemoryRequest] = {}
        self._silent: set[int] = set()
        self._lastStanding = 0

    def stand(
        self, destination: Endpoint, ours: bool, plan: DialPlan, seconds: float, note: int = 0
    ) -> int:
        """See L{nanotun.interfaces.IPacketEngine.stand}."""
        if self.handler is None:
            return 0
        assert plan.standing and plan.fd < 0
        for each in list(self.standing.values()):
            if (each.destination, each.ours) == (destination, ours):
                self._withdraw(each)
        self._lastStanding += 1
        number = self._lastStanding
        self.standing[number] = MemoryStanding(
            number, destination, ours, plan, seconds, set(), note
        )
        return number

    def withdraw(self) -> None:
        """See L{nanotun.interfaces.IPacketEngine.withdraw}."""
        for each in list(self.standing.values()):
            self._withdraw(each)

    def tellStood(self) -> None:
        """See L{nanotun.interfaces.IPacketEngine.tellStood}."""
        for each in list(self.standing.values()):
            decided, joined, took = each.decided, each.joined, each.took
            abandoned = each.abandoned
            each.decided = each.joined = 0
            each.took = each.abandoned = 0.0
            if (decided or joined or abandoned) and self.handler is not None:
                seconds = took / joined if joined else 0.0
                number, address = each.number, each.address
                self.handler.stood(number, decided, joined, seconds, address, abandoned)

    # What becomes of dials.

    def openDial(
        self, flowID: int, seconds: float = 0.01, address: int = 0, leftover: bytes = b""
    ) -> socket.socket:
        """A dial has its leg.  Returns the far end, which the test closes."""
        near, far = socket.socketpair()
        near.setblocking(False)
        fd = near.detach()
        if flowID in self._silent:
            end = DialEnd(DialEndKind.HANDED, fd=fd, seconds=seconds, address=address)
            self.endDial(flowID, end)
            return far
        self.dropDial(flowID)
        flow = self._waiting.pop(flowID)
        standing = self._standingOf(flowID)
        if len(self._flows) >= self.flowLimit:
            os.close(fd)
            assert self.handler is not None
            self._endOfStanding(flowID)
            self.handler.flowAbandoned(flowID)
            self.handler.flowLimitReached(self.flowLimit)
            return far
        self._flows[flowID] = flow
        self.joined[flowID] = (fd, leftover)
        if standing is not None:
            standing.joined += 1
            standing.took += seconds
            standing.address = address
        else:
            assert self.handler is not None
            self.handler.flowJoined(flowID, seconds, address)
        return far

    def endDial(self, flowID: int, end: DialEnd) -> None:
        """A dial ends without a join."""
        assert self.handler is not None
        request = self._requests[flowID]
        self.dropDial(flowID)
        standing = self._standingOf(flowID)
        if standing is None:
            self.handler.flowDialEnded(request, end, 0)
        else:
            standing.flows.remove(flowID)
            self.tellStood()
            self.handler.flowDialEnded(request, end, standing.number)
            self._endIfIdle(standing)

    def goSilent(self, flowID: int) -> None:
        """The patience of a dial is over."""
        assert self.handler is not None
        self._silent.add(flowID)
        standing = self._standingOf(flowID)
        self.tellStood()
        number = 0 if standing is None else standing.number
        self.handler.flowSilent(self._requests[flowID], number)

    def expire(self, number: int) -> None:
        """The time of a standing decision is over."""
        self._withdraw(self.standing[number])

    # For the engine and its requests.

    def dialFlow(self, request: MemoryRequest, plan: DialPlan, note: int = 0) -> None:
        """See L{nanotun.interfaces.IFlowRequest.dial}."""
        error, self.dialError = self.dialError, None
        if error is not None or request.flow.id not in self._waiting:
            _discard(plan)
            if error is not None:
                raise error
            return
        assert request.flow.id not in self.dialled
        self.dialled[request.flow.id] = plan
        self._note(request.flow.id, note)
        self._requests[request.flow.id] = request

    def dropDial(self, flowID: int) -> None:
        """End a dial without a word."""
        plan = self.dialled.pop(flowID, None)
        if plan is not None:
            _discard(plan)
            del self._requests[flowID]
            self._silent.discard(flowID)

    def takeBack(self, flowID: int) -> None:
        """A flow is decided by the handler, and is none of a standing decision's any more."""
        self.dropDial(flowID)
        self._endOfStanding(flowID)

    def _note(self, flowID: int, note: int) -> None:
        raise NotImplementedError

    def _stands(self, request: MemoryRequest) -> bool:
        """Dial a new flow if there is a standing decision about it."""
        flow = request.flow
        key = flow.destination, flow.source.host in OURS
        for each in self.standing.values():
            if self.room and each.current and (each.destination, each.ours) == key:
                each.decided += 1
                each.flows.add(flow.id)
                self.dialFlow(request, each.plan, each.note)
                return True
        return False

    def _standingOf(self, flowID: int) -> MemoryStanding | None:
        for each in self.standing.values():
            if flowID in each.flows:
                return each
        return None

    def _endOfStanding(self, flowID: int, abandoned: float = 0.0) -> bool:
        """A flow has ended; tell whether it was one of a standing decision."""
        standing = self._standingOf(flowID)
        if standing is None:
            return False
        standing.abandoned = max(standing.abandoned, abandoned)
        standing.flows.remove(flowID)
        self._endIfIdle(standing)
        return True

    def _withdraw(self, standing: MemoryStanding) -> None:
        standing.current = False
        self._endIfIdle(standing)

    def _endIfIdle(self, standing: MemoryStanding) -> None:
        if not standing.current and not standing.flows and standing.number in self.standing:
            self.tellStood()
            del self.standing[standing.number]
            if self.handler is not None:
                self.handler.standingEnded(standing.number)


def _discard(plan: DialPlan) -> None:
    if plan.fd >= 0:
        os.close(plan.fd)
