"""
Tests for L{nanotun.gateway.fakeip.asking}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.dnsrules import DnsRule
from nanotun.config.domains import pattern
from nanotun.gateway.fakeip.asking import mayAsk
from nanotun.policy.dnsnames import NamePolicy
from tests.unit.policy.deciding import ruleTable


class MayAskTests(SynchronousTestCase):
    """Tests for L{mayAsk}."""

    def asked(self, policy: NamePolicy, *ways: str) -> str:
        """Which of some names the servers may be asked about that are asked by these ways."""
        test = mayAsk(policy, ways or ("proxy",))
        names = ("intranet", "a.example", "a.office", "a.lan", "a.ads", "a.both")
        return " ".join(filter(test, names))

    def test_ways(self) -> None:
        """Only names are asked for that flows take nowhere but to where the servers are asked,
        or past every proxy."""
        table = ruleTable(
            {"domains": "office", "to": "office"},
            {"domains": "lan", "to": "direct"},
            {"domains": "ads", "to": "reject"},
            {"domains": "both", "ports": "22", "to": "office"},
        )
        policy = NamePolicy(table=table)
        self.assertEqual(self.asked(policy), "a.example a.lan a.ads")
        self.assertEqual(self.asked(policy, "office"), "a.office a.lan a.ads")
        everything = "a.example a.office a.lan a.ads a.both"
        self.assertEqual(self.asked(policy, "office", "proxy"), everything)

    def test_script(self) -> None:
        """If a script decides, any upstream may get a name."""
        policy = NamePolicy(anyWay=("proxy", "office", "direct"))
        self.assertEqual(self.asked(policy), "")
        self.assertIn("a.example", self.asked(policy, "proxy", "office"))

    def test_fake(self) -> None:
        """Names that get an address whether they exist or not are not asked for."""
        policy = NamePolicy([DnsRule((pattern("office"), pattern("lan")), fake=True)])
        self.assertEqual(self.asked(policy), "a.example a.ads a.both")
