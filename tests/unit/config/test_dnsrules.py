"""Tests of L{nanotun.config.dnsrules}."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.dnsrules import DnsAnswer, DnsRule
from nanotun.config.domains import pattern
from nanotun.config.file import parseFile
from nanotun.config.keys import KEYS
from nanotun.config.options import Options
from nanotun.config.settings import Settings, flagValue, makeSettings
from nanotun.errors import ConfigError, WrongOption
from nanotun.interfaces import DnsServer

EXAMPLE = """\
proxy: h
dnsRules:
  - {domains: [corp.example, 10.in-addr.arpa, "=intranet"], servers: [10.0.0.53, 10.0.0.54]}
  - {domains: "file:/etc/nanotun/ads.txt", answer: 0.0.0.0}
  - domains: ["*.tracker.example", "~^ads[0-9]{1,2}\\\\."]
    answer: refuse
  - {domains: a.example, answer: nodata}
  - {domains: b.example, answer: [192.0.2.7, "2001:DB8:0::7", 192.0.2.7]}
  - {domains: "*", answer: fake}
"""


def settingsOf(text: str, **flags: str) -> Settings:
    """The settings of a file with a proxy and these lines, and of flags."""
    given = {name: flagValue(KEYS[name], value) for name, value in flags.items()}
    return makeSettings(parseFile(f"proxy: h\n{text}", "n.yaml", KEYS), given, "n.yaml")


def answerOf(text: str) -> DnsAnswer | None:
    """The answer of an entry, as it is written."""
    return settingsOf(f"dnsRules: [{{domains: a, answer: {text}}}]").dnsRules[0].answer


class DnsRuleTests(SynchronousTestCase):
    """What entries are read as."""

    def test_example(self) -> None:
        """Entries keep their order, know where they are, and have one thing to say each."""
        found = makeSettings(parseFile(EXAMPLE, "n.yaml", KEYS), {}, "n.yaml").dnsRules

        def rule(line: int, *domains: str, **more: Any) -> DnsRule:
            made = DnsRule(tuple(map(pattern, domains)), where=f"n.yaml, line {line}")
            return made._replace(**more)

        servers = DnsServer("udp", "10.0.0.53", 53), DnsServer("udp", "10.0.0.54", 53)
        self.assertEqual(
            found,
            (
                rule(3, "corp.example", "10.in-addr.arpa", "=intranet", servers=servers),
                rule(
                    4,
                    "file:/etc/nanotun/ads.txt",
                    answer=DnsAnswer(addresses=("0.0.0.0", "::")),
                ),
                rule(
                    5,
                    "*.tracker.example",
                    r"~^ads[0-9]{1,2}\.",
                    answer=DnsAnswer(refused=True),
                ),
                rule(7, "a.example", answer=DnsAnswer()),
                rule(8, "b.example", answer=DnsAnswer(addresses=("192.0.2.7", "2001:db8::7"))),
                rule(9, "*", fake=True),
            ),
        )

    def test_none(self) -> None:
        """There may be none."""
        for text in ("dnsRules: []", "dnsRules: ''", ""):
            self.assertEqual(settingsOf(text).dnsRules, ())

    def test_flagNoYaml(self) -> None:
        """A flag whose text is no YAML is answered with an entry of these rules."""
        error = self.assertRaises(WrongOption, settingsOf, "", dnsRules="{domains: a")
        self.assertEqual(
            str(error),
            "--dns-rule is not valid YAML (expected ',' or '}'); write it in quotes, such as "
            "'{domains: [corp.example], servers: [10.0.0.53]}'.",
        )

    def test_blocking(self) -> None:
        """0.0.0.0 alone stands for :: too, and beside other addresses for itself."""
        for text, addresses in (
            ("0.0.0.0", ("0.0.0.0", "::")),
            ("[0.0.0.0]", ("0.0.0.0", "::")),
            ("'::'", ("::",)),
            ("[0.0.0.0, '::1']", ("0.0.0.0", "::1")),
            ("'0.0.0.0, 192.0.2.1'", ("0.0.0.0", "192.0.2.1")),
        ):
            self.assertEqual(answerOf(text), DnsAnswer(addresses=addresses), text)

    def test_flag(self) -> None:
        """A flag has one entry as YAML, may be given several times, and replaces the file's."""
        options = Options()
        options.parseOptions(
            [
                "--proxy=h",
                "--dns-rule={domains: a.example, answer: refuse}",
                "--dns-rule={domains: b.example, servers: 10.0.0.53}",
            ]
        )
        found = options.settings.dnsRules
        self.assertEqual([rule.where for rule in found], ["--dns-rule"] * 2)
        self.assertEqual([bool(rule.servers) for rule in found], [False, True])
        error = self.assertRaises(WrongOption, settingsOf, "", dnsRules="{domains: a, answer: no}")
        self.assertTrue(str(error).startswith("--dns-rule, entry 1, answer must be "), error)


