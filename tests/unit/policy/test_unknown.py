"""Tests of L{nanotun.policy.judge}: what it finds out about a flow, and in which order."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Decision, Flow, Known, Owner, ScriptAnswer
from nanotun.policy.judge import Judge, trace
from nanotun.policy.rules import LOCAL_PROXY
from nanotun.script import NotLookedUp
from nanotun.testing import FakeOwners, FakeScript
from tests.unit.policy.deciding import ME, NEIGHBOUR, NOON, flow
from tests.unit.policy.judging import settings

CURL = Owner(77, 1000, "curl", selected=frozenset(("curl",)))
OFFICE = {"office": "socks5://office.example:1080"}
BY_NAME = {"to": "office", "domains": "corp.example"}
BY_PROCESS = {"to": "office", "processes": "curl"}
#: What was decided about a flow that is open already.
BLOCKED = {"to": "reject", "domains": "ads.example"}


class UnknownCase(SynchronousTestCase):
    """A judge, and what it asks for."""

    def setUp(self) -> None:
        """Nothing is known."""
        self.owners = FakeOwners()
        self.names: dict[str, Known] = {}
        self.inside: set[str] = set()
        #: What every flow was before the firewall changed it.
        self.original: Flow | None = None
        #: What was asked for, in order.
        self.asked: list[str] = []
        #: What sniffing finds; L{None} to let the test say so later.
        self.sniffed: str | None = ""
        self.sniffing: list[Deferred[str]] = []

    def makeJudge(self, *rules: dict[str, Any], script: Any = None, **values: Any) -> Judge:
        """A judge for some rules and settings."""
        allowed = values.pop("directAllowed", True)
        given = {"upstreams": OFFICE, "rules": list(rules), "sniff": True, **values}

        def ownerOf(asked: Any) -> Any:
            self.asked.append("owner")
            return FakeOwners.ownerOf(self.owners, asked)

        def decide(asked: Any) -> Any:
            self.asked.append(f"script {asked.domain}")
            return FakeScript.decide(script, asked)

        self.patch(self.owners, "ownerOf", ownerOf)
        if script is not None:
            self.patch(script, "decide", decide)
        return Judge(
            settings(**given),
            self.owners,
            ME.__eq__,
            self.inside.__contains__,
            ownPid=lambda: 42,
            namesOf=lambda asked: self.names.get(asked.destination.host, Known()),
            originalOf=lambda asked: self.original,
            script=script,
            directAllowed=allowed,
            nameOf={1000: "ann"}.get,  # type: ignore[arg-type]
            now=lambda: NOON,
        )

    def sniff(self) -> Deferred[str]:
        """Look for the name in the flow's first bytes."""
        self.asked.append("name")
        found: Deferred[str] = Deferred()
        self.sniffing.append(found)
        if self.sniffed is not None:
            found.callback(self.sniffed)
        return found

    def decide(self, judge: Judge, destination: str, source: str = ME) -> Decision:
        """The decision about C{"tcp 192.0.2.1:443"}, and what was asked for it."""
        self.asked.clear()
        decided = judge.judge(flow(destination, source), self.sniff)
        return self.successResultOf(decided) if isinstance(decided, Deferred) else decided

    def assertDecided(
        self, judge: Judge, destination: str, expected: str, *asked: str, source: str = ME
    ) -> Decision:
        """A flow is decided as C{"VERDICT rule upstream"}, after so much was asked for."""
        decision = self.decide(judge, destination, source)
        words = f"{decision.verdict.name} {decision.rule} {decision.upstream}".strip()
        self.assertEqual((words, self.asked), (expected, list(asked)), destination)
        return decision


