"""Tests of L{nanotun.console.statustext} and L{nanotun.control.report}."""

from __future__ import annotations

import copy
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.units import sizeText, timeText
from nanotun.console.statustext import (
    ANSWERED_HERE,
    DROPS,
    NAMES,
    WIDTH,
    ratesOf,
    statusLines,
    statusRows,
)
from nanotun.control.report import Report, engineReport, resources
from nanotun.flow import Stats
from tests.unit.console.status_cases import REPORT, STATS

TEXT = """\
nanotun    0.1, process 4711, up 1 d 2 h
config     /etc/nanotun.yaml
device     nano0, MTU 1500, offload on, engine gvisor
proxy      socks5://192.0.2.1:1080, up
flows      1 open, 3 half-open, 2 being decided, 4 opened, 5 refused
bytes      6 B up, 7 B down
datagrams  26 up, 27 down, 22 associations, 23 flows
drops      10 connections that made way for others, as too many were waiting
           11 connections that made way for others of one program or machine
           12 connections, because no more can be open
           13 connections that the app asked for and did not complete
           14 packets that are no valid IP, TCP or UDP
           15 packets to ports of the gateway where nothing listens
           16 packets that the device did not take
           28 datagrams, because too many waited for a decision
           29 datagrams that a socket did not take on the way out
           30 datagrams from outside with a wrong header, or unexpected
           31 datagrams to the DNS relay, because it did not keep up
           17 packets that the TCP/IP stack had no use for
dns        normal, servers 8.8.8.8:53
           0 queries, 1 from the cache (19 answers), 8 failed, 6 timeouts
           answered here: /etc/hosts 3, dnsRules 120, rejected names 14, private
           addresses 2, absent names 31
           8.8.8.8:53: up, 23 ms, 40 asked, 1 failed, 80 from the cache
resources  60.0 MiB memory, 21 B heap, 20 goroutines, 9 threads, 23 fds"""


ROUTES = {"changes": 7, "killSwitch": True, "unconfirmed": False, "trouble": "", "only": []}


