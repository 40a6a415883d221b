"""
The legs that datagrams leave by, and which flow takes which.

Each source endpoint has a leg of its own per upstream, whatever it talks to, so
that it keeps one outside address (endpoint-independent mapping, RFC 4787).  DNS
queries to a proxy share a few instead: apps ask each from a port of its own, and
a leg for each would be a connection and two handshakes for one datagram.

While a source waits (L{nanotun.router.udp.pauses}) its flows are refused: an app that knows
does something else.

A flow that an open leg does not take, because the engine has just ended it, waits
for a new one, once.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.addresses import DNS_PORT
from nanotun.errors import DatagramsUnsupported, UpstreamError
from nanotun.flow import Refusal
from nanotun.interfaces import IDatagramFlowRequest, IPacketEngine, IUpstream
from nanotun.log.trouble import TroubleLog
from nanotun.router.udp.association import Leg, LegKey
from nanotun.router.udp.pauses import Pauses

#: Legs that may be opening at a time.  A program that sends from every port it
#: has must not become as many connections to the proxy; above this its datagrams
#: are dropped.
OPENING_LIMIT = 512

#: Shared legs of one upstream that take new flows.
SHARED_LIMIT = 4

#: Flows on each shared leg before there is another beside it.
SHARED_SPREAD = 50

#: Flows after which a shared leg takes no more; see
#: L{nanotun.router.udp.association.SHARED_TIME}.
SHARED_FLOWS = 1000


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
        self.legs: set[Leg] = set()
        self._choose = choose
        self._taking: dict[LegKey, list[Leg]] = {}
        self._without: dict[IUpstream, str] = {}
        self._pauses = Pauses()
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

    def _own(self, request: IDatagramFlowRequest, key: LegKey) -> None:
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
        # A server that refuses must not keep queries from the others: in a pause each
        # has a leg of its own.
        if len(legs) < SHARED_LIMIT and not self._paused(key):
            self._open(key, request)
            return True
        return False

    def _open(self, key: LegKey, request: IDatagramFlowRequest | None = None) -> None:
        """Ask for a leg, for C{request} and those to come."""
        if self._paused(key):
            if request is not None:
                request.refuse(Refusal.PORT_UNREACHABLE)
            return
        if self._opening >= OPENING_LIMIT:
            if request is not None:
                request.drop()
            return
        leg = Leg(self, key)
        if request is not None:
            leg.waiting.append(request)
        self.legs.add(leg)
        self._taking.setdefault(key, []).append(leg)
        self._opening += 1
        source, upstream = key
        family = 6 if source is not None and ":" in source.host else 4
        leg.begin(maybeDeferred(upstream.associate, family))

    def _paused(self, key: LegKey) -> bool:
        return self._pauses.holds(key, self.clock.seconds())

    # For legs.

    def opened(self) -> None:
        """A leg stands, failed or was given up."""
        self._opening -= 1

    def again(self, request: IDatagramFlowRequest, key: LegKey) -> None:
        """A leg that has just opened did not take the flow."""
        source, upstream = key
        if source is None and not self._stopped:
            self._own(request, (request.flow.source, upstream))
        else:
            request.drop()

    def retire(self, leg: Leg) -> None:
        """A leg takes no more flows."""
        taking = self._taking.get(leg.key)
        if taking is not None and leg in taking:
            taking.remove(leg)
            if not taking:
                del self._taking[leg.key]

    def forget(self, leg: Leg) -> None:
        """A leg is gone."""
        self.legs.discard(leg)
        self.retire(leg)

    def matured(self, key: LegKey) -> None:
        """A leg has stood for L{nanotun.router.udp.association.MATURE_AGE}."""
        self._pauses.grown(key)

    def lost(self, leg: Leg, cause: str) -> None:
        """A leg ended by a fault: one line per cause, and a pause if that is all it did."""
        self.trouble.report(cause)
        if leg.young:
            self._pauses.ended(leg.key, self.clock.seconds())

    def stood(self, upstream: IUpstream) -> None:
        """A leg stands: if the upstream carried no UDP before, it does now."""
        self._without.pop(upstream, None)

    def failed(self, upstream: IUpstream, reason: Failure) -> None:
        """
        A leg failed: one line per cause.  That an upstream carries no UDP is no
        event but how it is, and told once: at the start where its URL says so.
        """
        error = reason.value
        if isinstance(error, DatagramsUnsupported):
            if upstream.carriesDatagrams and self._without.get(upstream) != str(error):
                self._without[upstream] = str(error)
                self._log.warn("{cause}", cause=str(error))
        elif isinstance(error, UpstreamError):
            self.trouble.report(str(error))
        else:
            self._log.failure("A leg for UDP failed by a mistake of ours", failure=reason)
