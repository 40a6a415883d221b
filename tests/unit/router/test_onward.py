"""
Tests for L{nanotun.router.onward}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import UpstreamProhibited
from nanotun.flow import Decision, Endpoint, Flow, Protocol, Verdict
from nanotun.interfaces import Connection
from nanotun.router.onward import openOnward
from nanotun.testing import FakeJudge, FakeUpstream, FakeUpstreams

FLOW = Flow(1, Protocol.TCP, Endpoint("10.0.0.2", 40000), Endpoint("192.168.50.1", 53))


class OnwardTests(SynchronousTestCase):
    """Tests for L{openOnward}."""

    def setUp(self) -> None:
        """A judge and two upstreams."""
        self.judge = FakeJudge()
        self.upstream, self.direct = FakeUpstream(), FakeUpstream()
        self.upstreams = FakeUpstreams(self.upstream, self.direct)

    def open(self, decision: Any) -> Deferred[Connection]:
        """Open the flow's connection."""
        self.judge.decisions[FLOW.destination.host] = decision
        return openOnward(self.judge, self.upstreams, FLOW)

    def connects(self) -> list[int]:
        """How often each upstream was asked for a connection to the flow's destination."""
        return [each.asked.count(FLOW.destination) for each in (self.upstream, self.direct)]

    def test_verdicts(self) -> None:
        """PROXY and DIRECT lead to their upstreams, at once or later; all else fails."""
        self.open(Decision(Verdict.PROXY, "default", "no other rule applies"))
        self.assertEqual(self.connects(), [1, 0])
        later: Deferred[Decision] = Deferred()
        self.open(later)
        self.assertEqual(self.connects(), [1, 0])
        later.callback(Decision(Verdict.DIRECT, "reserved", "it is private"))
        self.assertEqual(self.connects(), [1, 1])
        self.upstreams.byName["office"] = office = FakeUpstream()
        self.open(Decision(Verdict.PROXY, "#1", "it is for the office", upstream="office"))
        self.assertEqual(office.asked, [FLOW.destination])
        for verdict in (Verdict.REJECT, Verdict.DROP, Verdict.SERVE):
            refused = self.open(Decision(verdict, "loop", "it came back"))
            error = self.failureResultOf(refused, UpstreamProhibited)
            self.assertIn("since it came back", str(error.value))
        self.assertEqual(self.connects(), [1, 1])
