"""Tests of L{nanotun.config.flowrules}."""

from __future__ import annotations

from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.domains import Pattern, PatternKind
from nanotun.config.file import parseFile
from nanotun.config.flowrules import Conditions, FlowRule, ListFile, PortSpan
from nanotun.config.keys import KEYS
from nanotun.config.options import Options
from nanotun.config.selectors import Selector, SelectorKind
from nanotun.config.settings import Settings, flagValue, makeSettings, variableValues
from nanotun.config.times import timeSpan
from nanotun.console.run.options import RunOptions
from nanotun.errors import ConfigError, WrongOption
from nanotun.flow import Protocol

EXAMPLE = """\
proxy: h
countryFile: /c
rules:
  - {to: direct,  domains: [corp.example, "=intranet.example"], networks: [10.20.0.0/16]}
  - {to: reject,  domains: "file:/etc/nanotun/blocked.txt"}
  - to: drop
    processes: [Firefox, "unit:backup.service", "uid:1000"]
    ports: ["tcp:443", "8000-8999", 53]
  - {to: direct,  countries: [DE, at], times: "Mo-Fr 08:00-18:00, Sa"}
  - {to: proxy,   sources: [192.168.7.0/24, "file:/a"], not: {ports: ["udp:443"]}, lan: true}
"""


def below(name: str) -> Pattern:
    """The pattern of a plain name."""
    return Pattern(PatternKind.BELOW, name, name)


def settingsOf(text: str, **flags: str) -> Settings:
    """The settings of a file with a proxy and these lines, and of flags."""
    given = {name: flagValue(KEYS[name], value) for name, value in flags.items()}
    return makeSettings(parseFile(f"proxy: h\n{text}", "n.yaml", KEYS), given, "n.yaml")


class ValueTests(SynchronousTestCase):
    """What rules are read as."""

    def one(self, text: str, more: str = "") -> FlowRule:
        """The only rule of a file."""
        (rule,) = settingsOf(f"rules:\n- {text}\n{more}").rules
        return rule

    def test_example(self) -> None:
        """Rules keep their order, know where they are, and have every condition."""
        rules = makeSettings(parseFile(EXAMPLE, "n.yaml", KEYS), {}, "n.yaml").rules
        corp = (below("corp.example"), Pattern(PatternKind.EXACTLY, *["intranet.example"] * 2))
        self.assertEqual(
            rules,
            (
                FlowRule(
                    "direct",
                    Conditions(
                        domains=(corp[0], corp[1]._replace(text="=intranet.example")),
                        networks=(ip_network("10.20.0.0/16"),),
                    ),
                    where="n.yaml, line 4",
                ),
                FlowRule(
                    "reject",
                    Conditions(
                        domains=(
                            Pattern(
                                PatternKind.FILE,
                                "/etc/nanotun/blocked.txt",
                                "file:/etc/nanotun/blocked.txt",
                            ),
                        )
                    ),
                    where="n.yaml, line 5",
                ),
                FlowRule(
                    "drop",
                    Conditions(
                        processes=(
                            Selector(SelectorKind.NAME, "firefox"),
                            Selector(SelectorKind.UNIT, "backup.service"),
                            Selector(SelectorKind.UID, "1000"),
                        ),
                        ports=(
                            PortSpan(Protocol.TCP, 443, 443),
                            PortSpan(None, 8000, 8999),
                            PortSpan(None, 53, 53),
                        ),
                    ),
                    where="n.yaml, line 6",
                ),
                FlowRule(
                    "direct",
                    Conditions(
                        countries=("DE", "AT"),
                        times=(timeSpan("Mo-Fr 08:00-18:00"), timeSpan("Sa")),
                    ),
                    where="n.yaml, line 9",
                ),
                FlowRule(
                    "proxy",
                    Conditions(sources=(ip_network("192.168.7.0/24"), ListFile("/a"))),
                    Conditions(ports=(PortSpan(Protocol.UDP, 443, 443),)),
                    lan=True,
                    where="n.yaml, line 10",
                ),
            ),
        )

    def test_none(self) -> None:
        """No rules are an empty list, or an empty text."""
        for text in ("rules: []", "rules: ''", ""):
            self.assertEqual(settingsOf(text).rules, ())

    def test_noConditions(self) -> None:
        """A rule without conditions is for whatever comes to it."""
        self.assertEqual(self.one("{to: proxy}").wants, Conditions())

    def test_commas(self) -> None:
        """Values are a list, a text with commas, or both, and each counts once."""
        expected = (below("a.example"), below("b.example"), below("c.example"))
        for text in (
            "[a.example, b.example, c.example]",
            "'a.example, b.example,c.example,'",
            "['a.example, b.example', c.example, 'a.example', '']",
        ):
            self.assertEqual(
                [each.value for each in self.one(f"{{to: proxy, domains: {text}}}").wants.domains],
                [each.value for each in expected],
            )

    def test_ownCommas(self) -> None:
        """In a list, a regular expression and a path keep their commas."""
        found = self.one("{to: proxy, domains: ['~^a{1,3}$', 'file:/a,b']}").wants.domains
        self.assertEqual([each.value for each in found], ["^a{1,3}$", "/a,b"])
        (listed,) = self.one("{to: proxy, networks: ['file:/a,b']}").wants.networks
        self.assertEqual(listed, ListFile("/a,b"))
        found = self.one("{to: proxy, domains: '~a, file:/b,c'}").wants.domains
        self.assertEqual([each.value for each in found], ["a", "/b", "c"])

    def test_ports(self) -> None:
        """A port is for both protocols unless it names one; a span has both of its ends."""
        (any, tcp) = self.one("{to: proxy, ports: [53, 'TCP:8000 - 8001']}").wants.ports
        self.assertTrue(any.includes(Protocol.TCP, 53) and any.includes(Protocol.UDP, 53))
        self.assertFalse(any.includes(Protocol.TCP, 54))
        found = [port for port in range(65536) if tcp.includes(Protocol.TCP, port)]
        self.assertEqual(found, [8000, 8001])
        self.assertFalse(tcp.includes(Protocol.UDP, 8000))

    def test_norway(self) -> None:
        """The codes of countries are text, whatever YAML 1.1 says about NO."""
        rule = self.one("{to: proxy, countries: [NO, no]}", "countryFile: /c")
        self.assertEqual(rule.wants.countries, ("NO",))


