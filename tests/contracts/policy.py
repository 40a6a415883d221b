"""
What every judge must keep.
"""

from __future__ import annotations

from typing import Any

from zope.interface.verify import verifyObject

from nanotun.flow import Decision, Endpoint, Flow, Protocol, Verdict
from nanotun.interfaces import IJudge


class JudgeContract:
    """
    Mixin for a test case.

    @ivar judge: the one under test, which proxies what nothing else is said of.
    """

    judge: Any
    assertEqual: Any
    assertIsInstance: Any
    assertTrue: Any
    fail: Any

    def test_interface(self) -> None:
        """It provides its interface."""
        verifyObject(IJudge, self.judge)

    def test_decides(self) -> None:
        """Each flow gets a decision with a rule, the same each time."""
        for protocol in Protocol:
            for host in ("1.1.1.1", "2606:4700::1"):
                source = Endpoint("198.18.0.2", 40000)
                flow = Flow(7, protocol, source, Endpoint(host, 443))
                decision = self.judge.judge(flow)
                self.assertIsInstance(decision, Decision)
                self.assertEqual(decision.verdict, Verdict.PROXY)
                self.assertTrue(decision.rule and decision.reason)
                self.assertEqual(self.judge.judge(flow), decision)
                self.assertEqual(self.judge.judgeAgain(flow, decision)[:3], decision[:3])

    def test_notSniffed(self) -> None:
        """No flow's first bytes are read where no rule is about names."""
        for protocol in Protocol:
            flow = Flow(7, protocol, Endpoint("198.18.0.2", 40000), Endpoint("1.1.1.1", 443))
            decision = self.judge.judge(flow, lambda: self.fail("It was sniffed."))
            self.assertEqual(decision, self.judge.judge(flow))
