"""
Flows that wait for their legs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from nanotun.errors import UpstreamError
from nanotun.flow import Decision
from nanotun.interfaces import Connection, DialEnd, DialPlan, IFlowRequest


class Waits(Protocol):
    """What hears of the end of a dial."""

    def connected(self, pending: PendingFlow, connection: Connection) -> None:
        """A pending flow has its leg."""

    def failed(self, pending: PendingFlow, reason: Failure) -> None:
        """The dial of a pending flow failed."""


class PendingFlow:
    """
    A flow that waits for its leg, and the dial that is to open it.

    @ivar note: what was decided, for the engine; see L{nanotun.router.notes}.
    @ivar follow: to be called when the flow was joined.
    @ivar began: the clock's seconds when the dial began.
    """

    __slots__ = (
        "_cancelled",
        "_dial",
        "_waits",
        "began",
        "decision",
        "follow",
        "note",
        "request",
    )

    def __init__(
        self,
        waits: Waits,
        request: IFlowRequest,
        decision: Decision,
        note: int,
        follow: Callable[[], None],
        began: float,
    ) -> None:
        self.request = request
        self.decision = decision
        self.note = note
        self.follow = follow
        self.began = began
        self._waits = waits
        self._dial: Deferred[Connection] | None = None
        self._cancelled = False

    def begin(self, dial: Deferred[Connection]) -> None:
        """Wait for the dial's result."""
        self._dial = dial
        dial.addCallbacks(self._connected, self._failed)

    def cancel(self, now: float) -> None:
        """
        Cancel the dial, of whose end nobody is told.

        @param now: the clock's seconds.
        """
        self._cancelled = True
        if self._dial is not None:
            self._dial.cancel()

    def _connected(self, connection: Connection) -> None:
        self._waits.connected(self, connection)

    def _failed(self, reason: Failure) -> None:
        if self._cancelled and reason.check(CancelledError, UpstreamError):
            return
        self._waits.failed(self, reason)


class PlannedFlow(PendingFlow):
    """
    One whose leg the engine is to open.  Once that has ended, or takes long, the plan's outcomes
    go on with it, and it is a pending flow like any other.
    """

    __slots__ = ("_engine", "plan")

    def __init__(
        self,
        waits: Waits,
        request: IFlowRequest,
        decision: Decision,
        note: int,
        follow: Callable[[], None],
        began: float,
        plan: DialPlan,
    ) -> None:
        super().__init__(waits, request, decision, note, follow, began)
        self.plan = plan
        # Fires with the end of the engine's dial, if that takes long.
        self._engine: Deferred[DialEnd] | None = None

    def dialEnded(self, end: DialEnd) -> None:
        """The engine could not open the leg."""
        engine, self._engine = self._engine, None
        if self._dial is None:
            self.begin(self.plan.outcomes.resume(end))
        elif engine is not None and not engine.called:
            engine.callback(end)
        else:
            # Nobody wanted it any more when it ended.
            discard(end)

    def goSilent(self, now: float) -> None:
        """
        The engine's dial takes long, and goes on.

        @param now: the clock's seconds.
        """
        engine = self._engine = Deferred(self._undial)
        self.begin(self.plan.outcomes.silent(engine, now - self.began))

    def cancel(self, now: float) -> None:
        """See L{PendingFlow.cancel}."""
        if self._dial is None:
            self.plan.outcomes.abandoned(now - self.began)
        super().cancel(now)

    def _undial(self, engine: Deferred[DialEnd]) -> None:
        self.request.undial()


def discard(end: DialEnd) -> None:
    """Close the connection that the end of a dial may have."""
    if end.fd >= 0:
        os.close(end.fd)