class FlagTests(SynchronousTestCase):
    """Rules on the command line and in the environment."""

    def test_flag(self) -> None:
        """A flag is one rule as YAML, or a list of some; it wins over the file."""
        text = "rules: [{to: drop}]"
        one = "{to: reject, domains: [a.example, b.example]}"
        (rule,) = settingsOf(text, rules=one).rules
        wants = Conditions((below("a.example"), below("b.example")))
        self.assertEqual(rule, FlowRule("reject", wants, where="--rule"))
        self.assertEqual(settingsOf(text, rules=f"[{one}, {one}]").rules, (rule, rule))
        self.assertEqual(settingsOf(text, rules="").rules, ())

    def test_several(self) -> None:
        """Several are put together in their order."""
        found = settingsOf("", rules="{to: drop}\n---\n[{to: reject}, {to: proxy}]").rules
        self.assertEqual([rule.to for rule in found], ["drop", "reject", "proxy"])

    def test_options(self) -> None:
        """The flag may be given several times, and each is YAML by itself."""
        for cls in (Options, RunOptions):
            options = cls()
            options.postOptions = lambda: None  # type: ignore[method-assign]
            rules = ("--rule", "{to: drop, domains: [a, b]}", "--rule=[{to: reject}, {to: proxy}]")
            options.parseOptions(["--proxy", "h", *rules, "--", *["true"] * (cls is RunOptions)])
            options.readSettings(0, {})
            found = [(rule.to, len(rule.wants.domains)) for rule in options.settings.rules]
            self.assertEqual(found, [("drop", 2), ("reject", 0), ("proxy", 0)])

    def test_variable(self) -> None:
        """A variable is read in the same way."""
        given = variableValues({"NANOTUN_RULES": "[{to: drop, ports: 53}]", "NANOTUN_PROXY": "h"})
        (rule,) = makeSettings({}, given, None).rules
        self.assertEqual((rule.to, rule.where), ("drop", "NANOTUN_RULES"))

    def test_wrong(self) -> None:
        """An error names the flag and the entry; YAML that is none says how to write it."""
        for text, sentence in (
            ("{to: drop, prots: 5}", "--rule, entry 1, prots: there is no such condition; did you"),
            ("drop", "--rule, entry 1 must be a mapping, such as {to: direct, domains: [corp."),
            ("{to: drop", "--rule is not valid YAML (expected ',' or '}'); write it in quotes"),
            ("to: drop, a: b", "--rule is not valid YAML (mapping values are not allowed here); "),
            ("{to: drop, to: a}", "--rule, entry 1, to is set a second time; remove one of the"),
            ("[{to: drop}]\n---\n{to: drop, to: a}", "--rule, entry 2, to is set a second time;"),
            ("{to: drop, ports: !!int x}", "--rule is not valid YAML (a wrong tag); write it in "),
            ("[" * 5000, "--rule is nested too deeply; write it in quotes, such as '{to: direct, "),
        ):
            error = self.assertRaises(WrongOption, settingsOf, "", rules=text)
            self.assertEqual(str(error)[: len(sentence)], sentence)
        error = self.assertRaises(ConfigError, variableValues, {"NANOTUN_RULES": "{"})
        self.assertEqual(str(error).partition(" ")[0], "NANOTUN_RULES")


