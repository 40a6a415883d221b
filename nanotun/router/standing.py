"""
Standing decisions: flows to a destination that the engine dials without asking.

A decision is made to stand when a second flow to its destination is decided, if the judge says
that it holds for all of them, if the upstream says the same of its plan, and if nobody wants to
know of each flow.  Whatever may change any of that withdraws them all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nanotun.flow import Decision, Endpoint, Flow
from nanotun.interfaces import DialPlan, IGateway, IJudge, INames, IPacketEngine, IUpstream
from nanotun.router.tally import Tally

#: Destinations that one flow was dialled to.  A scan goes to each once, and would fill the
#: engine's table with decisions that nobody needs again.  So many are what a busy machine
#: uses in minutes.
SEEN_LIMIT = 4096

#: Seconds after which a decision is given to the engine again if there is a request in spite of
#: it.  Mostly there was no room for that flow; it is also possible that the engine had no room
#: for the decision any more.  So long, too, nobody asks again about one that does not stand.
RENEWAL = 10.0

#: Standing decisions at a time, some hundred bytes each.  One more, and they are all
#: withdrawn: those that are needed are back with the next flow.
STANDING_LIMIT = 8192

#: A destination, and whether this machine's flows are meant or those of others.
Key: TypeAlias = "tuple[Endpoint, bool]"


class Standing(NamedTuple):
    """
    A standing decision.

    @ivar key: what it is about.
    @ivar judge: who has decided.
    @ivar note: of its flows; see L{nanotun.router.notes}.
    @ivar pinned: the address whose name must not be forgotten meanwhile; empty for none.
    """

    key: Key
    judge: IJudge
    decision: Decision
    upstream: IUpstream
    plan: DialPlan
    note: int
    pinned: str


class StandingDecisions:
    """
    All that the engine has.

    @ivar known: by their numbers, until the last flow of each has ended.
    @param pins: whether the names have to be told that addresses are in use.
    @param joined: called with the decision, the number of flows that were joined, and the
        seconds that the dial of each took, on average.
    """

    _log = Logger()

    def __init__(
        self,
        engine: IPacketEngine,
        clock: IReactorTime,
        gateway: IGateway,
        names: INames,
        tally: Tally,
        pins: bool,
        joined: Callable[[Decision, int, float], None],
        seenLimit: int = SEEN_LIMIT,
        limit: int = STANDING_LIMIT,
    ) -> None:
        self.known: dict[int, Standing] = {}
        self._engine = engine
        self._clock = clock
        self._gateway = gateway
        self._names = names
        self._tally = tally
        self._pins = pins
        self._joined = joined
        self._seenLimit = seenLimit
        self._limit = limit
        # From when on the judge may be asked; the destination that was used last comes last.
        self._seen: OrderedDict[Key, float] = OrderedDict()
        # Of those that are not withdrawn, the number and when to give it to the engine again.
        self._current: dict[Key, tuple[int, float]] = {}

    def consider(
        self,
        flow: Flow,
        judge: IJudge,
        decision: Decision,
        upstream: IUpstream,
        plan: DialPlan,
        note: int,
    ) -> None:
        """
        A flow is being dialled by a plan that is good for others to its destination, and nobody
        wants to know of each.  Have its decision stand if it may.
        """
        destination = flow.destination
        key = destination, self._gateway.isLocal(flow.source.host)
        now = self._clock.seconds()
        if key in self._current and now < self._current[key][1]:
            return
        if key not in self._seen:
            self._seen[key] = now
            if len(self._seen) > self._seenLimit:
                self._seen.popitem(last=False)
            return
        self._seen.move_to_end(key)
        if now < self._seen[key]:
            return
        seconds = judge.stands(flow, decision)
        if seconds is None:
            # To ask costs about as much as to decide.
            self._seen[key] = now + RENEWAL
            return
        if len(self._current) >= self._limit:
            self.withdraw()
        try:
            number = self._engine.stand(destination, key[1], plan, seconds, note)
        except OSError as error:
            self._log.debug("The engine takes no decision: {error}", error=error)
            number = 0
        if not number:
            self._seen[key] = now + RENEWAL
            return
        self._current[key] = number, now + min(seconds, RENEWAL)
        pinned = destination.host if self._pins else ""
        if pinned:
            self._names.flowJoined(pinned)
        self.known[number] = Standing(key, judge, decision, upstream, plan, note, pinned)

    def withdraw(self) -> None:
        """End them all.  Flows that were decided by them are counted, and go on."""
        if self._current:
            self._current.clear()
            self._engine.withdraw()
            self._engine.tellStood()

    def stood(
        self,
        number: int,
        decided: int,
        joined: int,
        seconds: float,
        address: int,
        abandoned: float,
    ) -> None:
        """See L{nanotun.interfaces.IFlowHandler.stood}."""
        standing = self.known[number]
        if decided:
            self._tally.count(standing.decision, decided)
        if joined:
            self._joined(standing.decision, joined, seconds)
            standing.plan.outcomes.opened(joined, seconds, address)
        if abandoned:
            standing.plan.outcomes.abandoned(abandoned)

    def ended(self, number: int) -> None:
        """See L{nanotun.interfaces.IFlowHandler.standingEnded}."""
        standing = self.known.pop(number)
        if self._current.get(standing.key, (0, 0.0))[0] == number:
            del self._current[standing.key]
        if standing.pinned:
            self._names.flowClosed(standing.pinned)
