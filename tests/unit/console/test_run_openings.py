"""Tests of what C{nanotun run} leaves open: L{nanotun.console.run.openings} and its options."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from nanotun.cell import launch
from nanotun.config.file import Given
from nanotun.config.keys import KEYS
from nanotun.console import run
from nanotun.console.run import options
from nanotun.console.run.openings import allProxy
from nanotun.console.run.options import RunOptions
from nanotun.errors import RoutingError

#: What would be open past the proxy, as an environment says it.
OPEN = {
    "NANOTUN_LAN": "direct",
    "NANOTUN_EXCLUDEDIPS": "0.0.0.0/0",
    "NANOTUN_LANONLYPORTS": "tcp:445",
    "NANOTUN_DNSVIA": "direct",
    "NANOTUN_DEFAULT": "direct",
}

GUARDED = [key for key in KEYS.values() if key.run.guarded]


class RunOptionsCase(SynchronousTestCase):
    """Command lines of C{nanotun run}."""

    proxy: tuple[str, ...] = ("--proxy", "socks5://proxy.example")

    def setUp(self) -> None:
        """Keep sentences away from the terminal, and this process's variables out."""
        self.said: list[str] = []
        self.patch(options, "say", self.said.append)
        self.patch(run, "blockSignals", set)
        self.patch(os, "environ", {})

    def parse(self, *arguments: str, **variables: str) -> RunOptions:
        """Parse options that are right."""
        self.patch(os, "environ", variables)
        parsed = RunOptions()
        parsed.parseOptions([*arguments, "true"])
        return parsed

    def closed(self, *arguments: str, **variables: str) -> RunOptions:
        """Parse options with a proxy."""
        return self.parse(*self.proxy, *arguments, **variables)

    def write(self, text: str) -> str:
        """A configuration file."""
        path = Path(self.mktemp())
        path.touch(0o600)
        path.write_text(text)
        return str(path)


class DefaultTests(RunOptionsCase):
    """What is open unless somebody opens it: nothing."""

    def assertClosed(self, parsed: RunOptions) -> None:
        """There is one way out."""
        settings = parsed.settings
        self.assertEqual((settings.lan, settings.dnsVia), ("proxy", "proxy"))
        self.assertEqual((settings.lanOnlyPorts, settings.excludedIPs), (frozenset(), ()))
        self.assertEqual(settings.default, "proxy")

    def test_closed(self) -> None:
        """Local networks and DNS go to the proxy, and no port or network does not."""
        parsed = self.closed()
        self.assertClosed(parsed)
        self.assertEqual(parsed.openLine(), "")

    def test_keys(self) -> None:
        """A setting that only a flag may open has a closed value, and its flag is accepted."""
        self.assertEqual(
            [key.name for key in GUARDED],
            ["dnsVia", "excludedIPs", "lan", "lanOnlyPorts", "default"],
        )
        for key in GUARDED:
            self.assertIsNotNone(key.run.fixed)
            self.assertFalse(key.run.refused)

    def test_guarded(self) -> None:
        """Neither a file nor a variable opens what a flag opens."""
        text = "".join(f"{key.name}: '{OPEN[key.variable]}'\n" for key in GUARDED)
        path = self.write(f"proxy: socks5://h\n{text}")
        for parsed in (self.parse("--config", path), self.closed(**OPEN)):
            self.assertClosed(parsed)
            self.assertEqual(parsed.ignored, tuple(key.name for key in GUARDED))
        for key in GUARDED:
            flags = (f"--{key.flag}", OPEN[key.variable])
            parsed = self.closed(*flags, **OPEN)
            wanted = key.check(OPEN[key.variable])
            self.assertEqual(getattr(parsed.settings, key.name), wanted)
            self.assertNotIn(key.name, parsed.ignored)

    def test_dnsVia(self) -> None:
        """A file may say which proxy queries go through, for that opens nothing."""
        text = "proxy: socks5://h\nupstreams: {office: h, mixed: [h, 'direct://']}\ndnsVia: "
        for way, counts in (("office", "office"), ("proxy", "proxy"), ("mixed", "proxy")):
            parsed = self.parse("--config", self.write(text + way), "--allow-direct")
            self.assertEqual(parsed.settings.dnsVia, counts)
            self.assertEqual(parsed.ignored, () if way == counts else ("dnsVia",))

    def test_fakeIp(self) -> None:
        """The proxies get names if every one of them takes names, unless it is said otherwise."""
        for proxy, mode in (
            ("socks5://h", "fake-ip"),
            ("socks5h://h", "fake-ip"),
            ("http://h", "fake-ip"),
            ("https://h", "fake-ip"),
            ("socks4a://h", "fake-ip"),
            ("socks5://a,http://b", "fake-ip"),
            ("socks4://h", "normal"),
            ("socks5://a,socks4://b", "normal"),
            ("direct://", "normal"),
            ("reject://", "normal"),
        ):
            self.assertEqual(self.parse("--proxy", proxy).settings.dnsMode, mode, proxy)
        for office, mode in (("socks5://o", "fake-ip"), ("socks4://o", "normal")):
            parsed = self.parse("--proxy", "socks5://h", "--upstream", f"office={office}")
            self.assertEqual(parsed.settings.dnsMode, mode, office)
        path = self.write("proxy: socks5://h\ndnsMode: normal\n")
        for parsed in (
            self.closed("--dns-mode", "normal"),
            self.closed(NANOTUN_DNSMODE="normal"),
            self.parse("--config", path),
        ):
            self.assertEqual(parsed.settings.dnsMode, "normal")


