"""Tests of L{nanotun.daemon.explain}: the user's rules, names and the script."""

from __future__ import annotations

import json
from typing import Any, cast

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from nanotun.daemon.described import HeardScript
from nanotun.daemon.explain import explainHandler
from nanotun.flow import Endpoint, Flow, Known, Protocol, ScriptAnswer
from nanotun.interfaces import IScript
from nanotun.script import Flow as ScriptsFlow
from nanotun.testing import FakeScript
from tests.unit.daemon.test_explain import CURL, HandlerCase

OFFICE = ("--upstream", "office=socks5://gate.example")


class RulesCase(HandlerCase):
    """Asks a daemon that has rules."""

    def rules(self, *rules: str, more: tuple[str, ...] = ()) -> None:
        """Put rules in force."""
        self.configure(*OFFICE, *(f"--rule={rule}" for rule in rules), *more)

    def steps(self, **changes: Any) -> list[tuple[str, str, str]]:
        """What each rule says."""
        return [(each["rule"], each["value"], each["why"]) for each in self.ask(**changes)["steps"]]


class StepTests(RulesCase):
    """The rules that were asked."""

    def test_decisive(self) -> None:
        """The rule that decides is there with its place and its reason, and those before it."""
        self.rules(
            "{to: reject, ports: 25}",
            "{to: office, domains: corp.example}",
            "{to: direct, ports: 443}",
        )
        found = self.ask(name="www.corp.example")
        self.assertEqual(
            [found[key] for key in ("verdict", "upstream", "rule", "where", "reason", "name")],
            [
                "proxy",
                "office",
                "#2",
                "--rule",
                "www.corp.example is below corp.example",
                "www.corp.example",
            ],
        )
        self.assertEqual(
            found["steps"],
            [
                {
                    "rule": "#1",
                    "where": "--rule",
                    "to": "reject",
                    "value": "no",
                    "why": "TCP 443 is none of its ports",
                },
                {
                    "rule": "#2",
                    "where": "--rule",
                    "to": "office",
                    "value": "yes",
                    "why": "www.corp.example is below corp.example",
                },
            ],
        )
        self.assertIsNone(found["script"])

    def test_none(self) -> None:
        """Of a flow that is barred no rule was asked; its reason is that of what barred it."""
        self.rules("{to: reject}")
        found = self.ask(host="127.0.0.1")
        self.assertEqual((found["rule"], found["steps"], found["where"]), ("host-only", [], ""))
        self.assertIn("never leaves a host", found["reason"])

    def test_afterwards(self) -> None:
        """Where the route changes what a rule has decided, both are told."""
        self.patch(self, "no", lambda host: True)
        self.rules("{to: direct, ports: 443}")
        found = self.ask()
        self.assertEqual((found["rule"], found["where"]), ("no-way", ""))
        self.assertIn("leads into", found["reason"])
        self.assertEqual([each["value"] for each in found["steps"]], ["yes"])

    def test_processes(self) -> None:
        """A process is whom rules select, by each kind of selector, though it is not excluded."""
        for selector in ("curl", "uid:1", "cgroup:/a.slice", "unit:b.service"):
            process = {**CURL, "pid": 7, "cgroup": "/a.slice/b.service"}
            self.rules(f"{{to: direct, processes: '{selector}'}}")
            found = self.ask(process=process)
            # Nobody says that curl is curl.
            what = "the process" if selector == "curl" else "curl (pid 7)"
            self.assertEqual((found["rule"], found["reason"]), ("#1", f"{what} is {selector}"))
            other = {**CURL, "names": ["wget"], "uids": [2, 2, 2]}
            self.assertEqual(self.ask(process=other)["rule"], "default", selector)
        self.rules("{to: direct, not: {processes: curl}}")
        self.assertEqual(self.ask(process=CURL)["rule"], "default")

    def test_anyway(self) -> None:
        """A process that nobody asks for, because the flow goes there anyway, is not known."""
        self.rules("{to: proxy, processes: curl}", "{to: office, ports: 25}")
        self.assertEqual(
            self.steps(process=CURL),
            [
                ("#1", "unknown", "its process is not known, and the flow goes there anyway"),
                ("#2", "no", "TCP 443 is none of its ports"),
            ],
        )

    def test_whose(self) -> None:
        """The note about processes names those of rules, too, but not all of a hundred."""
        self.rules(
            "{to: direct, processes: [wget, curl]}",
            "{to: office, not: {processes: git}}",
            more=("--exclude", "curl"),
        )
        (note,) = self.ask()["notes"]
        self.assertTrue(note.startswith("Processes matter here (curl, wget, git): say "), note)
        self.assertEqual(self.ask(process=CURL)["notes"], [])
        names = ", ".join(f"p{number}" for number in range(100))
        self.rules(f"{{to: direct, processes: [{names}]}}")
        (note,) = self.ask()["notes"]
        self.assertIn("(p0, p1, p2, p3, p4, p5, p6, p7, and others)", note)
        self.configure("--proxy", "socks5://{process}:x@proxy.example")
        (note,) = self.ask()["notes"]
        self.assertIn("(a user name for the proxy)", note)
        # What comes later does not matter, but whether it is the proxy's own flow does.
        here = ("--proxy", "socks5://198.18.0.2:1", "--exclude", "curl")
        self.rules("{to: office, ports: 443}", "{to: direct, processes: wget}", more=here)
        self.assertIn("(the proxy on this machine)", self.ask()["notes"][0])
        self.assertIn("(curl, wget)", self.ask(port=80)["notes"][0])
        self.rules("{to: direct, processes: wget}", "{to: office, ports: 443}", more=here)
        self.assertIn("(curl, wget)", self.ask()["notes"][0])


