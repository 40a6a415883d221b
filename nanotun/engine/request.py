"""
The requests that an engine hands to the router.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.engine.decisions import Decisions
from nanotun.engine.dials import discard
from nanotun.errors import FlowDecidedError
from nanotun.flow import AbsoluteForm, Endpoint, Flow, Refusal
from nanotun.interfaces import DialPlan, IDatagramFlowRequest, IFlowRequest


class _Request:
    """
    What both kinds of request share.  A request lets go of the L{Decisions} once it is
    decided, which is how it notices a second decision.
    """

    __slots__ = ("_decisions", "flow")

    def __init__(self, flow: Flow, decisions: Decisions) -> None:
        self.flow = flow
        self._decisions: Decisions | None = decisions

    def sniff(self) -> Deferred[str]:
        """See L{IFlowRequest.sniff}."""
        decisions = self._decisions
        if decisions is None:
            raise self._decidedError("sniff")
        return decisions.sniffFlow(self.flow.id)

    def refuse(self, reason: Refusal) -> None:
        """See L{IFlowRequest.refuse}."""
        decisions = self._decisions
        if decisions is None:
            raise self._decidedError("refuse")
        self._decisions = None
        decisions.refuseFlow(self.flow.id, reason)

    def drop(self) -> None:
        """See L{IFlowRequest.drop}."""
        decisions = self._decisions
        if decisions is None:
            raise self._decidedError("drop")
        self._decisions = None
        decisions.dropFlow(self.flow.id)

    def _decidedError(self, second: str) -> FlowDecidedError:
        return FlowDecidedError(
            f"The flow {self.flow.id} to {self.flow.destination} was decided already when "
            f"{second} was called; please report this."
        )


@implementer(IFlowRequest)
class FlowRequest(_Request):
    """See L{IFlowRequest}."""

    __slots__ = ()

    def join(
        self, fd: int, leftover: bytes = b"", form: AbsoluteForm | None = None, note: int = 0
    ) -> bool:
        """See L{IFlowRequest.join}."""
        decisions = self._decisions
        if decisions is None:
            raise self._decidedError("join")
        self._decisions = None
        return decisions.joinFlow(self.flow.id, fd, leftover, form, note)

    def dial(self, plan: DialPlan, note: int = 0) -> None:
        """See L{IFlowRequest.dial}."""
        decisions = self._decisions
        if decisions is None:
            discard(plan.fd)
            raise self._decidedError("dial")
        decisions.dials.begin(self, plan, note)

    def undial(self) -> None:
        """See L{IFlowRequest.undial}."""
        # Once the flow is decided there is no dial.
        if self._decisions is not None:
            self._decisions.dials.undo(self.flow.id)


@implementer(IDatagramFlowRequest)
class DatagramFlowRequest(_Request):
    """See L{IDatagramFlowRequest}."""

    __slots__ = ()

    def attach(self, association: int, real: Endpoint | None = None, note: int = 0) -> bool:
        """See L{IDatagramFlowRequest.attach}."""
        decisions = self._decisions
        if decisions is None:
            raise self._decidedError("attach")
        taken = decisions.attachFlow(self.flow.id, association, real, note)
        if taken:
            self._decisions = None
        return taken

    def serve(self) -> None:
        """See L{IDatagramFlowRequest.serve}."""
        decisions = self._decisions
        if decisions is None:
            raise self._decidedError("serve")
        self._decisions = None
        decisions.serveFlow(self.flow.id)
