"""Tests of L{nanotun.policy.ruletable}."""

from __future__ import annotations

import random
from ipaddress import ip_address, ip_network
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Decision, Owner, Verdict
from nanotun.policy.lists import Lists
from nanotun.policy.namelist import NameEntries, NameList
from nanotun.policy.networktable import NetworkTable
from nanotun.policy.ruletable import RuleTable, usesOwners
from nanotun.policy.subject import NAME, OWNER, UNKNOWABLE, Doubt, Subject, lacking
from tests.unit.policy.deciding import ME, NEIGHBOUR, flowRules, ruleTable, subject

DEFAULT = Decision(Verdict.PROXY, "default", "no other rule applies")

CURL = Owner(77, 1000, "curl", selected=frozenset(("curl",)))
GIT = Owner(78, 1000, "git", selected=frozenset(("git",)))

#: The rules of the issue that asked for them.
EXAMPLE: tuple[dict[str, Any], ...] = (
    {
        "to": "office",
        "domains": ["corp.example", "=intranet.example"],
        "networks": ["10.20.0.0/16"],
    },
    {"to": "reject", "domains": "file:/etc/nanotun/blocked.txt"},
    {
        "to": "abroad",
        "processes": ["curl", "unit:backup.service"],
        "ports": ["tcp:443", "8000-8999"],
    },
    {"to": "direct", "countries": ["DE", "AT"]},
    {"to": "proxy", "sources": ["192.168.7.0/24"], "not": {"ports": ["udp:443"]}},
)


def blocked(path: str, *names: bytes) -> NameList:
    """A list of names."""
    entries = NameEntries()
    entries.table.update(list(names))
    return NameList(path, entries, NameEntries())


LISTS = Lists(
    names={"/etc/nanotun/blocked.txt": blocked("/etc/nanotun/blocked.txt", b"ads.example")},
    networks={"/nets": NetworkTable.of([ip_network("9.0.0.0/8")])},
    countryOf=lambda host: {"5.5.5.5": "DE", "6.6.6.6": "US"}.get(host, ""),
)


def decided(table: RuleTable, asked: Subject) -> tuple[str, int]:
    """Which rule decides, or C{"default"}, and what is lacking."""
    doubts: list[Doubt] = []
    decision = table.decide(asked, doubts) or DEFAULT
    return decision.rule, lacking(doubts, decision)


