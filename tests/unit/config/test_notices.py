"""Tests of L{nanotun.config.notices}."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.dnsservers import checked
from nanotun.config.file import Given
from nanotun.config.keys import KEYS
from nanotun.config.notices import (
    fakesUnused,
    metricsShown,
    namesInClear,
    serversExcluded,
    systemThroughProxy,
    unguarded,
    unmetNeeds,
    webShown,
)
from nanotun.config.settings import Settings, flagValue, makeSettings

#: Settings that need autoDefaultRoute, and how the sentence about each begins.
NEEDY = (
    ("killSwitch", True, "killSwitch does nothing without autoDefaultRoute: nothing keeps"),
    ("onlyProcesses", "uid:5", "onlyProcesses does nothing without autoDefaultRoute: no route"),
    ("ipv6", "block", "ipv6: block does nothing without autoDefaultRoute: IPv6 is not blocked;"),
    ("ipv6", "capture", "ipv6: capture does nothing without autoDefaultRoute: IPv6 takes the"),
    ("dnsMode", "fake-ip", "dnsMode: fake-ip without autoDefaultRoute needs two things"),
)


def settings(**values: object) -> Settings:
    """Settings as from a file."""
    given = {"proxy": "h", **values}
    return makeSettings({key: Given(value, key) for key, value in given.items()}, {}, "file")


class MetricsShownTests(SynchronousTestCase):
    """L{metricsShown}."""

    def test_shown(self) -> None:
        """Only metrics where other machines can ask for them have a sentence."""
        for value in ("", "127.0.0.1:9198", "127.0.0.9:9198", "[::1]:9198"):
            self.assertEqual(metricsShown(settings(metrics=value)), ())
        for value in ("0.0.0.0:9198", "[::]:9198", "192.0.2.1:9198"):
            (notice,) = metricsShown(settings(metrics=value))
            self.assertIn(f"the metrics at {value}, where the token", notice)


class WebShownTests(SynchronousTestCase):
    """L{webShown}."""

    def test_shown(self) -> None:
        """Only a page that other machines can open has a sentence."""
        for value in ("", "127.0.0.1:8198", "[::1]:8198", "/run/web.sock"):
            self.assertEqual(webShown(settings(web=value)), ())
        for value in ("0.0.0.0:8198", "[::]:8198", "192.0.2.1:8198"):
            (notice,) = webShown(settings(web=value))
            self.assertIn(f"the web page at {value}, where the token", notice)


class UnmetNeedsTests(SynchronousTestCase):
    """L{unmetNeeds}."""

    def test_without(self) -> None:
        """Each setting that needs autoDefaultRoute has one sentence with its cure."""
        for name, value, start in NEEDY:
            (notice,) = unmetNeeds(settings(**{name: value}))
            self.assertTrue(notice.startswith(start), notice)
            self.assertRegex(notice, r"^[^;]*; set autoDefaultRoute: true[^;]*\.$")

    def test_with(self) -> None:
        """With it there is none."""
        for name, value, _ in NEEDY:
            self.assertEqual(unmetNeeds(settings(**{name: value}, autoDefaultRoute=True)), ())

    def test_several(self) -> None:
        """Several settings have a sentence each, and the defaults have none."""
        wanted = {"killSwitch": True, "ipv6": "block", "dnsMode": "fake-ip"}
        self.assertEqual(len(unmetNeeds(settings(**wanted))), 3)
        self.assertEqual(unmetNeeds(settings()), ())

    def test_fakeAddresses(self) -> None:
        """What has to be routed by hand is named: both networks, the device, the gateway."""
        (notice,) = unmetNeeds(settings(dnsMode="fake-ip", tunName="x0"))
        self.assertIn(
            "routes for 198.19.0.0/16 and fdfe:dcba:9876:1::/64 to x0, and programs that ask "
            "198.18.0.1 for names",
            notice,
        )


class ServersExcludedTests(SynchronousTestCase):
    """L{serversExcluded}."""

    def test_named(self) -> None:
        """The servers of the relay that excludedIPs names are named, where DNS is redirected."""
        wanted = {"excludedIPs": "9.0.0.0/8, 2001:db8::/32", "dns": "9.9.9.9,8.8.8.8,9.9.9.9:54"}
        for way in ("autoDefaultRoute", "dnsOverride"):
            (notice,) = serversExcluded(settings(**wanted, **{way: True}))
            self.assertTrue(notice.startswith("Programs that ask 9.9.9.9 themselves bypass"))
        self.assertEqual(serversExcluded(settings(**wanted)), ())

    def test_ruled(self) -> None:
        """Servers of C{dnsRules} may be: they are asked for names that only they know."""
        rules = [{"domains": "corp.example", "servers": "10.0.0.53"}]
        found = serversExcluded(
            settings(excludedIPs="10.0.0.0/8", dnsRules=rules, autoDefaultRoute=True)
        )
        self.assertEqual(found, ())

    def test_others(self) -> None:
        """Other servers in excludedIPs are nobody's mistake."""
        found = serversExcluded(settings(excludedIPs="192.168.0.0/16", autoDefaultRoute=True))
        self.assertEqual(found, ())

    def test_byName(self) -> None:
        """The address beside a server's name is one of it."""
        dns = {"server": "udp://dns.example", "address": ["8.8.8.8", "192.0.2.1"]}
        wanted = settings(excludedIPs="192.0.2.0/24", dns=dns, autoDefaultRoute=True)
        (notice,) = serversExcluded(wanted)
        self.assertIn("ask 192.0.2.1 themselves", notice)


