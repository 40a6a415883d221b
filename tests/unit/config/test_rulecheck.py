"""Tests of L{nanotun.config.rulecheck}; those of its errors are with the rules'."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import product
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.file import Given, Path
from nanotun.config.flowrules import NONE, Conditions, FlowRule
from nanotun.config.rulecheck import SENTENCE_LIMIT, neverMatch, neverUsed
from nanotun.config.settings import Settings, makeSettings


def settingsWith(rules: Iterable[dict[str, Any]], **more: object) -> Settings:
    """The settings of these rules; the first is on line 1, and so on."""
    found = list(rules)
    lines: dict[Path, int] = {(number,): number + 1 for number in range(len(found))}
    given = {
        "proxy": Given("h", "proxy"),
        "countryFile": Given("/c", "countryFile"),
        "rules": Given(found, "n.yaml, line 1: rules", lines=lines),
        **{name: Given(value, name) for name, value in more.items()},
    }
    return makeSettings(given, {}, "n.yaml")


def warned(*rules: dict[str, Any], **more: object) -> list[str]:
    """What is said about rules that all go to C{drop}."""
    return list(neverMatch(settingsWith([{"to": "drop", **rule} for rule in rules], **more)))


class CoveredTests(SynchronousTestCase):
    """A rule that an earlier one leaves nothing for."""

    def test_sentence(self) -> None:
        """Both rules are named, with their lines."""
        self.assertEqual(
            warned({"domains": "a.example"}, {"ports": 25}, {"domains": "b.a.example"}),
            [
                "Rule 3 (n.yaml, line 3) can never match, because rule 1 (line 1) takes all that "
                "it would; move it up, or remove it."
            ],
        )
        rules = [{"to": "drop"}, {"to": "proxy"}]
        flags = {"proxy": Given("h", "--proxy"), "rules": Given(rules, "--rule")}
        self.assertEqual(
            neverMatch(makeSettings({}, flags, None)),
            (
                "Rule 2 (--rule) can never match, because rule 1 takes all that it would; move it "
                "up, or remove it.",
            ),
        )

    def test_covered(self) -> None:
        """Every kind of condition may be the reason."""
        for first, second in (
            ({}, {}),
            ({}, {"ports": 25}),
            ({"lan": True}, {"networks": "10.0.0.0/8"}),
            ({"lan": True}, {"domains": "a", "lan": True}),
            ({"domains": "a.example"}, {"domains": "a.example"}),
            ({"domains": "a.example"}, {"domains": "=b.a.example", "ports": 5}),
            ({"domains": "a.example"}, {"domains": "x*.a.example"}),
            ({"domains": "=a.example"}, {"domains": "=a.example", "lan": True}),
            ({"domains": "*"}, {"domains": "a.example, ~b, file:/c"}),
            ({"domains": "file:/a, ~b, c*"}, {"domains": "~b, c*"}),
            ({"domains": "a.example"}, {"domains": "a.example", "not": {"ports": 5}}),
            ({"domains": "a", "networks": "10.0.0.0/8"}, {"networks": "10.1.0.0/16"}),
            ({"networks": "::/0"}, {"networks": "2001:db8::/32, ::1"}),
            ({"networks": "file:/a, 10.0.0.0/8"}, {"networks": "file:/a"}),
            ({"countries": "DE, AT"}, {"countries": "AT"}),
            ({"processes": "curl, git"}, {"processes": "git", "ports": 5}),
            ({"ports": "1-100"}, {"ports": "tcp:5, 100"}),
            ({"sources": "192.168.0.0/16"}, {"sources": "192.168.7.0/24"}),
            ({"times": "Mo, Tu"}, {"times": "Tu"}),
        ):
            self.assertEqual(len(warned(first, second)), 1, (first, second))

    def test_notCovered(self) -> None:
        """A rule that may still match is not named."""
        for first, second in (
            ({}, {"networks": "10.0.0.0/8"}),
            ({}, {"domains": "a.example"}),
            ({}, {"lan": True}),
            ({"ports": 25}, {}),
            ({"domains": "=a.example"}, {"domains": "a.example"}),
            ({"domains": "a.example"}, {"domains": "ba.example"}),
            ({"domains": "a.example"}, {"domains": "*a.example"}),
            ({"domains": "a.example"}, {"domains": "a.example, b.example"}),
            ({"domains": "a.example"}, {"domains": "a.example", "networks": "10.0.0.0/8"}),
            ({"domains": "a.example"}, {"domains": "~a.example"}),
            ({"domains": "a.example"}, {"domains": "file:/a.example"}),
            ({"domains": "a.example", "ports": 5}, {"domains": "a.example"}),
            ({"domains": "a.example", "not": {"ports": 5}}, {"domains": "a.example", "ports": 5}),
            ({"networks": "10.0.0.0/8"}, {"networks": "0.0.0.0/0"}),
            ({"networks": "0.0.0.0/0"}, {"networks": "::/0"}),
            ({"networks": "file:/a"}, {"networks": "file:/b"}),
            ({"countries": "DE"}, {"countries": "DE, AT"}),
            ({"processes": "git"}, {"processes": "git, curl"}),
            ({"ports": "tcp:5"}, {"ports": "5"}),
            ({"ports": "1-100"}, {"ports": "100-101"}),
            ({"times": "Mo"}, {"times": "Tu"}),
        ):
            self.assertEqual(warned(first, second), [], (first, second))

    def test_many(self) -> None:
        """A long list of warnings is cut, and thousands of rules are compared in a moment."""
        rules = [{"processes": f"p{n}"} for n in range(2000)]
        rules += [{"domains": f"d{n}.example"} for n in range(2000)]
        rules += [{"networks": f"10.0.{n}.0/24"} for n in range(SENTENCE_LIMIT - 2)]
        self.assertEqual(warned(*rules), [])
        found = warned(*rules, *[{"domains": "d5.example"}] * SENTENCE_LIMIT)
        self.assertEqual(len(found), SENTENCE_LIMIT)
        found = warned(*rules, *[{"domains": "d5.example"}] * (SENTENCE_LIMIT + 2))
        self.assertEqual((len(found), found[-1]), (SENTENCE_LIMIT + 1, "There are 2 more."))


class UnusedTests(SynchronousTestCase):
    """L{neverUsed}."""

    def unused(self, *domains: str | list[str]) -> list[str]:
        """What is said about entries of C{dnsRules}."""
        found = [{"domains": each, "answer": "refuse"} for each in domains]
        lines: dict[Path, int] = {(number,): number + 1 for number in range(len(found))}
        given = Given(found, "n.yaml, line 1: dnsRules", lines=lines)
        settings = makeSettings({"proxy": Given("h", "proxy"), "dnsRules": given}, {}, "n.yaml")
        return list(neverUsed(settings))

    def test_sentence(self) -> None:
        """An entry is named if an earlier one has all of its names, and so is that one."""
        self.assertEqual(
            self.unused("a.example", "b.example", ["x.a.example", "=a.example"]),
            [
                "dnsRules 3 (n.yaml, line 3) is never used, because dnsRules 1 (line 1) has all "
                "of its names; move it up, or remove it."
            ],
        )
        self.assertEqual(len(self.unused("*", "~a", "file:/a", "a", "*.b")), 4)

    def test_used(self) -> None:
        """Nothing is said about an entry that some name may get to."""
        for first, second in (
            ("=a.example", "a.example"),
            ("x.a.example", "a.example"),
            ("a.example", ["a.example", "b.example"]),
            ("a.example", "~a"),
            ("~a", "a.example"),
            ("file:/a", "a.example"),
        ):
            self.assertEqual(self.unused(first, second), [], (first, second))

    def test_many(self) -> None:
        """A long list is cut."""
        found = self.unused(*["a"] * (SENTENCE_LIMIT + 2))
        self.assertEqual(
            (len(found), found[-1]), (SENTENCE_LIMIT + 1, "There is one more such rule.")
        )


class AloneTests(SynchronousTestCase):
    """A rule that is wrong by itself."""

    def says(
        self, rule: dict[str, Any], sentence: str, inRun: bool = False, **more: object
    ) -> None:
        """One sentence is said about a rule."""
        found = neverMatch(settingsWith([{"to": "drop", **rule}], **more), inRun)
        self.assertEqual(found, (f"Rule 1 (n.yaml, line 1) {sentence}.",) if sentence else ())

    def test_excluded(self) -> None:
        """A rule whose exception is all that it asks for."""
        sentence = (
            "can never match, because its not excludes all that it asks for; remove one of the two"
        )
        for wants, never in (
            ({"ports": "tcp:443"}, {"ports": 443}),
            ({"domains": "b.a.example", "ports": 5}, {"domains": "a.example"}),
            ({"countries": "DE"}, {"countries": "DE, AT"}),
            ({"processes": "curl"}, {"processes": "curl"}),
        ):
            self.says({**wants, "not": never}, sentence)
        for wants, never in (
            ({"ports": "443"}, {"ports": "tcp:443"}),
            ({"ports": "443"}, {"ports": "443", "domains": "a"}),
            ({"domains": "a", "networks": "10.0.0.0/8"}, {"domains": "a"}),
            ({"ports": "443"}, {"domains": "a"}),
        ):
            self.says({**wants, "not": never}, "")

    def test_sources(self) -> None:
        """Flows of other machines have no processes that could be asked for."""
        sentence = (
            "can never match, because only flows of other machines have sources, and those have "
            "no processes; make it two rules"
        )
        self.says({"sources": "10.0.0.0/8", "processes": "curl"}, sentence)
        self.says({"sources": "10.0.0.0/8", "not": {"processes": "curl"}}, sentence)
        self.says({"sources": "10.0.0.0/8", "not": {"processes": "curl", "ports": 5}}, "")

    def test_run(self) -> None:
        """In C{nanotun run} there are neither processes nor other machines."""
        process = "never matches in 'nanotun run', where no process is looked for"
        source = "never matches in 'nanotun run', where no flow is another machine's"
        self.says({"processes": "curl"}, process, True)
        self.says({"not": {"processes": "curl"}}, process, True)
        self.says({"sources": "10.0.0.0/8"}, source, True)
        self.says({"not": {"sources": "10.0.0.0/8"}}, "", True)
        self.says({"processes": "curl"}, "")

    def test_fakeIp(self) -> None:
        """Under fake-ip a rule about addresses does not see flows to names."""
        sentence = (
            "is about addresses, and with dnsMode: fake-ip a flow to a name has none, so such "
            "flows pass it by; add domains, or put the names into fakeIpExclude"
        )
        for rule in ({"networks": "10.0.0.0/8"}, {"countries": "DE"}):
            self.says(rule, sentence, dnsMode="fake-ip")
            self.says(rule, "")
            self.says({**rule, "domains": "a"}, "", dnsMode="fake-ip")
        self.says({"not": {"networks": "10.0.0.0/8"}}, "", dnsMode="fake-ip")


#: All that a flow of the small world below can be: its name, the network and country of its
#: address, its process (unless it is another machine's), port, source and day.
FLOWS = tuple(
    product(
        (None, "a", "b.a", "c"),
        (None, "10.0.0.0/24", "10.0.1.0/24"),
        (None, "DE"),
        (False, True),
        (None, "p", "q"),
        (1, 2),
        (None, "192.168.0.0/24"),
    )
)


def holds(conditions: Conditions, flow: tuple[Any, ...]) -> Iterator[int | None]:
    """Whether each condition holds for a flow: 1, 0, or L{None} for what is unknown."""
    name, network, country, _, process, port, source = flow
    where: list[int | None] = []
    if conditions.domains:
        suffixes = [] if name is None else [name, name.partition(".")[2]]
        found = any(
            each.value == name if each.kind.value else each.value in suffixes
            for each in conditions.domains
        )
        where.append(None if name is None else int(found))
    if conditions.networks:
        names = {str(each) for each in conditions.networks}
        inside = bool(names & {network, "10.0.0.0/8"})
        where.append(None if network is None else int(inside))
    if conditions.countries:
        where.append(None if country is None else int(country in conditions.countries))
    if where:
        yield 1 if 1 in where else None if None in where else 0
    if conditions.processes:
        known = process is not None and source is None
        yield int(process in map(str, conditions.processes)) if known else None
    if conditions.ports:
        yield int(any(each.first <= port <= each.last for each in conditions.ports))
    if conditions.sources:
        yield int(source in map(str, conditions.sources))


def matches(rule: FlowRule, flow: tuple[Any, ...]) -> bool:
    """Whether a rule takes a flow, by the words of the documentation."""
    wants = rule.wants
    broad = not (wants.domains or wants.networks or wants.countries)
    if broad and flow[3] and not rule.lan:
        return False
    if not all(each == 1 for each in holds(wants, flow)):
        return False
    # What is not ruled out is in the exception, or may be.
    return rule.never == NONE or 0 in list(holds(rule.never, flow))


class CertainTests(SynchronousTestCase):
    """What is said is true."""

    VALUES = {
        "domains": ("a", "b.a", "=a", "=b.a", "c"),
        "networks": ("10.0.0.0/8", "10.0.0.0/24", "10.0.1.0/24"),
        "countries": ("DE", "AT"),
        "processes": ("p", "q"),
        "ports": ("1", "2", "1-2", "3"),
        "sources": ("192.168.0.0/24", "192.168.1.0/24"),
    }

    def conditions(self, dice: random.Random) -> dict[str, Any]:
        """A few conditions."""
        names = dice.sample(sorted(self.VALUES), dice.choice((0, 1, 1, 1, 2)))
        return {
            name: dice.sample(self.VALUES[name], dice.randint(1, len(self.VALUES[name]) // 2))
            for name in names
        }

    def test_certain(self) -> None:
        """Of 500 tables of rules, none that is said to never match takes any flow first."""
        dice = random.Random(15)
        named = 0
        for _ in range(500):
            rules: list[dict[str, Any]] = []
            for _ in range(4):
                rule = {"to": "drop", "lan": dice.random() < 0.3, **self.conditions(dice)}
                never = self.conditions(dice) if dice.random() < 0.2 else {}
                rules.append({**rule, "not": never} if never else rule)
            settings = settingsWith(rules)
            wrong = {
                int(sentence.split()[1]) - 1
                for sentence in neverMatch(settings)
                if "can never match" in sentence
            }
            named += len(wrong)
            if wrong:
                reached = {self.first(settings.rules, flow) for flow in FLOWS}
                self.assertEqual(wrong & reached, set(), rules)
        self.assertGreater(named, 100)

    def first(self, rules: tuple[FlowRule, ...], flow: tuple[Any, ...]) -> int | None:
        """The number of the rule that takes a flow."""
        return next((n for n, rule in enumerate(rules) if matches(rule, flow)), None)
