"""Tests of L{nanotun.router.tally}."""

from __future__ import annotations

import json

from twisted.internet.task import Clock
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Decision, Endpoint, Flow, FlowEnd, Owner, Protocol, Verdict
from nanotun.log.format import formatJSON
from nanotun.router.tally import Ledger
from nanotun.testing import FakeUpstream

FLOW = Flow(7, Protocol.TCP, Endpoint("198.18.0.2", 40000), Endpoint("192.0.2.1", 80))
PROXIED = Decision(Verdict.PROXY, "proxy", "no other rule applies")


class LedgerTests(SynchronousTestCase):
    """L{Ledger}."""

    def setUp(self) -> None:
        """Make what the tests use."""
        self.clock = Clock()
        self.logged: list[LogEvent] = []
        log = Logger(observer=self.logged.append, namespace="test")  # type: ignore[arg-type]
        self.ledger = Ledger(self.clock, log)

    def test_counted(self) -> None:
        """One rule may have several verdicts; all are counted."""
        for verdict, rule in ((Verdict.SERVE, "gateway"), (Verdict.DROP, "gateway")) * 2:
            self.ledger.count(Decision(verdict, rule))
        self.ledger.count(PROXIED)
        self.assertEqual(
            self.ledger.report(),
            {"verdicts": {"serve": 2, "drop": 2, "proxy": 1}, "rules": {"gateway": 4, "proxy": 1}},
        )

    def test_end(self) -> None:
        """The line about an end has all there is to know; nothing is kept."""
        self.ledger.joined(FLOW, PROXIED, FakeUpstream())
        self.clock.advance(2)
        self.ledger.ended(FlowEnd(FLOW, 0, 10, 20), "192.0.2.1:80 (a.example)")
        self.assertEqual(
            [formatEvent(each) for each in self.logged],
            [
                "TCP flow 7 from 198.18.0.2:40000 to 192.0.2.1:80 (a.example) by fake:// "
                "(rule proxy) ended: 10 bytes up, 20 down, 2.000 s, errno 0"
            ],
        )
        self.assertEqual(self.ledger.entries, {})

    def test_unknownEnd(self) -> None:
        """The end of a flow that was not told of has no line."""
        self.ledger.ended(FlowEnd(FLOW, 0, 10, 20), "x")
        self.assertEqual(self.logged, [])

    def test_process(self) -> None:
        """A process is called by its name, its path or its user."""
        for owner, expected in (
            (None, ""),
            (Owner(5, 0, "curl", "/usr/bin/curl"), " of curl (pid 5)"),
            (Owner(5, 0, "", "/usr/bin/curl"), " of /usr/bin/curl (pid 5)"),
            (Owner(0, 1000), " of uid 1000"),
        ):
            self.logged.clear()
            self.ledger.tellHalt(FLOW, PROXIED._replace(owner=owner), "x")
            (event,) = self.logged
            self.assertIn(f"TCP flow 7{expected} from ", formatEvent(event))

    def test_json(self) -> None:
        """As JSON, all that the line about an end says stands in fields of its own."""
        owner = Owner(5, 0, "curl", "/usr/bin/curl")
        self.ledger.joined(FLOW, PROXIED._replace(owner=owner), FakeUpstream())
        self.clock.advance(2.5)
        self.ledger.ended(FlowEnd(FLOW, 0, 10, 20), "192.0.2.1:80")
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
                "rule": "proxy",
                "up": 10,
                "down": 20,
                "seconds": 2.5,
                "error": 0,
            },
        )
