"""Tests of L{nanotun.daemon.explain}."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.options import Options
from nanotun.config.settings import Settings
from nanotun.console.explain.answer import byTheSettings
from nanotun.daemon import described as describedModule
from nanotun.daemon.described import AnsweredHere, DescribedOwner, Question, fieldsOf, processOf
from nanotun.daemon.explain import LOOK_UP, NO_FLOW, explainHandler
from nanotun.errors import RunningError
from nanotun.gateway.dns.hostsfile import HostsFile
from nanotun.owners.values import Process, ProcStat
from nanotun.policy.dnsnames import namePolicy
from nanotun.policy.judge import Judge
from nanotun.policy.lists import NO_LISTS
from nanotun.policy.rules import LOCAL_PROXY
from nanotun.testing import FakeNames, FakeScript
from tests.unit.fields import fieldsIn, keysOf

CURL = {
    "pid": 0,
    "uids": [1, 1, 1],
    "names": ["curl"],
    "name": "curl",
    "path": "",
    "cgroup": "",
}


def settingsOf(*arguments: str) -> Settings:
    """The settings of a command line."""
    options = Options()
    options.parseOptions(["--proxy", "proxy.example", "--tun", "lo", *arguments])
    return options.settings


class HandlerCase(SynchronousTestCase):
    """Asks a daemon."""

    def setUp(self) -> None:
        self.excluded: dict[int, Any] = {}
        self.reports: dict[str, Any] = {}
        self.script: FakeScript | None = None
        self.names = FakeNames()
        self.live = SimpleNamespace()
        self.configure()

    def configure(self, *arguments: str) -> None:
        """Put settings in force."""
        settings = settingsOf(*arguments)
        judge = Judge(
            settings,
            DescribedOwner(None),
            lambda host: host == "198.18.0.2",
            self.no,
            namesOf=self.names.namesOf,
            script=self.script,
        )
        owners = SimpleNamespace(table=SimpleNamespace(excluded=self.excluded))
        upstreams = SimpleNamespace(reports=lambda: self.reports)
        self.live.current = SimpleNamespace(
            settings=settings,
            owners=owners,
            judge=judge,
            upstreams=upstreams,
            script=self.script,
            names=namePolicy(settings, NO_LISTS, judge.rules.table, self.script),
        )

    def no(self, host: str) -> bool:
        """No route leads into the device."""
        return False

    def ask(self, **changes: Any) -> dict[str, Any]:
        """The answer, as it arrives at the asker."""
        question = Question("tcp", "1.1.1.1", 443, "", None)._replace(**changes)
        handler = explainHandler(cast(Any, self.live), "/n.yaml")
        arguments = json.loads(json.dumps(question._asdict()))
        answer = handler(arguments)
        if isinstance(answer, Deferred):
            answer = self.successResultOf(answer)
        found = json.loads(json.dumps(answer))
        assert isinstance(found, dict)
        if found != LOOK_UP and NO_FLOW not in found:  # which no command prints as JSON
            self.assertLessEqual(set(keysOf(found)), fieldsIn("rules.md", "### In JSON"))
        return found


class ExplainHandlerTests(HandlerCase):
    """L{explainHandler}."""

    def test_same(self) -> None:
        """The daemon's answer is that of the same settings without a daemon."""
        rules = ("{to: reject, domains: a.example}", "{to: direct, processes: wget, ports: 22}")
        self.configure(
            "--exclude", "curl", "--exclude-ip", "9.9.9.9", *(f"--rule={rule}" for rule in rules)
        )
        cases: tuple[dict[str, Any], ...] = (
            {},
            {"host": "9.9.9.9"},
            {"host": "192.168.1.1", "protocol": "udp"},
            {"process": CURL},
            {"process": CURL, "port": 22},
            {"name": "www.a.example"},
            {"host": "169.254.169.254", "source": "192.0.2.9"},
        )
        for changes in cases:
            question = Question("tcp", "1.1.1.1", 443, "", None)._replace(**changes)
            expected = byTheSettings(self.live.current.settings, NO_LISTS, question)
            assert isinstance(expected, Deferred)
            found = self.ask(**changes)
            self.assertEqual(
                {key: found.pop(key) for key in ("by", "pid", "config")},
                {"by": "daemon", "pid": os.getpid(), "config": "/n.yaml"},
            )
            self.assertEqual(found, self.successResultOf(expected))

    def test_inForce(self) -> None:
        """The answer is by what is in force now."""
        self.assertEqual(self.ask(host="10.1.1.1")["rule"], "reserved")
        self.configure("--lan", "proxy")
        self.assertEqual(self.ask(host="10.1.1.1")["rule"], "default")

    def test_health(self) -> None:
        """The daemon also says how it stands with the proxy by which the flow would leave."""
        proxy = {"health": "down", "trouble": "It is off.", "latency": 0.5, "udp": True}
        self.reports = {"proxy": {"proxies": [proxy]}}
        found = self.ask()
        self.assertEqual(
            (found["upstream"], found["health"]),
            (
                "proxy",
                [{"url": "socks5://proxy.example:1080", "via": None, "login": None, **proxy}],
            ),
        )
        self.assertEqual(self.ask(host="10.1.1.1")["health"], [])

    def test_datagrams(self) -> None:
        """A note says why UDP does not pass."""
        self.configure("--proxy-via", "office", "--upstream", "office=socks5://gate.example")
        (note,) = self.ask(protocol="udp")["notes"]
        self.assertEqual(
            note,
            "UDP does not pass there: proxy is dialled through office, and a chain carries TCP "
            "only; the app hears so at once.",
        )
        (proxy,) = self.ask(protocol="udp")["health"]
        self.assertEqual((proxy["via"], proxy["udp"]), ("office", False))
        self.assertEqual(self.ask(protocol="udp", host="10.1.1.1")["notes"], [])
        self.assertEqual(self.ask()["notes"], [])

    def test_scanned(self) -> None:
        """Of a running process the daemon knows more than its description says."""
        self.configure("--exclude", "curl")
        process = {**CURL, "pid": 7, "name": "sh", "names": ["sh"]}
        self.assertEqual(self.ask(process=process)["verdict"], "proxy")
        self.excluded[7] = SimpleNamespace(text="curl", selected=frozenset())
        self.assertEqual(self.ask(process=process)["verdict"], "direct")
        self.live.current.owners = None
        self.assertEqual(self.ask(process=process)["verdict"], "proxy")

    def test_rules(self) -> None:
        """Rules' selectors match what is described, and numbers what the daemon's scan says."""
        cases: dict[str, dict[str, Any]] = {
            "curl": {"names": ["curl"]},
            "uid:1": {"uids": [1] * 3},
            "cgroup:/x": {"cgroup": "/x/z"},
            "pid:7": {"pid": 7},
            "/opt/y": {"path": "/opt/y"},
        }
        rules = [
            f"{{to: reject, processes: ['{text}'], ports: [{port}]}}"
            for port, text in enumerate(cases, start=1)
        ]
        self.configure(*[word for rule in rules for word in ("--rule", rule)])
        self.excluded[7] = SimpleNamespace(text="", selected=frozenset({"pid:7", "wget"}))
        nobody = {**CURL, "uids": [-1] * 3, "names": [], "name": ""}
        for number, given in enumerate(cases.values(), start=1):
            for port in range(1, len(cases) + 1):
                found = self.ask(process={**nobody, **given}, port=port)
                expected = f"#{number}" if port == number else "default"
                self.assertEqual(found["rule"], expected, (given, port))

    def test_proxyFirst(self) -> None:
        """A proxy on this machine is the proxy, also if its user is excluded."""
        rule = ("--rule", "{to: reject, ports: [443]}")
        self.configure(*rule, "--exclude", "uid:1", "--proxy", "localhost:1080")
        self.excluded[7] = SimpleNamespace(text=LOCAL_PROXY, selected=frozenset())
        self.assertEqual(self.ask(process={**CURL, "pid": 7})["rule"], "local-proxy")
        self.assertEqual(self.ask(process={**CURL, "pid": 8})["rule"], "#1")

    def test_matter(self) -> None:
        """If it matters whose flow it is, a note names the first processes that could be meant."""
        texts = [f"p{number}" for number in range(12)]
        rule = f"{{to: reject, processes: {texts}}}".replace("'", "")
        self.configure("--rule", rule, "--exclude", "curl")
        (note,) = self.ask()["notes"][:1]
        self.assertIn("(curl, p0, p1, p2, p3, p4, p5, p6, and others)", note)

    def test_onlyProcesses(self) -> None:
        """What onlyProcesses keeps out of the device is said to leave past nanotun."""
        self.configure("--auto-route", "--only", "uid:1", "--only", "cgroup:/games")
        out = "onlyProcesses does not name this program, so its flows do not enter the tunnel: "
        some = "Only flows of uid:1, cgroup:/games enter the tunnel (onlyProcesses); those of other"
        cases: tuple[tuple[dict[str, Any], str], ...] = (
            ({}, some),
            ({"process": CURL}, ""),
            ({"process": {**CURL, "uids": [2, 2, 2]}}, some),
            ({"process": {**CURL, "uids": [2, 2, 2], "cgroup": "/games/a"}}, ""),
            ({"process": {**CURL, "uids": [2, 2, 2], "cgroup": "/work"}}, out),
            ({"source": "192.0.2.9"}, "With onlyProcesses, what other machines send does not"),
        )
        for changes, expected in cases:
            notes = [each for each in self.ask(**changes)["notes"] if "past nanotun" in each]
            self.assertEqual(len(notes), bool(expected), changes)
            self.assertTrue("".join(notes).startswith(expected), notes)

    def test_name(self) -> None:
        """A name has to be looked up first, unless fake-ip gives it an address."""
        self.assertEqual(self.ask(host="example.org"), LOOK_UP)
        served = "{domains: office.example, servers: 192.0.2.1}"
        words = "--fake-ip-exclude", "corp.example", "--dns-rule", served
        self.configure("--dns-mode", "fake-ip", *words)
        for host in ("a.corp.example", "proxy.example", "printer", "a.office.example"):
            self.assertEqual(self.ask(host=host), LOOK_UP, host)
        found = self.ask(host="Example.org")
        self.assertEqual((found["rule"], found["destination"]), ("default", "Example.org:443"))

    def test_answeredHere(self) -> None:
        """
        Of a name that the relay answers about by itself, the answer is judged; where no flow can
        follow, a sentence says so.  Without a daemon it is the same.
        """
        rules = (
            "{domains: ads.example, answer: refuse}",
            "{domains: '*.nowhere.example', answer: [0.0.0.0, 10.0.0.9]}",
            "{domains: nothing.example, answer: nodata}",
            "{domains: corp.example, answer: 9.9.9.9}",
        )
        reject = "{to: reject, domains: [bad.example, =here.corp.example]}"
        words = *(f"--dns-rule={rule}" for rule in rules), "--rule", reject
        self.configure(*words, "--dns-rejected=nodata")
        here = "The relay answers queries for {} itself: "
        for host, source, what in (
            ("www.ads.example", "", "refused (dnsRules 1 (--dns-rule)"),
            ("nothing.example", "", "no data (dnsRules 3"),
            ("a.nowhere.example", "fd00::7", "0.0.0.0, 10.0.0.9 (dnsRules 2"),
        ):
            found = self.ask(host=host, source=source)
            self.assertEqual(list(found), ["noFlow"], host)
            self.assertTrue(found["noFlow"].startswith(here.format(host) + what), found)
            question = Question("tcp", host, 443, source, None)
            error = self.assertRaises(
                AnsweredHere, byTheSettings, self.live.current.settings, NO_LISTS, question
            )
            self.assertEqual(str(error), found["noFlow"])
        for host, verdict, rule, what in (
            ("Bad.example", "reject", "#1", "no data (rule 1"),
            ("x.corp.example", "proxy", "default", "9.9.9.9 (dnsRules 4"),
            ("here.corp.example", "reject", "#1", "9.9.9.9 (dnsRules 4"),
            ("a.nowhere.example", "direct", "reserved", "0.0.0.0, 10.0.0.9 (dnsRules 2"),
        ):
            found = self.ask(host=host)
            self.assertEqual((found["verdict"], found["rule"]), (verdict, rule), host)
            self.assertEqual(found["destination"], f"{host}:443")
            notes = [each for each in found["notes"] if here.format(host) + what in each]
            self.assertEqual(len(notes), 1, found["notes"])
            self.assertNotIn("address of its own", "".join(found["notes"]))
        self.assertEqual(self.ask(host="other.example"), LOOK_UP)

    def test_ownName(self) -> None:
        """A proxy's own name has to be looked up, whatever the rules say of all names."""
        refusing = "--dns-rule={domains: '*', answer: refuse}"
        for rule in (refusing, "--rule={to: drop, domains: '*'}"):
            self.configure(rule, "--dns-rejected=refuse")
            self.assertEqual(self.ask(host="Proxy.example"), LOOK_UP)
            self.assertNotEqual(self.ask(host="a.proxy.example"), LOOK_UP)

    def test_hosted(self) -> None:
        """A name in the hosts file has the address there, if the relay answers by that file."""
        path = Path(self.mktemp())
        path.write_text("10.0.0.5 printer.lan\n9.9.9.9 corp.example\n0.0.0.0 ads.example\n")
        self.patch(describedModule, "HostsFile", partial(HostsFile, path=str(path)))
        words = "--dns-mode=fake-ip", "--dns-rule={domains: corp.example, answer: refuse}"
        self.configure(*words)
        self.assertIn("address of its own", "".join(self.ask(host="printer.lan")["notes"]))
        self.configure(*words, "--hosts=true")
        here = "The relay answers queries for {} itself: {} (/etc/hosts, line {})"
        for host, rule, *what in (
            ("Printer.lan", "reserved", "10.0.0.5", 1),
            ("corp.example", "default", "9.9.9.9", 2),
        ):
            found = self.ask(host=host)
            self.assertEqual(found["rule"], rule)
            self.assertIn(f"{here.format(host, *what)}.", found["notes"])
        found = self.ask(host="ads.example")["noFlow"]
        self.assertTrue(found.startswith(here.format("ads.example", "0.0.0.0", 3)), found)

    def test_process(self) -> None:
        """A process arrives as it was, except for its times."""
        stat = ProcStat(0, 0, b"", 0, 0)
        process = Process(7, stat, (1, 2, 3), frozenset({"a", "b"}), "a", "/a\udcff", "/c")
        self.assertEqual(processOf(json.loads(json.dumps(fieldsOf(process)))), process)

    def test_nonsense(self) -> None:
        """What is no question is refused with a sentence."""
        handler = explainHandler(cast(Any, self.live), "")
        good = Question("tcp", "1.1.1.1", 443, "", None)._asdict()
        cases: tuple[dict[str, Any], ...] = (
            {"protocol": "icmp"},
            {"protocol": 7},
            {"port": 0},
            {"port": "x"},
            {"host": 7},
            {"source": "here"},
            {"process": {}},
            {"process": [1]},
            {"process": {**CURL, "uids": []}},
            {"process": {**CURL, "names": [1]}},
            {"more": 1},
            {"name": 7},
            {"name": "\u2488.example"},
        )
        for changes in cases:
            error = self.assertRaises(RunningError, handler, {**good, **changes})
            self.assertEqual(str(error), "This is no question about a flow.", changes)
        self.assertRaises(RunningError, handler, {})