class OrderTests(UnknownCase):
    """What is lacking is asked for in one order, each at most once, and only if it matters."""

    def test_nothing(self) -> None:
        """What cannot change where the flow goes is not asked for."""
        judge = self.makeJudge({"to": "direct", "ports": 443}, BY_NAME, BY_PROCESS)
        self.assertDecided(judge, "tcp 1.1.1.1:443", "DIRECT #1")
        self.names["1.1.1.1"] = Known(("corp.example",))
        self.assertDecided(judge, "tcp 1.1.1.1:80", "PROXY #2 office")
        self.assertDecided(judge, "tcp 198.18.0.1:53", "SERVE gateway")
        same = self.makeJudge({"to": "proxy", "domains": "a"}, {"to": "proxy", "processes": "a"})
        self.assertDecided(same, "tcp 2.2.2.2:443", "PROXY default")

    def test_order(self) -> None:
        """The owner is asked for first, then the name, then the script."""
        script = FakeScript("")
        script.needsProcess = True
        judge = self.makeJudge(BY_NAME, BY_PROCESS, script=script)
        self.sniffed = "www.corp.example"
        decision = self.assertDecided(
            judge,
            "tcp 1.1.1.1:443",
            "PROXY #1 office",
            "owner",
            "name",
            "script www.corp.example",
        )
        self.assertEqual(decision.name, "www.corp.example")
        self.assertEqual(self.owners.misses, 1)

    def test_once(self) -> None:
        """What was not found is not asked for again."""
        judge = self.makeJudge(BY_NAME, BY_PROCESS, script=FakeScript(""))
        self.assertDecided(
            judge, "tcp 1.1.1.1:443", "PROXY default", "name", "script None", "owner"
        )
        self.assertEqual(self.owners.misses, 1)

    def test_missing(self) -> None:
        """The name is not read from the first bytes for a rule that lacks its process for good."""
        both = {"to": "office", "processes": "curl", "domains": "corp.example"}
        judge = self.makeJudge(both)
        self.assertDecided(judge, "tcp 1.1.1.1:443", "PROXY default", "owner")
        excluded = self.makeJudge({**BY_NAME, "to": "proxy"}, excludedProcesses="curl")
        self.assertDecided(excluded, "tcp 1.1.1.1:443", "PROXY default", "owner")
        self.owners.known[40000] = CURL
        self.assertDecided(judge, "tcp 1.1.1.1:443", "PROXY default", "owner", "name")
        nobody = Judge(settings(rules=[both], upstreams=OFFICE, sniff=True), None, ME.__eq__, bool)
        self.assertIsInstance(nobody.judge(flow("tcp 1.1.1.1:443"), self.sniff), Decision)

    def test_late(self) -> None:
        """Each of them may take a while."""
        late: Deferred[Owner | None] = Deferred()
        judge = self.makeJudge(BY_NAME, {**BY_PROCESS, "to": "direct"}, script=FakeScript(None))
        self.patch(self.owners, "ownerOf", lambda asked: late)
        self.sniffed = None
        script: Any = judge._script
        decided = judge.judge(flow("tcp 1.1.1.1:443"), self.sniff)
        assert isinstance(decided, Deferred)
        self.sniffing[0].callback("x.example")
        self.assertNoResult(decided)
        script.give(ScriptAnswer())
        self.assertNoResult(decided)
        late.callback(CURL)
        decision = self.successResultOf(decided)
        self.assertEqual((decision.rule, decision.name), ("#2", "x.example"))
        self.assertIs(decision.owner, CURL)

    def test_cancelled(self) -> None:
        """Whoever gives up waiting cancels what is waited for."""
        script = FakeScript(None)
        judge = self.makeJudge(BY_NAME, script=script)
        self.sniffed = None
        first = judge.judge(flow("tcp 1.1.1.1:443"), self.sniff)
        second = judge.judge(flow("tcp 1.1.1.1:443"), self.sniff)
        assert isinstance(first, Deferred) and isinstance(second, Deferred)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.sniffing[1].callback("")
        self.assertEqual(script.pending, 1)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(script.pending, 0)

    def test_sniffed(self) -> None:
        """Only the ports of C{sniffPorts} are read, only with C{sniff}, and only for a rule."""
        self.sniffed = "corp.example"
        judge = self.makeJudge(BY_NAME)
        self.assertDecided(judge, "tcp 1.1.1.1:443", "PROXY #1 office", "name")
        self.assertDecided(judge, "udp 1.1.1.1:443", "PROXY #1 office", "name")
        self.assertDecided(judge, "tcp 1.1.1.1:22", "PROXY default")
        self.assertDecided(judge, "tcp 1.1.1.1:443", "PROXY #1 office", "name", source=NEIGHBOUR)
        self.assertDecided(self.makeJudge(BY_NAME, sniff=False), "tcp 1.1.1.1:443", "PROXY default")
        self.assertDecided(self.makeJudge(), "tcp 1.1.1.1:443", "PROXY default")
        ssh = self.makeJudge(BY_NAME, sniffPorts=[22])
        self.assertDecided(ssh, "tcp 1.1.1.1:22", "PROXY #1 office", "name")
        unreadable = judge.judge(flow("tcp 1.1.1.1:443"))
        assert isinstance(unreadable, Decision)
        self.assertEqual(unreadable.rule, "default")

    def test_credentials(self) -> None:
        """The owner is asked for last where the upstream's user name has something of it."""
        tor = {"tor": "socks5://{process}:x@h:1", "deep": {"proxy": "socks5://i:1", "via": "tor"}}
        judge = self.makeJudge(
            {"to": "tor", "domains": "corp.example"},
            {"to": "deep", "ports": 80},
            upstreams={**tor, **OFFICE},
            default="office",
        )
        self.owners.known[40000] = CURL
        self.sniffed = "corp.example"
        decision = self.assertDecided(judge, "tcp 1.1.1.1:443", "PROXY #1 tor", "name", "owner")
        self.assertIs(decision.owner, CURL)
        self.sniffed = ""
        self.assertDecided(judge, "tcp 1.1.1.1:80", "PROXY #2 deep", "name", "owner")
        self.assertDecided(judge, "tcp 1.1.1.1:443", "PROXY default office", "name")
        self.assertDecided(judge, "tcp 1.1.1.1:80", "PROXY #2 deep", "name", source=NEIGHBOUR)
        plain = self.makeJudge(proxy="socks5://{uid}:x@h:1")
        self.assertDecided(plain, "tcp 1.1.1.1:443", "PROXY default", "owner")
        self.assertDecided(plain, "tcp 10.1.1.1:443", "DIRECT reserved")

    def test_default(self) -> None:
        """C{default} says where everything else goes."""
        for default, expected in (
            ("proxy", "PROXY default"),
            ("office", "PROXY default office"),
            ("direct", "DIRECT default"),
            ("reject", "REJECT default"),
            ("drop", "DROP default"),
        ):
            judge = self.makeJudge(default=default)
            self.assertDecided(judge, "tcp 1.1.1.1:443", expected)

    def test_forwarded(self) -> None:
        """Nobody is asked for the process of another machine's flow."""
        judge = self.makeJudge(BY_PROCESS, excludedProcesses="wget")
        self.assertDecided(judge, "tcp 1.1.1.1:443", "PROXY default", source=NEIGHBOUR)
        self.assertDecided(judge, "tcp 1.1.1.1:443", "PROXY default", "owner")