_NAMES = "corp.example, =www.corp.example, *.corp.example, ~^ads[0-9]+ or file:/PATH, not"
_NETWORKS = "192.0.2.7, 10.0.0.0/8, 2001:db8::/32 or file:/PATH, not"
_PORTS = "from 1 to 65535, such as 443, tcp:443 or udp:8000-8999, not"
_TIMES = 'such as "Mo-Fr 08:00-18:00", "Sa-Su" or "22:00-06:00", not'
_ALL = "domains, networks, countries, processes, ports, sources, times"
_REST = _ALL.replace(", times", " and times")

#: What is wrong with one rule, and the sentence behind C{"n.yaml, line 3: rules, entry 1"}.
WRONG = (
    ("5", " must be a mapping, such as {to: direct, domains: [corp.example]}, not 5."),
    ("a", " must be a mapping, such as {to: direct, domains: [corp.example]}, not a text."),
    ("[]", " must be a mapping, such as {to: direct, domains: [corp.example]}, not a list."),
    ("", " must be a mapping, such as {to: direct, domains: [corp.example]}, not empty."),
    (
        "{ports: 5}",
        " does not say where connections go; add to: and the name of an upstream, direct, reject "
        "or drop.",
    ),
    ("{to: [a]}", ", to must be the name of an upstream, direct, reject or drop, not a list."),
    ("{to: a, domain: b}", ", domain: there is no such condition; did you mean domains?"),
    ("{to: a, Port: b}", ", Port: there is no such condition; did you mean ports?"),
    ("{to: a, x: b}", f", x: there is no such condition; there are to, {_ALL}, not and lan."),
    ("{to: a, 5: b}", f" has what is no condition; there are to, {_ALL}, not and lan."),
    ("{to: a, 'b c': b}", f" has what is no condition; there are to, {_ALL}, not and lan."),
    ("{to: a, ports: []}", ", ports must not be empty; leave it out if any will do."),
    ("{to: a, ports: }", ", ports must not be empty; leave it out if any will do."),
    ("{to: a, domains: ' , '}", ", domains must not be empty; leave it out if any will do."),
    ("{to: a, domains: a b}", f", domains must be names, such as {_NAMES} 'a b'."),
    ("{to: a, domains: [c, a b]}", f", domains, entry 2 must be a name, such as {_NAMES} 'a b'."),
    ("{to: a, domains: {b: c}}", f", domains must be names, such as {_NAMES} a mapping."),
    ("{to: a, domains: true}", f", domains must be names, such as {_NAMES} true."),
    (
        "{to: a, domains: ['~ads[']}",
        ", domains, entry 1: ~ads[ is not a regular expression (unterminated character set at "
        "position 3); in YAML it may need quotes.",
    ),
    ("{to: a, domains: 'file:a'}", ", domains: file:a has no absolute path; write file:/PATH."),
    (
        "{to: a, domains: [10.0.0.0/8]}",
        ", domains, entry 1: 10.0.0.0/8 is about addresses; write it under networks.",
    ),
    (
        "{to: a, networks: 10.0.0.0/33}",
        f", networks must be addresses or networks, such as {_NETWORKS} '10.0.0.0/33'.",
    ),
    (
        "{to: a, sources: [x]}",
        f", sources, entry 1 must be an address or a network, such as {_NETWORKS} 'x'.",
    ),
    (
        "{to: a, networks: ['fe80::1%eth0']}",
        ", networks, entry 1: fe80::1%eth0 is of one interface only; leave out what follows the %.",
    ),
    (
        "{to: a, networks: '::ffff:10.0.0.0/104'}",
        ", networks: no flow has ::ffff:10.0.0.0/104, which is IPv4-mapped; write 10.0.0.0/8.",
    ),
    ("{to: a, networks: 'file:a'}", ", networks: file:a has no absolute path; write file:/PATH."),
    ("{to: a, ports: https}", f", ports must be ports {_PORTS} 'https'."),
    ("{to: a, ports: [0]}", f", ports, entry 1 must be a port {_PORTS} '0'."),
    ("{to: a, ports: 1-65536}", f", ports must be ports {_PORTS} '1-65536'."),
    ("{to: a, ports: true}", f", ports must be ports {_PORTS} true."),
    ("{to: a, ports: 4.5}", f", ports must be ports {_PORTS} 4.5."),
    ("{to: a, ports: 8999-8000}", ", ports: 8999-8000 ends before it begins; write 8000-8999."),
    (
        "{to: a, countries: Germany}",
        ", countries must be two-letter codes, such as DE or AT, not 'Germany'.",
    ),
    (
        "{to: a, processes: 'uid:a b'}",
        ", processes must be processes: a name such as curl, a path such as /usr/bin/curl, pid:N, "
        "uid:N, uid:USER, cgroup:/PATH or unit:NAME.service; not 'uid:a b'.",
    ),
    (
        "{to: a, times: ['Sa', 'Mo,We 08:00-18:00']}",
        ", times, entry 2: it is not clear whether Mo has the hours of We 08:00-18:00; write "
        "Mo 08:00-18:00, We 08:00-18:00 if so, else We 08:00-18:00, Mo.",
    ),
    (
        "{to: a, times: 'Mo-Fr 08:00-18:00, Sa, Su-Mo08:00-09:00'}",
        ", times: it is not clear whether Sa has the hours of Su-Mo08:00-09:00; write "
        "Sa 08:00-09:00, Su-Mo08:00-09:00 if so, else Su-Mo08:00-09:00, Sa.",
    ),
    ("{to: a, times: 8-18}", f", times must be times, {_TIMES} '8-18'."),
    (
        "{to: a, times: '08:00-08:00'}",
        ", times: 08:00-08:00 ends when it begins; leave the hours out if the whole day is meant.",
    ),
    ("{to: a, lan: yes}", ", lan must be true or false, not 'yes' (did you mean true?)."),
    (
        "{to: a, not: [b]}",
        ', not must be a mapping of conditions, such as {ports: ["udp:443"]}, not a list.',
    ),
    ("{to: a, not: {}}", ", not must not be empty; leave it out if nothing is excepted."),
    ("{to: a, not: {to: b}}", ", not: to does not belong here; not takes conditions only."),
    ("{to: a, not: {not: b}}", ", not: not does not belong here; not takes conditions only."),
    ("{to: a, not: {port: 5}}", ", not.port: there is no such condition; did you mean ports?"),
    ("{to: a, not: {x: 5}}", f", not.x: there is no such condition; there are {_REST}."),
    ("{to: a, not: {ports: x}}", f", not.ports must be ports {_PORTS} 'x'."),
    ("{to: a, to: b}", ", to is set a second time, first on line 3; remove one of the two."),
)


