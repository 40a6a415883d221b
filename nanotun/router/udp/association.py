"""
UDP in use: a leg, and the flows that it carries.
"""

from __future__ import annotations

import enum
import errno
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from nanotun.errors import NamesUnsupported, UnexpectedEvent
from nanotun.flow import Endpoint, Refusal
from nanotun.interfaces import (
    DatagramLeg,
    IDatagramFlowRequest,
    ILegControl,
    INames,
    IPacketEngine,
)
from nanotun.linux.sources import LegRoute, legRoute
from nanotun.router.named import shown
from nanotun.router.udp.faults import AssociationKey, Faults
from nanotun.timer import Timer

#: Seconds that a shared association takes new flows.  To forge an answer one has to guess
#: the outside port and the query's id (Kaminsky, 2008; RFC 5452), and a port that stays the
#: same is half of that.
SHARED_TIME = 30.0

#: Seconds that a retiring association stays open for the answers that are still to come.
#: A flow that sends after that is decided anew.
SHARED_GRACE = 10.0

#: Seconds.  An association that a fault ends sooner than this was opened in vain.
MATURE_AGE = 2.0

#: The errors with which the engine ends an association that nothing is wrong with: it was
#: idle, or made room for another.
HARMLESS = (errno.ETIMEDOUT, errno.ENOBUFS)


class OutgoingFlow(NamedTuple):
    """
    A UDP flow that needs an association.

    @ivar real: where its datagrams really go, if that is not the flow's destination.
    @ivar ready: called in place of attaching the flow, with the association, once there is
        one for it: see L{nanotun.router.udp.associations.Associations.prepare}.
    @ivar unnamed: called in place of attaching the flow, if it is to be sent by name and the
        upstream's UDP relay takes no names.
    @ivar note: what was decided, for the engine; see L{nanotun.router.notes}.
    """

    request: IDatagramFlowRequest
    real: Endpoint | None = None
    ready: Callable[[Association], None] | None = None
    unnamed: Callable[[], None] | None = None
    note: int = 0


# Also str, whose hash is not Python code.
class AssociationState(enum.StrEnum):
    """Where an association is in its life."""

    #: The upstream has been asked for a leg; flows wait.
    OPENING = "opening"
    #: New flows are attached.
    OPEN = "open"
    #: Shared only: takes no new flows, and stays for the answers still to come.
    RETIRING = "retiring"
    GONE = "gone"


class AssociationEvent(enum.StrEnum):
    """What happens to an association."""

    #: The upstream has a leg, and the engine took it.
    OPENED = "opened"
    #: The upstream has no leg.
    FAILED = "failed"
    #: The upstream has a leg, and the engine did not take it.
    UNUSABLE = "unusable"
    #: It has been open for L{MATURE_AGE}.
    MATURED = "matured"
    #: A shared one has had as many flows as it may.
    FULL = "full"
    #: A shared one has had its L{SHARED_TIME}, or after that its L{SHARED_GRACE}.
    EXPIRED = "expired"
    #: The engine ended it.
    ENDED = "ended"
    #: A datagram was refused behind the upstream, or by the upstream's UDP relay.
    REFUSED = "refused"
    #: Its control connection ended.
    LOST = "lost"
    #: The router stops, the network has moved, or there was an internal error.
    CLOSE = "close"


class NamesInUse:
    """
    The fake addresses that flows of one association go to.  The engine does not tell the end
    of each flow, but that of all of them.
    """

    __slots__ = ("_hosts", "_names")

    def __init__(self, names: INames) -> None:
        self._names = names
        self._hosts: set[str] = set()

    def hold(self, host: str) -> None:
        """Keep the name of an address, if it is a fake one, from being given up."""
        if host not in self._hosts and self._names.isFake(host):
            self._hosts.add(host)
            self._names.flowJoined(host)

    def shown(self, destination: Endpoint) -> str:
        """A destination for a log line."""
        return shown(self._names, destination)

    def letGo(self) -> None:
        """All flows have ended."""
        hosts, self._hosts = self._hosts, set()
        for host in hosts:
            self._names.flowClosed(host)


