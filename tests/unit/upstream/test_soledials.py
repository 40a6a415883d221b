"""Tests for the dial plans of L{SoleUpstream}."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from zope.interface.verify import verifyObject

from nanotun.errors import ProxyError
from nanotun.interfaces import (
    DialEnd,
    DialEndKind,
    IPlanned,
)
from nanotun.log.trouble import TroubleLog
from nanotun.upstream.group.group import GroupUpstream
from nanotun.upstream.group.sole import SoleUpstream
from nanotun.upstream.group.tries import DOUBT_TIME, PATIENCE
from tests.unit.upstream.dials_cases import FAILED, DialsCase
from tests.unit.upstream.group_cases import DESTINATION, INTERVAL, TIMEOUT, fault


class SoleDialsTests(DialsCase):
    """Plans of L{SoleUpstream}."""

    count = 1

    def makeGroup(self, timeout: float = TIMEOUT) -> GroupUpstream:
        """The member, alone."""
        self.fakes = list(self.planned)
        self.trouble = TroubleLog(self.clock, Logger(namespace="test"))
        self.addCleanup(self.trouble.stop)
        return SoleUpstream(self.fakes[0], self.clock, timeout, INTERVAL, self.trouble)

    def test_plan(self) -> None:
        """The plan is the member's own, and stands if that does, even while the member is down."""
        verifyObject(IPlanned, self.group)
        for standing in (False, True):
            self.planned[0].standing = standing
            own = self.planned[0].plan(DESTINATION)
            assert own is not None
            plan = self.plan()
            self.assertEqual(plan, own._replace(outcomes=plan.outcomes))
            self.bringDown(0)

    def test_none(self) -> None:
        """A member without a plan leaves none."""
        self.planned[0].plans = False
        self.assertIsNone(self.group.plan(DESTINATION))

    def test_outcomes(self) -> None:
        """Successes and faults are about the member, with the seconds since the dial began."""
        plan = self.plan()
        plan.outcomes.opened(7, 0.25, 0)
        self.assertEqual(
            (self.member(0).latency, self.outcomes(0).successes), (0.25, [(7, 0.25, 0)])
        )
        self.clock.advance(20.0)
        leg = self.ended(plan, 0.25, DialEndKind.GENERAL)
        self.answer(0)
        self.took(leg)
        self.assertEqual(self.member(0).latency, 0.25)
        leg = self.ended(plan, 0.1, DialEndKind.FAILED)
        self.fakes[0].fail(fault())
        self.failureResultOf(leg, ProxyError)
        self.assertEqual(self.member(0).breaker.faults, 1)

    def test_doubt(self) -> None:
        """A flow that is given up long after its dial began causes a check, at any stage."""
        self.group.startService()
        self.addCleanup(self.group.stopService)
        for _ in range(3):
            self.planned[0].answerCheck()
            self.clock.advance(INTERVAL / 2)
            plan = self.plan()
            plan.outcomes.abandoned(DOUBT_TIME)
            self.assertEqual(len(self.planned[0].checks), 1)
            self.planned[0].answerCheck()
            self.clock.advance(INTERVAL / 2)
            leg = self.ended(plan, DOUBT_TIME, DialEndKind.GENERAL)
            leg.cancel()
            self.failureResultOf(leg, CancelledError)
            self.assertEqual(len(self.planned[0].checks), 1)

    def test_silent(self) -> None:
        """A silence changes nothing: there is nobody else."""
        engine: Deferred[DialEnd] = Deferred()
        leg = self.plan().outcomes.silent(engine, PATIENCE)
        self.assertNoResult(leg)
        engine.callback(FAILED)
        self.fakes[0].fail(fault())
        self.failureResultOf(leg, ProxyError)
        self.assertEqual(self.member(0).breaker.faults, 1)