class SystemThroughProxyTests(SynchronousTestCase):
    """L{systemThroughProxy}."""

    def told(self, dns: str, via: str) -> tuple[str, ...]:
        """What the user is told who has these servers asked that way."""
        wanted = settings(dnsVia=via, upstreams={"office": "h", "home": "direct://"})
        return systemThroughProxy(replace(wanted, dns=checked(dns)))

    def test_told(self) -> None:
        """Who has this machine's own servers asked from elsewhere hears of it, and of the cure."""
        for via, way in (("proxy", "the proxy"), ("office", "office")):
            self.assertEqual(
                self.told("9.9.9.9, system", via),
                (
                    f"dns: system asks this machine's own servers through {way}, which may not "
                    "reach them; write {server: system, via: direct} to ask them past it.",
                ),
            )

    def test_ruled(self) -> None:
        """So does who has them asked for some names."""
        rules = [{"domains": "a", "servers": "10.0.0.53"}, {"domains": "b", "servers": "system"}]
        (notice,) = systemThroughProxy(settings(dnsVia="proxy", dnsRules=rules))
        self.assertTrue(notice.startswith("dnsRules 2 (dnsRules): system asks this machine's own"))
        (notice,) = systemThroughProxy(settings(dnsVia="proxy", dnsRules=rules, dns="system"))
        self.assertTrue(notice.startswith("dns and dnsRules 2 (dnsRules): system asks this "))
        self.assertEqual(systemThroughProxy(settings(dnsRules=rules)), ())

    def test_silent(self) -> None:
        """Who asks them from here does not, nor who says so of them, nor who does not ask them."""
        for via in ("direct", "home"):
            self.assertEqual(self.told("system", via), ())
        self.assertEqual(self.told("9.9.9.9", "proxy"), ())
        for own in ("direct", "office"):
            wanted = settings(dnsVia="proxy", upstreams={"office": "h"})
            servers = checked({"server": "system", "via": own})
            self.assertEqual(systemThroughProxy(replace(wanted, dns=servers)), ())


class FakesUnusedTests(SynchronousTestCase):
    """L{fakesUnused}."""

    def test_named(self) -> None:
        """An entry whose answer is C{fake} is named where there are no fake addresses."""
        rules = [{"domains": "a", "answer": "refuse"}, {"domains": "b", "answer": "fake"}]
        (notice,) = fakesUnused(settings(dnsRules=rules))
        self.assertTrue(notice.startswith("dnsRules 2 (dnsRules) does nothing for its names, "))
        self.assertEqual(fakesUnused(settings(dnsRules=rules, dnsMode="fake-ip")), ())
        self.assertEqual(fakesUnused(settings(dnsRules=rules[:1])), ())


