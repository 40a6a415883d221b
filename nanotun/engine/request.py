"""
The requests that an engine hands to the router.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from zope.interface import implementer

from nanotun.errors import FlowDecidedError
from nanotun.flow import Endpoint, Flow, Refusal
from nanotun.interfaces import IDatagramFlowRequest, IFlowRequest


class Refuser(Protocol):
    """What carries out a decision against a flow: an engine."""

    def refuseFlow(self, flowID: int, reason: Refusal) -> None:
        """Tell the app."""

    def dropFlow(self, flowID: int) -> None:
        """Say nothing."""


class FlowDecider(Refuser, Protocol):
    """What carries out a decision about a connection."""

    def joinFlow(self, flowID: int, fd: int, leftover: bytes) -> bool:
        """Own C{fd}, and say whether the app was still there."""


class DatagramFlowDecider(Refuser, Protocol):
    """What carries out a decision about datagrams."""

    def attachFlow(self, flowID: int, association: int, real: Endpoint | None) -> bool:
        """Say whether the association takes the flow."""

    def serveFlow(self, flowID: int) -> None:
        """Hand it to the datagram services."""


_Decider = TypeVar("_Decider", bound=Refuser)


class _Request(Generic[_Decider]):
    """
    What both kinds share.  Once decided a request lets go of the engine, which
    is also how a second decision is noticed.
    """

    __slots__ = ("_decider", "flow")

    def __init__(self, flow: Flow, decider: _Decider) -> None:
        self.flow = flow
        self._decider: _Decider | None = decider

    def refuse(self, reason: Refusal) -> None:
        """See L{IFlowRequest.refuse}."""
        decider = self._decider
        if decider is None:
            raise self._decidedError("refuse")
        self._decider = None
        decider.refuseFlow(self.flow.id, reason)

    def drop(self) -> None:
        """See L{IFlowRequest.drop}."""
        decider = self._decider
        if decider is None:
            raise self._decidedError("drop")
        self._decider = None
        decider.dropFlow(self.flow.id)

    def _decidedError(self, second: str) -> FlowDecidedError:
        return FlowDecidedError(
            f"The flow {self.flow.id} to {self.flow.destination} was decided already when "
            f"{second} was called; please report this."
        )


@implementer(IFlowRequest)
class FlowRequest(_Request[FlowDecider]):
    """See L{IFlowRequest}."""

    __slots__ = ()

    def join(self, fd: int, leftover: bytes = b"") -> bool:
        """See L{IFlowRequest.join}."""
        decider = self._decider
        if decider is None:
            raise self._decidedError("join")
        self._decider = None
        return decider.joinFlow(self.flow.id, fd, leftover)


@implementer(IDatagramFlowRequest)
class DatagramFlowRequest(_Request[DatagramFlowDecider]):
    """See L{IDatagramFlowRequest}."""

    __slots__ = ()

    def attach(self, association: int, real: Endpoint | None = None) -> bool:
        """See L{IDatagramFlowRequest.attach}."""
        decider = self._decider
        if decider is None:
            raise self._decidedError("attach")
        taken = decider.attachFlow(self.flow.id, association, real)
        if taken:
            self._decider = None
        return taken

    def serve(self) -> None:
        """See L{IDatagramFlowRequest.serve}."""
        decider = self._decider
        if decider is None:
            raise self._decidedError("serve")
        self._decider = None
        decider.serveFlow(self.flow.id)