class TextTests(SynchronousTestCase):
    """L{statusLines}."""

    def setUp(self) -> None:
        self.report: Any = copy.deepcopy(REPORT)

    def line(self, name: str) -> str:
        """The first line of the row C{name}."""
        lines = "\n".join(statusLines(self.report)).split("\n")
        return next(line for line in lines if line.startswith(name))[11:]

    def test_whole(self) -> None:
        """A report is shown as rows of a name and a text."""
        self.assertEqual("\n".join(statusLines(self.report)), TEXT)

    def test_upstreams(self) -> None:
        """The counts of upstreams are shown where the verdicts do not say the same."""
        counted = {"proxy": 120, "direct": 33}
        self.report["verdicts"] = {"verdicts": counted, "rules": {"#1": 153}, "upstreams": counted}
        self.assertRaises(StopIteration, self.line, "upstreams")
        self.report["verdicts"]["upstreams"] = {"proxy": 116, "office": 4, "direct": 33}
        self.assertEqual(self.line("upstreams"), "proxy 116, office 4, direct 33")

    def test_paths(self) -> None:
        """The ways in which connections were made are shown, but for those that were not used."""
        self.report["verdicts"] = {"verdicts": {"proxy": 51}, "rules": {"default": 51}}
        self.assertRaises(StopIteration, self.line, "connected")
        paths = {"engine": 6, "standing": 44, "general": 0}
        self.report["verdicts"]["paths"] = paths
        self.assertEqual(self.line("connected"), "44 by an earlier decision, 6 by the engine")
        paths.update(engine=0, standing=0)
        self.assertRaises(StopIteration, self.line, "connected")
        paths["general"] = 2
        self.assertEqual(self.line("connected"), "2 by Python")

    def test_rules(self) -> None:
        """Each of the user's rules that has decided is shown with where it leads."""
        self.report["verdicts"] = {
            "verdicts": {"proxy": 51},
            "rules": {"default": 40, "#1": 11},
            "userRules": [
                {"rule": "#1", "to": "office", "where": "/n.yaml, line 3", "flows": 11},
                {"rule": "#2", "to": "reject", "where": "/n.yaml, line 4", "flows": 0},
            ],
        }
        self.assertEqual(self.line("rules"), "default 40, #1 (office) 11")

    def test_named(self) -> None:
        """Upstreams by name follow the proxy, each with its proxies and the way to them."""
        (one,) = self.report["upstream"]["proxies"]
        other = {**one, "url": "http://b:80", "latency": 0.012}
        self.report["upstreams"] = {
            "proxy": {**self.report["upstream"], "via": None},
            "office": {"policy": None, "via": None, "proxies": [other]},
            "deep": {"policy": None, "via": "office", "proxies": [{**one, "health": "down"}]},
            "abroad": {"policy": "failover", "via": "office", "proxies": [one, other]},
            "tor": {"policy": None, "via": None, "proxies": [one], "programs": 3},
        }
        lines = statusLines(self.report)
        place = lines.index("proxy      socks5://192.0.2.1:1080, up")
        self.assertEqual(
            lines[place + 1 : place + 7],
            [
                "upstream   office: http://b:80, up, 12 ms",
                "upstream   deep (through office): socks5://192.0.2.1:1080, down",
                "upstream   abroad (through office): failover",
                "           socks5://192.0.2.1:1080, up",
                "           http://b:80, up, 12 ms",
                "upstream   tor: socks5://192.0.2.1:1080, up, 3 log-ins",
            ],
        )
        self.report["upstreams"]["tor"]["programs"] = 1
        self.assertIn(
            "upstream   tor: socks5://192.0.2.1:1080, up, 1 log-in", statusLines(self.report)
        )
        self.report["upstreams"]["proxy"]["via"] = "office"
        self.assertEqual(self.line("proxy"), "through office: socks5://192.0.2.1:1080, up")
        self.report["upstreams"]["proxy"]["policy"] = "failover"
        self.report["upstream"]["policy"] = "failover"
        self.assertEqual(self.line("proxies"), "through office: failover")

    def test_width(self) -> None:
        """No line is wider than a terminal, whatever the report contains."""
        self.report["verdicts"] = {
            "verdicts": {"proxy": 10**9, "direct": 10**9},
            "rules": {f"rule-number-{number}": 10**12 for number in range(30)},
        }
        self.report["daemon"]["config"] = "/long" * 50
        self.report["routes"] = {**ROUTES, "unconfirmed": True, "trouble": "so long " * 30}
        lines = statusLines(self.report)
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertIn("proxy 1000000000, direct 1000000000", "\n".join(lines))
        self.assertIn("taken back soon unless 'nanotun confirm'", " ".join(" ".join(lines).split()))
        self.report["daemon"]["runDir"] = "/srv/n n"
        text = " ".join(" ".join(statusLines(self.report)).split())
        self.assertIn("unless 'nanotun confirm --run-dir '/srv/n n'' is called", text)

    def test_parts(self) -> None:
        """Optional sections are summed up in one line."""
        self.report["processes"] = {"known": 200, "excluded": 3, "misses": 1}
        self.report["routes"] = {**ROUTES, "only": ["uid:ann", "unit:app.service"]}
        self.assertIn("force, for uid:ann and unit:app.service only", self.line("routes"))
        self.report["routes"] = ROUTES
        self.assertEqual(
            self.line("processes"),
            "3 of 200 go past the proxy, 1 flows whose process was not found",
        )
        self.report["processes"]["waiting"] = 4
        self.assertIn(
            "found, 4 wait for theirs", " ".join(" ".join(statusLines(self.report)).split())
        )
        self.assertEqual(self.line("routes"), "7 changes in force, the kill switch is on")
        self.report["dns"] = {**self.report["dns"], "via": "proxy"}
        self.assertEqual(self.line("dns"), "normal, through the proxy, servers 8.8.8.8:53")
        self.report["dns"]["via"] = "office"
        self.assertEqual(self.line("dns"), "normal, through office, servers 8.8.8.8:53")

    def test_answeredHere(self) -> None:
        """What was answered without a server is shown by cause, if it has happened."""
        dns = self.report["dns"]
        for name in ANSWERED_HERE:
            dns[name] = 0
        self.assertNotIn("answered here", "\n".join(statusLines(self.report)))
        dns.update(hosts=3, ruled=120, rejected=14, private=2, absent=31, stale=5)
        text = " ".join(" ".join(statusLines(self.report)).split())
        self.assertIn(
            "answered here: /etc/hosts 3, dnsRules 120, rejected names 14, private addresses 2, "
            "absent names 31, past their time 5",
            text,
        )
        for name in ANSWERED_HERE:
            del dns[name]
        self.assertNotIn("answered here", "\n".join(statusLines(self.report)))

    def test_proxies(self) -> None:
        """Each of several proxies is shown with its state."""
        one = self.report["upstream"]["proxies"][0]
        self.report["upstream"]["policy"] = "failover"
        self.report["upstream"]["proxies"] = [
            {**one, "state": "closed", "latency": 0.0123, "pool": {"idle": 2, "dialling": 1}},
            {**one, "state": "open", "udp": False},
            {**one, "state": "half open"},
        ]
        text = "\n".join(statusLines(self.report))
        self.assertIn(
            "proxies    failover\n           socks5://192.0.2.1:1080, up, 12 ms, 2 conn", text
        )
        self.assertIn("1080, down, no UDP\n", text)
        self.assertIn("1080, tried again\n", text)

    def test_health(self) -> None:
        """The health of a single proxy is shown, and what is wrong; an older daemon has none."""
        (one,) = self.report["upstream"]["proxies"]
        for health, words in (("up", "up"), ("down", "down"), ("unknown", "not asked yet")):
            one["health"] = health
            self.assertEqual(self.line("proxy"), f"socks5://192.0.2.1:1080, {words}")
        one.update(health="down", trouble="The proxy socks5://192.0.2.1:1080 is off.")
        lines = statusLines(self.report)
        place = lines.index("proxy      socks5://192.0.2.1:1080, down")
        self.assertEqual(lines[place + 1], "           The proxy socks5://192.0.2.1:1080 is off.")
        # As for direct://, which nobody asks.
        one.update(health="unknown", trouble="", state=None)
        self.assertEqual(self.line("proxy"), "socks5://192.0.2.1:1080")
        del one["health"], one["trouble"]
        self.assertEqual(self.line("proxy"), "socks5://192.0.2.1:1080")

    def test_servers(self) -> None:
        """Each DNS server has a line: its way, how it does, and what is wrong with it."""
        (one,) = self.report["dns"]["asked"]
        new = {**one, "queries": 0, "errors": 0, "hits": 0, "latency": None, "state": "unknown"}
        self.report["dns"]["asked"] = [
            {**one, "server": "tls://192.0.2.1:853", "via": "proxy", "errors": 0, "hits": 0},
            {**new, "server": "https://dns.example/dns-query", "via": "office"},
            {**new, "server": "9.9.9.9:53", "queries": 2},
            {**one, "server": "1.1.1.1:53", "state": "down", "trouble": "It is off.\x1b"},
            # Forgotten with the previous configuration, but for its answers.
            {**new, "server": "1.0.0.1:53", "hits": 3},
        ]
        lines = [line.strip() for line in statusLines(self.report)]
        place = lines.index("tls://192.0.2.1:853 through the proxy: up, 23 ms, 40 asked")
        self.assertEqual(
            lines[place + 1 : place + 6],
            [
                "https://dns.example/dns-query through office: not asked yet",
                "9.9.9.9:53: no answer yet, 2 asked",
                "1.1.1.1:53: down, 23 ms, 40 asked, 1 failed, 80 from the cache",
                "It is off.\\x1b",
                "1.0.0.1:53: 3 from the cache",
            ],
        )

    def test_olderDaemon(self) -> None:
        """The report of a daemon that was not restarted after an upgrade is shown, too."""
        whole = [line for line in statusLines(self.report) if "8.8.8.8:53: up" not in line]
        del self.report["dns"]["via"], self.report["dns"]["asked"], self.report["daemon"]["runDir"]
        del self.report["engine"]["flows"]["halfOpen"]
        for proxy in self.report["upstream"]["proxies"]:
            proxy.pop("health", None)
            proxy.pop("trouble", None)
        self.assertEqual(len(statusLines(self.report)), len(whole))

    def test_nothing(self) -> None:
        """Missing sections are not shown; counters without counts are shown as none."""
        self.assertEqual(statusLines(dict.fromkeys(REPORT)), [])
        self.report["engine"]["drops"] = dict.fromkeys(self.report["engine"]["drops"], 0)
        self.report["verdicts"] = {"verdicts": {}, "rules": {}}
        self.assertEqual(self.line("drops"), "none")
        self.assertEqual(self.line("verdicts"), "none yet")
        self.report["engine"] = None
        self.assertEqual(self.line("device"), "nano0, MTU 1500, offload on")
        self.assertEqual(self.line("resources"), "60.0 MiB memory, 9 threads, 23 fds")

    def test_control(self) -> None:
        """No control character reaches the terminal."""
        self.report["daemon"]["config"] = "/a\x1b[2J\n\x9b"
        self.report["routes"] = {**ROUTES, "trouble": "a\x07\r"}
        text = "\n".join(statusLines(self.report))
        self.assertTrue(all(line.isprintable() for line in text.split("\n")))
        self.assertIn(r"/a\x1b[2J\n\x9b", text)

    def test_history(self) -> None:
        """The record of flows has a row, with its trouble if it has any."""
        history = {"file": "/a\x1b.db", "recorded": 4711, "waiting": 3, "lost": 2, "trouble": ""}
        text = r"/a\x1b.db: flows: 4711 recorded, 3 waiting, 2 lost"
        self.assertEqual(list(statusRows({"history": history})), [("history", text)])
        history["trouble"] = "The disk is full."
        rows = [("history", f"{text}; The disk is full.")]
        self.assertEqual(list(statusRows({"history": history})), rows)
        self.assertEqual(list(statusRows({"history": None})), [])

    def test_script(self) -> None:
        """The script has a row, with what it has cost if it has cost anything."""
        script = {"path": "/etc/a\x1b.py", "asked": 4711, "failed": 2, "late": 0, "waiting": 1}
        report = {"script": {**script, "blocked": 0, "needsProcess": True}}
        self.assertEqual(
            list(statusRows(report)),
            [("script", r"/etc/a\x1b.py: 4711 asked, 2 failed, 0 late, 1 waiting")],
        )
        report["script"]["blocked"] = 3
        ((_, text),) = statusRows(report)
        self.assertTrue(text.endswith("; it has blocked nanotun 3 times"))
        report["script"]["blocked"] = 1
        ((_, text),) = statusRows(report)
        self.assertTrue(text.endswith("; it has blocked nanotun once"))
        self.assertEqual(list(statusRows({"script": None})), [])

    def test_sizes(self) -> None:
        """Bytes are shown in the unit that keeps them short."""
        for size, text in (
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (300_000, "293 KiB"),
            (5 * 1024**4, "5.0 TiB"),
            (10**20, "88818 PiB"),
        ):
            self.assertEqual(sizeText(size), text)

    def test_times(self) -> None:
        """Seconds are shown in two units."""
        for seconds, text in (
            (0.9, "0 s"),
            (59, "59 s"),
            (61.5, "1 min 1 s"),
            (7300, "2 h 1 min"),
            (90000, "1 d 1 h"),
        ):
            self.assertEqual(timeText(seconds), text)

    def test_rates(self) -> None:
        """Rates are per second, and empty if they are not known."""
        later = copy.deepcopy(self.report)
        later["engine"]["bytes"]["up"] += 4096
        later["engine"]["flows"]["total"] += 3
        self.assertEqual(ratesOf(self.report, later, 2), "2.0 KiB/s up, 0 B/s down, 1.5 flows/s")
        self.assertEqual(ratesOf(self.report, later, 0), "")
        self.assertEqual(ratesOf({"engine": None}, later, 2), "")


class ReportTests(SynchronousTestCase):
    """L{Report}, L{engineReport} and L{resources}."""

    def test_sections(self) -> None:
        """Each part is asked, and an exception in one does not affect the others."""
        report = Report({"a": lambda: {"x": 1}, "b": lambda: 1 // 0, "c": lambda: None})
        self.assertEqual(report(), {"a": {"x": 1}, "b": None, "c": None})
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_everyCounter(self) -> None:
        """Every counter of the engine is in its report, once."""
        values = [value for section in engineReport(STATS).values() for value in section.values()]
        self.assertEqual(sorted(values), list(range(1, len(Stats._fields) + 1)))

    def test_drops(self) -> None:
        """Every counter of drops says what it counts, on a line of its own."""
        self.assertEqual(set(DROPS), set(engineReport(STATS)["drops"]))
        self.assertLessEqual(max(map(len, DROPS.values())), WIDTH - NAMES - 6)

    def test_resources(self) -> None:
        """A process has memory, files and threads."""
        found = resources()
        self.assertEqual(set(found), {"fds", "rss", "threads"})
        self.assertGreater(found["rss"], 1 << 20)
        self.assertGreater(min(found.values()), 0)
