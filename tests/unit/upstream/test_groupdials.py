"""Tests for the dial plans of groups: what connections by L{GroupUpstream.connect} do not show."""

from __future__ import annotations

import socket
from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from nanotun.errors import DestinationSilent, ProxyError, UpstreamTimeout
from nanotun.interfaces import (
    Connection,
    DialEnd,
    DialEndKind,
    DialPlan,
    IDialOutcomes,
    IPlanned,
)
from nanotun.testing import FAKE_TIMEOUT, FakeUpstream, PlannedFakeUpstream
from nanotun.upstream.group.breaker import FAULTS, SUCCESSES, BreakerState
from nanotun.upstream.group.dials import COURSES_LIMIT
from nanotun.upstream.group.group import GroupUpstream
from nanotun.upstream.group.perprogram import PerProgram
from nanotun.upstream.group.policies import POLICIES
from nanotun.upstream.group.sole import SoleUpstream
from nanotun.upstream.group.tries import DOUBT_TIME, PATIENCE
from nanotun.upstream.make import groupOf
from tests.unit.upstream.dials_cases import FAILED, DialsCase
from tests.unit.upstream.group_cases import DESTINATION, INTERVAL, TIMEOUT, GroupCase, fault
from tests.unit.upstream.upstream_cases import unmarkedContext


def _given(own: list[PlannedFakeUpstream], *arguments: object) -> list[PlannedFakeUpstream]:
    """Makes a program's upstreams, which exist already."""
    return own


class GroupPlanTests(DialsCase):
    """Tests for L{GroupUpstream.plan}."""

    def test_interfaces(self) -> None:
        """Groups have plans, and theirs have outcomes."""
        verifyObject(IPlanned, self.group)
        verifyObject(IDialOutcomes, self.plan().outcomes)

    def test_first(self) -> None:
        """The plan is that of the first member for this destination; no other is asked for one."""
        plan = self.plan()
        self.assertEqual([each.planned for each in self.planned], [[DESTINATION], []])
        own = self.planned[0].plan(DESTINATION)
        assert own is not None
        self.assertEqual(plan.course._replace(patience=0.0), own.course)
        self.assertEqual((plan.request, plan.fd, plan.first), (own.request, own.fd, own.first))

    def test_waiting(self) -> None:
        """A connection that waited comes with the plan as it is."""
        given = self.plan()._replace(fd=77, first=2)
        self.patch(self.planned[0], "plan", lambda destination: given)
        self.assertEqual((self.plan().fd, self.plan().first), (77, 2))

    def test_patience(self) -> None:
        """
        The engine tells of a silence if there is a member to ask then; of a short time that is
        the half.
        """
        self.assertEqual(self.plan().course.patience, PATIENCE)
        self.group = self.makeGroup(2.0)
        self.assertEqual((self.plan().course.patience, self.plan().course.timeout), (1.0, 2.0))
        self.bringDown(1)
        self.assertEqual(self.plan().course.patience, 0.0)

    def test_deadline(self) -> None:
        """A group that has longer than a member does not give the member longer."""
        self.group = self.makeGroup(FAKE_TIMEOUT * 2)
        self.assertEqual(self.plan().course.timeout, FAKE_TIMEOUT)

    def test_courses(self) -> None:
        """
        As long as a member's course is the same, so is the group's, which the engine knows by
        then; of many, some are forgotten.
        """
        course = self.plan().course
        self.assertIs(self.plan().course, course)
        self.bringDown(1)
        alone = self.plan().course
        self.assertIs(self.plan().course, alone)
        own = self.planned[0].course
        for mark in range(1, COURSES_LIMIT + 1):
            self.planned[0].course = own._replace(mark=mark)
            self.assertEqual(self.plan().course.mark, mark)
        self.planned[0].course = own
        self.assertIsNot(self.plan().course, alone)
        self.assertEqual(self.plan().course, alone)

    def test_none(self) -> None:
        """If the first member has no plan, or knows nothing of plans, the group has none."""
        self.planned[0].plans = False
        self.assertIsNone(self.group.plan(DESTINATION))
        self.assertEqual(self.planned[1].planned, [])
        self.fakes = [FakeUpstream("a"), FakeUpstream("b")]
        self.assertIsNone(GroupCase.makeGroup(self).plan(DESTINATION))

    def test_log(self) -> None:
        """Where each flow has a line in the log, no plan stands, since such flows have none."""
        self.planned[0].standing = True
        self.assertTrue(self.plan().standing)
        self.group.logFlows = True
        self.assertFalse(self.plan().standing)


