"""
One leg that datagrams leave by, from the asking to its end.

A leg's life::

    asked for -> opening     requests wait
    opening   stands         -> open; those that waited are attached
              failed         -> gone; those that waited are refused
    open      ended          -> gone; the engine says so: idle, evicted, broken
              matured        -> open; it was of use to ask for it
              control lost   -> gone; the proxy says so
              retired        -> takes no new flows; gone after a grace (shared only)
    any       stop           -> gone
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from nanotun.flow import Endpoint, Refusal
from nanotun.interfaces import (
    DatagramLeg,
    IDatagramFlowRequest,
    ILegControl,
    IPacketEngine,
    IUpstream,
)
from nanotun.log.trouble import TroubleLog

#: Seconds that a shared leg takes new flows.  Who forges an answer has to guess the
#: outside port and the query's id (Kaminsky, 2008; RFC 5452): a port that stays is
#: half of that found.
SHARED_TIME = 30.0

#: Seconds for the answers that are still to come on a leg that takes no more.
#: Flows that go on after that are asked about anew.
SHARED_GRACE = 10.0

#: Seconds.  A leg that ends by a fault sooner than this after it stood was asked for
#: in vain.
MATURE_AGE = 2.0

#: How the engine ends a leg that nothing is wrong with: idle, or evicted.
HARMLESS = (errno.ETIMEDOUT, errno.ENOBUFS)

#: Whose leg: a source's own by an upstream, or with L{None} a shared one.
LegKey = tuple[Endpoint | None, IUpstream]


class LegTable(Protocol):
    """What a leg needs of L{nanotun.router.udp.associations.Associations}."""

    engine: IPacketEngine
    clock: IReactorTime
    trouble: TroubleLog

    def opened(self) -> None:
        """A leg stands, failed or was given up."""

    def stood(self, upstream: IUpstream) -> None:
        """A leg stands."""

    def failed(self, upstream: IUpstream, reason: Failure) -> None:
        """A leg failed; tell the user."""

    def matured(self, key: LegKey) -> None:
        """A leg has stood for L{MATURE_AGE}."""

    def lost(self, leg: Leg, cause: str) -> None:
        """A leg ended by a fault; tell the user."""

    def again(self, request: IDatagramFlowRequest, key: LegKey) -> None:
        """A leg that has just opened did not take the flow."""

    def retire(self, leg: Leg) -> None:
        """A leg takes no more flows."""

    def forget(self, leg: Leg) -> None:
        """A leg is gone."""


class Leg:
    """
    One leg; see the table above.

    @ivar key: whose it is.
    @ivar association: the engine's number for it while it is open, else 0.
    @ivar waiting: what is attached once it stands.
    @ivar flows: how many were attached.
    """

    __slots__ = (
        "_asked",
        "_control",
        "_maturing",
        "_table",
        "_timer",
        "association",
        "flows",
        "key",
        "waiting",
    )

    def __init__(self, table: LegTable, key: LegKey) -> None:
        self.key = key
        self.association = 0
        self.waiting: deque[IDatagramFlowRequest] = deque()
        self.flows = 0
        self._table = table
        self._asked: Deferred[DatagramLeg] | None = None
        self._control: ILegControl | None = None
        self._timer: IDelayedCall | None = None
        self._maturing: IDelayedCall | None = None

    @property
    def young(self) -> bool:
        """Whether it stands and has not matured."""
        return self._maturing is not None

    def begin(self, asked: Deferred[DatagramLeg]) -> None:
        """Wait for the upstream."""
        self._asked = asked
        asked.addCallbacks(self._stands, self._failed).addErrback(self._botched)

    def attach(self, request: IDatagramFlowRequest) -> bool:
        """Whether the open leg takes the flow."""
        if not request.attach(self.association):
            return False
        self.flows += 1
        return True

    def retire(self) -> None:
        """A shared leg had its time or its flows."""
        table = self._table
        self._cancelTimer()
        table.retire(self)
        self._timer = table.clock.callLater(SHARED_GRACE, self.close)

    def close(self) -> None:
        """Let go of it, whatever it is doing."""
        asked, self._asked = self._asked, None
        association = self.association
        self._gone()
        if asked is not None:
            self._table.opened()
            asked.cancel()
        if association:
            self._table.engine.closeAssociation(association)
        while self.waiting:
            self.waiting.popleft().drop()

    def _stands(self, leg: DatagramLeg) -> None:
        table, shared = self._table, self.key[0] is None
        self._asked = None
        table.opened()
        table.stood(self.key[1])
        self._control = leg.control
        try:
            self.association = table.engine.openAssociation(leg, self._ended, shared)
        except OSError as error:
            table.trouble.report(f"A leg for UDP cannot be used: {error.strerror}.")
            self._refuse()
            return
        self._maturing = table.clock.callLater(MATURE_AGE, self._mature)
        if shared:
            self._timer = table.clock.callLater(SHARED_TIME, self.retire)
        if leg.control is not None:
            leg.control.watch(self._lost)
        while self.waiting:
            taken = self.association and self.attach(self.waiting[0])
            request = self.waiting.popleft()
            if not taken:
                table.again(request, self.key)

    def _failed(self, reason: Failure) -> None:
        if self._asked is None:
            # It was given up.
            return
        self._asked = None
        self._table.opened()
        self._table.failed(self.key[1], reason)
        self._refuse()

    def _botched(self, reason: Failure) -> None:
        """A mistake of ours, at any point: no flow may wait for ever."""
        self._table.failed(self.key[1], reason)
        self.close()

    def _refuse(self) -> None:
        self._gone()
        while self.waiting:
            self.waiting.popleft().refuse(Refusal.PORT_UNREACHABLE)

    def _mature(self) -> None:
        self._maturing = None
        self._table.matured(self.key)

    def _ended(self, error: int) -> None:
        """The engine is done with it."""
        if error not in HARMLESS:
            self._table.lost(
                self,
                f"A leg for UDP by {self.key[1].describe()} broke: {os.strerror(error)}; if it "
                "happens often, look whether the proxy's ports for UDP are open.",
            )
        self._gone()

    def _lost(self, sentence: str) -> None:
        """The proxy is."""
        association = self.association
        self._table.lost(self, sentence)
        self._gone()
        self._table.engine.closeAssociation(association)

    def _gone(self) -> None:
        self.association = 0
        self._cancelTimer()
        maturing, self._maturing = self._maturing, None
        if maturing is not None:
            maturing.cancel()
        self._table.forget(self)
        control, self._control = self._control, None
        if control is not None:
            control.close()

    def _cancelTimer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
