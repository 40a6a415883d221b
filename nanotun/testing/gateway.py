"""
A gateway without services.
"""

from __future__ import annotations

from zope.interface import implementer

from nanotun.interfaces import IFlowRequest, IGateway


@implementer(IGateway)
class FakeGateway:
    """
    @ivar accepted: the requests that the router handed over.
    @ivar strangers: addresses of other hosts.
    """

    def __init__(self) -> None:
        self.accepted: list[IFlowRequest] = []
        self.strangers: set[str] = set()

    def start(self) -> None:
        """See L{IGateway.start}."""

    def stop(self) -> None:
        """See L{IGateway.stop}."""

    def acceptStream(self, request: IFlowRequest) -> None:
        """See L{IGateway.acceptStream}."""
        self.accepted.append(request)

    def isLocal(self, host: str) -> bool:
        """See L{IGateway.isLocal}."""
        return host not in self.strangers