class ExampleTests(SynchronousTestCase):
    """The rules that the documentation has."""

    def test_example(self) -> None:
        """Each flow is decided by the first rule that holds, and nothing needless is lacking."""
        table = ruleTable(*EXAMPLE, lists=LISTS)
        for destination, names, owner, source, expected in (
            ("tcp 6.6.6.6:443", ("www.corp.example",), CURL, "", ("#1", 0)),
            ("tcp 6.6.6.6:443", ("intranet.example",), None, "", ("#1", 0)),
            ("tcp 6.6.6.6:443", ("www.intranet.example",), CURL, "", ("#3", 0)),
            ("tcp 10.20.1.1:443", (), None, "", ("#1", 0)),
            ("tcp 6.6.6.6:80", ("x.ads.example",), None, "", ("#2", 0)),
            ("tcp 6.6.6.6:443", (), CURL, "", ("#3", NAME)),
            ("udp 6.6.6.6:443", ("a.example",), CURL, "", ("default", 0)),
            ("udp 6.6.6.6:8001", ("a.example",), CURL, "", ("#3", 0)),
            ("tcp 5.5.5.5:443", ("a.example",), None, "", ("#4", OWNER)),
            ("tcp 5.5.5.5:80", ("a.example",), None, "", ("#4", 0)),
            ("tcp 5.5.5.5:80", (), None, "", ("#4", NAME)),
            ("tcp 6.6.6.6:80", ("a.example",), None, "192.168.7.3", ("#5", 0)),
            ("udp 6.6.6.6:443", ("a.example",), None, "192.168.7.3", ("default", 0)),
            ("tcp 6.6.6.6:80", ("a.example",), None, "192.168.8.3", ("default", 0)),
            ("tcp 198.19.0.9:443", ("www.corp.example",), None, "", ("#1", 0)),
            ("tcp 198.19.0.9:80", ("a.example",), None, "", ("default", 0)),
        ):
            asked = subject(destination, *names, owner=owner, source=source or ME)
            self.assertEqual(decided(table, asked), expected, (destination, names, owner))

    def test_decision(self) -> None:
        """A rule's decision has its upstream, its number, and where it was written."""
        table = ruleTable(*EXAMPLE, lists=LISTS)
        decision = table.decide(subject("tcp 10.20.1.1:443"), [])
        self.assertEqual(
            decision,
            Decision(Verdict.PROXY, "#1", "rule 1 (FILE, line 1) says so", upstream="office"),
        )
        for to, verdict in (
            ("direct", Verdict.DIRECT),
            ("reject", Verdict.REJECT),
            ("drop", Verdict.DROP),
            ("proxy", Verdict.PROXY),
        ):
            decision = ruleTable({"to": to}).decide(subject("tcp 1.1.1.1:1"), [])
            assert decision is not None
            self.assertEqual((decision.verdict, decision.upstream), (verdict, ""))

    def test_broad(self) -> None:
        """A rule that names no destination leaves local ones alone, unless it says so."""
        for host, local in (
            ("10.1.1.1", True),
            ("169.254.7.7", True),
            ("fd00::1", True),
            ("fe80::1", True),
            ("198.51.100.1", True),
            ("1.1.1.1", False),
            ("192.0.0.9", False),
            ("2606:4700::1", False),
            ("198.19.0.7", False),
        ):
            asked = subject(f"tcp {host}:443", "a.example", owner=CURL)
            for wants in ({"processes": "curl"}, {"ports": 443}, {"not": {"domains": "b.example"}}):
                broad = ruleTable({"to": "office", **wants})
                self.assertEqual(decided(broad, asked)[0], "default" if local else "#1", host)
                lan = ruleTable({"to": "office", "lan": True, **wants})
                self.assertEqual(decided(lan, asked)[0], "#1", host)
            named = ruleTable({"to": "office", "domains": "a.example"})
            self.assertEqual(decided(named, asked)[0], "#1", host)

    def test_uses(self) -> None:
        """It is known whether any rule is about names or processes, also within C{not}."""
        for wants, names, owners in (
            ({"domains": "a"}, True, False),
            ({"not": {"domains": "a"}}, True, False),
            ({"processes": "a"}, False, True),
            ({"not": {"processes": "a"}}, False, True),
            ({"ports": 1}, False, False),
        ):
            table = ruleTable({"to": "office"}, {"to": "direct", **wants})
            self.assertEqual((table.usesNames, len(table)), (names, 2))
            self.assertEqual(usesOwners(flowRules({"to": "direct", **wants})), owners)

    def test_forwarded(self) -> None:
        """Nothing is lacking about another machine's process, which nobody can find."""
        table = ruleTable({"to": "office", "processes": "curl"})
        asked = subject("tcp 1.1.1.1:443", source=NEIGHBOUR)
        self.assertEqual(decided(table, asked), ("default", 0))

    def test_sameWay(self) -> None:
        """What is unknown does not matter if the flow goes the same way in any case."""
        rules: tuple[dict[str, Any], ...] = (
            {"to": "proxy", "domains": "a.example"},
            {"to": "proxy", "processes": "curl"},
        )
        asked = subject("tcp 1.1.1.1:443")
        self.assertEqual(decided(ruleTable(*rules), asked), ("default", 0))
        other = {"to": "office", "domains": "b.example"}
        self.assertEqual(decided(ruleTable(*rules, other), asked), ("default", NAME | OWNER))

    def test_ofName(self) -> None:
        """What a rule says of a name alone, if none before it could hold."""
        table = ruleTable(
            {"to": "reject", "domains": "ads.example", "ports": 1},
            {"to": "office", "domains": "corp.example"},
            {"to": "direct", "domains": "~^x", "networks": "10.0.0.0/8"},
            {"to": "reject", "domains": ["ads.example", "bad.example"]},
            {"to": "direct", "domains": "ads.example"},
        )
        for name, rule in (
            ("www.corp.example", "#2"),
            ("ads.example", None),
            ("bad.example", None),
            ("x.corp.example", "#2"),
            ("x.bad.example", "#3"),
            ("other.example", None),
        ):
            found = table.ofName(name)
            self.assertEqual(None if found is None else f"#{found[0]}", rule, name)
        broad = ruleTable({"to": "office", "ports": 1}, {"to": "reject", "domains": "a.example"})
        self.assertIsNone(broad.ofName("a.example"))
        plain = ({"to": "office", "domains": "b"}, {"to": "reject", "domains": "a.example"})
        found = ruleTable(*plain).ofName("x.a.example")
        self.assertEqual(found, (2, flowRules(*plain)[1]))

    def test_waysOf(self) -> None:
        """Everywhere that flows to a name may go, up to a rule that takes all of them."""
        table = ruleTable(
            {"to": "direct", "networks": "10.0.0.0/8"},
            {"to": "reject", "domains": "ads.example", "ports": 1},
            {"to": "abroad", "processes": "curl", "not": {"domains": "=corp.example"}},
            {"to": "office", "domains": ["corp.example", "ads.example"]},
            {"to": "drop", "domains": "corp.example"},
        )
        for name, ways in (
            # What other conditions ask for is not looked at.
            ("corp.example", {"abroad", "office"}),
            ("www.corp.example", {"office", "abroad"}),
            ("ads.example", {"reject", "abroad", "office"}),
            ("other.example", {"abroad", "proxy"}),
        ):
            self.assertEqual(table.waysOf(name, "proxy"), ways, name)


