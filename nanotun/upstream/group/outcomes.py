"""
What the outcome of a try says about the upstream that was tried.

An error of the destination is not the upstream's fault, and shows that the upstream
works.  Silence up to the deadline may be the fault of either, so the upstream is
checked; if meanwhile another upstream opened the leg, it is the silent one's fault.
An error of our own, before any upstream was tried, is not an outcome.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from zope.interface import Interface, implementer

from nanotun.errors import (
    AuthenticationError,
    DatagramsUnsupported,
    FamilyUnsupported,
    HandshakeError,
    NamesUnsupported,
    NameUnknown,
    ProxyError,
    UpstreamError,
    UpstreamTimeout,
)
from nanotun.upstream.group.member import Member
from nanotun.upstream.group.members import Members

#: The upstream cannot carry the flow.
UNSUPPORTED = (DatagramsUnsupported, FamilyUnsupported, NamesUnsupported)


class IOutcomes(Interface):
    """Takes the outcomes of L{nanotun.upstream.group.tries.Tries}."""

    def opened(member: Member, seconds: float) -> None:
        """It opened the leg, so long after it was asked."""

    def answered(member: Member) -> None:
        """It said what is wrong with the destination."""

    def faulted(member: Member, error: UpstreamError) -> None:
        """It is at fault, or missed its own deadline, or carries no datagrams."""

    def outrun(member: Member, seconds: float) -> None:
        """It was still silent, so long after it was asked, when another opened the leg."""

    def doubtful(member: Member) -> None:
        """It had been silent for long when the app gave up, or at the deadline."""


def tellOutcome(outcomes: IOutcomes, member: Member, error: object) -> bool:
    """
    Tell what an error says about the upstream.

    @return: whether the upstream is at fault or cannot carry the flow, so that another one
        may be asked.
    """
    if isinstance(error, (ProxyError, UpstreamTimeout, *UNSUPPORTED)):
        if not isinstance(error, (FamilyUnsupported, NamesUnsupported)):
            outcomes.faulted(member, error)
        return True
    if isinstance(error, UpstreamError) and type(error) not in (UpstreamError, NameUnknown):
        outcomes.answered(member)
    return False


@implementer(IOutcomes)
class StreamOutcomes:
    """
    The outcomes of connections.

    @param doubt: has a member checked.
    """

    def __init__(
        self, members: Members, clock: IReactorTime, doubt: Callable[[Member], None]
    ) -> None:
        self._members = members
        self._clock = clock
        self._doubt = doubt

    def opened(self, member: Member, seconds: float) -> None:
        """See L{IOutcomes.opened}."""
        member.measure(seconds)
        self.answered(member)

    def answered(self, member: Member) -> None:
        """See L{IOutcomes.answered}."""
        member.heardAt = self._clock.seconds()
        self._members.succeeded(member)

    def faulted(self, member: Member, error: UpstreamError) -> None:
        """See L{IOutcomes.faulted}."""
        if isinstance(error, UpstreamTimeout):
            self._doubt(member)
        else:
            lasting = isinstance(error, (AuthenticationError, HandshakeError))
            self._members.failed(member, str(error), lasting=lasting)

    def outrun(self, member: Member, seconds: float) -> None:
        """See L{IOutcomes.outrun}."""
        member.measure(seconds)
        self._members.failed(member, f"It was silent for {seconds:.1f} s where another answered.")

    def doubtful(self, member: Member) -> None:
        """See L{IOutcomes.doubtful}."""
        self._doubt(member)


@implementer(IOutcomes)
class ProgramOutcomes:
    """
    The outcomes of one program's connections.  A proxy that refuses its log-in does not refuse
    those of the others, and is not at fault.

    @param streams: takes all others.
    @param isOwn: whether a member is asked with a log-in of the program's own.
    """

    def __init__(self, streams: StreamOutcomes, isOwn: Callable[[Member], bool]) -> None:
        self.opened = streams.opened
        self.answered = streams.answered
        self.outrun = streams.outrun
        self.doubtful = streams.doubtful
        self._faulted = streams.faulted
        self._isOwn = isOwn

    def faulted(self, member: Member, error: UpstreamError) -> None:
        """See L{IOutcomes.faulted}."""
        if isinstance(error, AuthenticationError) and self._isOwn(member):
            self.answered(member)
        else:
            self._faulted(member, error)


@implementer(IOutcomes)
class DatagramOutcomes:
    """
    The outcomes of associations.  A proxy that cannot relay UDP may still carry
    connections, so the breaker is told of successes, and otherwise only of checks.

    @param doubt: has a member checked.
    """

    def __init__(self, members: Members, doubt: Callable[[Member], None]) -> None:
        self._members = members
        self._doubt = doubt

    def opened(self, member: Member, seconds: float) -> None:
        """See L{IOutcomes.opened}."""
        member.datagrams = True
        self._members.succeeded(member)

    def answered(self, member: Member) -> None:
        """See L{IOutcomes.answered}; no association has a destination."""

    def faulted(self, member: Member, error: UpstreamError) -> None:
        """See L{IOutcomes.faulted}."""
        if isinstance(error, DatagramsUnsupported):
            member.datagrams = False
        else:
            member.datagrams = None
            self._doubt(member)

    def outrun(self, member: Member, seconds: float) -> None:
        """See L{IOutcomes.outrun}."""
        self._doubt(member)

    def doubtful(self, member: Member) -> None:
        """See L{IOutcomes.doubtful}."""
        self._doubt(member)