class RejectedAnswerTests(SynchronousTestCase):
    """C{dnsRejected}."""

    def test_accepted(self) -> None:
        """It is an answer like that of an entry, or none."""
        for text, answer in (
            ("pass", None),
            ("refuse", DnsAnswer(refused=True)),
            ("nodata", DnsAnswer()),
            ("0.0.0.0", DnsAnswer(addresses=("0.0.0.0", "::"))),
            ("[192.0.2.1, '2001:db8::1']", DnsAnswer(addresses=("192.0.2.1", "2001:db8::1"))),
        ):
            self.assertEqual(settingsOf(f"dnsRejected: {text}").dnsRejected, answer, text)
        for text, shown in (("refuse", "refuse"), ("nodata", "nodata"), ("0.0.0.0", "0.0.0.0, ::")):
            self.assertEqual(str(settingsOf(f"dnsRejected: {text}").dnsRejected), shown)
        flag = settingsOf("", dnsRejected="192.0.2.1,2001:db8::1").dnsRejected
        self.assertEqual(flag, DnsAnswer(addresses=("192.0.2.1", "2001:db8::1")))

    def test_rejected(self) -> None:
        """The error says what it may be, and what was probably meant."""
        must = "n.yaml, line 2: dnsRejected must be pass, refuse, nodata or addresses such as"
        for text, rest in (
            ("no", "0.0.0.0, not 'no'."),
            ("fake", "0.0.0.0, not 'fake'."),
            ("refused", "0.0.0.0, not 'refused' (did you mean refuse?)."),
            ("[]", "0.0.0.0, not empty."),
            ("", "0.0.0.0, not empty."),
        ):
            error = self.assertRaises(ConfigError, settingsOf, f"dnsRejected: {text}")
            self.assertEqual(str(error), f"{must} {rest}")


_NAMES = "corp.example, =www.corp.example, *.corp.example, ~^ads[0-9]+ or file:/PATH"
_SUCH = "such as {domains: [corp.example], servers: [10.0.0.53]}"
_ANSWERS = "must be refuse, nodata, fake or addresses such as 0.0.0.0"

