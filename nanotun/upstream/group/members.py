"""
The upstreams of a group: what is known of each, from the outcomes of flows and
checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nanotun.interfaces import IUpstream
from nanotun.log.trouble import TroubleLog
from nanotun.upstream.group.breaker import Breaker, State
from nanotun.upstream.group.policies import Policy, datagramOrder, order

#: What a new sample weighs in the average of an upstream's handshake times.
SAMPLE_WEIGHT = 0.2


class Member:
    """
    One upstream; see L{nanotun.upstream.group.policies.Candidate}.

    @ivar name: its URL without the password.
    @ivar heardAt: when a flow's handshake went through last.
    """

    __slots__ = ("breaker", "datagrams", "heardAt", "latency", "name", "upstream")

    def __init__(self, upstream: IUpstream, chance: Callable[[], float]) -> None:
        self.upstream = upstream
        self.name: str = upstream.describe()
        self.breaker = Breaker(chance)
        self.latency: float | None = None
        self.datagrams: bool | None = None
        self.heardAt: float | None = None

    @property
    def healthy(self) -> bool:
        """Whether flows should go by it."""
        return self.breaker.state is State.CLOSED

    @property
    def retryAt(self) -> float:
        """When it is to be checked again, if it is down."""
        return self.breaker.retryAt

    def measure(self, seconds: float) -> None:
        """A handshake took so long, from the connect to the reply."""
        if self.latency is None:
            self.latency = seconds
        else:
            self.latency += SAMPLE_WEIGHT * (seconds - self.latency)


class Members:
    """
    All of them.

    @ivar all: in the configuration's order.
    @param policy: for the order of flows.
    @param changed: called with a member that went down or came back.
    """

    _log = Logger()

    def __init__(
        self,
        upstreams: Sequence[IUpstream],
        policy: Policy[Member],
        clock: IReactorTime,
        chance: Callable[[], float],
        changed: Callable[[Member], None],
    ) -> None:
        self.all = [Member(upstream, chance) for upstream in upstreams]
        self._policy = policy
        self._clock = clock
        self._changed = changed
        self._trouble = TroubleLog(clock, self._log)

    def order(self) -> list[Member]:
        """In which order a connection tries them."""
        return order(self.all, self._policy)

    def datagramOrder(self) -> list[Member]:
        """In which order datagrams do."""
        return datagramOrder(self.all, self._policy)

    def succeeded(self, member: Member) -> None:
        """A handshake with it went through, whatever it said of a destination."""
        was = member.healthy
        member.breaker.succeeded(self._clock.seconds())
        if member.healthy and not was:
            self._log.info("The proxy {proxy} is back.", proxy=member.name)
            self._changed(member)

    def failed(self, member: Member, reason: str) -> None:
        """
        It is at fault.

        @param reason: one sentence.
        """
        was = member.healthy
        member.breaker.failed(self._clock.seconds())
        if was and not member.healthy:
            self._trouble.report(self._downLine(member, reason))
            self._changed(member)

    def stop(self) -> None:
        """Tell what is left to tell."""
        self._trouble.stop()

    def _downLine(self, member: Member, reason: str) -> str:
        left = [each.name for each in self.all if each.healthy]
        if not left:
            what = "and so are all others; new connections still try them"
        else:
            what = f"new connections go by {', '.join(left)}"
        return f"The proxy {member.name} is down, {what}. {reason}"