NAMES = ("a.x", "b.a.x", "x", "c.y", "y", "z.c.y")
NETWORKS = ("10.0.0.0/8", "10.1.0.0/16", "1.0.0.0/8", "2001:db8::/32")
HOSTS = ("10.1.2.3", "10.9.9.9", "1.1.1.1", "9.9.9.9", "2001:db8::1", "198.19.0.7", "5.5.5.5")
PROTOCOLS = ("tcp", "udp")
OWNERS = (CURL, GIT, Owner(79, 0, "sh"))


def someConditions(chance: random.Random, often: float) -> dict[str, Any]:
    """Conditions by chance."""
    found: dict[str, Any] = {}
    if chance.random() < often:
        marks = ("", "=", "*.", "~")
        found["domains"] = [
            chance.choice(marks) + name for name in chance.sample(NAMES, chance.randint(1, 2))
        ]
    if chance.random() < often / 2:
        found["networks"] = chance.sample((*NETWORKS, "file:/nets"), 1)
    if chance.random() < often / 4:
        found["countries"] = "DE"
    if chance.random() < often:
        found["processes"] = chance.choice(("curl", "git"))
    if chance.random() < often:
        found["ports"] = chance.choice(("tcp:1", "2", "1-2"))
    if chance.random() < often / 4:
        found["sources"] = "192.168.0.0/16"
    return found


def someRules(chance: random.Random) -> list[dict[str, Any]]:
    """Rules by chance."""
    found = []
    for _ in range(chance.randint(0, 8)):
        rule: dict[str, Any] = {
            "to": chance.choice(("direct", "proxy", "office")),
            **someConditions(chance, 0.5),
        }
        never = someConditions(chance, 0.2)
        if never:
            rule["not"] = never
        if chance.random() < 0.3:
            rule["lan"] = True
        found.append(rule)
    return found


