"""Tests of L{nanotun.policy.decisions}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Decision, Owner, Verdict
from nanotun.policy.decisions import decisionTo, leadsOut, nameOf


class DecisionToTests(SynchronousTestCase):
    """L{decisionTo}, L{leadsOut} and L{nameOf}."""

    def test_builtIn(self) -> None:
        """The built-in names are verdicts of their own, and proxy needs no name."""
        for to, verdict in (
            ("proxy", Verdict.PROXY),
            ("direct", Verdict.DIRECT),
            ("reject", Verdict.REJECT),
            ("drop", Verdict.DROP),
        ):
            self.assertEqual(decisionTo(to, "#1", "so"), Decision(verdict, "#1", "so"))

    def test_named(self) -> None:
        """Any other name is an upstream's, with what a script gave for its user name."""
        owner = Owner(1, 2, "curl")
        decision = decisionTo("tor", "script", "so", owner, (("session", "bank"),))
        self.assertEqual(
            (decision.verdict, decision.upstream, decision.owner, decision.values),
            (Verdict.PROXY, "tor", owner, (("session", "bank"),)),
        )

    def test_leadsOut(self) -> None:
        """Only what is proxied or direct leaves by an upstream."""
        out = [verdict for verdict in Verdict if leadsOut(Decision(verdict, "x"))]
        self.assertEqual(out, [Verdict.PROXY, Verdict.DIRECT])

    def test_nameOf(self) -> None:
        """The name is the one that the decision was made of; what is served has none."""
        for to in ("proxy", "direct", "reject", "drop", "tor"):
            self.assertEqual(nameOf(decisionTo(to, "#1", "so")), to)
        self.assertEqual(nameOf(Decision(Verdict.SERVE, "gateway")), "")