class NamesTests(UnknownCase):
    """Addresses that stand for several names."""

    def test_alike(self) -> None:
        """If all go the same way, the one that was asked for last counts, and none is sniffed."""
        judge = self.makeJudge(BY_NAME, {**BY_NAME, "domains": "b.example"})
        self.names["1.1.1.1"] = Known(("b.example", "corp.example"))
        decision = self.assertDecided(judge, "tcp 1.1.1.1:443", "PROXY #2 office")
        self.assertEqual(decision.name, "b.example")

    def test_different(self) -> None:
        """If they go different ways, the name is sniffed, or else there is none."""
        judge = self.makeJudge(BY_NAME, BLOCKED)
        self.names["1.1.1.1"] = Known(("ads.example", "corp.example"))
        decision = self.assertDecided(judge, "tcp 1.1.1.1:443", "PROXY default", "name")
        self.assertEqual(decision.name, "")
        for self.sniffed, expected in (
            ("corp.example", "PROXY #1 office"),
            ("ads.example", "REJECT #2"),
            ("other.example", "PROXY default"),
        ):
            decision = self.assertDecided(judge, "tcp 1.1.1.1:443", expected, "name")
            self.assertEqual(decision.name, self.sniffed)
        self.assertDecided(judge, "tcp 1.1.1.1:22", "PROXY default")

    def test_notWhole(self) -> None:
        """The same holds if there were more names than are remembered."""
        judge = self.makeJudge(BLOCKED)
        for names in (("a.example",), ("a.example", "b.example")):
            self.names["1.1.1.1"] = Known(names, whole=False)
            self.assertDecided(judge, "tcp 1.1.1.1:443", "PROXY default", "name")
            self.names["1.1.1.1"] = Known(names)
            self.assertDecided(judge, "tcp 1.1.1.1:443", "PROXY default")

    def test_owners(self) -> None:
        """The owner may settle what the names leave open."""
        judge = self.makeJudge({**BY_PROCESS, "to": "direct"}, BY_NAME)
        self.names["1.1.1.1"] = Known(("a.example", "corp.example"))
        self.owners.known[40000] = CURL
        self.assertDecided(judge, "tcp 1.1.1.1:443", "DIRECT #1", "owner")

    def test_script(self) -> None:
        """A script hears no name if there are several, unless it is sniffed."""
        judge = self.makeJudge(BY_NAME, script=FakeScript(""))
        self.names["1.1.1.1"] = Known(("www.corp.example", "corp.example"))
        asked = "name", "script None"
        self.assertDecided(judge, "tcp 1.1.1.1:443", "PROXY #1 office", *asked)
        self.names["1.1.1.1"] = Known(("corp.example",))
        self.assertDecided(judge, "tcp 1.1.1.1:443", "PROXY #1 office", "script corp.example")

    def test_fake(self) -> None:
        """A fake address is judged by its name, past the proxy too, and has no network."""
        judge = self.makeJudge(
            {"to": "office", "networks": ["198.18.0.0/15"]},
            {"to": "direct", "domains": "corp.example"},
            dnsMode="fake-ip",
            excludedIPs="198.18.0.0/15",
        )
        self.inside = {"198.19.0.7"}
        self.names["198.19.0.7"] = Known(("corp.example",))
        self.assertDecided(judge, "tcp 198.19.0.7:443", "DIRECT #2")
        self.assertDecided(judge, "tcp 198.19.0.8:443", "PROXY default", "name")
        self.names["198.19.0.8"] = Known(("a.example",))
        self.assertDecided(judge, "tcp 198.19.0.8:443", "PROXY default")


