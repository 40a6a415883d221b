"""Tests of L{nanotun.console.dns}."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.console import dns
from nanotun.console.dns.text import answerLines
from nanotun.errors import NotRunning
from tests.unit.console.test_console import ConsoleCase

REPORT: dict[str, Any] = {
    "name": "host.lab",
    "type": "A",
    "status": "NOERROR",
    "stage": "server",
    "rule": "",
    "server": "tls://10.78.0.2:853#dns.lab",
    "via": "proxy",
    "cached": False,
    "age": 0,
    "records": [{"name": "host.lab", "ttl": 300, "type": "A", "data": "10.1.2.3"}],
    "tries": [
        {"server": "tls://10.78.0.2:853#dns.lab", "via": "proxy", "seconds": 0.02, "trouble": ""}
    ],
    "seconds": 0.0234,
    "pid": 4711,
}

TEXT = """\
host.lab A
  NOERROR  10.1.2.3 (300 s)
  by       tls://10.78.0.2:853#dns.lab, through the proxy
  took     23 ms"""

NO_SUCH_DAEMON = "No nanotun runs with runDir /run/x."


class AnsweringClient:
    """
    A daemon that answers every query in the same way.

    @cvar status: of its answers.
    @cvar asked: the requests.
    """

    status = "NOERROR"
    asked: list[tuple[str, Mapping[str, Any]]]

    def __init__(self, runDir: str, timeout: float) -> None:
        if runDir == "/run/x":
            raise NotRunning(NO_SUCH_DAEMON)

    def __enter__(self) -> AnsweringClient:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to do."""

    def ask(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """See L{Client.ask}."""
        self.asked.append((name, arguments))
        return {**REPORT, **arguments, "status": self.status}


class CommandTests(ConsoleCase):
    """The command."""

    def setUp(self) -> None:
        super().setUp()
        AnsweringClient.asked, AnsweringClient.status = [], "NOERROR"
        self.patch(dns, "Client", AnsweringClient)

    def test_questions(self) -> None:
        """Without a type both of a host's are asked for, of an address its name."""
        for words, name, types in (
            (("host.lab",), "host.lab", ["A", "AAAA"]),
            (("host.lab", "mx"), "host.lab", ["mx"]),
            (("10.1.2.3",), "3.2.1.10.in-addr.arpa", ["PTR"]),
            (("fe80::1%eth0",), "1." + "0." * 28 + "8.e.f.ip6.arpa", ["PTR"]),
            (("10.1.2.3", "ANY"), "3.2.1.10.in-addr.arpa", ["ANY"]),
            ((".", "2"), ".", ["2"]),
        ):
            AnsweringClient.asked = []
            self.assertEqual(self.say(dns.main, *words)[0], 0)
            expected = [("dns", {"name": name, "type": each}) for each in types]
            self.assertEqual(AnsweringClient.asked, expected)

    def test_output(self) -> None:
        """Each answer is printed when it is there: as text, or as an object in one line."""
        self.assertEqual(self.say(dns.main, "host.lab", "A"), (0, f"{TEXT}\n", ""))
        _, said, _ = self.say(dns.main, "--json", "host.lab")
        self.assertEqual([json.loads(line)["type"] for line in said.splitlines()], ["A", "AAAA"])

    def test_status(self) -> None:
        """That there is no such name is an answer; an error is a failure, with what is known."""
        for word, status in (("NOERROR", 0), ("NXDOMAIN", 0), ("SERVFAIL", 1), ("REFUSED", 1)):
            AnsweringClient.status = word
            result, said, error = self.say(dns.main, "host.lab")
            self.assertEqual((result, error), (status, ""))
            self.assertIn(word, said)

    def test_notRunning(self) -> None:
        """Without a daemon there is nobody to ask."""
        expected = 3, "", f"nanotun: {NO_SUCH_DAEMON}\n"
        self.assertEqual(self.say(dns.main, "host.lab", "--run-dir", "/run/x"), expected)

    def test_wrong(self) -> None:
        """A wrong command line is one sentence that says what is right."""
        for words, sentence in (
            ((), "give a name and, if you like, a type, as in example.org MX"),
            (("a", "A", "b"), "give a name and, if you like, a type, as in example.org MX"),
            (("a b",), "'a b' is no name that can be looked up"),
            (("https://a/",), "'https://a/' is no name that can be looked up"),
            (("a.lab:53",), "'a.lab:53' is no name that can be looked up"),
            (("a", "AXFR"), "there is no record type 'AXFR'; give one such as AAAA, or its number"),
        ):
            expected = 2, "", f"nanotun dns: {sentence}; see 'nanotun dns --help'.\n"
            self.assertEqual(self.say(dns.main, *words), expected)
        self.assertEqual(AnsweringClient.asked, [])


class TextTests(SynchronousTestCase):
    """L{answerLines}."""

    def lines(self, **changed: Any) -> list[str]:
        """The lines behind the first."""
        return answerLines({**REPORT, **changed})[1:]

    def by(self, stage: str, **changed: Any) -> str:
        """Who has answered."""
        (line,) = [each for each in self.lines(stage=stage, **changed) if each[2:5] == "by "]
        return line[11:]

    def test_whole(self) -> None:
        """An answer says what is asked, what is found, by whom, and how long it took."""
        self.assertEqual("\n".join(answerLines(REPORT)), TEXT)

    def test_records(self) -> None:
        """Each record has a line; one of another type, such as an alias, says its own."""
        (one,) = REPORT["records"]
        alias = {"name": "host.lab", "ttl": 5, "type": "CNAME", "data": "real.lab"}
        self.assertEqual(
            self.lines(records=[alias, one])[:2],
            ["  NOERROR  CNAME real.lab (5 s)", "           10.1.2.3 (300 s)"],
        )

    def test_empty(self) -> None:
        """An answer without records says what that means."""
        for status, line in (
            ("NOERROR", "  NOERROR  no data"),
            ("NXDOMAIN", "  NXDOMAIN there is no such name"),
            ("REFUSED", "  REFUSED"),
        ):
            self.assertEqual(self.lines(status=status, records=[])[0], line)

    def test_noServer(self) -> None:
        """If no server has answered, each that was asked is named, with what was wrong."""
        tries = [
            {"server": "9.9.9.9:53", "via": "direct", "seconds": 1.5, "trouble": "no answer"},
            {"server": "1.1.1.1:53", "via": "office", "seconds": 0.01, "trouble": "It is off."},
            {"server": "9.9.9.9:53", "via": "direct", "seconds": 1.5, "trouble": "no answer"},
        ]
        self.assertEqual(
            self.lines(status="SERVFAIL", records=[], server="", via="", tries=tries, seconds=4.51),
            [
                "  SERVFAIL no server answered",
                "  asked    9.9.9.9:53, past the proxy: no answer (3.0 s, 2 times)",
                "           1.1.1.1:53, through office: It is off (10 ms)",
                "  by       nobody",
                "  took     4.5 s",
            ],
        )
        # As when one before it was silent.
        self.assertIn(
            "  asked    9.9.9.9:53, past the proxy: no answer (1.5 s)",
            self.lines(tries=[tries[0], *REPORT["tries"]]),
        )

    def test_trouble(self) -> None:
        """What is said of a server does not name it twice, nor how it is asked."""
        for beginning, via, way in (
            ("The DNS server 1.1.1.1:53 ", "direct", "past the proxy"),
            ("The DNS server 1.1.1.1:53, asked through office, ", "office", "through office"),
        ):
            tries = [
                {
                    "server": "1.1.1.1:53",
                    "via": via,
                    "seconds": 0.01,
                    "trouble": f"{beginning}has a certificate that has expired; set the clock.",
                }
            ]
            self.assertIn(
                f"  asked    1.1.1.1:53, {way}: has a certificate that has expired; set the clock "
                "(10 ms)",
                self.lines(tries=tries),
            )

    def test_cache(self) -> None:
        """An answer from the cache says how old it is and whose it was, if that is known."""
        by = self.by("cache", cached=True, age=41.7)
        self.assertEqual(by, "the cache, 41 s old; tls://10.78.0.2:853#dns.lab gave it")
        self.assertEqual(self.by("cache", cached=True, age=41, server=""), "the cache, 41 s old")
        by = self.by("stale", cached=True, age=7300)
        self.assertTrue(by.startswith("the cache, 2 h 1 min old, past its time, because no"), by)

    def test_rules(self) -> None:
        """A rule is named, whether it gives the answer, forbids it or names the server."""
        rule = "dnsRules 2 (/n.yaml, line 14)"
        self.assertEqual(self.by("rule", rule=rule), rule)
        self.assertEqual(self.by("hosts", rule="/etc/hosts, line 7"), "/etc/hosts, line 7")
        self.assertEqual(self.by("rejected", rule="rule 3"), "rule 3, as dnsRejected says")
        self.assertIn(f"  rule     {rule}", self.lines(rule=rule))
        self.assertIn(f"  rule     {rule}", self.lines(rule=rule, stage="fake", server=""))
        self.assertFalse([each for each in self.lines(rule=rule, stage="rule") if "  rule" in each])

    def test_others(self) -> None:
        """Every other stage says who it is, and one of a newer daemon is named as it is."""
        for stage, words in (
            ("script", "the script"),
            ("fake", "dnsMode: fake-ip, which gives the name addresses of its own"),
            ("absent", "dnsMode: fake-ip; no DNS server knows the name"),
            ("private", "nobody: only servers in your own network are asked"),
            ("limit", "nobody: too many queries are under way"),
            ("", "the relay itself"),
            ("tomorrow", "tomorrow"),
        ):
            self.assertTrue(self.by(stage, server="", via="").startswith(words), stage)

    def test_fakeIP(self) -> None:
        """Where fake-ip gives no address, it is not said to give any."""
        given: tuple[dict[str, Any], ...] = (
            {"records": []},
            {"records": [], "status": "NXDOMAIN"},
            {"type": "HTTPS", "records": []},
            {"type": "PTR"},
        )
        for changed in given:
            by = self.by("fake", **{"server": "", "via": "", **changed})
            self.assertEqual(by, "dnsMode: fake-ip, which asks no server about this")

    def test_control(self) -> None:
        """No control character reaches the terminal."""
        line = self.lines(server="\x1b[2J")[1]
        self.assertIn("\\x1b[2J", line)
