"""
The legs that datagrams leave by, and which flow takes which.

Each source endpoint has a leg of its own per upstream, whatever it talks to, so
that it keeps one outside address (endpoint-independent mapping, RFC 4787).  DNS
queries to a proxy share a few instead: apps ask each from a port of its own, and
a leg for each would be a connection and two handshakes for one datagram.

A leg's life::

    asked for -> opening     requests wait
    opening   stands         -> open; those that waited are attached
              failed         -> gone; those that waited are refused
    open      ended          -> gone; the engine says so: idle, evicted, broken
              control lost   -> gone; the proxy says so
              retired        -> takes no new flows; gone after a grace (shared only)
    any       stop           -> gone

A flow that an open leg does not take, because the engine has just ended it, waits
for a new one, once.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.errors import UpstreamError
from nanotun.flow import DatagramLeg, Endpoint, Refusal
from nanotun.interfaces import IDatagramFlowRequest, ILegControl, IPacketEngine, IUpstream
from nanotun.trouble import TroubleLog

DNS_PORT = 53

#: Legs that may be opening at a time.  A program that sends from every port it
#: has must not become as many connections to the proxy; above this its datagrams
#: are dropped.
OPENING_LIMIT = 512

#: Shared legs of one upstream that take new flows.
SHARED_LIMIT = 4

#: Flows on each shared leg before there is another beside it.
SHARED_SPREAD = 50

#: Seconds and flows after which a shared leg takes no more.  Who forges an answer
#: has to guess the outside port and the query's id (Kaminsky, 2008; RFC 5452): a
#: port that stays is half of that found.
SHARED_TIME = 30.0
SHARED_FLOWS = 1000

#: Seconds for the answers that are still to come on a leg that takes no more.
#: Flows that go on after that are asked about anew.
SHARED_GRACE = 10.0


#: Whose legs: a source's own by an upstream, or with L{None} the shared ones.
_Key = tuple[Endpoint | None, IUpstream]


class Associations:
    """
    Every leg there is.

    @ivar legs: those that are opening or open.
    @param clock: for the shared legs' time.
    @param choose: C{random.randrange}, for which shared leg is tried first.
    """

    _log = Logger()

    def __init__(
        self,
        engine: IPacketEngine,
        clock: IReactorTime,
        trouble: TroubleLog,
        choose: Callable[[int], int] = random.randrange,
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.trouble = trouble
        self.legs: set[_Leg] = set()
        self._choose = choose
        self._taking: dict[_Key, list[_Leg]] = {}
        self._opening = 0
        self._stopped = False

    def send(self, request: IDatagramFlowRequest, upstream: IUpstream) -> None:
        """Find or open the leg that the flow leaves by, and decide it."""
        flow = request.flow
        if self._stopped:
            request.drop()
        elif not (
            upstream.sharesLegs
            and flow.destination.port == DNS_PORT
            and self._share(request, upstream)
        ):
            self._own(request, (flow.source, upstream))

    def stop(self) -> None:
        """Give up what is under way and let go of all legs; new flows are dropped."""
        self._stopped = True
        for leg in list(self.legs):
            leg.close()

    def _own(self, request: IDatagramFlowRequest, key: _Key) -> None:
        for leg in self._taking.get(key, ()):
            if not leg.association:
                leg.waiting.append(request)
                return
            if leg.attach(request):
                return
            # The engine has ended it, and the event that says so is under way.
            self.retire(leg)
        self._open(key, request)

    def _share(self, request: IDatagramFlowRequest, upstream: IUpstream) -> bool:
        """Whether a shared leg takes the flow."""
        key = None, upstream
        legs = self._taking.get(key, [])
        standing = [leg for leg in legs if leg.association]
        first = self._choose(len(standing)) if standing else 0
        for leg in standing[first:] + standing[:first]:
            if leg.attach(request):
                if len(standing) == len(legs) < SHARED_LIMIT and all(
                    each.flows >= SHARED_SPREAD for each in legs
                ):
                    self._open(key)
                if leg.flows >= SHARED_FLOWS:
                    leg.retire()
                return True
        for leg in legs:
            if not leg.association:
                leg.waiting.append(request)
                return True
        if len(legs) < SHARED_LIMIT:
            self._open(key, request)
            return True
        return False

    def _open(self, key: _Key, request: IDatagramFlowRequest | None = None) -> None:
        """Ask for a leg, for C{request} and those to come."""
        if self._opening >= OPENING_LIMIT:
            if request is not None:
                request.drop()
            return
        leg = _Leg(self, key)
        if request is not None:
            leg.waiting.append(request)
        self.legs.add(leg)
        self._taking.setdefault(key, []).append(leg)
        self._opening += 1
        source, upstream = key
        leg.begin(upstream.associate(6 if source is not None and ":" in source.host else 4))

    # For legs.

    def opened(self) -> None:
        """A leg stands, failed or was given up."""
        self._opening -= 1

    def again(self, request: IDatagramFlowRequest, key: _Key) -> None:
        """A leg that has just opened did not take the flow."""
        source, upstream = key
        if source is None and not self._stopped:
            self._own(request, (request.flow.source, upstream))
        else:
            request.drop()

    def retire(self, leg: _Leg) -> None:
        """A leg takes no more flows."""
        taking = self._taking.get(leg.key)
        if taking is not None and leg in taking:
            taking.remove(leg)
            if not taking:
                del self._taking[leg.key]

    def forget(self, leg: _Leg) -> None:
        """A leg is gone."""
        self.legs.discard(leg)
        self.retire(leg)

    def failed(self, reason: Failure) -> None:
        """A leg failed: one line per cause."""
        error = reason.value
        if isinstance(error, UpstreamError):
            self.trouble.report(str(error))
        else:
            self._log.failure("A leg for UDP failed by a mistake of ours", failure=reason)


class _Leg:
    """
    One leg; see the table above.

    @ivar key: whose it is.
    @ivar association: the engine's number for it while it is open, else 0.
    @ivar waiting: what is attached once it stands.
    @ivar flows: how many were attached.
    """

    __slots__ = ("_asked", "_control", "_table", "_timer", "association", "flows", "key", "waiting")

    def __init__(self, table: Associations, key: _Key) -> None:
        self.key = key
        self.association = 0
        self.waiting: list[IDatagramFlowRequest] = []
        self.flows = 0
        self._table = table
        self._asked: Deferred[DatagramLeg] | None = None
        self._control: ILegControl | None = None
        self._timer: IDelayedCall | None = None

    def begin(self, asked: Deferred[DatagramLeg]) -> None:
        """Wait for the upstream."""
        self._asked = asked
        asked.addCallbacks(self._stands, self._failed)

    def attach(self, request: IDatagramFlowRequest) -> bool:
        """Whether the open leg takes the flow."""
        if not request.attach(self.association):
            return False
        self.flows += 1
        return True

    def retire(self) -> None:
        """A shared leg had its time or its flows."""
        table = self._table
        self._cancelTimer()
        table.retire(self)
        self._timer = table.clock.callLater(SHARED_GRACE, self.close)

    def close(self) -> None:
        """Let go of it, whatever it is doing."""
        asked, self._asked = self._asked, None
        association = self.association
        self._gone()
        if asked is not None:
            self._table.opened()
            asked.cancel()
        if association:
            self._table.engine.closeAssociation(association)
        waiting, self.waiting = self.waiting, []
        for request in waiting:
            request.drop()

    def _stands(self, leg: DatagramLeg) -> None:
        table, shared = self._table, self.key[0] is None
        self._asked = None
        table.opened()
        self._control = leg.control
        try:
            self.association = table.engine.openAssociation(leg, self._ended, shared)
        except OSError as error:
            table.trouble.report(f"A leg for UDP cannot be used: {error.strerror}.")
            self._refuse()
            return
        if shared:
            self._timer = table.clock.callLater(SHARED_TIME, self.retire)
        if leg.control is not None:
            leg.control.watch(self._lost)
        waiting, self.waiting = self.waiting, []
        for request in waiting:
            if not (self.association and self.attach(request)):
                table.again(request, self.key)

    def _failed(self, reason: Failure) -> None:
        if self._asked is None:
            # It was given up.
            return
        self._asked = None
        self._table.opened()
        self._table.failed(reason)
        self._refuse()

    def _refuse(self) -> None:
        self._gone()
        waiting, self.waiting = self.waiting, []
        for request in waiting:
            request.refuse(Refusal.PORT_UNREACHABLE)

    def _ended(self, error: int) -> None:
        """The engine is done with it."""
        self._gone()

    def _lost(self, sentence: str) -> None:
        """The proxy is."""
        association = self.association
        self._gone()
        self._table.engine.closeAssociation(association)

    def _gone(self) -> None:
        self.association = 0
        self._cancelTimer()
        self._table.forget(self)
        control, self._control = self._control, None
        if control is not None:
            control.close()

    def _cancelTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
