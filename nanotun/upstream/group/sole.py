"""
A single upstream as a group of one: nothing is chosen, but it is checked, so that the user
hears of a proxy that is down before the first flow does.
"""

from __future__ import annotations

from collections.abc import Callable
from random import random

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.flow import Endpoint
from nanotun.interfaces import (
    Connection,
    DatagramLeg,
    DialPlan,
    INamedDatagrams,
    IPlanned,
    IUpstream,
)
from nanotun.log.trouble import TroubleLog
from nanotun.upstream.group.dials import MemberDials, planOf
from nanotun.upstream.group.group import GroupUpstream, Own, associateNamed, common
from nanotun.upstream.group.outcomes import tellOutcome
from nanotun.upstream.group.tries import DOUBT_TIME


@implementer(IUpstream, INamedDatagrams, IPlanned)
class SoleUpstream(GroupUpstream):
    """
    One upstream whose health is known.  See L{GroupUpstream}; flows do without its tries.

    @param upstream: provides L{IHealthCheck} too.
    """

    # There is no choice to make, so it is left to the first datagram to find out.
    _probes = False

    def __init__(
        self,
        upstream: IUpstream,
        clock: IReactorTime,
        timeout: float,
        interval: float,
        trouble: TroubleLog,
        chance: Callable[[], float] = random,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            [upstream],
            "failover",
            clock,
            timeout,
            interval,
            trouble,
            chance=chance,
            settle=settle,
        )
        self._upstream = upstream

    @property
    def policyName(self) -> None:
        """See L{GroupUpstream.policyName}."""
        return None

    def connect(self, destination: Endpoint, own: Own = common) -> Deferred[Connection]:
        """See L{GroupUpstream.connect}."""
        began = self._clock.seconds()
        (member,) = self.members.all
        return self._follow(own(member).connect(destination), began, own)

    def plan(self, destination: Endpoint, own: Own = common) -> DialPlan | None:
        """See L{GroupUpstream.plan}; the member's plan, whether it is down or not."""
        (member,) = self.members.all
        plan = planOf(own(member), destination)
        if plan is None:
            return None

        def follow(dial: Deferred[Connection], seconds: float) -> Deferred[Connection]:
            return self._follow(dial, self._clock.seconds() - seconds, own)

        dials = MemberDials(plan.outcomes, member, self._outcomes(own), follow)
        standing = plan.standing and own is common
        return DialPlan(plan.course, plan.request, dials, plan.fd, plan.first, standing)

    def associate(self, family: int, own: Own = common) -> Deferred[DatagramLeg]:
        """See L{IUpstream.associate}."""
        (member,) = self.members.all
        return own(member).associate(family)

    def associateNamed(self, family: int, own: Own = common) -> Deferred[DatagramLeg]:
        """See L{INamedDatagrams.associateNamed}."""
        (member,) = self.members.all
        return associateNamed(own(member), family)

    def describe(self) -> str:
        """See L{IUpstream.describe}."""
        return self._upstream.describe()

    def _follow(self, dial: Deferred[Connection], began: float, own: Own) -> Deferred[Connection]:
        return dial.addCallbacks(
            self._opened, self._failed, callbackArgs=(began,), errbackArgs=(began, own)
        )

    def _opened(self, connection: Connection, began: float) -> Connection:
        (member,) = self.members.all
        self._streams.opened(member, self._clock.seconds() - began)
        return connection

    def _failed(self, reason: Failure, began: float, own: Own) -> Failure:
        (member,) = self.members.all
        if reason.check(CancelledError) is None:
            tellOutcome(self._outcomes(own), member, reason.value)
        elif self._clock.seconds() - began >= DOUBT_TIME:
            self._streams.doubtful(member)
        return reason
