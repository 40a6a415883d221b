"""
Datagrams to fake addresses.

Where the upstream's UDP relay takes names, they are sent by name, each name through an
association of its own, and nothing is looked up here.

Anywhere else first an association is opened, then the name is looked up here, then the flow
is sent to the real address; the app still sees the address that it sent to.  The
association comes first because nobody should be asked for a name if the upstream carries no
UDP.  The flow is then sent through that association, unless it has ended in the meantime.

Only addresses of the app's family are taken, for an association may carry no other.  A
program that tried IPv6 in vain tries IPv4 next.

A name keeps its address for as long as there is an association with a flow to it, and for a
time that is counted from the beginning of the flow.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint, Refusal
from nanotun.interfaces import IDatagramFlowRequest, INamedDatagrams, INames, IUpstream
from nanotun.log.trouble import TroubleLog
from nanotun.router.named import forgotten
from nanotun.router.udp.association import Association
from nanotun.router.udp.associations import Associations

#: Flows that may wait for a lookup; above this their datagrams are dropped.
WAITING_LIMIT = 512


class _Lookup(NamedTuple):
    """
    A flow whose name is being looked up.

    @ivar upstream: by which it is to leave.
    """

    request: IDatagramFlowRequest
    upstream: IUpstream
    looking: Deferred[list[str]]


class Redirection:
    """
    Finds out where such flows really go.

    @param associations: carry the flows then.
    @param trouble: told of names that cannot be looked up.
    """

    def __init__(self, names: INames, associations: Associations, trouble: TroubleLog) -> None:
        self._names = names
        self._associations = associations
        self._trouble = trouble
        # By flow id.
        self._lookups: dict[int, _Lookup] = {}

    def send(self, request: IDatagramFlowRequest, upstream: IUpstream, note: int) -> None:
        """
        Send a flow to the name behind its destination; or refuse or drop it.

        @param note: see L{Associations.send}.
        """
        host = request.flow.destination.host
        name = self._names.nameOf(host)
        if name is None:
            self._trouble.report(str(forgotten(host)))
            request.refuse(Refusal.PORT_UNREACHABLE)
            return
        if INamedDatagrams.providedBy(upstream):
            unnamed = partial(self._resolve, request, upstream, note, name)
            self._associations.sendNamed(request, upstream, name, unnamed, note)
        else:
            self._resolve(request, upstream, note, name)

    def endOf(self, source: Endpoint, upstream: IUpstream) -> bool:
        """See L{Associations.endOf}; of flows that wait for a lookup as well."""
        lookups = list(self._lookups.values())
        found = [
            each
            for each in lookups
            if (each.request.flow.source, each.upstream) == (source, upstream)
        ]
        for each in found:
            del self._lookups[each.request.flow.id]
            each.looking.cancel()
            each.request.drop()
        return self._associations.endOf(source, upstream) or bool(found)

    def stop(self) -> None:
        """Cancel all lookups and drop their flows."""
        lookups, self._lookups = self._lookups, {}
        for each in lookups.values():
            each.looking.cancel()
            each.request.drop()

    def _resolve(
        self, request: IDatagramFlowRequest, upstream: IUpstream, note: int, name: str
    ) -> None:
        """Send the flow by address."""
        ready = partial(self._lookUp, request, upstream, note, name)
        self._associations.prepare(request, upstream, ready)

    def _lookUp(
        self,
        request: IDatagramFlowRequest,
        upstream: IUpstream,
        note: int,
        name: str,
        association: Association,
    ) -> None:
        if len(self._lookups) >= WAITING_LIMIT:
            request.drop()
            return
        flow = request.flow
        lookup = self._names.resolve(name, 6 if ":" in flow.destination.host else 4)
        self._lookups[flow.id] = _Lookup(request, upstream, lookup)
        lookup.addCallbacks(
            self._found,
            self._notFound,
            callbackArgs=(request, upstream, note, association),
            errbackArgs=(request,),
        )

    def _found(
        self,
        addresses: list[str],
        request: IDatagramFlowRequest,
        upstream: IUpstream,
        note: int,
        association: Association,
    ) -> None:
        del self._lookups[request.flow.id]
        if addresses:
            real = Endpoint(addresses[0], request.flow.destination.port)
            self._associations.send(request, upstream, real, association, note)
        else:
            request.refuse(Refusal.HOST_UNREACHABLE)

    def _notFound(self, reason: Failure, request: IDatagramFlowRequest) -> None:
        if reason.check(CancelledError):
            return
        del self._lookups[request.flow.id]
        reason.trap(UpstreamError)
        self._trouble.report(str(reason.value))
        request.refuse(Refusal.PORT_UNREACHABLE)