class OpenLineTests(RunOptionsCase):
    """The line about what is open."""

    def test_openings(self) -> None:
        """It lists everything that gets past the proxy, and the flag that opened it."""
        for flags, words in (
            (("--lan", "direct"), "local networks (--lan direct)"),
            (
                ("--exclude-ip", "192.0.2.0/24", "--exclude-ip", "2001:db8::/32"),
                "192.0.2.0/24, 2001:db8::/32 (--exclude-ip)",
            ),
            (
                ("--exclude-ip", "1.0.0.1,1.0.0.2,1.0.0.3,1.0.0.4,1.0.0.5,1.0.0.6,1.0.0.7"),
                "1.0.0.1/32, 1.0.0.2/32, 1.0.0.3/32, 1.0.0.4/32, 1.0.0.5/32 and 2 more "
                "(--exclude-ip)",
            ),
            (
                ("--lan-only-ports", "udp:5353,tcp:445,tcp:139"),
                "tcp:139, tcp:445, udp:5353 of local networks (--lan-only-ports)",
            ),
            (("--default", "direct"), "whatever no rule is about (--default direct)"),
            (
                ("--dns-via", "direct", "--dns", "9.9.9.9,8.8.8.8:54"),
                "DNS queries to 9.9.9.9:53, 8.8.8.8:54 (--dns-via direct)",
            ),
            (
                ("--dns-via", "a", "--upstream", "a=direct://", "--allow-direct"),
                "what rules and upstreams send direct (--allow-direct), DNS queries to 8.8.8.8:53 "
                "(--dns-via a)",
            ),
        ):
            line = self.closed(*flags).openLine()
            self.assertEqual(line, f"open past the proxy: {words}.")
        line = self.closed(
            "--dns-via", "direct", "--lan", "direct", "--exclude-ip", "192.0.2.0/24"
        ).openLine()
        self.assertEqual(
            line,
            "open past the proxy: local networks (--lan direct), 192.0.2.0/24 (--exclude-ip), "
            "DNS queries to 8.8.8.8:53 (--dns-via direct).",
        )

    def test_noProxy(self) -> None:
        """It says that direct:// is no proxy, as the only one and among others."""
        self.assertEqual(
            self.parse("--proxy", "direct://").openLine(),
            "open past the proxy: everything (direct:// is no proxy).",
        )
        self.assertEqual(
            self.parse("--proxy", "socks5://h", "--proxy", "direct://").openLine(),
            "open past the proxy: whatever direct:// in the list of proxies gets.",
        )
        self.assertEqual(self.parse("--proxy", "reject://").openLine(), "")

    def test_ignored(self) -> None:
        """It names the settings that do not count, and where they were set."""
        path = self.write("proxy: socks5://h\nlan: direct\ndnsVia: proxy\n")
        for parsed, source, names in (
            (self.parse("--config", path), path, "lan"),
            (self.closed(NANOTUN_DNSVIA="direct"), "variables", "dnsVia"),
            (
                self.parse("--config", path, NANOTUN_EXCLUDEDIPS="192.0.2.1"),
                f"{path} or variables",
                "excludedIPs, lan",
            ),
        ):
            self.assertEqual(
                parsed.openLine(),
                f"open past the proxy: nothing; not taken from {source}, because only flags open "
                f"more: {names}.",
            )
        opened = self.parse("--config", path, "--dns-via", "direct").openLine()
        self.assertTrue(
            opened.startswith("open past the proxy: DNS queries to 8.8.8.8:53 (--dns-via direct); ")
        )

    def test_logs(self) -> None:
        """With log lines it is always there."""
        line = self.closed("--log-level", "info").openLine()
        self.assertEqual(line, "open past the proxy: nothing.")

    def test_rules(self) -> None:
        """Rules that mean nothing here are named after it, whatever the log level is."""

        def cell(*arguments: object, **options: object) -> None:
            raise RoutingError("no cell here.")

        self.patch(os, "geteuid", lambda: 0)
        self.patch(launch, "Cell", cell)
        rules = ("--rule", "{to: drop, processes: curl}", "--lan", "direct")
        self.assertRaises(SystemExit, run.main, [*self.proxy, *rules, "true"])
        self.assertEqual(
            self.said,
            [
                "open past the proxy: local networks (--lan direct).",
                "Rule 1 (--rule) never matches in 'nanotun run', where no process is looked for.",
                "no cell here.",
            ],
        )

    def test_dnsRuleUnused(self) -> None:
        """An entry of C{dnsRules} that no name gets to is a warning here, too."""
        rules = ("--dns-rule={domains: a, answer: refuse}", "--dns-rule={domains: a, answer: fake}")
        (warning,) = self.closed(*rules).warnings
        self.assertTrue(warning.startswith("dnsRules 2 (--dns-rule) is never used, "), warning)

    def test_direct(self) -> None:
        """A rule or an upstream that leads past the proxy needs a flag, and is listed then."""
        past = "sends connections past the proxy"
        for text, sentence in (
            ("rules:\n- {to: drop}\n- {to: direct}\n", f"Rule 2 (PATH, line 4) {past}"),
            ("upstreams: {a: 'direct://'}", "upstreams.a is direct://, past every proxy"),
            ("upstreams: {a: [h, 'direct://']}", "upstreams.a is direct://, past every proxy"),
        ):
            path = self.write(f"proxy: h\n{text}")
            self.said.clear()
            self.assertRaises(SystemExit, self.parse, "--config", path)
            sentence = sentence.replace("PATH", path)
            self.assertEqual(self.said, [f"{sentence}; give --allow-direct if that is meant."])
            self.assertEqual(
                self.parse("--config", path, "--allow-direct").openLine(),
                "open past the proxy: what rules and upstreams send direct (--allow-direct).",
            )
        self.assertEqual(self.closed("--allow-direct", "--rule", "{to: proxy}").openLine(), "")

    def test_ownWay(self) -> None:
        """So does a server of C{dns} in a file whose own C{via} leads past the proxy."""
        text = "proxy: h\ndns: [9.9.9.9, {server: 8.8.8.8, via: WAY}]"
        path = self.write(text.replace("WAY", "direct"))
        self.assertRaises(SystemExit, self.parse, "--config", path)
        self.assertEqual(
            self.said,
            ["dns asks 8.8.8.8:53 past the proxy; give --allow-direct if that is meant."],
        )
        for flags, words in (
            ((), "DNS queries to 8.8.8.8:53 (--allow-direct)"),
            (
                ("--dns-via", "direct"),
                "DNS queries to 9.9.9.9:53 (--dns-via direct), DNS queries to 8.8.8.8:53 "
                "(--allow-direct)",
            ),
        ):
            parsed = self.parse("--config", path, "--allow-direct", *flags)
            self.assertEqual(parsed.openLine(), f"open past the proxy: {words}.")
        path = self.write(text.replace("WAY", "proxy"))
        self.assertEqual(self.parse("--config", path).openLine(), "")

    def test_dnsRules(self) -> None:
        """So does a server of C{dnsRules} that is asked past the proxy by its own C{via}."""
        text = "dnsRules:\n- {domains: a, answer: refuse}\n- {domains: b, servers: [SERVER]}\n"
        for via, upstreams in (("direct", ""), ("bare", "upstreams: {bare: 'direct://'}\n")):
            server = f"9.9.9.9, {{server: 10.0.0.53, via: {via}}}"
            path = self.write(f"proxy: h\n{text.replace('SERVER', server)}{upstreams}")
            self.said.clear()
            self.assertRaises(SystemExit, self.parse, "--config", path)
            if not upstreams:
                self.assertEqual(
                    self.said,
                    [
                        f"dnsRules 2 ({path}, line 4) asks 10.0.0.53:53 past the proxy; give "
                        "--allow-direct if that is meant."
                    ],
                )
            line = self.parse("--config", path, "--allow-direct").openLine()
            self.assertIn("DNS queries to 10.0.0.53:53 (--allow-direct).", line)
        path = self.write(f"proxy: h\n{text.replace('SERVER', '9.9.9.9')}")
        self.assertEqual(self.parse("--config", path).openLine(), "")
        self.assertEqual(
            self.parse("--config", path, "--dns-via", "direct").openLine(),
            "open past the proxy: DNS queries to 8.8.8.8:53, 9.9.9.9:53 (--dns-via direct).",
        )

    def test_script(self) -> None:
        """A script that may send flows direct is listed, alone or with rules that do."""
        script = ("--script", "/x.py")
        self.assertEqual(self.closed(*script).openLine(), "")
        for rule, who in (
            ("proxy", "the script sends"),
            ("direct", "the script, rules and upstreams send"),
        ):
            self.assertEqual(
                self.closed(*script, "--allow-direct", "--rule", f"{{to: {rule}}}").openLine(),
                f"open past the proxy: what {who} direct (--allow-direct).",
            )

    def test_first(self) -> None:
        """It comes before the cell is made."""

        def cell(*arguments: object, **options: object) -> None:
            raise RoutingError("no cell here.")

        self.patch(os, "geteuid", lambda: 0)
        self.patch(launch, "Cell", cell)
        self.assertRaises(SystemExit, run.main, ["--proxy", "direct://", "true"])
        self.assertEqual(
            self.said,
            ["open past the proxy: everything (direct:// is no proxy).", "no cell here."],
        )
        self.said.clear()
        self.assertRaises(SystemExit, run.main, [*self.proxy, "true"])
        self.assertEqual(self.said, ["no cell here."])


