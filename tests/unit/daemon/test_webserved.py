"""Tests of L{nanotun.daemon.webserved} and L{nanotun.daemon.asked}."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.options import Options
from nanotun.config.values import proxies
from nanotun.daemon.asked import addressByAddress, questionOf
from nanotun.daemon.described import Question, processOf
from nanotun.daemon.explain import LOOK_UP, NO_FLOW
from nanotun.daemon.observed import ProgramSearch, ProgramsOnDemand
from nanotun.daemon.tap import makeService
from nanotun.daemon.webserved import addressesOf, configShown, masked, rulesShown
from nanotun.errors import NanotunError, RunningError
from nanotun.gateway.dns.addresses import packName
from nanotun.web.server import WebServer

SECRET = "s3cr3t"

FILE = f"""
proxy: socks5://me:{SECRET}@192.0.2.1:1080
mtu: 1400
upstreams:
  office: [http://you:{SECRET}@192.0.2.2, http://192.0.2.3]
rules:
- to: office
  domains: [corp.example]
- {{to: direct, ports: 22, not: {{processes: ssh}}}}
"""


class ShownSettingsTests(SynchronousTestCase):
    """L{configShown} and L{rulesShown}."""

    def read(self, text: str, *flags: str, **environment: str) -> Options:
        """Read a file."""
        path = Path(self.mktemp()).resolve()
        path.write_text(text)
        path.chmod(0o600)
        self.path = str(path)
        options = Options()
        self.patch(options, "postOptions", lambda: None)
        options.parseOptions(["--config", self.path, *flags])
        options.readSettings(path.stat().st_uid, environment)
        return options

    def live(self, now: Options, read: Options | None = None) -> Any:
        """A daemon with some settings in force, and perhaps others that were read since."""
        return SimpleNamespace(current=SimpleNamespace(settings=now.settings), read=read or now)

    def test_config(self) -> None:
        """Each setting is told as it is written, and where; nothing has a password."""
        live = self.live(self.read(FILE, "--udp-timeout", "30s", NANOTUN_LAN="proxy"))
        told = configShown(live, self.path)
        settings = {each["name"]: each for each in told["settings"]}
        self.assertEqual(told["file"], self.path)
        self.assertEqual(settings["mtu"]["value"], 1400)
        self.assertEqual(settings["mtu"]["where"], f"{self.path}, line 3")
        self.assertEqual(settings["udpTimeout"]["value"], "30s")
        self.assertEqual(settings["udpTimeout"]["where"], "--udp-timeout")
        self.assertEqual(settings["lan"]["where"], "NANOTUN_LAN")
        self.assertEqual(
            (settings["stackMode"]["value"], settings["stackMode"]["where"]), ("gvisor", "")
        )
        self.assertEqual(settings["proxy"]["value"], "socks5://***@192.0.2.1:1080")
        self.assertEqual((settings["mtu"]["live"], settings["rules"]["live"]), (False, True))
        self.assertNotIn(SECRET, repr(told))
        self.assertFalse(any(each["waits"] for each in told["settings"]))

    def test_waits(self) -> None:
        """What was read since and is not in force waits for a restart."""
        old = self.read(FILE)
        told = configShown(self.live(old, self.read(FILE.replace("1400", "1300"))), "")
        waiting = [each["name"] for each in told["settings"] if each["waits"]]
        # The rules know their file.
        self.assertIn("mtu", waiting)
        self.assertIs(told["file"], None)

    def test_rules(self) -> None:
        """The user's rules have their conditions as written, and how many flows they decided."""
        told = rulesShown(self.live(self.read(FILE)), {"#1": 7, "lan": 2})
        first, second = told["rules"]
        self.assertEqual(first["when"], {"domains": ["corp.example"]})
        self.assertEqual((first["rule"], first["to"], first["flows"]), ("#1", "office", 7))
        self.assertEqual(first["where"], f"{self.path}, line 7")
        self.assertEqual(second["when"], {"ports": 22, "not": {"processes": "ssh"}})
        self.assertEqual((told["counts"], told["default"]), ({"#1": 7, "lan": 2}, "proxy"))

    def test_otherRules(self) -> None:
        """Of rules that are not written there any more, no conditions are told."""
        other = self.read(FILE)
        told = rulesShown(self.live(self.read(FILE), other), {})
        self.assertEqual([each["when"] for each in told["rules"]], [{}, {}])

    def test_masked(self) -> None:
        """Whatever is before an @ is hidden, wherever it is, and the rest is kept."""
        self.assertEqual(
            masked({"a://u:p@h": [f"x://{SECRET}@h/p", 1, 1.5, True, None]}),
            {"a://***@h": ["x://***@h/p", 1, 1.5, True, None]},
        )

    def test_maskedBlanks(self) -> None:
        """All of a password is hidden, also where it has a blank, which is no ASCII."""
        for blank in ("\xa0", "\x85", "\u2003", "\u2028"):
            url = f"socks5://u:begin{blank}end@h:1"
            self.assertEqual([each.password for each in proxies(url)], [f"begin{blank}end"])
            self.assertEqual(masked(url), "socks5://***@h:1")


class WebPartTests(SynchronousTestCase):
    """The daemon's parts."""

    def kinds(self, *flags: str) -> set[type]:
        """The kinds of those that are started after the tunnel."""
        options = Options()
        options.parseOptions(["--proxy", "direct://", "--log-dir", "", *flags])
        cast(Any, options).parent = {}
        tunnel, _ = cast(Any, makeService(options))
        return {type(part) for part in tunnel.parts.after}

    def test_web(self) -> None:
        """With the setting there is a page; otherwise nothing, and no program is looked up."""
        ours = {WebServer, ProgramsOnDemand}
        self.assertEqual(self.kinds("--web", "127.0.0.1:8198") & ours, ours)
        self.assertEqual(self.kinds() & {*ours, ProgramSearch}, set())


class QuestionTests(SynchronousTestCase):
    """L{questionOf}."""

    def test_said(self) -> None:
        """Much may be left out, and a form's empty fields are left out."""
        plain = Question("tcp", "a.example", 443, "", None, "")
        empty = {"protocol": "", "source": "", "name": "", "process": ""}
        for given in (
            {"destination": " a.example:443 "},
            {"host": "a.example", "port": 443},
            {"destination": "a.example:443", **empty},
        ):
            self.assertEqual(questionOf(cast(Any, given)), plain)
        found = questionOf(
            {"destination": "[2001:db8::1]:53", "protocol": "udp", "source": "fd00::1"}
        )
        self.assertEqual(found, Question("udp", "2001:db8::1", 53, "fd00::1", None, ""))

    def test_process(self) -> None:
        """A process is a name or a path."""
        named = questionOf({"destination": "a:1", "process": "Firefox.exe"})
        self.assertEqual(processOf(named.process or {}).names, frozenset({"firefox"}))
        found = processOf(questionOf({"destination": "a:1", "process": "/bin/sh"}).process or {})
        self.assertEqual((found.name, found.path), ("sh", "/bin/sh"))

    def test_wrong(self) -> None:
        """What is no question is one sentence."""
        wrong: tuple[dict[str, Any], ...] = (
            {},
            {"destination": "a.example"},
            {"destination": ":443"},
            {"destination": "a.example:0"},
            {"destination": "a.example:99999"},
            {"host": "a.example"},
            {"host": 5, "port": 443},
            {"host": "a.example", "port": "443"},
            {"destination": "a.example:443", "protocol": "icmp"},
            {"destination": "a.example:443", "name": 5},
            {"destination": "a.example:443", "hurry": True},
        )
        for given in wrong:
            error = self.assertRaises(RunningError, questionOf, given)
            self.assertRegex(str(error), r"^[A-Z].*\.$")


class AddressByAddressTests(SynchronousTestCase):
    """L{addressByAddress} and L{addressesOf}."""

    def names(self, *results: Deferred[list[str]]) -> Any:
        """Somebody who looks names up."""
        answers = iter(results)
        return SimpleNamespace(resolve=lambda name, family: next(answers))

    def judge(self, question: Question) -> dict[str, Any]:
        """Each address has a rule of its own, but for two."""
        if question.host == "a.example":
            return dict(LOOK_UP)
        rule = {"192.0.2.9": "#9"}.get(question.host, "#1")
        return {"verdict": "proxy", "rule": rule, "reason": "", "name": question.name}

    def test_name(self) -> None:
        """Of a name each address is judged by it, and alike answers are one."""
        names = self.names(succeed(["192.0.2.1", "192.0.2.9"]), succeed(["2001:db8::1"]))
        answer = self.successResultOf(
            addressByAddress(
                questionOf({"destination": "a.example:443"}),
                self.judge,
                lambda question: addressesOf(names, question),
            )
        )
        self.assertEqual(answer["destination"], "a.example:443")
        self.assertEqual(answer["addresses"], ["192.0.2.1", "192.0.2.9", "2001:db8::1"])
        grouped = [(each["rule"], each["addresses"]) for each in answer["answers"]]
        self.assertEqual(grouped, [("#1", ["192.0.2.1", "2001:db8::1"]), ("#9", ["192.0.2.9"])])
        self.assertEqual({each["name"] for each in answer["answers"]}, {"a.example"})

    def test_families(self) -> None:
        """Addresses of both families are asked for, as names are looked up everywhere."""
        hosts = {4: ["192.0.2.1"], 6: ["2001:db8::1"]}
        names: Any = SimpleNamespace(resolve=lambda name, family: succeed(hosts[family]))
        both = addressesOf(names, questionOf({"destination": "a.example:443"}))
        self.assertEqual(self.successResultOf(both), ["192.0.2.1", "2001:db8::1"])

    def test_spelled(self) -> None:
        """A name is looked up as DNS writes it; what is none is a sentence."""
        asked: list[str] = []

        def resolve(name: str, family: int) -> Deferred[list[str]]:
            # As a query is made of it.
            packName(name)
            asked.append(name)
            return succeed(["192.0.2.1"])

        names: Any = SimpleNamespace(resolve=resolve)
        self.successResultOf(addressesOf(names, questionOf({"destination": "MÜNCHEN.example:1"})))
        self.assertEqual(asked, ["xn--mnchen-3ya.example"] * 2)
        for wrong in ("\udcff.example", "x" * 300, "..", "a..b", "a\0b"):
            question = questionOf({"host": wrong, "port": 1})
            error = self.assertRaises(RunningError, addressesOf, names, question)
            self.assertIn("is no name", str(error), ascii(wrong))

    def test_unknown(self) -> None:
        """A name without an address is a sentence, also if one lookup fails."""
        names = self.names(succeed([]), fail(NanotunError("no answer")))
        failed = addressByAddress(
            questionOf({"destination": "a.example:443"}),
            self.judge,
            lambda question: addressesOf(names, question),
        )
        error = self.failureResultOf(failed, RunningError).value
        self.assertIn("a.example cannot be looked up", str(error))

    def test_family(self) -> None:
        """Another machine's flow goes to addresses of its own version."""
        names = self.names(succeed(["2001:db8::1"]))
        question = questionOf({"destination": "a.example:443", "source": "fd00::1"})
        self.assertEqual(self.successResultOf(addressesOf(names, question)), ["2001:db8::1"])

    def test_noFlow(self) -> None:
        """A name to which no flow can go is the daemon's sentence."""
        answer = addressByAddress(
            questionOf({"destination": "a:1"}), lambda _: {NO_FLOW: "None can."}, lambda _: []
        )
        self.assertEqual(str(self.failureResultOf(answer, NanotunError).value), "None can.")
