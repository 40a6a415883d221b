"""
What the outcomes of flows say of the upstreams they were asked of.

A destination's error is none of the upstream's, and shows that it works.  That
nothing came before the deadline may be either's fault, so the upstream is checked;
when another's leg stood meanwhile, it is the fault of the one that did not answer.
Of an error of our own, before anybody was asked, nothing is told here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from nanotun.errors import DatagramsUnsupported, UpstreamError, UpstreamTimeout
from nanotun.upstream.group.members import Member, Members


class Outcomes(Protocol):
    """What L{nanotun.upstream.group.tries.Tries} tells."""

    def stood(self, member: Member, seconds: float) -> None:
        """Its leg stands, so long after it was asked for."""

    def answered(self, member: Member) -> None:
        """It said what is wrong with the destination."""

    def faulted(self, member: Member, error: UpstreamError) -> None:
        """
        It is at fault, or did not answer before its own deadline, or carries no
        datagrams.
        """

    def outrun(self, member: Member, seconds: float) -> None:
        """Asked so long ago, it was silent when another's leg stood."""

    def doubtful(self, member: Member) -> None:
        """It was silent for long when the app gave up, or to the deadline."""


class StreamOutcomes:
    """
    Of connections.

    @param doubt: has a member checked.
    """

    def __init__(
        self, members: Members, clock: IReactorTime, doubt: Callable[[Member], None]
    ) -> None:
        self._members = members
        self._clock = clock
        self.doubtful = doubt

    def stood(self, member: Member, seconds: float) -> None:
        """See L{Outcomes.stood}."""
        member.measure(seconds)
        self.answered(member)

    def answered(self, member: Member) -> None:
        """See L{Outcomes.answered}."""
        member.heardAt = self._clock.seconds()
        self._members.succeeded(member)

    def faulted(self, member: Member, error: UpstreamError) -> None:
        """See L{Outcomes.faulted}."""
        if isinstance(error, UpstreamTimeout):
            self.doubtful(member)
        else:
            self._members.failed(member, str(error))

    def outrun(self, member: Member, seconds: float) -> None:
        """See L{Outcomes.outrun}."""
        member.measure(seconds)
        self._members.failed(member, f"It was silent for {seconds:.1f} s where another answered.")


class DatagramOutcomes:
    """
    Of associations.  A relay that cannot be had is no reason to keep connections
    away, so the breaker hears of successes and of checks only.

    @param doubt: has a member checked.
    """

    def __init__(self, members: Members, doubt: Callable[[Member], None]) -> None:
        self._members = members
        self.doubtful = doubt

    def stood(self, member: Member, seconds: float) -> None:
        """See L{Outcomes.stood}."""
        member.datagrams = True
        self._members.succeeded(member)

    def answered(self, member: Member) -> None:
        """See L{Outcomes.answered}; no association has a destination."""

    def faulted(self, member: Member, error: UpstreamError) -> None:
        """See L{Outcomes.faulted}."""
        if isinstance(error, DatagramsUnsupported):
            member.datagrams = False
        else:
            member.datagrams = None
            self.doubtful(member)

    def outrun(self, member: Member, seconds: float) -> None:
        """See L{Outcomes.outrun}."""
        self.doubtful(member)