class NameTests(RulesCase):
    """Names."""

    CORP = "{to: reject, domains: corp.example}"

    def test_given(self) -> None:
        """A name that is described is compared as rules compare names."""
        self.rules(self.CORP, "{to: direct, domains: xn--bcher-kva.example}")
        for name in ("corp.example", "WWW.Corp.Example."):
            self.assertEqual(self.ask(name=name)["rule"], "#1", name)
        self.assertEqual(self.ask(name="b\u00fccher.example")["rule"], "#2")
        self.assertEqual(self.ask(name="corp.example.org")["rule"], "default")
        self.assertEqual(self.ask(name="corp.example.org")["notes"], [])

    def test_lacking(self) -> None:
        """A note asks for the name where it could change something, and only there."""
        self.rules(self.CORP)
        (note,) = self.ask()["notes"]
        self.assertEqual(
            note, "A name could change this: say it with --name, as in --name www.example.org."
        )
        self.assertEqual(self.ask(host="127.0.0.1")["notes"], [])
        self.rules("{to: proxy, domains: corp.example}")
        self.assertEqual(self.ask()["notes"], [])
        self.rules(self.CORP, more=("--sniff",))
        (note,) = self.ask()["notes"]
        self.assertIn("nanotun reads the one that the flow asks for", note)
        self.assertIn("A name could", self.ask(port=22)["notes"][0])

    def test_daemons(self) -> None:
        """The daemon knows what its relay has called an address."""
        self.names.known = {"1.1.1.1": "www.corp.example"}
        self.rules(self.CORP)
        found = self.ask()
        self.assertEqual((found["rule"], found["name"]), ("#1", "www.corp.example"))

    def test_several(self) -> None:
        """Other names of the address count as well, unless the flow itself says its name."""
        both = Known(("other.example", "www.corp.example"))
        self.names.several = {"1.1.1.1": both}
        self.rules(self.CORP)
        for name in ("", "www.corp.example"):
            found = self.ask(name=name)
            self.assertEqual((found["rule"], found["name"]), ("default", name))
            self.assertIn("which the rules treat differently", found["notes"][0])
            self.assertIn("www.corp.example", found["notes"][0])
        self.rules(self.CORP, more=("--sniff",))
        self.assertEqual(self.ask(name="www.corp.example")["rule"], "#1")
        self.assertEqual(self.ask(name="other.example")["rule"], "default")
        self.assertIn("say it with --name", self.ask()["notes"][0])
        self.rules("{to: reject, domains: [corp.example, other.example]}")
        self.assertEqual(self.ask()["rule"], "#1")

    def test_fake(self) -> None:
        """A name that gets a fake address is judged by itself, whatever the relay has given."""
        self.names.known = {
            f"198.{net}.0.{host}": "b.test" for net in (18, 19) for host in range(9)
        }
        self.rules(self.CORP, more=("--dns-mode", "fake-ip"))
        found = self.ask(host="www.Corp.example")
        self.assertEqual((found["rule"], found["name"]), ("#1", "www.corp.example"))
        self.assertEqual(self.ask(host="other.example")["rule"], "default")


