"""
The associations that UDP flows leave through, and which flow takes which.

Each source endpoint has an association of its own per upstream, whatever it talks to, so
that others see all its datagrams come from one address and port (endpoint-independent
mapping, RFC 4787).  Datagrams that are sent by name are the exception: their replies carry
an address that nobody here knows, so each name has an association of its own for each
source.  DNS queries to a proxy share a few associations instead: apps send
each query from a new port, and an association for each would cost a connection and two
handshakes for one datagram.

During a pause of a source (L{nanotun.router.udp.pauses}) its flows are refused, as an app
that is told may try something else.

The engine may have ended an association whose end the router has yet to be told of.  A
flow that such an association does not take waits for a new one, once.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.internet.defer import maybeDeferred
from twisted.internet.interfaces import IReactorTime

from nanotun.addresses import DNS_PORT
from nanotun.flow import Endpoint, Refusal
from nanotun.interfaces import (
    IDatagramFlowRequest,
    INamedDatagrams,
    INames,
    IPacketEngine,
    IUpstream,
)
from nanotun.linux.sources import LegRoute
from nanotun.log.trouble import TroubleLog
from nanotun.router.udp.association import Association, AssociationState, OutgoingFlow
from nanotun.router.udp.faults import AssociationKey, Faults

#: Associations that may be opening at a time.  A program that sends from every port it
#: has must not become as many connections to the proxy; above this its datagrams
#: are dropped.
OPENING_LIMIT = 512

#: Shared associations of one upstream that take new flows.
SHARED_LIMIT = 4

#: Flows on each shared association before another one is opened beside it.
SHARED_SPREAD = 50

#: Flows after which a shared association takes no more; see
#: L{nanotun.router.udp.association.SHARED_TIME}.
SHARED_FLOWS = 1000


class Associations:
    """
    All associations there are.

    @ivar present: those that are not gone.
    @param clock: for their timers.
    @param trouble: told of what goes wrong.
    @param said: told of what the other side says about destinations.
    @param names: told of the fake addresses that flows go to.
    @param choose: C{random.randrange}; chooses the shared association that is tried first.
    """

    def __init__(
        self,
        engine: IPacketEngine,
        clock: IReactorTime,
        trouble: TroubleLog,
        said: TroubleLog,
        names: INames,
        choose: Callable[[int], int] = random.randrange,
    ) -> None:
        self.present: set[Association] = set()
        self._engine = engine
        self._clock = clock
        self._names = names
        self._faults = Faults(clock, trouble, said)
        self._choose = choose
        # Those that take new flows.
        self._taking: dict[AssociationKey, list[Association]] = {}
        self._opening = 0
        self._stopped = False

    def send(
        self,
        request: IDatagramFlowRequest,
        upstream: IUpstream,
        real: Endpoint | None = None,
        prepared: Association | None = None,
        note: int = 0,
    ) -> None:
        """
        Attach a flow to an association, which is opened if there is none; or refuse or drop
        the flow.

        @param real: where its datagrams really go, if that is not the flow's destination.
        @param prepared: from L{prepare}: tried before any other, and while it is not gone it
            takes the flow even if it takes no new ones.
        @param note: what was decided; see L{nanotun.router.notes}.
        """
        flow = OutgoingFlow(request, real, note=note)
        if prepared is None or not prepared.take(flow):
            self._place(flow, upstream)
        elif prepared.key.source is None:
            self._taken(prepared)

    def prepare(
        self,
        request: IDatagramFlowRequest,
        upstream: IUpstream,
        ready: Callable[[Association], None],
    ) -> None:
        """
        Have an association open for a flow that cannot be sent yet; or refuse or drop the
        flow.

        @param ready: called with it once there is one, perhaps at once; for L{send}.
        """
        self._place(OutgoingFlow(request, ready=ready), upstream)

    def sendNamed(
        self,
        request: IDatagramFlowRequest,
        upstream: IUpstream,
        name: str,
        unnamed: Callable[[], None],
        note: int = 0,
    ) -> None:
        """
        Attach a flow to an association that sends a name in place of addresses; or refuse or
        drop the flow.

        @param upstream: provides L{INamedDatagrams}.
        @param unnamed: called, perhaps at once, if the upstream's UDP relay takes no names;
            the flow still waits then.
        @param note: see L{send}.
        """
        if self._stopped:
            request.drop()
            return
        key = AssociationKey(request.flow.source, upstream, name)
        self._own(OutgoingFlow(request, unnamed=unnamed, note=note), key)

    def networkMoved(self, moved: Callable[[LegRoute], bool], dials: bool) -> None:
        """
        End the associations whose datagrams would be lost.  Their flows are decided anew, and
        go on from the same sockets by others.

        @param moved: tells that of a leg.
        @param dials: whether those that are still being opened are to be opened anew, too.
        """
        for association in list(self.present):
            route, key = association.route, association.key
            if not association.opening:
                if route is not None and moved(route):
                    association.close()
            elif dials:
                for flow in association.giveUp():
                    if key.source is None:
                        self._place(flow, key.upstream)
                    else:
                        self._own(flow, key)

    def endOf(self, source: Endpoint, upstream: IUpstream) -> bool:
        """
        End the associations of a source by an upstream: its flows are decided anew.  Shared ones,
        which carry the queries of others too, go on until they retire.

        @return: whether there were any.
        """
        found = [each for each in self.present if each.key[:2] == (source, upstream)]
        for association in found:
            association.close()
        return bool(found)

    def stop(self) -> None:
        """Close all associations; new flows are dropped."""
        self._stopped = True
        for association in list(self.present):
            association.close()

    def _place(self, flow: OutgoingFlow, upstream: IUpstream) -> None:
        source, destination = flow.request.flow.source, flow.request.flow.destination
        if self._stopped:
            flow.request.drop()
        elif not (
            upstream.sharesLegs and destination.port == DNS_PORT and self._share(flow, upstream)
        ):
            self._own(flow, AssociationKey(source, upstream))

    def _own(self, flow: OutgoingFlow, key: AssociationKey) -> None:
        for association in self._taking.get(key, ()):
            if association.opening:
                association.wait(flow)
                return
            if association.take(flow):
                return
            # The engine has ended it, and the event that says so has yet to be read.
            self._takesNoMore(association)
            break
        self._open(key, flow)

    def _share(self, flow: OutgoingFlow, upstream: IUpstream) -> bool:
        """Whether a shared association takes the flow, or will once it is open."""
        key = AssociationKey(None, upstream)
        taking = self._taking.get(key, [])
        usable = [association for association in taking if not association.opening]
        first = self._choose(len(usable)) if usable else 0
        for association in usable[first:] + usable[:first]:
            if association.take(flow):
                if flow.ready is None:
                    self._taken(association)
                return True
        for association in taking:
            if association.opening:
                association.wait(flow)
                return True
        # A server that refuses must not keep queries from the others: in a pause each
        # has an association of its own.
        if len(taking) < SHARED_LIMIT and not self._faults.pauses(key):
            self._open(key, flow)
            return True
        return False

    def _taken(self, association: Association) -> None:
        """A shared association has taken a flow."""
        taking = self._taking.get(association.key, [])
        if association not in taking:
            # It is retiring.
            return
        if len(taking) < SHARED_LIMIT and all(each.flows >= SHARED_SPREAD for each in taking):
            self._open(association.key)
        if association.flows >= SHARED_FLOWS:
            association.retire()

    def _open(self, key: AssociationKey, flow: OutgoingFlow | None = None) -> None:
        """Open an association, for C{flow} and those to come."""
        if self._faults.pauses(key):
            if flow is not None:
                flow.request.refuse(Refusal.PORT_UNREACHABLE)
            return
        if self._opening >= OPENING_LIMIT:
            if flow is not None:
                flow.request.drop()
            return
        association = Association(
            key,
            self._engine,
            self._clock,
            self._faults,
            self._names,
            self._moved,
            self._again,
        )
        if flow is not None:
            association.wait(flow)
        self.present.add(association)
        self._taking.setdefault(key, []).append(association)
        self._opening += 1
        family = 6 if key.source is not None and ":" in key.source.host else 4
        upstream = key.upstream
        dial = INamedDatagrams(upstream).associateNamed if key.name else upstream.associate
        association.begin(maybeDeferred(dial, family))

    def _moved(self, association: Association, before: AssociationState) -> None:
        if before is AssociationState.OPENING:
            self._opening -= 1
        if association.state is AssociationState.RETIRING:
            self._takesNoMore(association)
        elif association.state is AssociationState.GONE:
            self._takesNoMore(association)
            self.present.discard(association)

    def _again(self, association: Association, flow: OutgoingFlow) -> None:
        """An association that has just opened did not take a flow that waited for it."""
        key = association.key
        if key.source is None and not self._stopped:
            self._own(flow, key._replace(source=flow.request.flow.source))
        else:
            flow.request.drop()

    def _takesNoMore(self, association: Association) -> None:
        taking = self._taking.get(association.key)
        if taking is not None and association in taking:
            taking.remove(association)
            if not taking:
                del self._taking[association.key]
