"""
Requests whose decision takes a while.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.flow import Decision, Protocol, Refusal
from nanotun.interfaces import IDatagramFlowRequest, IFlowRequest

Request: TypeAlias = "IFlowRequest | IDatagramFlowRequest"


class UndecidedFlows:
    """Holds requests until they are decided, their app gives up, or all is stopped."""

    _log = Logger()

    def __init__(self) -> None:
        # By flow id.
        self._flows: dict[int, tuple[Request, Deferred[Any]]] = {}

    def hold(
        self,
        request: Request,
        decision: Deferred[Decision],
        carryOut: Callable[[Any, Decision], None],
    ) -> None:
        """
        Hold a request.

        @param carryOut: called with the request and its decision.
        """
        self._flows[request.flow.id] = request, decision
        decision.addCallbacks(
            self._decided,
            self._failed,
            callbackArgs=(request, carryOut),
            errbackArgs=(request,),
        )
        decision.addErrback(self._broke)

    def abandon(self, flowID: int) -> bool:
        """
        Forget a request, which is invalid now.

        @return: whether it was held.
        """
        _, decision = self._flows.pop(flowID, (None, None))
        if decision is None:
            return False
        decision.cancel()
        return True

    def stop(self) -> None:
        """Reset the TCP flows, and drop the datagrams."""
        flows, self._flows = self._flows, {}
        for request, decision in flows.values():
            decision.cancel()
            self._end(request)

    def _decided(
        self, decision: Decision, request: Request, carryOut: Callable[[Any, Decision], None]
    ) -> None:
        del self._flows[request.flow.id]
        carryOut(request, decision)

    def _failed(self, reason: Failure, request: Request) -> None:
        if reason.check(CancelledError):
            return
        del self._flows[request.flow.id]
        self._end(request)
        self._broke(reason)

    def _broke(self, reason: Failure) -> None:
        self._log.failure(
            "A flow that waited for its decision failed: internal error", failure=reason
        )

    def _end(self, request: Request) -> None:
        if request.flow.protocol is Protocol.UDP:
            request.drop()
        else:
            request.refuse(Refusal.RESET)
