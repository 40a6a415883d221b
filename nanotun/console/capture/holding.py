"""
Holds packets back until it is known whose they are, and makes blocks of those that are wanted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from nanotun.console.capture.known import HOLD, FlowFilter, KnownFlow, KnownFlows
from nanotun.console.capture.packets import CapturedPacket, FlowFinder
from nanotun.console.capture.pcapng import enhancedPacket

#: Bytes of packets that are held back at most: a gigabit for half a second.
HELD_LIMIT = 64 << 20


class _Held(NamedTuple):
    packet: CapturedPacket
    flow: KnownFlow | None
    until: float


class Holding:
    """
    Keeps the packets in their order.

    @ivar flows: of how many flows packets were wanted.
    @ivar leftOut: packets that were not wanted.
    @param wanted: says which flows are; L{None} for all packets, those of no flow among them.
    """

    def __init__(
        self, known: KnownFlows, wanted: FlowFilter | None, clock: Callable[[], float]
    ) -> None:
        self._known = known
        self._wanted = wanted
        self._clock = clock
        self._finder = FlowFinder()
        self._held: deque[_Held] = deque()
        self._size = 0
        self.flows = 0
        self.leftOut = 0

    def add(self, packets: Iterable[CapturedPacket]) -> None:
        """Take packets."""
        until = self._clock() + HOLD
        for packet in packets:
            key = self._finder.keyOf(packet)
            flow = None if key is None else self._known.see(packet, key)
            self._held.append(_Held(packet, flow, until))
            self._size += len(packet.data)

    def take(self, final: bool = False) -> Iterator[bytes]:
        """
        The blocks of the wanted packets that need not wait any more.

        @param final: whether none need.
        """
        now = self._clock()
        while self._held:
            packet, flow, until = self._held[0]
            isReady = flow is None or flow.settled or now >= min(until, flow.deadline)
            if not (isReady or final or self._size > HELD_LIMIT):
                return
            self._held.popleft()
            self._size -= len(packet.data)
            if not self._isWanted(flow):
                self.leftOut += 1
                continue
            comment = ""
            if flow is not None:
                self.flows += not flow.isWritten
                flow.isWritten = True
                comment = flow.comment()
            yield enhancedPacket(packet.nanoseconds, packet.data, packet.length, comment)

    def _isWanted(self, flow: KnownFlow | None) -> bool:
        wanted = self._wanted
        if wanted is None or flow is None:
            return wanted is None
        process = flow.process
        names = () if process is None else process.get("names", ())
        return wanted.takes(flow.row) and wanted.takesProcess(process, names)
