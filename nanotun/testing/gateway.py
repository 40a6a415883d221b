"""
A gateway without services.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.flow import Flow
from nanotun.interfaces import Connection, IFlowRequest, IGateway


@implementer(IGateway)
class FakeGateway:
    """
    @ivar accepted: the requests that the router handed over.
    @ivar openOnward: what it handed over with the last of them, and likewise C{note}.
    @ivar strangers: addresses of other hosts.
    """

    def __init__(self) -> None:
        self.accepted: list[IFlowRequest] = []
        self.strangers: set[str] = set()

    def start(self) -> None:
        """See L{IGateway.start}."""

    def stop(self) -> None:
        """See L{IGateway.stop}."""

    def acceptStream(
        self,
        request: IFlowRequest,
        openOnward: Callable[[Flow], Deferred[Connection]],
        note: int = 0,
    ) -> None:
        """See L{IGateway.acceptStream}."""
        self.accepted.append(request)
        self.note = note
        self.openOnward = openOnward

    def isLocal(self, host: str) -> bool:
        """See L{IGateway.isLocal}."""
        return host not in self.strangers
