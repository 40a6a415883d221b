"""
Follows flows that are open: for the line about their end, for the user's script, and to judge
them again after a reload.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from nanotun import script
from nanotun.flow import Decision, Flow, FlowEnd, Protocol
from nanotun.interfaces import (
    IGateway,
    IJudge,
    INames,
    IPacketEngine,
    IScript,
    IUpstream,
    IUpstreams,
)
from nanotun.linux.users import nameOf
from nanotun.policy.asked import scriptFlow
from nanotun.policy.decisions import nameOf as upstreamOf
from nanotun.router.flowlines import reasonOf
from nanotun.router.openflows import OpenFlow, OpenFlows
from nanotun.router.rejudging import Rejudging
from nanotun.router.tally import Tally
from nanotun.router.udp.redirection import Redirection


class Following:
    """
    Follows the flows that were joined, and those of datagrams, if anybody wants to know what
    becomes of them.

    @param userName: a user's name, for the script.
    """

    def __init__(
        self,
        clock: Any,
        engine: IPacketEngine,
        gateway: IGateway,
        names: INames,
        tally: Tally,
        redirection: Redirection,
        userName: Callable[[int], str] = nameOf,
    ) -> None:
        self._clock = clock
        self._engine = engine
        self._gateway = gateway
        self._names = names
        self._tally = tally
        self._redirection = redirection
        self._userName = userName
        self._judge: IJudge | None = None
        self._upstreams: IUpstreams | None = None
        self._script: IScript | None = None
        self._judgesAgain = False
        self._open = OpenFlows(clock)
        self._rejudging = Rejudging(clock, self._end)

    @property
    def wants(self) -> bool:
        """Whether the flows that are joined now are followed."""
        return self._tally.debug or self._judgesAgain or self._tells

    @property
    def active(self) -> bool:
        """Whether the ends of flows have to be known."""
        return self.wants or bool(self._open.joined)

    @property
    def _tells(self) -> bool:
        return self._script is not None and bool(self._script.followsFlows)

    def configure(
        self,
        judge: IJudge,
        upstreams: IUpstreams,
        debug: bool,
        script: IScript | None,
        judgesAgain: bool,
    ) -> None:
        """
        Follow for other reasons, and other flows.

        @param debug: whether each flow gets its debug lines.
        @param script: is told how flows end; L{None} for none.
        @param judgesAgain: whether flows are judged again when there is another judge.  Those
            that have begun while this was so are judged by this one now, and end if it sends
            them elsewhere.
        """
        self._judge = judge
        self._upstreams = upstreams
        self._script = script
        self._tally.debug = debug
        self._judgesAgain = judgesAgain
        if judgesAgain:
            self._rejudging.begin(judge, upstreams, self._open.again())
        else:
            self._rejudging.stop()

    def stop(self) -> None:
        """Judge nothing again."""
        self._rejudging.stop()

    def expect(
        self, flow: Flow, judge: IJudge, decision: Decision, upstream: IUpstream
    ) -> Callable[[], None]:
        """
        A flow is dialled.

        @param judge: who has decided about it.
        @return: to be called when it was joined.
        """
        return partial(self._joined, flow, judge, decision, upstream, self._wayOf(decision))

    def _joined(
        self, flow: Flow, judge: IJudge, decision: Decision, upstream: IUpstream, way: Hashable
    ) -> None:
        if self.wants:
            logged = self._tally.debug
            known = self._open.join(flow, decision, upstream, way, logged, self._tells)
            self._judgeLate(judge, known)

    def sent(self, flow: Flow, judge: IJudge, decision: Decision, upstream: IUpstream) -> None:
        """As L{expect}; a flow's datagrams are sent."""
        if self._judgesAgain:
            way = self._wayOf(decision)
            self._judgeLate(judge, self._open.send(flow, decision, upstream, way))

    def _wayOf(self, decision: Decision) -> Hashable:
        """Which way a flow takes now, by whose name others may go soon; L{None} if that
        does not matter."""
        if not self._judgesAgain or self._upstreams is None:
            return None
        return self._upstreams.wayOf(decision)

    def ended(self, end: FlowEnd) -> None:
        """A joined flow has ended, perhaps one of these."""
        known = self._open.ended(end.flow.id)
        if known is None:
            return
        if known.logged:
            self._tally.tellEnd(end, known)
        if known.told and self._script is not None:
            self._script.ended(self._flowOf(known, self._script), self._endOf(known, end))

    def _judgeLate(self, judge: IJudge, known: OpenFlow) -> None:
        """Judge a flow again if there is another judge than the one who has decided about it."""
        if known.way is not None and judge is not self._judge:
            self._rejudging.add(known)

    def _end(self, known: OpenFlow) -> bool:
        """End a flow that would go elsewhere now; tell whether it was still open."""
        flow = known.flow
        if flow.protocol is Protocol.TCP:
            return self._engine.endFlows([flow.id]) > 0
        self._open.forgetDatagrams(flow)
        return self._redirection.endOf(flow.source, known.upstream)

    def _flowOf(self, known: OpenFlow, to: IScript) -> script.Flow:
        flow, decision = known.flow, known.decision
        return scriptFlow(
            flow,
            decision.name,
            self._names.isFake(flow.destination.host),
            self._gateway.isLocal(flow.source.host),
            decision.owner,
            bool(to.needsProcess),
            self._userName,
        )

    def _endOf(self, known: OpenFlow, end: FlowEnd) -> script.End:
        return script.End(
            upstreamOf(known.decision),
            known.decision.rule,
            end.bytesUp,
            end.bytesDown,
            self._clock.seconds() - known.began,
            reasonOf(end.error),
        )
