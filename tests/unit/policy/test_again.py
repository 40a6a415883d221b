"""
Tests for L{nanotun.policy.judge}: flows that are open already.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from nanotun.flow import Decision, Known, Owner, Verdict
from nanotun.testing import FakeScript
from tests.unit.policy.deciding import flow
from tests.unit.policy.test_unknown import BLOCKED, BY_NAME, BY_PROCESS, CURL, UnknownCase

BEFORE = Decision(Verdict.PROXY, "default")


class AgainTests(UnknownCase):
    """Flows that are open already."""

    def test_again(self) -> None:
        """Neither the script nor the first bytes are asked again, but the owner is."""
        judge = self.makeJudge(BY_NAME, BY_PROCESS, BLOCKED, script=FakeScript("reject"))
        self.names["1.1.1.1"] = Known(("ads.example",))
        for name, rule, asked in (
            ("corp.example", "#1", []),
            ("ads.example", "#3", ["owner"]),
            ("", "default", ["owner"]),
        ):
            self.asked.clear()
            decision = judge.judgeAgain(flow("tcp 1.1.1.1:443"), BEFORE._replace(name=name))
            assert isinstance(decision, Decision)
            self.assertEqual((decision.rule, decision.name, self.asked), (rule, name, asked))

    def test_fake(self) -> None:
        """A fake address has its name, though nobody needed it when the flow began."""
        judge = self.makeJudge(BLOCKED, dnsMode="fake-ip")
        self.names["198.19.0.9"] = Known(("ads.example",))
        decision = judge.judgeAgain(flow("tcp 198.19.0.9:443"), BEFORE)
        assert isinstance(decision, Decision)
        self.assertEqual((decision.rule, decision.name), ("#1", "ads.example"))

    def test_ownerAgain(self) -> None:
        """
        It is in doubt only if the owner, who was known, is not found any more and matters now.
        """
        before = BEFORE._replace(owner=CURL)
        asked = flow("tcp 1.1.1.1:443")
        byPort = {"to": "reject", "ports": "443"}
        for rules, known, expected in (
            ((byPort,), before, "#1"),
            ((byPort, BY_PROCESS), before, "#1"),
            ((BY_PROCESS, byPort), before, ""),
            ((BY_PROCESS, byPort), BEFORE, "#2"),
        ):
            decision = self.makeJudge(*rules).judgeAgain(asked, known)
            assert not isinstance(decision, Deferred)
            self.assertEqual("" if decision is None else decision.rule, expected)
        late: Deferred[Owner | None] = Deferred()
        judge = self.makeJudge(BY_PROCESS)
        self.patch(self.owners, "ownerOf", lambda asked: late)
        waiting = judge.judgeAgain(asked, before)
        assert isinstance(waiting, Deferred)
        late.callback(None)
        self.assertIsNone(self.successResultOf(waiting))

    def test_quiet(self) -> None:
        """It is not for the log, and takes no sentence from a flow that is."""
        judge = self.makeJudge()
        again = judge.judgeAgain(flow("tcp 1.1.1.1:445"), BEFORE)
        assert isinstance(again, Decision)
        self.assertEqual((again.rule, again.trouble), ("lan-only-port", ""))
        self.assertNotEqual(self.decide(judge, "tcp 1.1.1.1:445").trouble, "")
        late: Deferred[Owner | None] = Deferred()
        judge = self.makeJudge(excludedProcesses="curl")
        self.patch(self.owners, "ownerOf", lambda asked: late)
        waiting = judge.judgeAgain(flow("tcp 1.1.1.1:445"), BEFORE)
        assert isinstance(waiting, Deferred)
        late.callback(None)
        decision = self.successResultOf(waiting)
        assert decision is not None
        self.assertEqual((decision.verdict, decision.trouble), (Verdict.REJECT, ""))
