"""
Tests for L{nanotun.gateway.fakeip.asking}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.dnsrules import DnsRule
from nanotun.config.domains import pattern
from nanotun.config.file import parseFile
from nanotun.config.keys import KEYS
from nanotun.config.settings import Settings, makeSettings
from nanotun.gateway.fakeip.asking import mayAsk, proxiedServers
from nanotun.policy.dnsnames import NamePolicy
from tests.unit.policy.deciding import ruleTable

UPSTREAMS = """
proxy: socks5://proxy
upstreams:
  office: socks5://office
  bare: direct://
  either: [socks5://proxy, direct://]
dns:
"""


def settingsWith(*servers: str) -> Settings:
    """Settings with these servers, each written as in a list of YAML."""
    text = UPSTREAMS + "\n".join(f"  - {server}" for server in servers)
    return makeSettings(parseFile(text, "n.yaml", KEYS), {}, "n.yaml")


PROXIED = settingsWith("{server: 192.0.2.1, via: proxy}")
OFFICE = settingsWith("{server: 192.0.2.1, via: office}")
BOTH = settingsWith("{server: 192.0.2.1, via: proxy}", "{server: 192.0.2.2, via: office}")


class ProxiedServersTests(SynchronousTestCase):
    """Tests for L{proxiedServers}."""

    def test_never(self) -> None:
        """A server that may be asked past the proxy, if only sometimes, is none of them."""
        ways = ("direct", "bare", "either", "proxy", "office")
        settings = settingsWith(*(f"{{server: 192.0.2.1, via: {way}}}" for way in ways))
        found = proxiedServers(settings)
        self.assertEqual([server.via for server in found], ["proxy", "office"])
        # Without a via of its own it is asked as dnsVia says.
        self.assertEqual(proxiedServers(settingsWith("192.0.2.1")), ())


class MayAskTests(SynchronousTestCase):
    """Tests for L{mayAsk}."""

    def asked(self, policy: NamePolicy, settings: Settings = PROXIED) -> str:
        """Which of some names the servers may be asked about."""
        test = mayAsk(settings, policy, proxiedServers(settings))
        names = ("intranet", "a.example", "a.office", "a.lan", "a.bare", "a.ads", "a.both")
        return " ".join(filter(test, names))

    def test_ways(self) -> None:
        """Only names are asked for that flows take nowhere but to where the servers are asked,
        or past every proxy."""
        table = ruleTable(
            {"domains": "office", "to": "office"},
            {"domains": "lan", "to": "direct"},
            {"domains": "bare", "to": "bare"},
            {"domains": "ads", "to": "reject"},
            {"domains": "both", "ports": "22", "to": "office"},
        )
        policy = NamePolicy(table=table)
        self.assertEqual(self.asked(policy), "a.example a.lan a.bare a.ads")
        self.assertEqual(self.asked(policy, OFFICE), "a.office a.lan a.bare a.ads")
        everything = "a.example a.office a.lan a.bare a.ads a.both"
        self.assertEqual(self.asked(policy, BOTH), everything)

    def test_script(self) -> None:
        """If a script decides, any upstream may get a name."""
        policy = NamePolicy(anyWay=("proxy", "office", "direct"))
        self.assertEqual(self.asked(policy), "")
        self.assertIn("a.example", self.asked(policy, BOTH))

    def test_fake(self) -> None:
        """Names that get an address whether they exist or not are not asked for."""
        policy = NamePolicy([DnsRule((pattern("office"), pattern("lan")), fake=True)])
        self.assertEqual(self.asked(policy), "a.example a.bare a.ads a.both")