class Transcript:
    """The issue's words, one after the other, with L{None} for what is unknown."""

    def __init__(self, rules: list[dict[str, Any]]) -> None:
        self._rules = rules

    def decide(self, asked: Subject) -> str:
        """The first rule that holds, or C{"default"}."""
        for number, rule in enumerate(self._rules, start=1):
            values = [self._destination(rule, asked), *self._others(rule, asked)]
            if "not" in rule:
                never = [*self._others(rule["not"], asked)]
                if rule["not"].keys() & {"domains", "networks", "countries"}:
                    never.append(self._destination(rule["not"], asked))
                every = self._all(never)
                values.append(None if every is None else not every)
            if self._all(values):
                return f"#{number}"
        return "default"

    def to(self, asked: Subject) -> str:
        """Where a flow goes."""
        rule = self.decide(asked)
        return "proxy" if rule == "default" else str(self._rules[int(rule[1:]) - 1]["to"])

    def _all(self, values: list[bool | None]) -> bool | None:
        return False if False in values else None if None in values else True

    def _destination(self, rule: dict[str, Any], asked: Subject) -> bool | None:
        host = asked.flow.destination.host
        fake = host.startswith("198.19.")
        values: list[bool | None] = []
        if "domains" in rule:
            name = asked.name
            values.append(
                None if name is None else any(self._isNamed(name, each) for each in rule["domains"])
            )
        if "networks" in rule:
            networks = [each.replace("file:/nets", "9.0.0.0/8") for each in rule["networks"]]
            address = ip_address(host)
            values.append(None if fake else any(address in ip_network(each) for each in networks))
        if "countries" in rule:
            country = "" if fake else LISTS.countryOf(host)
            values.append(country == "DE" if country else None)
        if values:
            return True if True in values else None if None in values else False
        return bool(rule.get("lan")) or not host.startswith(("10.", "2001:db8:"))

    def _isNamed(self, name: str, value: str) -> bool:
        if value.startswith("="):
            return name == value[1:]
        if value.startswith("~"):
            return value[1:] in name
        if value.startswith("*"):
            return name.endswith(value[1:]) and name != value[1:]
        return name == value or name.endswith(f".{value}")

    def _others(self, rule: dict[str, Any], asked: Subject) -> list[bool | None]:
        values: list[bool | None] = []
        if "processes" in rule:
            owner = asked.owner
            values.append(None if owner is None else rule["processes"] in owner.selected)
        if "ports" in rule:
            port, protocol = asked.flow.destination.port, asked.flow.protocol.name
            allowed = {"tcp:1": port == 1 and protocol == "TCP", "2": port == 2, "1-2": True}
            values.append(allowed[rule["ports"]])
        if "sources" in rule:
            values.append(asked.flow.source.host.startswith("192.168."))
        return values


class PropertyTests(SynchronousTestCase):
    """Five thousand flows by chance, always the same ones."""

    def setUp(self) -> None:
        """Make the rules and the flows."""
        chance = random.Random(15)
        self.cases = []
        for _ in range(250):
            rules = someRules(chance)
            table = RuleTable(flowRules(*rules), LISTS, lambda: (0, 0), fakes=True)
            flows = [
                subject(
                    f"{chance.choice(PROTOCOLS)} {chance.choice(HOSTS)}:{chance.randint(1, 2)}",
                    *filter(None, [chance.choice(("", *NAMES))]),
                    source=source,
                    owner=chance.choice((None, *OWNERS)) if source == ME else None,
                )
                for source in chance.choices((ME, NEIGHBOUR), (4, 1), k=20)
            ]
            self.cases.append((Transcript(rules), table, flows))

    def test_transcript(self) -> None:
        """The table agrees with the words that describe it, and so does the explanation."""
        rules = set()
        for transcript, table, flows in self.cases:
            for asked in flows:
                expected = transcript.decide(asked)
                rules.add(expected)
                self.assertEqual(decided(table, asked)[0], expected, transcript._rules)
                steps = table.trace(asked)
                last = steps[-1].rule if steps and steps[-1].value == 1 else "default"
                self.assertEqual(last, expected)
                self.assertTrue(all(step.value != 1 for step in steps[:-1]))
        self.assertGreater(len(rules), 7)

    def test_waysOf(self) -> None:
        """Wherever a flow to a fake address goes is one of the ways of its name."""
        certain = 0
        for transcript, table, flows in self.cases:
            for asked in flows:
                if asked.name is None or not asked.place.fake:
                    continue
                ways = table.waysOf(asked.name, "proxy")
                certain += len(ways) == 1
                local = asked.flow.source.host != NEIGHBOUR
                for asked.owner in OWNERS if local else [None]:
                    self.assertIn(transcript.to(asked), ways, transcript._rules)
        self.assertGreater(certain, 30)

    def test_honest(self) -> None:
        """What is not said to be lacking changes nothing about where a flow goes."""
        lacked = 0
        for transcript, table, flows in self.cases:
            for asked in flows:
                lacks = decided(table, asked)[1]
                self.assertFalse(lacks & UNKNOWABLE)
                lacked += bool(lacks)
                there = transcript.to(asked)
                names = [asked.name] if asked.name else [None, *NAMES]
                local = asked.flow.source.host != NEIGHBOUR
                owners = [None, *OWNERS] if local and asked.owner is None else [asked.owner]
                name, owner = asked.name, asked.owner
                for asked.name in [name] if lacks & NAME else names:
                    for asked.owner in [owner] if lacks & OWNER else owners:
                        if not lacks or asked.name == name or asked.owner == owner:
                            self.assertEqual(transcript.to(asked), there, transcript._rules)
        self.assertGreater(lacked, 300)
