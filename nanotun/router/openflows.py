"""
The flows that are open, as far as anybody wants to know what became of them: the log, the
user's script, or a reload that judges them again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime

from nanotun.flow import Decision, Endpoint, Flow
from nanotun.interfaces import IUpstream

#: Pairs of UDP source and destination to remember, as many as the engine does.
DATAGRAM_FLOWS_LIMIT = 16384


class OpenFlow(NamedTuple):
    """
    A flow that was joined, or whose datagrams are sent.

    @ivar began: the clock's seconds.
    @ivar upstream: by which it leaves.
    @ivar way: from L{nanotun.interfaces.IUpstreams.wayOf}; L{None} if it is not to be judged
        again.
    @ivar logged: whether there is to be a line about its end.
    @ivar told: whether the script is to hear of its end.
    """

    flow: Flow
    began: float
    decision: Decision
    upstream: IUpstream
    way: Hashable = None
    logged: bool = False
    told: bool = False


class OpenFlows:
    """
    All of them.  The engine does not tell the end of UDP flows, so of those there may be some
    that have ended; of too many, those that began first are forgotten.

    @ivar joined: the TCP flows, by their ids.
    """

    def __init__(self, clock: IReactorTime, limit: int = DATAGRAM_FLOWS_LIMIT) -> None:
        self.joined: dict[int, OpenFlow] = {}
        self._datagrams: OrderedDict[tuple[Endpoint, Endpoint], OpenFlow] = OrderedDict()
        self._clock = clock
        self._limit = limit

    def join(
        self,
        flow: Flow,
        decision: Decision,
        upstream: IUpstream,
        way: Hashable,
        logged: bool,
        told: bool,
    ) -> OpenFlow:
        """A TCP flow was joined."""
        began = self._clock.seconds()
        found = OpenFlow(flow, began, decision, upstream, way, logged, told)
        self.joined[flow.id] = found
        return found

    def send(self, flow: Flow, decision: Decision, upstream: IUpstream, way: Hashable) -> OpenFlow:
        """Datagrams of a UDP flow are sent."""
        found = OpenFlow(flow, self._clock.seconds(), decision, upstream, way)
        key = flow.source, flow.destination
        self._datagrams[key] = found
        self._datagrams.move_to_end(key)
        if len(self._datagrams) > self._limit:
            self._datagrams.popitem(last=False)
        return found

    def ended(self, flowID: int) -> OpenFlow | None:
        """Forget a TCP flow, and return what is known of it."""
        return self.joined.pop(flowID, None)

    def forgetDatagrams(self, flow: Flow) -> None:
        """Forget a UDP flow."""
        self._datagrams.pop((flow.source, flow.destination), None)

    def again(self) -> Iterator[OpenFlow]:
        """Those that are to be judged again, TCP first."""
        for flows in (self.joined.values(), self._datagrams.values()):
            for each in list(flows):
                if each.way is not None:
                    yield each
