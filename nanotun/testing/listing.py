"""
The list of flows of an engine without packets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nanotun.flow import Flow, FlowEnd, FlowState, ListedFlow

if TYPE_CHECKING:
    from nanotun.interfaces import DialPlan, IFlowHandler


class MemoryFlows:
    """
    What L{nanotun.testing.engine.MemoryEngine} lists.  Nothing in memory takes time, and no bytes
    are carried: a test says how old a flow is, and how much it has carried.

    @ivar handler: see there.
    @ivar notes: flow id to its note, also of flows that have ended.
    @ivar carried: flow id to its bytes up and down.
    @ivar ages: flow id to its age and the time since its last byte, both in seconds.
    @ivar halfClosed: ids of the flows of which one direction has ended.
    @ivar followsDatagrams: see L{followDatagrams}.
    """

    handler: IFlowHandler | None
    dialled: dict[int, DialPlan]
    _waiting: dict[int, Flow]
    _flows: dict[int, Flow]

    def __init__(self) -> None:
        self.notes: dict[int, int] = {}
        self.carried: dict[int, tuple[int, int]] = {}
        self.ages: dict[int, tuple[float, float]] = {}
        self.halfClosed: set[int] = set()
        self.followsDatagrams = False
        # Those of datagrams that are attached, and not yet forgotten.
        self._conversations: dict[int, Flow] = {}

    def listFlows(self, after: int, limit: int) -> list[ListedFlow]:
        """See L{nanotun.interfaces.IPacketEngine.listFlows}."""
        every = {**self._waiting, **self._flows, **self._conversations}
        chosen = sorted(each for each in every if each > after)[:limit]
        return [self._listed(every[each]) for each in chosen]

    def followDatagrams(self, follow: bool) -> None:
        """See L{nanotun.interfaces.IPacketEngine.followDatagrams}."""
        self.followsDatagrams = follow

    def endDatagrams(self, flowID: int, error: int = 0) -> None:
        """An attached flow of datagrams is forgotten."""
        flow = self._conversations.pop(flowID)
        if self.followsDatagrams:
            self._tellEnd(flow, error)

    def _listed(self, flow: Flow) -> ListedFlow:
        age, idle = self.ages.get(flow.id, (0.0, 0.0))
        up, down = self.carried.get(flow.id, (0, 0))
        return ListedFlow(flow, self._stateOf(flow), age, idle, self._noteOf(flow), up, down)

    def _noteOf(self, flow: Flow) -> int:
        return self.notes.get(flow.id, 0)

    def _stateOf(self, flow: Flow) -> FlowState:
        if flow.id in self.dialled:
            return FlowState.DIALLING
        if flow.id in self._waiting:
            return FlowState.WAITING
        return FlowState.HALF_CLOSED if flow.id in self.halfClosed else FlowState.OPEN

    def _note(self, flowID: int, note: int) -> None:
        if note:
            self.notes[flowID] = note

    def _tellEnd(self, flow: Flow, error: int, standing: bool = False) -> None:
        """Tell the handler how a flow ended, if it wants to know of any."""
        if self.handler is not None and self.handler.followsFlows:
            up, down = self.carried.get(flow.id, (0, 0))
            age, _ = self.ages.get(flow.id, (0.0, 0.0))
            end = FlowEnd(flow, error, up, down, self._noteOf(flow), age, standing)
            self.handler.flowClosed(end)
