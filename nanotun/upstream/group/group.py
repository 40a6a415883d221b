"""
Several upstreams as one.

Each flow goes by the first upstream in the policy's order that opens its leg;
see L{nanotun.upstream.group.tries}.  Flows that are open keep the sockets they have,
whatever becomes of the upstream that opened them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import DatagramsUnsupported
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, DatagramLeg, IUpstream
from nanotun.upstream.group.health import Watch
from nanotun.upstream.group.members import Member, Members
from nanotun.upstream.group.outcomes import DatagramOutcomes, Outcomes, StreamOutcomes
from nanotun.upstream.group.policies import POLICIES
from nanotun.upstream.group.tries import Tries

#: Upstreams that one connection may try.
TRIES = 2


@implementer(IUpstream)
class GroupUpstream(Service):
    """
    An upstream that is a choice of others.  As a service it looks after their
    health; without being started it learns from flows only.

    @ivar policyName: C{policy}.
    @param upstreams: in the configuration's order; each provides L{IHealthCheck} too.
    @param policy: one of L{POLICIES}.
    @param timeout: seconds for one connection, all tries together.
    @param interval: seconds between two checks of an upstream that is idle.
    @param logFlows: whether each flow gets a debug line that names its upstream.
    @param chance: a number from 0 to 1, less than 1.
    """

    _log = Logger()

    def __init__(
        self,
        upstreams: Sequence[IUpstream],
        policy: str,
        clock: IReactorTime,
        timeout: float,
        interval: float,
        logFlows: bool = False,
        chance: Callable[[], float] = random,
    ) -> None:
        self.sharesLegs = any(upstream.sharesLegs for upstream in upstreams)
        self.sendsNames = any(upstream.sendsNames for upstream in upstreams)
        self.carriesDatagrams = any(upstream.carriesDatagrams for upstream in upstreams)
        self.logFlows = logFlows
        self.policyName = policy
        self._clock = clock
        self._timeout = timeout
        self.members = Members(upstreams, POLICIES[policy](chance), clock, chance, self._changed)
        self._watches = {
            member: Watch(member, self.members, clock, interval, timeout, chance)
            for member in self.members.all
        }
        self._streams = StreamOutcomes(self.members, clock, self._doubt)
        self._datagrams = DatagramOutcomes(self.members, self._doubt)

    def connect(self, destination: Endpoint) -> Deferred[Connection]:
        """See L{IUpstream.connect}."""

        def ask(upstream: IUpstream) -> Deferred[Connection]:
            if self.logFlows:
                self._log.debug(
                    "A connection to {destination} goes by {upstream}",
                    destination=destination,
                    upstream=upstream.describe(),
                )
            return upstream.connect(destination)

        return self._try(self.members.order()[:TRIES], ask, self._streams)

    def associate(self, family: int) -> Deferred[DatagramLeg]:
        """See L{IUpstream.associate}."""

        def ask(upstream: IUpstream) -> Deferred[DatagramLeg]:
            if self.logFlows:
                self._log.debug("A leg for UDP goes by {upstream}", upstream=upstream.describe())
            return upstream.associate(family)

        leg = self._try(self.members.datagramOrder(), ask, self._datagrams)
        return leg.addErrback(self._noDatagrams)

    def describe(self) -> str:
        """See L{IUpstream.describe}."""
        names = ", ".join(member.name for member in self.members.all)
        return f"{self.policyName} of {names}"

    def startService(self) -> None:
        """Begin to look after the upstreams."""
        super().startService()
        for watch in self._watches.values():
            watch.start()

    def stopService(self) -> None:
        """Give up all checks."""
        super().stopService()
        for watch in self._watches.values():
            watch.stop()
        self.members.stop()

    def _doubt(self, member: Member) -> None:
        self._watches[member].doubt()

    def _try(
        self,
        candidates: Sequence[Member],
        ask: Callable[[IUpstream], Deferred[Any]],
        outcomes: Outcomes,
    ) -> Deferred[Any]:
        tries = Tries(candidates, ask, self._clock, self._timeout, outcomes)
        tries.begin()
        return tries.deferred

    def _changed(self, member: Member) -> None:
        self._watches[member].changed()

    def _noDatagrams(self, reason: Failure) -> Failure:
        if reason.check(DatagramsUnsupported):
            names = ", ".join(member.name for member in self.members.all)
            raise DatagramsUnsupported(
                f"None of the proxies {names} carries UDP, so that apps do without it."
            )
        return reason
