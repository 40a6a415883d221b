"""
Tests for groups behind a router: the engine dials the first member, and the group's tries go on
from there.
"""

from __future__ import annotations

import math

from nanotun.errors import ProxyError
from nanotun.flow import Endpoint, Refusal
from nanotun.interfaces import DialEnd, DialEndKind
from nanotun.testing import FakeUpstreams, PlannedFakeUpstream
from nanotun.upstream.group.breaker import FAULTS, BreakerState
from nanotun.upstream.group.group import GroupUpstream
from nanotun.upstream.group.tries import PATIENCE
from tests.unit.router.test_router import RouterCase

WEB = Endpoint("192.0.2.1", 80)
FAILED = DialEnd(DialEndKind.FAILED, seconds=0.1)


class DialledGroupTests(RouterCase):
    """Flows through a failover group whose members' plans stand."""

    def setUp(self) -> None:
        """Make the group; whatever changes in it ends what stands."""
        super().setUp()
        self.members = [PlannedFakeUpstream(name) for name in "ab"]
        for member in self.members:
            member.standing = True
        self.group = GroupUpstream(
            self.members,
            "failover",
            self.clock,
            10.0,
            30.0,
            self.trouble,
            changed=self.router.withdraw,
            settle=self.engine.tellStood,
        )
        self.addCleanup(self.trouble.stop)
        self.judge.standing = {WEB.host: math.inf}
        self.router.configure(self.judge, FakeUpstreams(self.group, self.direct), False, None)

    def ask(self) -> int:
        """An app asks for a connection.  Returns the flow's id."""
        return self.engine.request(WEB).flow.id

    def opened(self, flowID: int) -> None:
        """The engine's dial succeeds."""
        self.addCleanup(self.engine.openDial(flowID).close)

    def stand(self) -> None:
        """Let the decision stand."""
        for _ in range(2):
            self.opened(self.ask())
        self.assertEqual(self.current(), [WEB])

    def current(self) -> list[Endpoint]:
        """The destinations that the engine dials without asking."""
        return [each.destination for each in self.engine.standing.values() if each.current]

    def silent(self, flowID: int) -> None:
        """The engine's dial is silent for as long as the group has patience."""
        self.assertEqual(self.engine.dialled[flowID].course.patience, PATIENCE)
        self.clock.advance(PATIENCE)
        self.engine.goSilent(flowID)
        self.clock.advance(0)

    def faults(self) -> list[int]:
        """Of each member, since it last answered."""
        return [member.breaker.faults for member in self.group.members.all]

    def test_opened(self) -> None:
        """Flows that the engine joins are measurements, also those that it never asked about."""
        self.stand()
        member = self.group.members.all[0]
        self.assertAlmostEqual(member.latency or 0.0, 0.01)
        self.clock.advance(60.0)
        self.opened(self.ask())
        self.engine.tellStood()
        self.assertEqual(member.heardAt, 60.0)
        self.assertEqual(self.members[1].asked, [])

    def test_fault(self) -> None:
        """
        If the engine fails, the second member opens the leg, by a standing decision or not; after
        enough faults nothing stands, and the engine dials the second.
        """
        self.stand()
        for _ in range(FAULTS):
            flowID = self.ask()
            self.engine.endDial(flowID, FAILED)
            self.members[0].fail(ProxyError("It is off."))
            self.addCleanup(self.members[1].answer(b"b").close)
            self.assertEqual(self.engine.joined[flowID][1], b"b")
        self.assertEqual(self.current(), [])
        self.assertEqual(self.members[1].planned, [])
        self.opened(self.ask())
        self.assertEqual(self.members[1].planned, [WEB])

    def test_silent(self) -> None:
        """If the engine's dial is silent and the second member opens the leg, it is dropped."""
        self.stand()
        flowID = self.ask()
        self.silent(flowID)
        self.addCleanup(self.members[1].answer(b"b").close)
        self.assertEqual(self.engine.joined[flowID][1], b"b")
        self.assertEqual((self.engine.dialled, self.faults()), ({}, [1, 0]))

    def test_slow(self) -> None:
        """If the engine's dial is only slow, the flow is joined to that."""
        for first in (self.stand, lambda: None):
            first()
            flowID = self.ask()
            self.silent(flowID)
            cancelled = self.members[1].cancelled
            self.opened(flowID)
            self.assertIn(flowID, self.engine.joined)
            self.assertEqual(self.members[1].cancelled, cancelled + 1)
            self.assertEqual((self.router.pending, self.faults()[0]), (0, 0))

    def test_deadline(self) -> None:
        """If nobody answers, the app is refused at the deadline, and nothing is left."""
        flowID = self.ask()
        self.silent(flowID)
        self.clock.advance(10.0 - PATIENCE)
        self.assertEqual(self.engine.refused, {flowID: Refusal.RESET})
        self.assertEqual((self.engine.dialled, self.router.pending), ({}, 0))
        self.assertEqual(self.members[1].cancelled, 1)

    def test_settled(self) -> None:
        """
        A member that is down stays so, whatever the engine has counted and not told before that.
        """
        ports = [Endpoint(WEB.host, port) for port in (80, 443, 8080)]
        for _ in range(3):
            for each in ports:
                self.opened(self.engine.request(each).flow.id)
        self.assertEqual(self.current(), ports)
        before = self.router.report()["paths"]["standing"]
        for each in ports:
            self.opened(self.engine.request(each).flow.id)
        member = self.group.members.all[0]
        self.group.members.failed(member, "It is off.", atOnce=True)
        self.assertIs(member.breaker.state, BreakerState.OPEN)
        self.assertEqual((member.fault, self.current()), ("It is off.", []))
        self.assertEqual(self.router.report()["paths"]["standing"], before + 3)

    def test_abandoned(self) -> None:
        """If the app gives up during a silence, all dials are dropped."""
        flowID = self.ask()
        self.silent(flowID)
        self.engine.abandon(flowID)
        self.assertEqual((self.engine.dialled, self.router.pending), ({}, 0))
        self.assertEqual(self.members[1].cancelled, 1)

    def test_abandonedStanding(self) -> None:
        """The same of a flow that was dialled by a standing decision."""
        self.stand()
        self.test_abandoned()
