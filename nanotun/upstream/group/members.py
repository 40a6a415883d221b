"""
The upstreams of a group, kept up to date by the outcomes of flows and checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nanotun.interfaces import IUpstream
from nanotun.log.trouble import TroubleLog
from nanotun.timer import backOff
from nanotun.upstream.group.breaker import BACKOFF_FIRST, BACKOFF_LIMIT, Breaker
from nanotun.upstream.group.member import Member
from nanotun.upstream.group.policies import Policy, datagramOrder, order


class Members:
    """
    All members of a group.

    @ivar all: in the configuration's order.
    @param policy: decides the order in which a flow tries them.
    @param chance: a number from 0 to 1, for the back-offs.
    @param trouble: told of members that go down.
    @param changed: called with a member that went down or came back.
    @param settle: see L{nanotun.interfaces.UpstreamContext}.
    """

    _log = Logger()

    def __init__(
        self,
        upstreams: Sequence[IUpstream],
        policy: Policy,
        clock: IReactorTime,
        chance: Callable[[], float],
        trouble: TroubleLog,
        changed: Callable[[Member], None],
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        delay = backOff(BACKOFF_FIRST, BACKOFF_LIMIT, chance)
        self.all = [Member(upstream, Breaker(delay)) for upstream in upstreams]
        self._policy = policy
        self._clock = clock
        self._changed = changed
        self._settle = settle
        self._trouble = trouble
        self._unused: list[Member] | None = None

    def order(self) -> list[Member]:
        """The order in which a connection tries them."""
        unused, self._unused = self._unused, None
        return unused or order(self.all, self._policy)

    def giveBack(self, unused: list[Member]) -> None:
        """
        Let the next connection have an order that was of no use: nobody has taken the turn that
        it stands for.
        """
        self._unused = unused

    def datagramOrder(self) -> list[Member]:
        """The order in which an association tries them."""
        return datagramOrder(self.all, self._policy)

    def succeeded(self, member: Member, check: bool = False) -> None:
        """
        A handshake with it was answered, whatever it said of the destination.

        @param check: whether that was a check's, not a flow's.
        """
        was = member.healthy
        member.answered(check)
        member.breaker.succeeded(self._clock.seconds())
        if member.healthy and not was:
            self._log.info("The proxy {proxy} is back.", proxy=member.name)
            self._moved(member)

    def failed(
        self, member: Member, reason: str, atOnce: bool = False, lasting: bool = False
    ) -> None:
        """
        It is at fault.

        @param reason: one sentence.
        @param atOnce: whether it counts as down without further faults.
        @param lasting: see L{Member}.
        """
        # What was answered before this fault, and is told only now, must not undo it.
        self._settle()
        was = member.healthy
        member.fault, member.lasting = reason, lasting
        member.breaker.failed(self._clock.seconds(), atOnce)
        if was and not member.healthy:
            self._trouble.report(self._downLine(member, reason))
            self._moved(member)

    def _moved(self, member: Member) -> None:
        self._unused = None
        self._changed(member)

    def _downLine(self, member: Member, reason: str) -> str:
        if len(self.all) == 1:
            return reason
        left = [each.name for each in self.all if each.healthy]
        if not left:
            what = "and so are all others; new connections still try them"
        else:
            what = f"new connections go by {', '.join(left)}"
        return f"The proxy {member.name} is down, {what}. {reason}"
