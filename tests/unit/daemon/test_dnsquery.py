"""Tests of L{nanotun.daemon.dnsquery}."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.daemon.dnsquery import askedName, dnsHandler, ruleBehind
from nanotun.errors import RunningError
from nanotun.gateway.dns.trace import Trace, Try
from nanotun.interfaces import DnsServer
from nanotun.policy.dnsnames import NameVerdict
from tests.unit.fields import fieldsIn, keysOf
from tests.unit.gateway.gateway_cases import TXT, answer, ask, record


class AnsweringGateway:
    """
    A gateway that the test answers for.

    @ivar asked: name and type of each query.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.trace = Trace()
        self.answer: Deferred[bytes] = Deferred()

    def ask(self, name: str, kind: int, trace: Trace) -> Deferred[bytes]:
        """See L{Gateway.ask}."""
        self.asked.append((name, kind))
        self.trace = trace
        return self.answer


class HandlerTests(SynchronousTestCase):
    """L{dnsHandler}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.gateway = AnsweringGateway()
        gateway: Any = self.gateway
        live: Any = SimpleNamespace(current=SimpleNamespace(names=self))
        self.said = NameVerdict()
        self.handler = dnsHandler(live, gateway, self.clock.seconds)

    def of(self, name: str) -> NameVerdict:
        """See L{NamePolicy.of}."""
        self.assertEqual(name, "host.lab")
        return self.said

    def found(self, message: bytes) -> dict[str, Any]:
        """The report about an answer that comes now, as it leaves the daemon."""
        found = self.handler({"name": "Host.lab.", "type": "txt"})
        self.clock.advance(0.5)
        self.gateway.answer.callback(message)
        report: dict[str, Any] = json.loads(json.dumps(self.successResultOf(found)))
        self.assertLessEqual(set(keysOf(report)), fieldsIn("command.md", "## dns"))
        return report

    def test_report(self) -> None:
        """The answer is reported with its records, the stage that gave it, and who was asked."""
        found = self.handler({"name": "Host.lab.", "type": "txt"})
        self.assertEqual(self.gateway.asked, [("host.lab", TXT)])
        trace = self.gateway.trace
        trace.stage, trace.rule = "server", "dnsRules 2 (/n.yaml, line 4)"
        trace.server, trace.via = "1.1.1.1:53", "proxy"
        trace.tries = Try("9.9.9.9:53", "direct", 1.5, "no answer"), Try("1.1.1.1:53", "proxy", 0.1)
        self.clock.advance(1.6)
        self.gateway.answer.callback(answer(ask("host.lab", TXT), [record(TXT, 60, b"\2hi")]))
        self.assertEqual(
            json.loads(json.dumps(self.successResultOf(found))),
            {
                "name": "host.lab",
                "type": "TXT",
                "status": "NOERROR",
                "stage": "server",
                "rule": "dnsRules 2 (/n.yaml, line 4)",
                "server": "1.1.1.1:53",
                "via": "proxy",
                "cached": False,
                "age": 0,
                "records": [{"name": "host.lab", "ttl": 60, "type": "TXT", "data": '"hi"'}],
                "tries": [
                    {
                        "server": "9.9.9.9:53",
                        "via": "direct",
                        "seconds": 1.5,
                        "trouble": "no answer",
                    },
                    {"server": "1.1.1.1:53", "via": "proxy", "seconds": 0.1, "trouble": ""},
                ],
                "seconds": 1.6,
                "pid": os.getpid(),
            },
        )

    def test_codes(self) -> None:
        """An answer without records is told by its response code."""
        for rcode, word in ((0, "NOERROR"), (2, "SERVFAIL"), (3, "NXDOMAIN"), (12, "RCODE12")):
            self.gateway.answer = Deferred()
            report = self.found(answer(ask("host.lab", TXT), [], flags=0x8180 | rcode))
            self.assertEqual((report["status"], report["records"]), (word, []))

    def test_ruleBehind(self) -> None:
        """An entry of dnsRules is named that has chosen the server, or has the name faked."""
        server, rule = DnsServer("udp", "10.0.0.53", 53), "dnsRules 1 (/n.yaml, line 4)"
        servers = NameVerdict(servers=(server,), rule=rule)
        system = NameVerdict(servers=(DnsServer("system"),), rule=rule)
        fake = NameVerdict(fake=True, rule=rule)
        for stage, shown, said, found in (
            ("server", "10.0.0.53:53", servers, rule),
            ("cache", "10.0.0.53:53", servers, rule),
            ("server", "", servers, rule),
            ("server", "192.168.1.1:53", system, rule),
            ("fake", "", fake, rule),
            # As the script named another, or the answer is older than the rule.
            ("server", "10.0.0.54:53", servers, ""),
            ("cache", "", servers, ""),
            ("script", "", servers, ""),
            ("fake", "", NameVerdict(rule="rule 1"), ""),
            ("server", "10.0.0.53:53", NameVerdict(), ""),
        ):
            trace = Trace()
            trace.stage, trace.server = stage, shown
            self.assertEqual(ruleBehind(trace, said), found, (stage, shown, said))

    def test_rule(self) -> None:
        """It is in the report, unless the stage has named a rule itself."""
        self.said = NameVerdict(fake=True, rule="dnsRules 1")
        for own, expected in (("", "dnsRules 1"), ("another", "another")):
            self.gateway.answer = Deferred()
            found = self.handler({"name": "host.lab", "type": "A"})
            self.gateway.trace.stage, self.gateway.trace.rule = "fake", own
            self.gateway.answer.callback(answer(ask("host.lab")))
            self.assertEqual(self.successResultOf(found)["rule"], expected)

    def test_wrong(self) -> None:
        """A request that is about no name, or no type of records, is one sentence."""
        wrong: tuple[dict[str, Any], ...] = (
            {},
            {"name": "host.lab"},
            {"name": "a b", "type": "A"},
            {"name": "host.lab", "type": "AXFR"},
            {"name": None, "type": []},
            {"name": "host.lab", "type": {"A": 1}},
        )
        for arguments in wrong:
            error = self.assertRaises(RunningError, self.handler, arguments)
            self.assertEqual(str(error), "This is no question about a name.")
        self.assertEqual(self.gateway.asked, [])


class NameTests(SynchronousTestCase):
    """L{askedName}."""

    def test_names(self) -> None:
        """Any name can be asked about that needs no escapes, however it is written."""
        for text, name in (
            ("WWW.Example.org.", "www.example.org"),
            ("b\xfccher.example", "xn--bcher-kva.example"),
            ("_dns._tcp.lab", "_dns._tcp.lab"),
            ("0/25.2.0.192.in-addr.arpa", "0/25.2.0.192.in-addr.arpa"),
            ("*.lab", "*.lab"),
            ("lab", "lab"),
            (".", ""),
        ):
            self.assertEqual(askedName(text), name)

    def test_none(self) -> None:
        """What no message can carry is no name."""
        wrong = ("", "..", "a b", "a\\.b", "a..b", "a\n", "x" * 64, "a." * 130 + "b", "\u2028")
        for text in wrong:
            self.assertIs(askedName(text), None, text)