class GroupTurnTests(DialsCase):
    """Plans and connections take turns together."""

    policy = "round-robin"

    def test_turns(self) -> None:
        """
        A turn is taken by one flow, whether it goes by a plan or not, and whether it asked for
        one before or not.
        """
        self.planned[0].plans = False
        for _ in range(3):
            self.assertIsNone(self.group.plan(DESTINATION))
            self.through(0)
            self.assertIsNotNone(self.group.plan(DESTINATION))
        self.assertEqual([len(each.planned) for each in self.planned], [0, 3])
        self.assertEqual(self.asked(), [3, 0])

    def test_health(self) -> None:
        """A turn that was not taken is worth nothing once that member is down."""
        for each in self.planned:
            each.plans = False
        self.assertIsNone(self.group.plan(DESTINATION))
        self.bringDown(0)
        self.through(1)


class GroupStandingTests(DialsCase):
    """Which plans stand, and for how long."""

    def setUp(self) -> None:
        """The plans of the members stand."""
        super().setUp()
        for each in self.planned:
            each.standing = True

    def test_policies(self) -> None:
        """
        With failover a member's plan stands if it says so; where every flow takes a turn or
        measures, none does.
        """
        for self.policy in POLICIES:
            self.group = self.makeGroup()
            self.assertEqual(self.plan().standing, self.policy == "failover", self.policy)
        self.policy = "failover"
        self.group = self.makeGroup()
        self.planned[0].standing = False
        self.assertFalse(self.plan().standing)

    def test_down(self) -> None:
        """If all are down, the first is another after each back-off, so that nothing stands."""
        self.bringDown(0)
        self.assertTrue(self.plan().standing)
        self.bringDown(1)
        self.assertFalse(self.plan().standing)

    def test_changed(self) -> None:
        """It says when a member goes down and when it comes back, and of no other outcome."""
        members = self.group.members
        for _ in range(FAULTS - 1):
            members.failed(self.member(1), "It is off.")
        members.succeeded(self.member(1))
        self.assertEqual(self.changes, 0)
        self.bringDown(1)
        self.assertEqual(self.changes, 1)
        for _ in range(SUCCESSES):
            members.succeeded(self.member(1))
        self.assertEqual(self.changes, 2)

    def test_made(self) -> None:
        """Groups of a configuration tell their context."""
        context = unmarkedContext(self.clock, TIMEOUT)._replace(changed=self.changed)
        group = groupOf(self.fakes, "failover", context, INTERVAL, self.trouble)
        assert isinstance(group, GroupUpstream)
        group.members.failed(group.members.all[0], "It is off.", atOnce=True)
        self.assertEqual(self.changes, 1)

    def test_settles(self) -> None:
        """
        Before a fault counts, those of one member and of several have all told that came before.
        """
        groups: list[GroupUpstream] = []
        told: list[bool] = []
        context = unmarkedContext(self.clock, TIMEOUT)._replace(
            settle=lambda: told.append(groups[-1].members.all[0].healthy)
        )
        for fakes in (self.fakes, self.fakes[:1]):
            group = groupOf(fakes, "failover", context, INTERVAL, self.trouble)
            assert isinstance(group, GroupUpstream)
            groups.append(group)
            group.members.failed(group.members.all[0], "It is off.", atOnce=True)
        self.assertEqual(told, [True, True])

    def test_program(self) -> None:
        """A program's plan is that of its own upstream, and never stands."""
        sole = SoleUpstream(self.fakes[0], self.clock, TIMEOUT, INTERVAL, self.trouble)
        for group, names in ((self.group, "ab"), (sole, "a")):
            own = [PlannedFakeUpstream(name) for name in names]
            own[0].standing = True
            programs = PerProgram(group, partial(_given, own), lambda: None)
            upstream = programs.upstreamOf((("process", "curl"),))
            verifyObject(IPlanned, upstream)
            plan, common = upstream.plan(DESTINATION), group.plan(DESTINATION)
            assert plan is not None and common is not None
            self.assertEqual((plan.standing, common.standing), (False, True))
            self.assertEqual(own[0].planned, [DESTINATION])