class ScriptTests(UnknownCase):
    """A script that is asked before the rules are."""

    def test_answers(self) -> None:
        """It decides where a flow goes, or leaves it to the rules."""
        for to, expected in (
            ("office", "PROXY script office"),
            ("proxy", "PROXY script"),
            ("direct", "DIRECT script"),
            ("reject", "REJECT script"),
            ("drop", "DROP script"),
            ("", "REJECT #1"),
        ):
            judge = self.makeJudge({"to": "reject"}, script=FakeScript(to))
            decision = self.assertDecided(judge, "tcp 1.1.1.1:443", expected, "name", "script None")
            self.assertTrue(decision.reason)

    def test_values(self) -> None:
        """What it gives for the upstream's user name is in the decision."""
        script = FakeScript()
        script.answer = ScriptAnswer("office", "the script says so", (("session", "bank"),))
        decision = self.decide(self.makeJudge(script=script), "tcp 1.1.1.1:443")
        self.assertEqual(decision.values, (("session", "bank"),))
        self.assertEqual(decision.reason, "the script says so")

    def test_notAsked(self) -> None:
        """It is not asked about what is barred or is a proxy's own, nor if it decides nothing."""
        script = FakeScript("reject")
        judge = self.makeJudge(script=script, proxy="socks5://localhost:1080")
        self.owners.known[40000] = Owner(9, 0, "danted", excluded=LOCAL_PROXY)
        self.inside = {"127.0.0.1"}
        self.assertDecided(judge, "tcp 127.0.0.1:80", "REJECT host-only")
        self.assertDecided(judge, "tcp 198.18.0.1:53", "SERVE gateway")
        self.assertDecided(judge, "tcp 1.1.1.1:443", "DIRECT local-proxy", "owner")
        script.decides = False
        self.assertDecided(self.makeJudge(script=script), "tcp 1.1.1.1:443", "PROXY default")

    def test_hidden(self) -> None:
        """Nor about the flow of a proxy in a container; the rules are not asked about it either."""
        self.original = flow("tcp 1.1.1.1:443", NEIGHBOUR)
        judge = self.makeJudge({"to": "reject"}, proxy=f"socks5://{NEIGHBOUR}:1080")
        self.assertDecided(judge, "tcp 1.1.1.1:443", "DIRECT local-proxy")
        for rules in ((), ({"to": "direct", "ports": 22},)):
            strict = self.makeJudge(*rules, proxy=f"socks5://{NEIGHBOUR}:1080", default="reject")
            self.assertDecided(strict, "tcp 1.1.1.1:443", "DIRECT local-proxy")
        script = FakeScript("reject")
        judge = self.makeJudge(script=script, proxy=f"socks5://{NEIGHBOUR}:1080")
        self.assertDecided(judge, "tcp 1.1.1.1:443", "DIRECT local-proxy")
        self.assertDecided(judge, "tcp 127.0.0.1:443", "REJECT host-only")
        self.assertDecided(judge, "tcp 10.0.0.9:80", "DIRECT local-proxy")
        self.original = flow("tcp 10.0.0.9:80", "10.0.0.8")
        self.assertDecided(judge, "tcp 10.0.0.9:80", "REJECT script", "name", "script None")

    def test_needsProcess(self) -> None:
        """It hears of the process if it needs it, also if it decides nothing."""
        script = FakeScript("")
        script.needsProcess = True
        judge = self.makeJudge({"to": "direct"}, script=script)
        self.owners.known[40000] = CURL
        decision = self.assertDecided(
            judge, "tcp 1.1.1.1:443", "DIRECT #1", "owner", "name", "script None"
        )
        self.assertIs(decision.owner, CURL)
        process = script.asked[0].process
        assert process is not None
        self.assertEqual((process.pid, process.name, process.user), (77, "curl", "ann"))
        script.decides = False
        decision = self.assertDecided(
            self.makeJudge({"to": "direct"}, script=script), "tcp 1.1.1.1:443", "DIRECT #1", "owner"
        )
        self.assertIs(decision.owner, CURL)

    def test_lacksProcess(self) -> None:
        """Otherwise nobody looks for it, and the script that reads it all the same fails."""
        script = FakeScript("")
        self.assertDecided(
            self.makeJudge(script=script), "tcp 1.1.1.1:443", "PROXY default", "name", "script None"
        )
        with self.assertRaises(NotLookedUp):
            _ = script.asked[0].process

    def test_notAllowed(self) -> None:
        """It sends nothing past the proxy where that is not allowed."""
        for to, allowed, expected in (
            ("direct", True, "DIRECT script"),
            ("direct", False, "REJECT not-allowed"),
            ("bare", False, "REJECT not-allowed"),
            ("bare", True, "PROXY script bare"),
            ("office", False, "PROXY script office"),
        ):
            judge = self.makeJudge(
                script=FakeScript(to),
                directAllowed=allowed,
                upstreams={**OFFICE, "bare": "direct://"},
            )
            decision = self.decide(judge, "tcp 1.1.1.1:443")
            words = f"{decision.verdict.name} {decision.rule} {decision.upstream}".strip()
            self.assertEqual(words, expected)
            self.assertEqual("--allow-direct" in decision.trouble, "not-allowed" in expected)
            self.assertEqual("--allow-direct" in decision.reason, "not-allowed" in expected)
        rules = self.makeJudge({"to": "direct"}, directAllowed=False)
        self.assertDecided(rules, "tcp 1.1.1.1:443", "DIRECT #1")


