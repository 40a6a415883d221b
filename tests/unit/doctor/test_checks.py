"""Tests of L{nanotun.doctor.checks}."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from nanotun.doctor import neighbours
from nanotun.doctor.checks import allChecks, basicChecks, parseTarget
from nanotun.doctor.finding import ICheck, Level
from nanotun.doctor.plainhttp import PlainHttpCheck
from nanotun.doctor.servers import ClearNamesCheck, ServerCheck, SystemCheck
from nanotun.doctor.upstreams import ProxyCheck
from nanotun.errors import (
    ConfigError,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import DnsServer, UpstreamSettings
from nanotun.upstream.schemes.table import parseProxyURL
from tests.unit.doctor.doctor_cases import HOME, CheckCase, settings


class ChecksTests(CheckCase):
    """L{allChecks}, L{basicChecks} and L{parseTarget}."""

    def test_all(self) -> None:
        """Every proxy and every DNS server has a check of its own."""
        wanted = settings("--proxy", "http://10.0.0.2", "--dns", "192.0.2.1,192.0.2.2,2001:db8::1")
        checks = allChecks(wanted, (), None, Clock(), lambda call: None, self.machine, lambda: HOME)
        for check in checks:
            verifyObject(ICheck, check)
        names = [check.name for check in checks]
        self.assertEqual((names.count("proxy"), names.count("DNS")), (2, 3))
        self.assertEqual(len(set(names)), len(checks) - 3)

    def test_upstreams(self) -> None:
        """
        So has every proxy of an upstream by name; a proxy behind another is asked through that,
        and no process of this machine is blamed for it.
        """
        self.patch(neighbours, "cureOf", lambda machine, url: f"Look at {url.port}.")
        wanted = settings("--upstream", "office=socks5://127.0.0.1:1,office=http://127.0.0.1:2")
        deep = UpstreamSettings("deep", (parseProxyURL("http://127.0.0.1:3"),), via="office")
        wanted = replace(wanted, upstreams=(*wanted.upstreams, deep))
        target = Endpoint("example.org", 443)
        checks: list[Any] = [
            check
            for check in allChecks(
                wanted, (), target, Clock(), lambda call: None, self.machine, lambda: HOME
            )
            if isinstance(check, ProxyCheck | PlainHttpCheck)
        ]
        self.assertEqual(
            [(check.name, check._upstream.describe()) for check in checks],
            [
                ("proxy", "socks5://10.0.0.1:1080"),
                ("upstream office", "socks5://127.0.0.1:1"),
                ("upstream office", "http://127.0.0.1:2"),
                ("upstream deep", "http://127.0.0.1:3"),
                ("upstream office", "http://127.0.0.1:2"),
                ("upstream deep", "http://127.0.0.1:3"),
            ],
        )
        vias = [(check._upstream._context.via, check._cure()) for check in checks[:4]]
        self.assertEqual(
            vias[:3], [(None, "Look at 1080."), (None, "Look at 1."), (None, "Look at 2.")]
        )
        via, cure = vias[3]
        self.assertEqual((via.name, cure), ("office", ""))
        self.assertEqual(
            via.upstream.describe(), "failover of socks5://127.0.0.1:1, http://127.0.0.1:2"
        )

    def test_dnsVia(self) -> None:
        """With C{dnsVia: proxy} the servers are asked through the proxies; else, it is said."""
        for flags, kinds in (
            (("--dns-via", "proxy", "--auto-route"), [ServerCheck] * 2),
            (("--auto-route",), [ServerCheck, ServerCheck, ClearNamesCheck]),
            ((), [ServerCheck, ServerCheck]),
        ):
            wanted = settings("--proxy", "http://10.0.0.2", "--dns", "192.0.2.1,192.0.2.2", *flags)
            checks = allChecks(
                wanted, (), None, Clock(), lambda call: None, self.machine, lambda: HOME
            )
            found = [check for check in checks if check.name == "DNS"]
            self.assertEqual([type(check) for check in found], kinds)
        (finding,) = ClearNamesCheck("It is so; do this.").run()
        self.assertEqual((finding.level, finding.text), (Level.INFO, "It is so; do this."))

    def test_servers(self) -> None:
        """
        Servers of every kind have a check, those of dnsRules as well, which are asked for a name
        of theirs; a server with an address of its own is asked there.
        """
        rules = "{domains: [corp.example, '*.lab'], servers: [10.0.0.53, 192.0.2.1]}"
        servers = "192.0.2.1,tls://dns.example,https://192.0.2.2,system"
        wanted = settings("--proxy", "socks5://10.0.0.1", "--dns", servers, "--dns-rule", rules)
        plain = DnsServer("udp", "dns.example", 53, addresses=("192.0.2.3", "2001:db8::3"))
        (rule,) = wanted.dnsRules
        named = plain._replace(host="ns.example", addresses=("10.0.0.54",))
        rule = rule._replace(servers=(*rule.servers, named))
        wanted = replace(wanted, dns=(*wanted.dns, plain), dnsRules=(rule,))
        checks: list[Any] = allChecks(
            wanted, (), None, Clock(), lambda call: None, self.machine, lambda: HOME
        )
        found = [
            (str(check._server), check._question.name)
            for check in checks
            if isinstance(check, ServerCheck)
        ]
        ruled = [check._ruled for check in checks if isinstance(check, ServerCheck)]
        self.assertEqual(ruled, [False] * 5 + [True] * 2)
        self.assertEqual(
            found,
            [
                ("192.0.2.1:53", "1.2.0.192.in-addr.arpa"),
                ("tls://dns.example:853", "dns.example"),
                ("https://192.0.2.2/dns-query", "2.2.0.192.in-addr.arpa"),
                ("192.0.2.3:53", "3.2.0.192.in-addr.arpa"),
                ("[2001:db8::3]:53", f"3.{'0.' * 23}8.b.d.0.1.0.0.2.ip6.arpa"),
                ("10.0.0.53:53", "corp.example"),
                ("10.0.0.54:53", "corp.example"),
            ],
        )
        self.assertEqual(sum(isinstance(check, SystemCheck) for check in checks), 1)

    def test_question(self) -> None:
        """The servers are asked for the target's name; without one, for the first proxy's."""
        for way in ("direct", "proxy"):
            wanted = settings("--proxy", "socks5://proxy.example", "--dns-via", way)
            for target, name in (
                (Endpoint("www.example", 443), "www.example"),
                (Endpoint("192.0.2.7", 443), "proxy.example"),
                (None, "proxy.example"),
            ):
                checks = allChecks(
                    wanted, (), target, Clock(), lambda call: None, self.machine, lambda: HOME
                )
                asking = [each for each in checks if hasattr(each, "_question")]
                names = {(each.name, each._question.name) for each in asking}
                self.assertEqual(names, {("proxy", name), ("DNS", name)})

    def test_hidden(self) -> None:
        """With fake-ip no server that is asked past the proxy hears of the target's name."""
        for way, name in (
            ("direct", "proxy.example"),
            ("home", "proxy.example"),
            ("proxy", "www.example"),
            ("office", "www.example"),
        ):
            flags = ("--proxy", "socks5://proxy.example", "--dns-mode", "fake-ip")
            more = ("--upstream", "home=direct://", "--upstream", "office=socks5://10.0.0.2")
            wanted = settings(*flags, *more, "--dns-via", way)
            target = Endpoint("www.example", 443)
            checks = allChecks(
                wanted, (), target, Clock(), lambda call: None, self.machine, lambda: HOME
            )
            names = {each._question.name for each in checks if isinstance(each, ServerCheck)}
            self.assertEqual(names, {name})

    def test_plainHttp(self) -> None:
        """With a target, plain http is tried through each HTTP proxy, and through no other."""
        wanted = settings("--proxy", "http://10.0.0.2,https://10.0.0.3,socks5://10.0.0.4")
        target = Endpoint("example.org", 443)
        checks = allChecks(
            wanted, (), target, Clock(), lambda call: None, self.machine, lambda: HOME
        )
        self.assertEqual(len([each for each in checks if isinstance(each, PlainHttpCheck)]), 2)

    def test_basic(self) -> None:
        """The basic checks need no configuration."""
        names = {check.name for check in basicChecks(self.machine)}
        self.assertEqual(names, {"program", "privileges", "/dev/net/tun", "open files", "clock"})

    def test_badFile(self) -> None:
        """A missing file that a proxy's URL names is an error."""
        wanted = settings("--proxy", f"https://10.0.0.2?ca={os.path.abspath('no-such-file')}")
        self.assertRaises(ConfigError, allChecks, wanted, (), None, Clock(), None, self.machine)

    def test_targets(self) -> None:
        """A target has a host and a port."""
        self.assertEqual(parseTarget("example.org:443"), Endpoint("example.org", 443))
        self.assertEqual(parseTarget("[2001:db8::1]:53"), Endpoint("2001:db8::1", 53))
        for text in ("", "host", ":1", "host:", "host:0", "host:65536", "host:x", "host:-1"):
            error = self.assertRaises(ConfigError, parseTarget, text)
            self.assertEqual(
                str(error),
                f"--target must be HOST:PORT, such as example.org:443, not {text!a}.",
            )