class UnguardedTests(SynchronousTestCase):
    """L{unguarded}."""

    def test_named(self) -> None:
        """Who asks local servers only hears that there is no protection, and of the cure."""
        for dns in ("192.168.1.1", "10.0.0.1, fd00::53", "127.0.0.1, ::1"):
            (notice,) = unguarded(settings(dnsRebindProtection=True, dns=dns))
            self.assertTrue(notice.startswith("dnsRebindProtection does nothing, because all "))
            self.assertEqual(unguarded(settings(dns=dns)), ())

    def test_silent(self) -> None:
        """Who asks any other, or asks them from elsewhere, does not."""
        for dns, via in (
            ("8.8.8.8", "direct"),
            ("192.168.1.1, 8.8.8.8", "direct"),
            ("192.168.1.1", "proxy"),
            ("192.0.2.1", "direct"),
        ):
            found = unguarded(settings(dnsRebindProtection=True, dns=dns, dnsVia=via))
            self.assertEqual(found, (), dns)
        wanted = settings(dnsRebindProtection=True)
        self.assertEqual(unguarded(replace(wanted, dns=checked("system"))), ())


REST = (
    "looked up in the clear, outside the proxy, at 8.8.8.8:53, 9.9.9.9:53; dnsVia: proxy sends "
    "these queries through it."
)


def told(servers: object = None, **given: str) -> tuple[str, ...]:
    """
    What the user of these settings is told.

    @param servers: those of C{dns}, if they are no text with commas.
    """
    given = {"proxy": "socks5://h", "dns": "8.8.8.8, 9.9.9.9", "autoDefaultRoute": "true"} | given
    flags = {name: flagValue(KEYS[name], text) for name, text in given.items()}
    made = makeSettings({}, flags, None)
    return namesInClear(made if servers is None else replace(made, dns=checked(servers)))


class NamesInClearTests(SynchronousTestCase):
    """Tests for L{namesInClear}."""

    def test_told(self) -> None:
        """Who sends all traffic through a proxy hears that names go past it, and where."""
        self.assertEqual(told(), (f"Names are {REST}",))
        self.assertEqual(told(proxy="direct://,http://h"), (f"Names are {REST}",))

    def test_fakeIp(self) -> None:
        """With fake-ip this is about what fake-ip leaves, if every proxy is sent names."""
        fake = f"What fake-ip does not answer itself is {REST}"
        self.assertEqual(told(dnsMode="fake-ip", proxy="http://h,socks5://h"), (fake,))
        self.assertEqual(
            told(dnsMode="fake-ip", proxy="http://h,socks4://h"), (f"Names are {REST}",)
        )

    def test_upstreams(self) -> None:
        """Upstreams count, too; where the proxy is none, the cure is another."""
        taking = told(dnsMode="fake-ip", proxy="http://h", upstreams="a=socks5://h")
        self.assertEqual(taking, (f"What fake-ip does not answer itself is {REST}",))
        mixed = told(dnsMode="fake-ip", proxy="http://h", upstreams="a=socks4://h")
        self.assertEqual(mixed, (f"Names are {REST}",))
        for via in ("direct", "proxy", "b"):
            upstreams = "b=direct://,a=socks5://h"
            (notice,) = told(proxy="direct://", upstreams=upstreams, dnsVia=via)
            self.assertTrue(notice.startswith("Names are looked up in the clear"))
            self.assertTrue(
                notice.endswith("dnsVia: a sends these queries through that upstream."), notice
            )

    def test_plain(self) -> None:
        """It is about plain servers by the usual way; what is encrypted is not in the clear."""
        by = {"server": "8.8.8.8", "via": "direct"}
        (notice,) = told(["tls://1.1.1.1", "tcp://9.9.9.9", "https://1.1.1.1", "system", by])
        self.assertIn("at tcp://9.9.9.9:53, this machine's own servers; dnsVia: proxy", notice)
        self.assertEqual(told(["tls://1.1.1.1", "https://1.1.1.1"]), ())
        self.assertEqual(told([by], dnsVia="proxy"), ())
        self.assertEqual(told([{"server": "8.8.8.8", "via": "proxy"}]), ())

    def test_silent(self) -> None:
        """Nobody else hears it."""
        for given in (
            {"dnsVia": "proxy"},
            {"dnsVia": "a", "upstreams": "a=socks5://i"},
            {"autoDefaultRoute": "false"},
            {"proxy": "direct://"},
            {"proxy": "direct://", "upstreams": "a=direct://"},
        ):
            self.assertEqual(told(**given), (), given)
