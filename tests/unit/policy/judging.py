"""A judge whose surroundings a test makes up."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.file import Given
from nanotun.config.settings import Settings, makeSettings
from nanotun.flow import Decision, Endpoint, Flow, Protocol
from nanotun.policy.judge import Judge
from nanotun.policy.rules import OUTCOMES, RULES
from nanotun.testing import FakeOwners

ME, NEIGHBOUR = "198.18.0.2", "10.7.7.7"
PROXY = "socks5://proxy.example:1080"


def settings(**values: object) -> Settings:
    """Settings as from a file."""
    given = {"proxy": PROXY, **values}
    return makeSettings({key: Given(value, key) for key, value in given.items()}, {}, "file")


class JudgeCase(SynchronousTestCase):
    """A judge whose surroundings the test makes up."""

    def setUp(self) -> None:
        """Make what the tests use."""
        self.owners = FakeOwners()
        self.inside: set[str] = set()
        self.asked: list[str] = []
        self.judge = self.makeJudge()

    def makeJudge(self, **values: object) -> Judge:
        """A judge for some settings."""

        def leadsIn(host: str) -> bool:
            self.asked.append(host)
            return host in self.inside

        return Judge(
            settings(**values), self.owners, lambda host: host == ME, leadsIn, ownPid=lambda: 42
        )

    def decide(self, judge: Judge, destination: str, source: str = ME, port: int = 1) -> Decision:
        """The decision about C{"tcp 192.0.2.1:443"}."""
        protocol, _, place = destination.partition(" ")
        host, _, number = place.rpartition(":")
        ends = Endpoint(source, port), Endpoint(host, int(number))
        decision = judge.judge(Flow(1, Protocol[protocol.upper()], *ends))
        if isinstance(decision, Deferred):
            return self.successResultOf(decision)
        return decision

    def assertRule(self, decision: Decision, expected: str) -> None:
        """A decision is C{"VERDICT rule"}."""
        self.assertEqual(f"{decision.verdict.name} {decision.rule}", expected, decision.reason)
        self.assertIn(decision.rule, {**RULES, **OUTCOMES})
        if decision.rule in ("no-way", "loop"):
            self.assertRegex(decision.trouble, r"nano0.*autoDefaultRoute.*\.$")
        elif expected == "REJECT lan-only-port":
            self.assertRegex(decision.trouble, r"^(Flows to .*lanOnlyPorts: \[\].*\.)?$")
        else:
            self.assertEqual(decision.trouble, "")