class Association:
    """
    An association, from the dial for its leg to its end.  L{TRANSITIONS} is its whole life.

    @ivar key: whose it is.
    @ivar state: where it is in its life.
    @ivar flows: how many flows were attached.
    @ivar first: the destination of the first of them.
    @ivar route: of its leg; L{None} if the kernel chooses one for each datagram.
    @param names: told of the fake addresses that its flows go to, until its end.
    @param moved: called with it and the state before, whenever its state changes.
    @param again: called with it and a flow that waited for it, if it did not take the flow.
    """

    __slots__ = (
        "_again",
        "_control",
        "_dial",
        "_engine",
        "_expiry",
        "_faults",
        "_maturing",
        "_moved",
        "_names",
        "_number",
        "_waiting",
        "first",
        "flows",
        "key",
        "route",
        "state",
    )

    def __init__(
        self,
        key: AssociationKey,
        engine: IPacketEngine,
        clock: IReactorTime,
        faults: Faults,
        names: INames,
        moved: Callable[[Association, AssociationState], None],
        again: Callable[[Association, OutgoingFlow], None],
    ) -> None:
        self.key = key
        self.state = AssociationState.OPENING
        self.flows = 0
        self.first: Endpoint | None = None
        self.route: LegRoute | None = None
        self._engine = engine
        self._faults = faults
        self._names = NamesInUse(names)
        self._moved = moved
        self._again = again
        # The engine's number for it while it is open.
        self._number = 0
        self._waiting: deque[OutgoingFlow] = deque()
        self._dial: Deferred[DatagramLeg] | None = None
        self._control: ILegControl | None = None
        self._maturing = Timer(clock, partial(self._on, AssociationEvent.MATURED))
        self._expiry = Timer(clock, partial(self._on, AssociationEvent.EXPIRED))

    @property
    def opening(self) -> bool:
        """Whether flows have to wait for it."""
        return self.state is AssociationState.OPENING

    def begin(self, dial: Deferred[DatagramLeg]) -> None:
        """Wait for the upstream's leg."""
        self._dial = dial
        dial.addCallbacks(self._dialled, self._notDialled).addErrback(self._broken)

    def wait(self, flow: OutgoingFlow) -> None:
        """Have a flow wait until it is open."""
        self._waiting.append(flow)

    def take(self, flow: OutgoingFlow) -> bool:
        """
        Attach a flow, or call its C{ready}; see L{OutgoingFlow}.

        @return: whether that was done.  False: it is gone, or the engine does not attach the
            flow to it.
        """
        if self.state is AssociationState.GONE:
            return False
        if flow.ready is not None:
            flow.ready(self)
            return True
        if not flow.request.attach(self._number, flow.real, flow.note):
            return False
        if not self.flows:
            self.first = flow.request.flow.destination
        self.flows += 1
        self._names.hold(flow.request.flow.destination.host)
        return True

    def retire(self) -> None:
        """Take no more flows: for a shared one that has had enough."""
        self._on(AssociationEvent.FULL)

    def giveUp(self) -> list[OutgoingFlow]:
        """Cancel the dial; the flows that waited for it are the caller's again."""
        waiting, self._waiting = list(self._waiting), deque()
        self._on(AssociationEvent.CLOSE)
        return waiting

    def close(self) -> None:
        """Cancel the dial or end the association; flows that wait are dropped."""
        self._on(AssociationEvent.CLOSE)

    def _on(self, event: AssociationEvent, *details: Any) -> None:
        before = self.state
        try:
            self.state, action = TRANSITIONS[before, event]
        except KeyError:
            raise UnexpectedEvent("An association", before, event) from None
        if self.state is not before:
            self._moved(self, before)
        action(self, *details)

    # What becomes events.

    def _dialled(self, leg: DatagramLeg) -> None:
        self._dial = None
        self._control = leg.control
        self.route = legRoute(leg.fd)
        source, upstream, name = self.key
        self._faults.dialled(upstream)
        try:
            self._number = self._engine.openAssociation(
                leg, self._ended, self._refused, shared=source is None, name=name
            )
        except OSError as error:
            self._on(AssociationEvent.UNUSABLE, error)
        else:
            self._on(AssociationEvent.OPENED)

    def _notDialled(self, reason: Failure) -> None:
        self._on(AssociationEvent.FAILED, reason)

    def _broken(self, reason: Failure) -> None:
        """An internal error, at any point: no flow may wait for ever."""
        self._faults.notDialled(self.key.upstream, reason)
        self.close()

    def _ended(self, error: int) -> None:
        self._on(AssociationEvent.ENDED, error)

    def _refused(self) -> None:
        self._on(AssociationEvent.REFUSED)

    def _lost(self, sentence: str) -> None:
        self._on(AssociationEvent.LOST, sentence)

    # The actions of TRANSITIONS.

    def _use(self) -> None:
        self._maturing.start(MATURE_AGE)
        if self.key.source is None:
            self._expiry.start(SHARED_TIME)
        if self._control is not None:
            self._control.watch(self._lost)
        while self._waiting:
            # The control connection may have ended already, or a flow have been the last.
            taken = self.state is AssociationState.OPEN and self.take(self._waiting[0])
            flow = self._waiting.popleft()
            if not taken:
                self._again(self, flow)

    def _fail(self, reason: Failure) -> None:
        self._dial = None
        self._faults.notDialled(self.key.upstream, reason)
        self._letGo()
        if not reason.check(NamesUnsupported):
            self._refuseWaiting()
        while self._waiting:
            unnamed = self._waiting.popleft().unnamed
            assert unnamed is not None
            unnamed()

    def _failUnusable(self, error: OSError) -> None:
        self._faults.unusable(error)
        self._letGo()
        self._refuseWaiting()

    def _cancelDial(self) -> None:
        dial, self._dial = self._dial, None
        self._letGo()
        # After an internal error there may be no dial any more.
        if dial is not None:
            dial.cancel()
        self._dropWaiting()

    def _tellMatured(self) -> None:
        self._faults.matured(self.key)

    def _startGrace(self) -> None:
        self._expiry.start(SHARED_GRACE)

    def _tellEnded(self, error: int) -> None:
        if error not in HARMLESS:
            self._faults.lost(
                self.key,
                f"The UDP association through {self.key.upstream.describe()} failed: "
                f"{os.strerror(error)}; if it happens often, check that the proxy's UDP ports "
                "are open.",
                young=self._maturing.active,
            )
        self._letGo()

    def _tellRefused(self) -> None:
        """
        Most likely a closed port of a destination.  If the proxy's host was switched off and
        on, its control connection is gone without a word, so that is asked.
        """
        if self.first is not None:
            self._faults.refused(self.key, self._names.shown(self.first), self.flows == 1)
        if self._control is not None:
            self._control.doubt()

    def _tellLost(self, sentence: str) -> None:
        """The control connection ended, so the proxy's UDP relay is gone."""
        self._faults.lost(self.key, sentence, young=self._maturing.active)
        self._dissociate()

    def _end(self) -> None:
        self._dissociate()
        self._dropWaiting()

    def _ignoreCancelled(self, reason: Failure) -> None:
        """The dial ended that L{_cancelDial} cancelled."""

    def _dissociate(self) -> None:
        self._letGo()
        self._engine.closeAssociation(self._number)

    def _letGo(self) -> None:
        self._maturing.close()
        self._expiry.close()
        control, self._control = self._control, None
        if control is not None:
            control.close()
        self._names.letGo()

    def _refuseWaiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().request.refuse(Refusal.PORT_UNREACHABLE)

    def _dropWaiting(self) -> None:
        while self._waiting:
            self._waiting.popleft().request.drop()