class TraceTests(UnknownCase):
    """What each rule says, for an explanation."""

    def test_trace(self) -> None:
        """Every rule that was asked is there, with what was known when it was decided."""
        judge = self.makeJudge(
            {"to": "direct", "ports": 80}, BY_NAME, BY_PROCESS, BLOCKED, script=FakeScript("")
        )
        self.owners.known[40000] = CURL
        self.sniffed = "a.example"
        decision = self.decide(judge, "tcp 1.1.1.1:443")
        steps = trace(judge, flow("tcp 1.1.1.1:443"), decision)
        self.assertEqual(
            [(each.rule, each.value, each.why) for each in steps],
            [
                ("#1", 0, "TCP 443 is none of its ports"),
                ("#2", 0, "a.example is none of its domains"),
                ("#3", 1, "the process is curl"),
            ],
        )

    def test_nothing(self) -> None:
        """None is there where none was asked."""
        judge = self.makeJudge({"to": "reject"}, proxy="socks5://localhost:1080")
        self.owners.known[40000] = Owner(9, 0, "danted", excluded=LOCAL_PROXY)
        for destination in ("tcp 198.18.0.1:53", "tcp 127.0.0.1:80", "tcp 1.1.1.1:443"):
            decision = self.decide(judge, destination)
            self.assertEqual(trace(judge, flow(destination), decision), [], destination)
        for to in ("reject", "direct"):
            judge = self.makeJudge(BY_NAME, script=FakeScript(to), directAllowed=False)
            decision = self.decide(judge, "tcp 1.1.1.1:443")
            self.assertEqual(trace(judge, flow("tcp 1.1.1.1:443"), decision), [])
        judge = self.makeJudge()
        decision = self.decide(judge, "tcp 1.1.1.1:443")
        self.assertEqual(trace(judge, flow("tcp 1.1.1.1:443"), decision), [])
