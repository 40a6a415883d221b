"""Tests of L{nanotun.router.tally}."""

from __future__ import annotations

import json

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Decision, Endpoint, Flow, FlowEnd, Owner, Protocol, Verdict
from nanotun.log.format import formatJSON
from nanotun.router.openflows import OpenFlow
from nanotun.router.tally import Tally
from nanotun.testing import FakeNames, FakeUpstream

FLOW = Flow(7, Protocol.TCP, Endpoint("198.18.0.2", 40000), Endpoint("192.0.2.1", 80))
PROXIED = Decision(Verdict.PROXY, "default", "no other rule applies")


class TallyTests(SynchronousTestCase):
    """L{Tally}."""

    def setUp(self) -> None:
        """Make what the tests use."""
        self.clock = Clock()
        self.logged: list[LogEvent] = []
        log = Logger(observer=self.logged.append, namespace="test")  # type: ignore[arg-type]
        self.names = FakeNames()
        self.tally = Tally(self.clock, log, self.names)
        self.tally.debug = True

    def end(self, decision: Decision) -> None:
        """A flow that was joined when the clock began has ended."""
        known = OpenFlow(FLOW, 0.0, decision, FakeUpstream())
        self.tally.tellEnd(FlowEnd(FLOW, 0, 10, 20), known)

    def test_counted(self) -> None:
        """One rule may lead to several verdicts; all are counted."""
        for verdict, rule in ((Verdict.SERVE, "gateway"), (Verdict.DROP, "gateway")) * 2:
            self.tally.count(Decision(verdict, rule))
        self.tally.count(PROXIED)
        self.assertEqual(
            self.tally.report(),
            {
                "verdicts": {"serve": 2, "drop": 2, "proxy": 1},
                "rules": {"gateway": 4, "default": 1},
                "upstreams": {"drop": 2, "proxy": 1},
            },
        )

    def test_decisions(self) -> None:
        """
        Each combination of verdict, rule and upstream is counted, in the order in which they
        came; those of rules that are gone have no rule.
        """
        user = Decision(Verdict.PROXY, "#1", upstream="office")
        for decision in (user, PROXIED, Decision(Verdict.SERVE, "gateway"), user):
            self.tally.count(decision)
        self.assertEqual(
            list(self.tally.decisions().items()),
            [
                (("proxy", "#1", "office"), 2),
                (("proxy", "default", "proxy"), 1),
                (("serve", "gateway", ""), 1),
            ],
        )
        self.tally.rulesChanged()
        self.assertEqual(self.tally.decisions()["proxy", "", "office"], 2)

    def test_upstreams(self) -> None:
        """Flows of one rule are counted by upstream, too; those that it refuses as well."""
        for decision, times in (
            (PROXIED, 3),
            (PROXIED._replace(upstream="office"), 2),
            (Decision(Verdict.DIRECT, "default"), 1),
            (Decision(Verdict.REJECT, "default"), 4),
        ):
            for _ in range(times):
                self.tally.count(decision)
        self.assertEqual(
            self.tally.report(),
            {
                "verdicts": {"proxy": 5, "direct": 1, "reject": 4},
                "rules": {"default": 10},
                "upstreams": {"proxy": 3, "office": 2, "direct": 1, "reject": 4},
            },
        )

    def test_rulesChanged(self) -> None:
        """What rules that are gone have decided counts for none of the new ones."""
        refused = Decision(Verdict.REJECT, "#1")
        for decision in (
            PROXIED,
            refused,
            refused,
            Decision(Verdict.PROXY, "#2", upstream="office"),
        ):
            self.tally.count(decision)
        before = self.tally.report()
        self.tally.rulesChanged()
        self.assertEqual(self.tally.report(), {**before, "rules": {"default": 1}})
        self.tally.count(refused)
        self.tally.rulesChanged()
        self.tally.count(refused)
        self.assertEqual(self.tally.report()["rules"], {"default": 1, "#1": 1})
        self.assertEqual(self.tally.report()["verdicts"], {"proxy": 2, "reject": 4})

    def test_named(self) -> None:
        """The lines about a flow name the upstream, where it has a name of the user's."""
        decision = PROXIED._replace(upstream="office")
        self.tally.tellUpstream(FLOW, decision, FakeUpstream())
        self.end(decision)
        for event in self.logged:
            self.assertIn(" by office, fake:// (rule default)", formatEvent(event))
        self.assertEqual(len(self.logged), 2)

    def test_end(self) -> None:
        """The line about an end says everything about the flow."""
        self.clock.advance(2)
        self.names.known = {"192.0.2.1": "a.example"}
        self.end(PROXIED)
        self.assertEqual(
            [formatEvent(each) for each in self.logged],
            [
                "TCP flow 7 from 198.18.0.2:40000 to 192.0.2.1:80 (a.example) by fake:// "
                "(rule default) ended: 10 bytes up, 20 down, 2.000 s, errno 0"
            ],
        )

    def test_process(self) -> None:
        """A line calls a process by its name, its path or its user."""
        for owner, expected in (
            (None, ""),
            (Owner(5, 0, "curl", "/usr/bin/curl"), " of curl (pid 5)"),
            (Owner(5, 0, "", "/usr/bin/curl"), " of /usr/bin/curl (pid 5)"),
            (Owner(0, 1000), " of uid 1000"),
        ):
            self.logged.clear()
            self.tally.tellHalt(FLOW, PROXIED._replace(owner=owner))
            (event,) = self.logged
            self.assertIn(f"TCP flow 7{expected} from ", formatEvent(event))

    def test_json(self) -> None:
        """As JSON, the line about an end has a field for each thing it says."""
        owner = Owner(5, 0, "curl", "/usr/bin/curl")
        self.clock.advance(2.5)
        self.end(PROXIED._replace(owner=owner))
        self.assertEqual(
            json.loads(formatJSON(self.logged[0]))["fields"],
            {
                "protocol": "TCP",
                "flow": 7,
                "process": "curl",
                "pid": 5,
                "source": "198.18.0.2:40000",
                "destination": "192.0.2.1:80",
                "upstream": "fake://",
                "rule": "default",
                "up": 10,
                "down": 20,
                "seconds": 2.5,
                "error": 0,
            },
        )
