"""
A gateway without services.
"""

from __future__ import annotations

from zope.interface import implementer

from nanotun.interfaces import IFlowRequest, IGateway


@implementer(IGateway)
class FakeGateway:
    """
    @ivar accepted: what the router handed over.
    """

    def __init__(self) -> None:
        self.accepted: list[IFlowRequest] = []

    def acceptStream(self, request: IFlowRequest) -> None:
        """See L{IGateway.acceptStream}."""
        self.accepted.append(request)