class AllProxyTests(RunOptionsCase):
    """The proxy that the environment names."""

    def test_forms(self) -> None:
        """It is read as other programs read it."""
        for text, url in (
            ("socks5h://h:1", "socks5h://h:1"),
            ("http://proxy:3128/", "http://proxy:3128/"),
            ("socks://127.0.0.1:1080/", "socks5://127.0.0.1:1080/"),
            ("h:3128", "http://h:3128"),
            ("ann:a,b@h:3128", "http://ann:a,b@h:3128"),
        ):
            for name in ("ALL_PROXY", "all_proxy"):
                self.assertEqual(allProxy({name: text}), Given([url], name))
        self.assertEqual(
            allProxy({"ALL_PROXY": "a:1", "all_proxy": "b:1"}), Given(["http://a:1"], "ALL_PROXY")
        )
        self.assertEqual(
            allProxy({"ALL_PROXY": "", "all_proxy": "b:1"}), Given(["http://b:1"], "all_proxy")
        )
        self.assertIsNone(allProxy({"ALL_PROXY": ""}))

    def test_precedence(self) -> None:
        """Whatever else names a proxy wins, and it causes no warning."""
        variables = {"ALL_PROXY": "socks5://ann:hunter2@all.example/"}
        parsed = self.parse(**variables)
        self.assertEqual([url.host for url in parsed.settings.proxy], ["all.example"])
        self.assertEqual((parsed.settings.dnsMode, parsed.notices), ("fake-ip", ()))
        for parsed, host in (
            (self.closed(**variables), "proxy.example"),
            (self.parse(**variables, NANOTUN_PROXY="socks5://own.example"), "own.example"),
            (self.parse(NANOTUN_PROXY_FILE=self.write("secret.example")), "secret.example"),
            (
                self.parse("--config", self.write("proxy: file.example"), **variables),
                "file.example",
            ),
        ):
            self.assertEqual([url.host for url in parsed.settings.proxy], [host])

    def test_errors(self) -> None:
        """The error of a bad one names the variable and no password."""
        self.assertRaises(SystemExit, self.parse, ALL_PROXY="ftp://ann:hunter2@h")
        self.assertTrue(self.said[-1].startswith("ALL_PROXY must "), self.said)
        self.assertNotIn("hunter2", self.said[-1])
        path = self.write("mtu: 1500\n")
        self.assertRaises(SystemExit, self.parse, "--config", path, ALL_PROXY="socks5://h")
        self.assertIn(f"{path}: no proxy is set", self.said[-1])
