"""Tests of L{nanotun.config.change}."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.change import KEPT, changeTo
from nanotun.config.dnsrules import DnsRule
from nanotun.config.keys import KEYS
from nanotun.config.settings import Settings, flagValue, makeSettings
from nanotun.interfaces import DnsServer, UpstreamSettings

SETTINGS = makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "socks5://h:1")}, None)

#: What the table is to say, written once more: a slip there would be a daemon that takes
#: over what it cannot.
RESTART = {
    "tunName",
    "mtu",
    "stackMode",
    "offload",
    "udpTimeout",
    "dnsMode",
    "dnsStateFile",
    "fakeIpExclude",
    "autoDefaultRoute",
    "ipv6",
    "killSwitch",
    "resolvConf",
    "onlyProcesses",
    "runDir",
    "flowLog",
    "flowLogSize",
    "flowLogDays",
    "metrics",
    "web",
}
LIVE = KEYS.keys() - RESTART
ROUTED = {"dns", "excludedProcesses", "lan"}


#: Values of the settings that name upstreams and are looked into.
ASKING: dict[str, Any] = {
    "dns": (DnsServer("udp", "192.0.2.9", 53),),
    "dnsVia": "proxy",
    "dnsRules": (DnsRule((), servers=(DnsServer("udp", "10.0.0.53", 53),)),),
}


def other(name: str, settings: Settings = SETTINGS) -> Settings:
    """Settings with another value; for most it does not matter of what kind."""
    value: Any = ASKING.get(name, ("another",))
    return replace(settings, **{name: value})


class ChangeTests(SynchronousTestCase):
    """L{changeTo}."""

    def test_everyKey(self) -> None:
        """The table says which settings are applied live, and which of them routes use."""
        self.assertEqual({key.name for key in KEYS.values() if not key.live}, RESTART)
        self.assertEqual({key.name for key in KEYS.values() if key.routed}, ROUTED)
        self.assertEqual(ROUTED - LIVE, set())

    def test_live(self) -> None:
        """A live setting that changes is named and taken over."""
        for name in LIVE:
            change = changeTo(other(name), SETTINGS)
            self.assertEqual((change.live, change.restart), ((name,), ()))
            self.assertEqual(change.settings, other(name))

    def test_restart(self) -> None:
        """A setting that needs a restart is named, and keeps its value."""
        for name in RESTART:
            change = changeTo(other(name), SETTINGS)
            self.assertEqual((change.live, change.restart), ((), (name,)))
            self.assertEqual(change.settings, SETTINGS)

    def test_both(self) -> None:
        """A change that needs a restart does not keep another one from being taken over."""
        change = changeTo(replace(SETTINGS, mtu=1400, lan="proxy"), SETTINGS)
        self.assertEqual(change, (replace(SETTINGS, lan="proxy"), ("lan",), ("mtu",)))

    def test_nothing(self) -> None:
        """The same configuration changes nothing."""
        self.assertEqual(changeTo(SETTINGS, SETTINGS), (SETTINGS, (), ()))

    def test_routes(self) -> None:
        """Under autoDefaultRoute a live setting that routes depend on needs a restart."""
        routed = replace(SETTINGS, autoDefaultRoute=True)
        for name in LIVE:
            change = changeTo(other(name, routed), routed)
            self.assertEqual(change.restart, (name,) if name in ROUTED else ())

    def test_rights(self) -> None:
        """Where rights are missing, the processes are kept before the proxies and rules are."""
        named = ("proxy", "proxyVia", "upstreams", "dnsRules")
        others = ("rules", "countryFile", "script")
        together = (*named, *others)
        everything = (*named, "excludedProcesses", *others)
        self.assertEqual(KEPT, ((), ("excludedProcesses",), together, everything))

    def test_together(self) -> None:
        """Settings that name one another wait together if one of them needs rights."""
        new = replace(other("upstreams"), proxyVia="another", lan="proxy")
        change = changeTo(new, SETTINGS, {"upstreams"})
        self.assertEqual((change.live, change.restart), (("lan",), ("proxyVia", "upstreams")))
        self.assertEqual(changeTo(new, SETTINGS).restart, ())

    def test_asking(self) -> None:
        """
        No query is to leave by an upstream that there is not: the upstreams that the old servers
        name stay until those go, and new ones wait for the upstreams that they name.
        """
        office = UpstreamSettings("office", SETTINGS.proxy)
        servers = (DnsServer("udp", "192.0.2.9", 53, via="office"),)
        plain = replace(SETTINGS, default="another")
        without = replace(plain, autoDefaultRoute=True)
        named = replace(SETTINGS, upstreams=(office,), dns=servers)
        routed = replace(named, autoDefaultRoute=True)
        # Under autoDefaultRoute the servers have to wait.
        change = changeTo(without, routed)
        self.assertEqual((change.live, change.restart), ((), ("upstreams", "dns", "default")))
        change = changeTo(replace(without, upstreams=(office,)), routed)
        self.assertEqual((change.live, change.restart), (("default",), ("dns",)))
        self.assertEqual(changeTo(plain, named).restart, ())
        # And upstreams do if they need rights.
        change = changeTo(named, SETTINGS, {"upstreams"})
        self.assertEqual((change.live, change.restart), ((), ("upstreams", "dns")))
        asked = replace(SETTINGS, upstreams=(office,), dnsVia="office")
        change = changeTo(replace(asked, lan="proxy"), SETTINGS, {"upstreams"})
        self.assertEqual((change.live, change.restart), (("lan",), ("upstreams", "dnsVia")))
        change = changeTo(replace(asked, dnsVia="proxy"), SETTINGS, {"upstreams"})
        self.assertEqual((change.live, change.restart), (("dnsVia",), ("upstreams",)))

    def test_kept(self) -> None:
        """A setting that cannot be taken over this time needs a restart too."""
        change = changeTo(other("proxy"), SETTINGS, {"proxy", "excludedProcesses"})
        self.assertEqual(change, (SETTINGS, (), ("proxy",)))
