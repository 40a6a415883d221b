"""Tests of L{nanotun.policy.dnsnames}."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.dnsrules import DnsAnswer, DnsRule
from nanotun.config.domains import pattern
from nanotun.interfaces import DnsServer
from nanotun.policy.dnsnames import NOTHING, NamePolicy, NameVerdict
from nanotun.policy.lists import Lists
from nanotun.policy.namelist import NameEntries, NameList
from tests.unit.policy.deciding import ruleTable

OFFICE = (DnsServer("udp", "10.0.0.53", 53),)
REFUSED = DnsAnswer(refused=True)
NOWHERE = DnsAnswer(addresses=("0.0.0.0", "::"))


def entry(domains: str | Sequence[str], **more: Any) -> DnsRule:
    """An entry of C{dnsRules}."""
    texts = [domains] if isinstance(domains, str) else domains
    return DnsRule(tuple(map(pattern, texts)), **more)


def listOf(path: str, *names: bytes) -> NameList:
    """A list of names."""
    entries = NameEntries()
    entries.table.update(list(names))
    return NameList(path, entries, NameEntries())


def listing(*names: bytes) -> Lists:
    """What a configuration has whose only list is C{/ads}."""
    return Lists(names={"/ads": listOf("/ads", *names)})


class RuleTests(SynchronousTestCase):
    """L{NamePolicy} with C{dnsRules} only."""

    def test_first(self) -> None:
        """The first entry that has a name counts, whatever those after it say."""
        policy = NamePolicy(
            (
                entry("ads.corp.example", answer=REFUSED, where="FILE, line 2"),
                entry("corp.example", servers=OFFICE, where="FILE, line 3"),
                entry(["file:/ads", "*.corp.example"], answer=NOWHERE),
                entry("*", fake=True, where="--dns-rule"),
            ),
            listing(b"ads.example"),
        )
        corp = NameVerdict(servers=OFFICE, rule="dnsRules 2 (FILE, line 3)")
        blocked = NameVerdict(answer=NOWHERE, rule="dnsRules 3")
        other = NameVerdict(fake=True, rule="dnsRules 4 (--dns-rule)")
        for name, expected in (
            ("x.ads.corp.example", NameVerdict(REFUSED, rule="dnsRules 1 (FILE, line 2)")),
            ("corp.example", corp),
            ("www.corp.example", corp),
            ("ads.example", blocked),
            ("x.ads.example", blocked),
            ("corp.example.org", other),
            ("printer", other),
        ):
            self.assertEqual(policy.of(name), expected, name)
            self.assertEqual(policy.serversFor(name), expected.servers, name)

    def test_nothing(self) -> None:
        """A policy that says nothing is false, and one that says anything is true."""
        for policy in (
            NamePolicy(),
            NamePolicy(rejected=REFUSED),
            NamePolicy(table=ruleTable({"to": "reject", "domains": "a"})),
        ):
            self.assertFalse(policy)
            self.assertIs(policy.of("a"), NOTHING)
            self.assertEqual((policy.serversFor("a"), policy.hasServers), ((), False))
        answering = NamePolicy((entry("a", answer=REFUSED),))
        self.assertTrue(answering)
        self.assertIs(answering.of("b"), NOTHING)
        self.assertFalse(answering.hasServers)
        self.assertTrue(NamePolicy((entry("a", servers=OFFICE),)).hasServers)
        table = ruleTable({"to": "reject", "domains": "a"})
        self.assertTrue(NamePolicy(table=table, rejected=REFUSED))

    def test_sameServers(self) -> None:
        """
        Names are known to have the servers that they had if the entries say the same about the
        same lists, wherever they are written.
        """
        lists = listing(b"a.example")
        rules = (entry("file:/ads", servers=OFFICE, where="FILE, line 2"), entry("b", fake=True))
        before = NamePolicy(rules, lists)
        moved = tuple(each._replace(where="FILE, line 9") for each in rules)
        self.assertTrue(NamePolicy(moved, lists, rejected=REFUSED).sameServers(before))
        self.assertFalse(NamePolicy(rules, listing(b"a.example")).sameServers(before))
        self.assertFalse(NamePolicy(rules[:1], lists).sameServers(before))
        self.assertFalse(NamePolicy(rules[::-1], lists).sameServers(before))
        # A list that none of them names is somebody else's.
        others = Lists(names={**lists.names, "/rules": listOf("/rules", b"x")})
        self.assertTrue(NamePolicy(rules, others).sameServers(before))


class RejectedTests(SynchronousTestCase):
    """L{NamePolicy} with rules about flows."""

    def policy(self, *rules: dict[str, Any], **more: Any) -> NamePolicy:
        """One whose rejected names are refused."""
        return NamePolicy(table=ruleTable(*rules), rejected=REFUSED, **more)

    def test_everybody(self) -> None:
        """
        A name whose flows a rule rejects or drops for everybody is refused, and one of which it
        does so for some, or at times, or on some ports, is not.
        """
        refused = {"domains": "ads.example"}
        for to in ("reject", "drop"):
            policy = self.policy({"to": "direct", "domains": "b"}, {"to": to, **refused})
            self.assertEqual(
                policy.of("x.ads.example"),
                NameVerdict(REFUSED, rule="rule 2 (FILE, line 2)", rejected=True),
            )
            self.assertIs(policy.of("example"), NOTHING)
            for more in (
                {"processes": "curl"},
                {"ports": "443"},
                {"sources": "192.168.0.0/16"},
                {"times": "Mo-Su"},
                {"not": {"ports": "80"}},
            ):
                self.assertIs(self.policy({"to": to, **refused, **more}).of("ads.example"), NOTHING)
        for to in ("direct", "proxy", "office"):
            self.assertIs(self.policy({"to": to, **refused}).of("ads.example"), NOTHING)

    def test_earlier(self) -> None:
        """A rule that may let some flows through before keeps a name from being refused."""
        refused = {"to": "reject", "domains": "ads.example"}
        for first in (
            {"domains": "www.ads.example"},
            {"processes": "curl"},
            {"networks": "192.0.2.0/24"},
            {"countries": "DE"},
            {"ports": "443"},
        ):
            policy = self.policy({"to": "direct", **first}, refused)
            self.assertIs(policy.of("www.ads.example"), NOTHING, first)
        policy = self.policy({"to": "direct", "domains": "www.ads.example"}, refused)
        self.assertTrue(policy.of("ads.example").rejected)

    def test_order(self) -> None:
        """
        An answer of C{dnsRules} comes before a rejection, and a rejection before servers, which
        are known all the same.
        """
        policy = self.policy(
            {"to": "reject", "domains": "example"},
            rules=(
                entry("a.example", answer=NOWHERE),
                entry("b.example", servers=OFFICE),
                entry("c.example", fake=True),
            ),
        )
        self.assertEqual(policy.of("a.example"), NameVerdict(NOWHERE, rule="dnsRules 1"))
        rejected = NameVerdict(REFUSED, rule="rule 1 (FILE, line 1)", rejected=True)
        self.assertEqual(policy.of("b.example"), rejected._replace(servers=OFFICE))
        self.assertEqual(policy.serversFor("b.example"), OFFICE)
        self.assertEqual(policy.of("c.example"), rejected._replace(fake=True))
        self.assertEqual(policy.of("d.example"), rejected)

    def test_script(self) -> None:
        """Nothing is rejected while a script decides, and flows to a name may go anywhere."""
        policy = self.policy(
            {"to": "reject", "domains": "ads.example"}, anyWay=("proxy", "office", "direct")
        )
        self.assertFalse(policy)
        self.assertIs(policy.of("ads.example"), NOTHING)
        self.assertEqual(policy.waysOf("ads.example"), {"proxy", "office", "direct"})
        (notice,) = policy.notices
        self.assertTrue(notice.startswith("dnsRejected does nothing while the script decides"))
        self.assertEqual(NamePolicy(anyWay=("proxy",)).notices, ())
        self.assertEqual(self.policy().notices, ())

    def test_ways(self) -> None:
        """Without a script the ways of a name are those of its rules, or the default."""
        policy = self.policy({"to": "office", "domains": "corp.example"}, default="direct")
        self.assertEqual(policy.waysOf("www.corp.example"), {"office"})
        self.assertEqual(policy.waysOf("other.example"), {"direct"})
        self.assertEqual(NamePolicy(default="office").waysOf("a"), {"office"})