class GroupOutcomesTests(DialsCase):
    """What the group learns of the dials of its plans."""

    def test_opened(self) -> None:
        """A dial that succeeded is a measurement, and its member hears of it as well."""
        self.clock.advance(5.0)
        self.plan().outcomes.opened(1, 0.25, 3)
        self.assertEqual((self.member(0).latency, self.member(0).heardAt), (0.25, 5.0))
        self.assertEqual(self.outcomes(0).successes, [(1, 0.25, 3)])

    def test_several(self) -> None:
        """Successes that are told together count once, in the average as for the breaker."""
        self.bringDown(1)
        self.bringDown(0)
        plan = self.plan()
        member = self.member(self.planned.index(self.downFirst()))
        member.measure(1.0)
        plan.outcomes.opened(100, 2.0, 0)
        self.assertEqual(member.breaker.state, BreakerState.HALF_OPEN)
        self.assertAlmostEqual(member.latency or 0.0, 1.2)
        plan.outcomes.opened(100, 2.0, 0)
        self.assertTrue(member.healthy)

    def downFirst(self) -> PlannedFakeUpstream:
        """The member that the latest plan is of."""
        (found,) = (each for each in self.planned if each.planned)
        return found

    def test_abandoned(self) -> None:
        """An app that gives up early says nothing; later, it leaves a doubt about the member."""
        self.group.startService()
        self.addCleanup(self.group.stopService)
        for fake in self.planned:
            fake.answerCheck()
        self.clock.advance(INTERVAL / 2)
        plan = self.plan()
        plan.outcomes.abandoned(DOUBT_TIME - 0.1)
        self.assertEqual(self.planned[0].checks, [])
        plan.outcomes.abandoned(DOUBT_TIME)
        self.assertEqual([len(each.checks) for each in self.planned], [1, 0])
        self.assertEqual(self.outcomes(0).abandonments, [DOUBT_TIME - 0.1, DOUBT_TIME])

    def test_resumed(self) -> None:
        """
        A dial that goes on in the member takes as long as engine and member together, and the
        next member is asked if that exceeds the patience.
        """
        leg = self.ended(self.plan(), 1.0, DialEndKind.GENERAL)
        self.clock.advance(0.5)
        self.answer(0)
        self.took(leg)
        self.assertEqual(self.member(0).latency, 1.5)
        leg = self.ended(self.plan(), 1.0, DialEndKind.GENERAL)
        self.clock.advance(PATIENCE - 1.1)
        self.assertEqual(self.asked(), [0, 0])
        self.clock.advance(0.1)
        self.assertEqual(self.asked(), [0, 1])
        self.answer(1)
        self.took(leg)
        self.assertEqual((self.member(0).breaker.faults, self.planned[0].cancelled), (1, 1))

    def test_fault(self) -> None:
        """
        After a fault the next member is asked for the time that is left since the engine began.
        """
        leg = self.ended(self.plan(), TIMEOUT - 1.0, DialEndKind.FAILED)
        self.fakes[0].fail(fault("a"))
        self.assertEqual((self.asked(), self.member(0).breaker.faults), ([0, 1], 1))
        self.clock.advance(0.9)
        self.assertNoResult(leg)
        self.clock.advance(0.1)
        text = str(self.failureResultOf(leg, DestinationSilent).value)
        self.assertIn("came within 10 s from a or b;", text)
        self.assertEqual(self.planned[1].cancelled, 1)

    def test_bothFail(self) -> None:
        """If the next is at fault as well, the first fault is the error."""
        leg = self.ended(self.plan(), 0.1, DialEndKind.FAILED)
        self.fakes[0].fail(fault("a"))
        self.fakes[1].fail(fault("b"))
        self.assertEqual(str(self.failureResultOf(leg, ProxyError).value), str(fault("a")))

    def test_expired(self) -> None:
        """After the deadline no other member is asked."""
        leg = self.ended(self.plan(), TIMEOUT, DialEndKind.EXPIRED)
        self.fakes[0].fail(UpstreamTimeout("x"))
        self.failureResultOf(leg, UpstreamTimeout)
        self.assertEqual(self.asked(), [0, 0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled(self) -> None:
        """Cancelling what became of a dial cancels whoever is asked."""
        leg = self.ended(self.plan(), 0.1, DialEndKind.FAILED)
        self.fakes[0].fail(fault("a"))
        leg.cancel()
        self.failureResultOf(leg, CancelledError)
        self.assertEqual(self.planned[1].cancelled, 1)


class GroupSilenceTests(DialsCase):
    """The engine's dial is silent, and another member is asked."""

    def setUp(self) -> None:
        """The patience is over."""
        super().setUp()
        self.dropped = 0
        self.given = self.plan()
        self.leg, self.end = self.silent(self.given)

    def silent(self, plan: DialPlan) -> tuple[Deferred[Connection], Deferred[DialEnd]]:
        """A dial of this plan is silent: the leg to take, and the end of the engine's dial."""

        def drop(engine: Deferred[DialEnd]) -> None:
            self.dropped += 1

        engine: Deferred[DialEnd] = Deferred(drop)
        leg = plan.outcomes.silent(engine, PATIENCE)
        self.clock.advance(0)
        return leg, engine

    def test_next(self) -> None:
        """The next one is asked; if it opens the leg, the engine's dial is dropped: a fault."""
        self.assertEqual(self.asked(), [0, 1])
        self.clock.advance(0.5)
        self.answer(1)
        self.took(self.leg)
        self.assertEqual((self.dropped, self.member(0).breaker.faults), (1, 1))
        self.assertEqual(self.member(0).latency, PATIENCE + 0.5)

    def test_engine(self) -> None:
        """
        If the engine's dial succeeds after all, the member makes the leg of it; the other's is
        cancelled.
        """
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        self.end.callback(DialEnd(DialEndKind.HANDED, fd=near.detach(), seconds=3.5))
        self.took(self.leg)
        self.assertEqual([end.kind for end in self.outcomes(0).ends], [DialEndKind.HANDED])
        self.assertEqual([each.cancelled for each in self.planned], [0, 1])
        self.assertEqual((self.dropped, self.member(0).breaker.faults), (0, 0))

    def test_engineFails(self) -> None:
        """If it fails, the other goes on alone, and no third is asked."""
        self.end.callback(FAILED)
        self.fakes[0].fail(fault("a"))
        self.assertNoResult(self.leg)
        self.answer(1)
        self.took(self.leg)
        self.assertEqual((self.asked(), self.member(0).breaker.faults), ([0, 1], 1))

    def test_deadline(self) -> None:
        """The deadline counts from the beginning of the engine's dial."""
        self.clock.advance(TIMEOUT - PATIENCE - 0.1)
        self.assertNoResult(self.leg)
        self.clock.advance(0.1)
        self.failureResultOf(self.leg, DestinationSilent)
        self.assertEqual((self.dropped, self.planned[1].cancelled), (1, 1))

    def test_cancelled(self) -> None:
        """If the app gives up, both dials are cancelled."""
        self.leg.cancel()
        self.failureResultOf(self.leg, CancelledError)
        self.assertEqual((self.dropped, self.planned[1].cancelled), (1, 1))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_apart(self) -> None:
        """
        Flows of one plan that stands are apart: while one is silent, another may fail, and a
        third be silent.
        """
        outcomes = self.given.outcomes
        failed = outcomes.resume(DialEnd(DialEndKind.FAILED, seconds=0.5))
        self.fakes[0].fail(fault("a"))
        second, engine = self.silent(self.given)
        self.assertEqual(self.asked(), [0, 3])
        for leg in (self.leg, failed):
            self.answer(1)
            self.took(leg)
        self.assertNoResult(second)
        engine.callback(FAILED)
        self.fakes[0].fail(fault("a"))
        self.answer(1)
        self.took(second)
        self.assertEqual((self.asked(), self.dropped), ([0, 3], 1))

    def test_downMeanwhile(self) -> None:
        """A member that went down since the plan was made is asked after a fault only."""
        self.leg.cancel()
        self.failureResultOf(self.leg, CancelledError)
        plan = self.plan()
        self.bringDown(1)
        leg, engine = self.silent(plan)
        self.assertEqual(self.asked(), [0, 1])
        engine.callback(FAILED)
        self.fakes[0].fail(fault("a"))
        self.assertEqual(self.asked(), [0, 2])
        self.answer(1)
        self.took(leg)


class FakeDialsTests(GroupCase):
    """Tests for the fake that these tests use."""

    def test_end(self) -> None:
        """A dial that ended without a connection is a leg to answer, which nobody asked for."""
        fake = PlannedFakeUpstream()
        plan = fake.plan(DESTINATION)
        assert plan is not None
        leg = plan.outcomes.resume(FAILED)
        self.assertNoResult(leg)
        fake.answer().close()
        self.took(leg)
        self.assertEqual((fake.asked, fake.outcomes[0].ends), ([], [FAILED]))