#: What is wrong with one entry, and the sentence behind C{"n.yaml, line 3: dnsRules, entry 1"}.
WRONG = (
    ("7", f" must be a mapping, {_SUCH}, not 7."),
    ("[]", f" must be a mapping, {_SUCH}, not a list."),
    ("{answer: refuse}", " does not say which names it is about; add domains:."),
    ("{domains: , answer: refuse}", " does not say which names it is about; add domains:."),
    ("{domains: [], answer: refuse}", " does not say which names it is about; add domains:."),
    ("{domains: ' , ', answer: refuse}", ", domains must not be empty; write '*' for all names."),
    ("{domains: a}", " does not say who answers; add servers: or answer:."),
    (
        "{domains: a, servers: 10.0.0.53, answer: refuse}",
        " has both servers and an answer, and only one of them can count; remove the other.",
    ),
    ("{domains: a b, answer: refuse}", f", domains must be names, such as {_NAMES}, not 'a b'."),
    (
        "{domains: [a, b c], answer: refuse}",
        f", domains, entry 2 must be a name, such as {_NAMES}, not 'b c'.",
    ),
    (
        "{domains: [a, =10.0.0.0/8], answer: refuse}",
        ", domains, entry 2: 10.0.0.0/8 is about addresses; write the zone of their names, such "
        "as 10.in-addr.arpa.",
    ),
    (
        "{domain: a, answer: refuse}",
        ", domain: there is no such setting of a DNS rule; did you mean domains?",
    ),
    (
        "{domains: a, to: refuse}",
        ", to: there is no such setting of a DNS rule; there are domains, servers and answer.",
    ),
    ("{domains: a, 5: b c}", ", 5: there is no such setting of a DNS rule; there are domains, "),
    ("{domains: a, b c: d}", " must have no settings but domains, servers and answer."),
    ("{domains: a, answer: no}", f", answer {_ANSWERS}, not 'no'."),
    ("{domains: a, answer: nodate}", f", answer {_ANSWERS}, not 'nodate' (did you mean nodata?)."),
    ("{domains: a, answer: }", f", answer {_ANSWERS}, not empty."),
    ("{domains: a, answer: []}", f", answer {_ANSWERS}, not empty."),
    ("{domains: a, answer: {b: c}}", f", answer {_ANSWERS}, not a mapping."),
    ("{domains: a, answer: 5}", f", answer {_ANSWERS}, not 5."),
    ("{domains: a, answer: [192.0.2.1, 5]}", f", answer {_ANSWERS}, not 5."),
    ("{domains: a, answer: 192.0.2.0/24}", f", answer {_ANSWERS}, not '192.0.2.0/24'."),
    (
        "{domains: a, answer: [refuse, 192.0.2.1]}",
        ", answer must be refuse alone, or addresses alone.",
    ),
    (
        f"{{domains: a, answer: [{', '.join(f'192.0.2.{n}' for n in range(17))}]}}",
        ", answer must be at most 16 addresses, which is what fits into an answer, not 17.",
    ),
    (
        "{domains: a, servers: [10.0.0.53, '10.0.0.53:70000']}",
        ", servers, entry 2 must have a port from 1 to 65535, which 10.0.0.53:70000 does not.",
    ),
    (
        "{domains: a, servers: 198.18.0.1}",
        ", servers must not name nanotun's own gateway 198.18.0.1, which would ask itself.",
    ),
    ("{domains: a, domains: b}", ", domains is set a second time, first on line 3; remove one of "),
)


class WrongDnsRuleTests(SynchronousTestCase):
    """The sentences about entries that are none."""

    def fails(self, text: str) -> str:
        """The error for the lines behind C{"proxy: h"}."""
        return str(self.assertRaises(ConfigError, settingsOf, text))

    def test_sentences(self) -> None:
        """Each mistake has one sentence, with the file, the line and the entry."""
        for text, sentence in WRONG:
            found = self.fails(f"dnsRules:\n- {text}")
            expected = f"n.yaml, line 3: dnsRules, entry 1{sentence}"
            self.assertEqual(found[: len(expected)] if sentence.endswith(" ") else found, expected)

    def test_notAList(self) -> None:
        """What is no list is told what one looks like."""
        for text, shown in (("{domains: a}", "a mapping"), ("refuse", "a text"), ("", "empty")):
            self.assertEqual(
                self.fails(f"dnsRules: {text}"),
                "n.yaml, line 2: dnsRules must be a list of rules, such as - {domains: "
                f"[corp.example], servers: [10.0.0.53]}}, not {shown}.",
            )

    def test_limit(self) -> None:
        """There is a limit of entries."""
        self.assertEqual(
            self.fails(f"dnsRules: [{'{domains: a, answer: refuse},' * 1025}]"),
            "n.yaml, line 2: dnsRules must be at most 1024 rules, not 1025; put names into files.",
        )

    def test_ways(self) -> None:
        """The servers of an entry name upstreams that there are."""
        rule = "{domains: a, servers: [{server: 10.0.0.53, via: offce}]}"
        self.assertEqual(
            self.fails(f"upstreams: {{office: h}}\ndnsRules:\n- {rule}"),
            "n.yaml, line 4: dnsRules, entry 1, servers, entry 1, via: there is no upstream offce; "
            "did you mean office?",
        )
        right = rule.replace("offce", "office")
        (found,) = settingsOf(f"upstreams: {{office: h}}\ndnsRules:\n- {right}").dnsRules
        self.assertEqual(found.servers[0].via, "office")
