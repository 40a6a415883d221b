"""
Datagrams to addresses that stand for names.

No datagram can be sent to a name: the native side puts an address on each.  So the
name is looked up here, and the flow is attached with the address that is real; the
app goes on to see the one it sent to.  The lookup waits for a leg: with an upstream
that carries no UDP nobody is asked for names.

Only addresses of the app's family are taken, for a leg may carry no other.  A
program that tried IPv6 in vain goes on with IPv4.

There is no end of such a flow to hear of, so the name keeps its address for a time
that is counted from the flow's beginning.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint, Flow, Refusal
from nanotun.interfaces import IDatagramFlowRequest, IUpstream
from nanotun.log.trouble import TroubleLog
from nanotun.router.named import Names, forgotten
from nanotun.router.udp.associations import Associations

#: Flows that wait for a lookup; above this their datagrams are dropped.
WAITING_LIMIT = 512


class Redirection:
    """
    Takes such flows to their legs.

    @ivar waiting: those whose name is being looked up.
    """

    def __init__(self, names: Names, associations: Associations, trouble: TroubleLog) -> None:
        self.names = names
        self.associations = associations
        self.trouble = trouble
        self.waiting: set[RedirectedRequest] = set()

    def send(self, request: IDatagramFlowRequest, upstream: IUpstream) -> None:
        """Find or open the leg that the flow leaves by, and decide it."""
        host = request.flow.destination.host
        name = self.names.nameOf(host)
        if name is None:
            self.trouble.report(str(forgotten(host)))
            request.refuse(Refusal.PORT_UNREACHABLE)
        else:
            self.associations.send(RedirectedRequest(self, request, upstream, name), upstream)

    def stop(self) -> None:
        """Give up all lookups and drop their flows."""
        for request in list(self.waiting):
            request.drop()


@implementer(IDatagramFlowRequest)
class RedirectedRequest:
    """
    A request that learns where to once there is a leg for it.

    @ivar flow: as the app sees it.
    """

    __slots__ = (
        "_association",
        "_lookup",
        "_name",
        "_real",
        "_redirection",
        "_request",
        "_upstream",
        "flow",
    )

    def __init__(
        self,
        redirection: Redirection,
        request: IDatagramFlowRequest,
        upstream: IUpstream,
        name: str,
    ) -> None:
        self.flow: Flow = request.flow
        self._redirection = redirection
        self._request = request
        self._upstream = upstream
        self._name = name
        self._real: Endpoint | None = None
        self._association = 0
        self._lookup: Deferred[list[str]] | None = None

    def attach(self, association: int, real: Endpoint | None = None) -> bool:
        """See L{IDatagramFlowRequest.attach}.  Begins the lookup, the first time."""
        if self._real is not None:
            return self._request.attach(association, self._real)
        waiting = self._redirection.waiting
        if len(waiting) >= WAITING_LIMIT:
            self._request.drop()
            return True
        waiting.add(self)
        self._association = association
        family = 6 if ":" in self.flow.destination.host else 4
        lookup = self._lookup = self._redirection.names.resolve(self._name, family)
        lookup.addCallbacks(self._found, self._failed)
        return True

    def serve(self) -> None:
        """See L{IDatagramFlowRequest.serve}."""
        self._request.serve()

    def refuse(self, reason: Refusal) -> None:
        """See L{IDatagramFlowRequest.refuse}."""
        self._request.refuse(reason)

    def drop(self) -> None:
        """See L{IDatagramFlowRequest.drop}."""
        if self in self._redirection.waiting:
            self._redirection.waiting.discard(self)
            if self._lookup is not None:
                self._lookup.cancel()
        self._request.drop()

    def _found(self, addresses: list[str]) -> None:
        redirection = self._redirection
        redirection.waiting.discard(self)
        if not addresses:
            self._request.refuse(Refusal.HOST_UNREACHABLE)
            return
        self._real = Endpoint(addresses[0], self.flow.destination.port)
        if not self._request.attach(self._association, self._real):
            # The leg ended meanwhile.
            redirection.associations.send(self, self._upstream)

    def _failed(self, reason: Failure) -> None:
        if reason.check(CancelledError):
            return
        self._redirection.waiting.discard(self)
        reason.trap(UpstreamError)
        self._redirection.trouble.report(str(reason.value))
        self._request.refuse(Refusal.PORT_UNREACHABLE)
