"""
The processes of flows, for those who record: looked up when a flow is carried already, so that
no flow waits for it.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.flow import Decision, Flow, Owner, Protocol
from nanotun.interfaces import IOwners
from nanotun.timer import Timer

#: Flows that are looked up one after the other.  More than that in a moment is a flood, of which
#: the rest stay without a program.
QUEUE_LIMIT = 2048

#: Seconds of processor time that lookups may take at a time, and seconds between two such turns:
#: a fifth of the reactor's time is enough for some thousand flows a second.
TURN = 0.001
PAUSE = 0.004

#: Flows whose processes are remembered: as many as the engine has.  Of datagrams it may have
#: refused some, whose end nobody tells.
KEPT = {Protocol.TCP: 65536, Protocol.UDP: 16384}

Tell = Callable[[Owner | None], None]


class FlowPrograms:
    """
    Looks up the processes of flows while L{use} has said by whom.

    @ivar active: whether that is so, and for each flow that begins.
    @param isLocal: whether a literal address is one of this machine's.
    @param spent: the processor time of this thread in seconds.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        isLocal: Callable[[str], bool],
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self.active = False
        self._isLocal = isLocal
        self._spent = spent
        self._owners: IOwners | None = None
        self._timer = Timer(clock, self._turn)
        self._queue: deque[Flow] = deque()
        # By the ids of flows: those that are queued or being looked up, and what is to be told
        # of those that have ended meanwhile.
        self._looking: dict[int, Deferred[Owner | None] | None] = {}
        self._held: dict[int, Tell] = {}
        # None stands for one that was not found.
        self._found: dict[Protocol, OrderedDict[int, Owner | None]] = {
            protocol: OrderedDict() for protocol in KEPT
        }

    def use(self, owners: IOwners | None, everyFlow: bool = True) -> None:
        """
        Look up the processes of flows that begin from now on, and of those that L{ask} names.

        @param owners: find them, whichever they are, and are started; L{None} for nobody.
        @param everyFlow: C{False} for only those that L{ask} names.
        """
        self._owners = owners
        self.active = owners is not None and everyFlow
        if owners is None:
            self._stop()

    def look(self, flow: Flow, decision: Decision) -> None:
        """A flow is carried.  Find its process, unless the decision has told it."""
        if self.active:
            self._lookFor(flow, decision.owner)

    def ask(self, flow: Flow, owner: Owner | None) -> None:
        """
        Somebody looks at an open flow.  Find its process, unless that was tried.

        @param owner: what the decision has told.
        """
        if self._owners is None or flow.id in self._looking:
            return
        if flow.id not in self._found[flow.protocol]:
            self._lookFor(flow, owner)

    def _lookFor(self, flow: Flow, owner: Owner | None) -> None:
        if len(self._queue) >= QUEUE_LIMIT or (owner is not None and owner.path):
            return
        if not self._isLocal(flow.source.host):
            return
        self._looking[flow.id] = None
        self._queue.append(flow)
        if not self._timer.active:
            self._timer.start(0)

    def of(self, flow: Flow) -> Owner | None:
        """The process of a flow that has not ended; L{None} if it is not known, or not yet."""
        return self._found[flow.protocol].get(flow.id)

    def ended(self, flow: Flow, tell: Tell) -> None:
        """
        A flow has ended.

        @param tell: called once with its process, at once or when that is found, or with L{None}.
        """
        if flow.id in self._looking:
            self._held[flow.id] = tell
        else:
            tell(self._found[flow.protocol].pop(flow.id, None))

    def _turn(self) -> None:
        until = self._spent() + TURN
        while self._queue and self._spent() < until:
            self._lookUp(self._queue.popleft())
        if self._queue:
            self._timer.start(PAUSE)

    def _lookUp(self, flow: Flow) -> None:
        assert self._owners is not None
        answer = self._owners.ownerOf(flow)
        if not isinstance(answer, Deferred):
            self._took(answer, flow)
            return
        self._looking[flow.id] = answer
        answer.addCallbacks(self._took, self._failed, callbackArgs=(flow,))
        answer.addErrback(self._broke, flow)

    def _took(self, owner: Owner | None, flow: Flow) -> None:
        if flow.id not in self._looking:
            return  # nobody records any more
        del self._looking[flow.id]
        held = self._held.pop(flow.id, None)
        if held is not None:
            held(owner)
        else:
            found = self._found[flow.protocol]
            found[flow.id] = owner
            if len(found) > KEPT[flow.protocol]:
                found.popitem(last=False)

    def _failed(self, reason: Failure) -> None:
        reason.trap(CancelledError)

    def _broke(self, reason: Failure, flow: Flow) -> None:
        self._log.failure("The program of a flow was not found: internal error", failure=reason)
        self._took(None, flow)

    def _stop(self) -> None:
        """Look nothing up any more, and tell what waits for that."""
        self._timer.cancel()
        self._queue.clear()
        looking, self._looking = self._looking, {}
        held, self._held = self._held, {}
        for waiting in looking.values():
            if waiting is not None:
                waiting.cancel()
        for tell in held.values():
            tell(None)
        for found in self._found.values():
            found.clear()