_OPENING, _OPEN = AssociationState.OPENING, AssociationState.OPEN
_RETIRING, _GONE = AssociationState.RETIRING, AssociationState.GONE

#: The state that follows each event, and what is done then.  Any other event is a bug.
TRANSITIONS: dict[
    tuple[AssociationState, AssociationEvent], tuple[AssociationState, Callable[..., None]]
] = {
    (_OPENING, AssociationEvent.OPENED): (_OPEN, Association._use),
    (_OPENING, AssociationEvent.FAILED): (_GONE, Association._fail),
    (_OPENING, AssociationEvent.UNUSABLE): (_GONE, Association._failUnusable),
    (_OPENING, AssociationEvent.CLOSE): (_GONE, Association._cancelDial),
    (_OPEN, AssociationEvent.MATURED): (_OPEN, Association._tellMatured),
    (_OPEN, AssociationEvent.FULL): (_RETIRING, Association._startGrace),
    (_OPEN, AssociationEvent.EXPIRED): (_RETIRING, Association._startGrace),
    (_OPEN, AssociationEvent.ENDED): (_GONE, Association._tellEnded),
    (_OPEN, AssociationEvent.REFUSED): (_OPEN, Association._tellRefused),
    (_OPEN, AssociationEvent.LOST): (_GONE, Association._tellLost),
    (_OPEN, AssociationEvent.CLOSE): (_GONE, Association._end),
    (_RETIRING, AssociationEvent.MATURED): (_RETIRING, Association._tellMatured),
    (_RETIRING, AssociationEvent.EXPIRED): (_GONE, Association._end),
    (_RETIRING, AssociationEvent.ENDED): (_GONE, Association._tellEnded),
    (_RETIRING, AssociationEvent.REFUSED): (_RETIRING, Association._tellRefused),
    (_RETIRING, AssociationEvent.LOST): (_GONE, Association._tellLost),
    (_RETIRING, AssociationEvent.CLOSE): (_GONE, Association._end),
    # The end of the dial that was cancelled.
    (_GONE, AssociationEvent.FAILED): (_GONE, Association._ignoreCancelled),
    # After an internal error.
    (_GONE, AssociationEvent.CLOSE): (_GONE, Association._dropWaiting),
}
