"""What the tests of the dial plans of groups share: members with plans, and no engine."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nanotun.interfaces import (
    Connection,
    DialEnd,
    DialEndKind,
    DialPlan,
)
from nanotun.log.trouble import TroubleLog
from nanotun.testing import FakeDials, PlannedFakeUpstream
from nanotun.upstream.group.group import GroupUpstream
from tests.unit.upstream.group_cases import DESTINATION, INTERVAL, TIMEOUT, GroupCase

FAILED = DialEnd(DialEndKind.FAILED)


class DialsCase(GroupCase):
    """
    A group whose members have plans, and no engine but the test.

    @ivar changes: how often the group said that no plan stands any more.
    """

    def setUp(self) -> None:
        """Make the members and the group."""
        self.changes = 0
        self.planned = [PlannedFakeUpstream(name) for name in "abc"[: self.count]]
        super().setUp()

    def makeGroup(self, timeout: float = TIMEOUT) -> GroupUpstream:
        """A group of the members that have plans."""
        self.fakes = list(self.planned)
        self.trouble = TroubleLog(self.clock, Logger(namespace="test"))
        self.addCleanup(self.trouble.stop)
        return GroupUpstream(
            self.fakes,
            self.policy,
            self.clock,
            timeout,
            INTERVAL,
            self.trouble,
            chance=lambda: 0.5,
            changed=self.changed,
        )

    def changed(self) -> None:
        """See L{nanotun.interfaces.UpstreamContext}."""
        self.changes += 1

    def plan(self) -> DialPlan:
        """The group's plan."""
        plan = self.group.plan(DESTINATION)
        assert plan is not None
        return plan

    def outcomes(self, index: int) -> FakeDials:
        """What the member's latest plan was told."""
        return self.planned[index].outcomes[-1]

    def ended(self, plan: DialPlan, seconds: float, kind: DialEndKind) -> Deferred[Connection]:
        """The engine could not carry out the plan, so long after it began."""
        return plan.outcomes.resume(DialEnd(kind, seconds=seconds))