class WrongRuleTests(SynchronousTestCase):
    """The sentences about rules that are none."""

    def fails(self, text: str) -> str:
        """The error for the lines behind C{"proxy: h"}."""
        return str(self.assertRaises(ConfigError, settingsOf, text))

    def test_sentences(self) -> None:
        """Each mistake has one sentence, with the file, the line and the entry."""
        for text, sentence in WRONG:
            self.assertEqual(
                self.fails(f"rules:\n- {text}"), f"n.yaml, line 3: rules, entry 1{sentence}"
            )

    def test_notAList(self) -> None:
        """Rules that are no list say what one looks like."""
        for text, shown in (("{to: a}", "a mapping"), ("direct", "a text"), ("", "empty")):
            self.assertEqual(
                self.fails(f"rules: {text}"),
                "n.yaml, line 2: rules must be a list of rules, such as - {to: direct, domains: "
                f"[corp.example]}}, not {shown}.",
            )

    def test_upstreams(self) -> None:
        """A rule and C{default} name upstreams that there are."""
        office = "upstreams: {office: h}\n"
        for to in ("proxy", "direct", "reject", "drop", "office"):
            settings = settingsOf(f"{office}rules: [{{to: {to}}}]\ndefault: {to}")
            self.assertEqual((settings.rules[0].to, settings.default), (to, to))
        for text, sentence in (
            (
                f"{office}rules:\n- {{to: direct}}\n- {{to: offce}}",
                "n.yaml, line 5: rules, entry 2, to: there is no upstream offce; did you mean "
                "office?",
            ),
            (
                "rules: [{to: x}]",
                "n.yaml, line 2: rules, entry 1, to: there is no upstream x; there are proxy, "
                "direct, reject and drop.",
            ),
            (
                "default: rejcet",
                "n.yaml, line 2: default: there is no upstream rejcet; did you mean reject?",
            ),
            ("default: 5", "n.yaml, line 2: default must be the name of an upstream, not 5."),
        ):
            self.assertEqual(self.fails(text), sentence)
        error = self.assertRaises(WrongOption, settingsOf, "", default="prxy")
        self.assertEqual(str(error), "--default: there is no upstream prxy; did you mean proxy?")

    def test_countries(self) -> None:
        """Rules with countries need the file that knows them, in C{not} as well."""
        for text, place in (
            ("{to: drop, countries: DE}", "countries"),
            ("{to: drop, not: {countries: DE}}", "not.countries"),
        ):
            self.assertEqual(
                self.fails(f"rules:\n- {text}"),
                f"n.yaml, line 3: rules, entry 1, {place} needs countryFile, the path of a MaxMind "
                "DB such as /var/lib/GeoIP/GeoLite2-Country.mmdb; set it, or remove countries.",
            )
            settingsOf(f"countryFile: /a\nrules:\n- {text}")

    def test_lines(self) -> None:
        """The line is that of the offending entry, down to one value of a list."""
        rules = "rules:\n- {to: proxy}\n- to: proxy\n  not:\n    domains:\n    - a\n    - b c\n"
        self.assertEqual(
            self.fails(rules).partition(" must ")[0],
            "n.yaml, line 8: rules, entry 2, not.domains, entry 2",
        )
        self.assertEqual(
            self.fails("rules:\n- to: proxy\n  ports: 1\n  lan: true\n  ports: 2\n"),
            "n.yaml, line 6: rules, entry 1, ports is set a second time, first on line 4; remove "
            "one of the two.",
        )

    def test_limits(self) -> None:
        """There is a limit of rules, and of the values of each condition."""
        self.assertEqual(
            self.fails(f"rules: [{'{to: a},' * 5000}]"),
            "n.yaml, line 2: rules must be at most 4096 rules, not 5000; put names and networks "
            "into files.",
        )
        many = ", ".join(str(each) for each in range(1, 258))
        self.assertEqual(
            self.fails(f"rules: [{{to: a, ports: [{many}]}}]"),
            "n.yaml, line 2: rules, entry 1, ports must have at most 256 values, not 257.",
        )

    def test_oneLine(self) -> None:
        """Whatever is written, the error is one short line."""
        names = ("domains", "networks", "ports", "times", "countries")
        for value in ('"\\e[31m\\n x"', '"' + "y z" * 500 + '"'):
            for name in names if "y" in value else (*names, "processes"):
                message = self.fails(f"rules: [{{to: a, {name}: {value}}}]")
                self.assertTrue(message.isprintable(), message)
                self.assertLess(len(message), 300)
