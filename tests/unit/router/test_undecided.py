"""
Tests for flows whose decision takes a while: L{nanotun.router.undecided}.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from nanotun.flow import Decision, Endpoint, Flow, Refusal, Verdict
from nanotun.interfaces import Sniff
from tests.unit.router.test_router import RouterCase

PLACE = Endpoint("192.0.2.7", 443)


class UndecidedTests(RouterCase):
    """A router whose judge takes its time."""

    def setUp(self) -> None:
        """Let the judge wait for the test."""
        super().setUp()
        self.decisions: list[Deferred[Decision]] = []
        self.cancelled = 0
        self.patch(self.judge, "judge", self.later)

    def later(self, flow: Flow, sniff: Sniff | None) -> Deferred[Decision]:
        """Decide when the test says so."""

        def cancel(decision: object) -> None:
            self.cancelled += 1

        self.decisions.append(Deferred(cancel))
        return self.decisions[-1]

    def decide(self, verdict: Verdict) -> None:
        """Decide about the oldest flow."""
        self.decisions.pop(0).callback(Decision(verdict, "rule", "reason"))

    def test_decided(self) -> None:
        """Nothing happens before the decision, and then what it says."""
        self.engine.request(PLACE)
        self.engine.requestDatagrams(PLACE)
        self.assertEqual((self.upstream.asked, self.direct.asked), ([], []))
        self.decide(Verdict.DIRECT)
        self.assertEqual((self.upstream.asked, self.direct.asked), ([], [PLACE]))
        self.decide(Verdict.DROP)
        self.assertEqual(len(self.engine.dropped), 1)
        self.assertEqual(self.router.report()["verdicts"], {"direct": 1, "drop": 1})

    def test_sniffs(self) -> None:
        """A flow's first bytes can be read for its decision, those of datagrams too."""
        asked: list[str] = []

        def judge(flow: Flow, sniff: Sniff) -> Deferred[Decision]:
            def decide(name: str) -> Decision:
                asked.append(name)
                return Decision(Verdict.REJECT, "rule", "reason")

            return sniff().addCallback(decide)

        self.patch(self.judge, "judge", judge)
        for flow, name in (
            (self.engine.request(PLACE).flow, "a.example"),
            (self.engine.requestDatagrams(PLACE).flow, "b.example"),
        ):
            self.engine.say(flow.id, name)
            self.assertEqual(self.engine.refused[flow.id], Refusal.PROHIBITED)
        self.assertEqual(asked, ["a.example", "b.example"])

    def test_abandoned(self) -> None:
        """When the app gives up, the decision is cancelled."""
        flow = self.engine.request(PLACE).flow
        self.engine.abandon(flow.id)
        self.assertEqual(self.cancelled, 1)
        self.assertEqual(self.engine.refused, {})

    def test_stopped(self) -> None:
        """At the stop TCP flows are reset, and datagrams dropped."""
        stream = self.engine.request(PLACE).flow.id
        datagrams = self.engine.requestDatagrams(PLACE).flow.id
        self.router.stop()
        self.assertEqual(self.cancelled, 2)
        self.assertEqual(self.engine.refused, {stream: Refusal.RESET})
        self.assertEqual(self.engine.dropped, [datagrams])

    def test_fails(self) -> None:
        """An internal error ends the flow, and is logged."""
        flow = self.engine.request(PLACE).flow
        self.decisions.pop().errback(ZeroDivisionError())
        self.assertEqual(self.engine.refused, {flow.id: Refusal.RESET})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