class ScriptTests(RulesCase):
    """The user's script."""

    def withScript(self, to: str | None) -> FakeScript:
        """Put a script in force, before one rule."""
        self.script = script = FakeScript(to)
        self.rules("{to: reject, ports: 443}")
        return script

    def test_decides(self) -> None:
        """The script is asked about the flow, as number 0, and what it says is told."""
        script = self.withScript("office")
        found = self.ask(name="a.example", host="192.0.2.7")
        self.assertEqual((found["rule"], found["upstream"]), ("script", "office"))
        self.assertEqual(found["script"], {"to": "office", "reason": "the script says so"})
        self.assertEqual((found["reason"], found["steps"]), ("the script says so", []))
        (flow,) = script.asked
        self.assertEqual((flow.id, flow.domain, flow.address), (0, "a.example", "192.0.2.7"))

    def test_leaves(self) -> None:
        """A script that leaves a flow to the rules is told of, with why if it has failed."""
        script = self.withScript("")
        found = self.ask(name="a.example")
        self.assertEqual((found["rule"], found["script"]), ("#1", {"to": None, "reason": ""}))
        script.answer = ScriptAnswer("", "the script failed")
        self.assertEqual(self.ask()["script"], {"to": None, "reason": "the script failed"})
        self.assertIn("A name could change this", self.ask()["notes"][0])
        self.assertEqual(self.ask(name="a.example")["notes"], [])
        self.assertIsNone(self.ask(host="127.0.0.1")["script"])
        self.names.several = {"1.1.1.1": Known(("a.example", "b.example"))}
        self.assertIn("which the script may treat differently", self.ask()["notes"][0])

    def test_process(self) -> None:
        """A script that needs the process gets the one that is described."""
        script = self.withScript("")
        script.needsProcess = True
        self.rules()
        (note,) = self.ask(name="a.example")["notes"]
        self.assertIn("Processes matter here (the script)", note)
        self.assertEqual(self.ask(name="a.example", process=CURL)["notes"], [])
        process = script.asked[-1].process
        assert process is not None
        self.assertEqual(process.name, "curl")

    def test_waits(self) -> None:
        """The answer waits for the script's."""
        script = self.withScript(None)
        arguments = {"protocol": "tcp", "host": "1.1.1.1", "port": 443, "source": ""}
        waiting = explainHandler(cast(Any, self.live), "")({**arguments, "process": None})
        assert isinstance(waiting, Deferred)
        self.assertNoResult(waiting)
        script.give(ScriptAnswer("direct"))
        found = json.loads(json.dumps(self.successResultOf(waiting)))
        self.assertEqual((found["verdict"], found["rule"]), ("direct", "script"))

    def test_heard(self) -> None:
        """Everything but the answer goes on to the script."""
        script = FakeScript("")
        heard = HeardScript(script)
        verifyObject(IScript, heard)
        for name in ("needsProcess", "decides", "followsFlows", "answersQueries"):
            self.assertEqual(getattr(heard, name), getattr(script, name))
        flow, end = cast(ScriptsFlow, object()), cast(Any, object())
        heard.ended(flow, end)
        heard.query(end)
        self.assertEqual((script.ends, script.queries), ([(flow, end)], [end]))

    def test_notTheirs(self) -> None:
        """Flows of others are judged as before, when an explanation has been given."""
        script = self.withScript("")
        self.ask(process=CURL, name="a.example")
        flow = Flow(7, Protocol.TCP, Endpoint("198.18.0.2", 1), Endpoint("1.1.1.1", 443))
        self.live.current.judge.judge(flow)
        self.assertEqual([(each.id, each.domain) for each in script.asked][1:], [(7, None)])
