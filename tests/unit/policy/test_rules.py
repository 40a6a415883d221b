"""Tests of L{nanotun.policy.rules}, L{nanotun.policy.reserved} and their map."""

from __future__ import annotations

import itertools
import re
from ipaddress import ip_address, ip_network
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import SPECIALS, Reach
from nanotun.config.networks import lanPorts, networks
from nanotun.flow import Decision, Flow, Owner
from nanotun.policy.networkmap import NetworkMap
from nanotun.policy.reserved import specialOf
from nanotun.policy.rules import LOCAL_PROXY, OUTCOMES, RULES, Rules
from nanotun.policy.subject import OWNER, Outcome, named
from tests import ROOT
from tests.unit.policy.deciding import ME, NEIGHBOUR, flow, ruleTable

OWN = (ME, "192.168.1.2", "fdfe:dcba:9876::2", "2001:db8:aaaa::2")
CURL = Owner(77, 1000, "curl", "/usr/bin/curl", excluded="curl")
OTHER = Owner(78, 1000, "wget")
PROXY = Owner(79, 13, "danted", excluded=LOCAL_PROXY)
PORTS = lanPorts("tcp:139,tcp:445,udp:137,udp:138,udp:445,udp:5353")


def isLocal(host: str) -> bool:
    """Whether an address is one of L{OWN}."""
    return host in OWN


def rules(**changes: Any) -> Rules:
    """Rules with everything on, but for C{lan: proxy}."""
    given: dict[str, Any] = {
        "ownPid": lambda: 42,
        "processes": True,
        "dnsOverride": True,
        "fakes": True,
        "excludedIPs": networks("203.0.113.0/24, 8.8.4.4, 2001:4860::/32"),
        "lanOnlyPorts": PORTS,
        "isLocal": isLocal,
    }
    return Rules(**{**given, **changes})


def outcome(rules: Rules, flow: Flow, owner: Owner | None = None) -> Outcome:
    """What rules say of a flow, of whose process is known so much."""
    subject = rules.subject(flow)
    subject.owner = owner
    return rules.evaluate(subject)


def decide(rules: Rules, flow: Flow, owner: Owner | None = None) -> Decision:
    """How rules decide, if nothing more becomes known."""
    return outcome(rules, flow, owner)[0]


class RuleTests(SynchronousTestCase):
    """Which rule decides, and how."""

    def assertDecided(self, decision: Decision, expected: str) -> None:
        """A decision is C{"VERDICT rule"} and has a reason."""
        self.assertEqual(f"{decision.verdict.name} {decision.rule}", expected, decision.reason)
        self.assertTrue(decision.reason)
        self.assertIn("#1" if decision.rule.startswith("#") else decision.rule, RULES)

    def test_behind(self) -> None:
        """
        What comes from a proxy's own address goes direct, but to where no machine's flows may go;
        an address of this machine itself is nobody's proxy.
        """
        mine = rules(isBehind=lambda host: host in ("172.17.0.2", ME))
        for destination, expected in (
            ("tcp 1.1.1.1:443", "DIRECT local-proxy"),
            ("udp 1.1.1.1:53", "DIRECT local-proxy"),
            ("tcp 198.19.0.7:443", "DIRECT local-proxy"),
            ("tcp 192.168.1.2:22", "REJECT forwarded"),
            ("udp 224.0.0.251:5353", "DROP no-host"),
        ):
            decision = decide(mine, flow(destination, "172.17.0.2"))
            self.assertDecided(decision, expected)
        for source in (ME, "172.17.0.3"):
            decision = decide(mine, flow("tcp 1.1.1.1:443", source))
            self.assertDecided(decision, "PROXY default")

    def test_byDestination(self) -> None:
        """Without rules about its process, a flow is decided by its destination."""
        for destination, expected in (
            ("tcp 1.1.1.1:443", "PROXY default"),
            ("udp 1.1.1.1:443", "PROXY default"),
            ("tcp 2606:4700::1:443", "PROXY default"),
            ("tcp 198.18.0.1:53", "SERVE gateway"),
            ("tcp fdfe:dcba:9876::1:53", "SERVE gateway"),
            ("udp 198.18.0.1:99", "DROP gateway"),
            ("udp 224.0.0.251:5353", "DROP no-host"),
            ("udp 255.255.255.255:67", "DROP no-host"),
            ("udp ff02::fb:5353", "DROP no-host"),
            ("tcp 240.0.0.1:1", "DROP no-host"),
            ("tcp 0.0.0.0:1", "DROP no-host"),
            ("tcp :::1", "DROP no-host"),
            ("tcp 127.0.0.1:80", "REJECT host-only"),
            ("tcp 127.9.9.9:80", "REJECT host-only"),
            ("tcp ::1:80", "REJECT host-only"),
            ("tcp ::ffff:127.0.0.1:80", "REJECT host-only"),
            ("tcp ::ffff:1.1.1.1:80", "REJECT host-only"),
            ("udp 1.1.1.1:53", "SERVE dns-override"),
            ("udp 192.168.1.1:53", "SERVE dns-override"),
            ("udp 203.0.113.9:53", "DIRECT excluded-ip"),
            ("tcp 1.1.1.1:53", "PROXY default"),
            ("tcp 1.1.1.1:445", "REJECT lan-only-port"),
            ("tcp 198.19.0.7:445", "REJECT lan-only-port"),
            ("tcp fdfe:dcba:9876:1::7:445", "REJECT lan-only-port"),
            ("udp 1.1.1.1:5353", "REJECT lan-only-port"),
            ("tcp 2606:4700::1:139", "REJECT lan-only-port"),
            ("tcp 198.51.100.1:445", "REJECT lan-only-port"),
            ("tcp 10.1.2.3:445", "DIRECT lan-only-port"),
            ("udp 169.254.1.1:5353", "DIRECT lan-only-port"),
            ("tcp 100.64.0.1:445", "DIRECT lan-only-port"),
            ("tcp fd00::1:445", "DIRECT lan-only-port"),
            ("tcp fe80::1:445", "DIRECT lan-only-port"),
            ("tcp 203.0.113.9:445", "DIRECT excluded-ip"),
            ("udp 2001:4860::8888:137", "DIRECT excluded-ip"),
            ("tcp 1.1.1.1:5353", "PROXY default"),
            ("tcp 198.19.0.7:443", "PROXY default"),
            ("tcp fdfe:dcba:9876:1::7:443", "PROXY default"),
            ("tcp 203.0.113.9:443", "DIRECT excluded-ip"),
            ("tcp 8.8.4.4:443", "DIRECT excluded-ip"),
            ("tcp 8.8.4.5:443", "PROXY default"),
            ("udp 2001:4860::8888:443", "DIRECT excluded-ip"),
            ("tcp 169.254.169.254:80", "DIRECT link-local"),
            ("tcp fe80::1:80", "DIRECT link-local"),
            ("tcp 10.1.2.3:80", "DIRECT reserved"),
            ("tcp 172.31.255.255:80", "DIRECT reserved"),
            ("tcp 172.32.0.0:80", "PROXY default"),
            ("tcp 192.168.1.1:80", "DIRECT reserved"),
            ("tcp 100.127.0.1:80", "DIRECT reserved"),
            ("tcp fd00::1:80", "DIRECT reserved"),
            ("tcp 198.51.100.1:80", "DIRECT reserved"),
            ("tcp 192.0.0.9:80", "PROXY default"),
            ("tcp 192.0.0.8:80", "DIRECT reserved"),
            ("tcp 64:ff9b::102:304:80", "PROXY default"),
        ):
            with self.subTest(destination):
                for owner in (None, OTHER):
                    decision = decide(rules(), flow(destination), owner)
                    self.assertDecided(decision, expected)

    def test_lanProxy(self) -> None:
        """With C{lan: proxy}, private networks are proxied, but link-local addresses are not."""
        for destination, expected in (
            ("tcp 10.1.2.3:80", "PROXY default"),
            ("tcp fd00::1:80", "PROXY default"),
            ("tcp 198.51.100.1:80", "PROXY default"),
            ("tcp 169.254.169.254:80", "DIRECT link-local"),
            ("tcp fe80::1:80", "DIRECT link-local"),
            ("tcp 127.0.0.1:80", "REJECT host-only"),
            ("tcp 203.0.113.9:443", "DIRECT excluded-ip"),
            ("tcp 10.1.2.3:445", "DIRECT lan-only-port"),
            ("tcp fd00::1:445", "DIRECT lan-only-port"),
            ("tcp 1.1.1.1:445", "REJECT lan-only-port"),
            ("tcp 2606:4700::1:445", "REJECT lan-only-port"),
        ):
            with self.subTest(destination):
                decision = decide(rules(lan="proxy"), flow(destination))
                self.assertDecided(decision, expected)

    def test_lanOnlyConnected(self) -> None:
        """A public address of a connected network is local to these ports."""
        found = rules(isConnected=("1.1.1.1", "2606:4700::1").__contains__)
        for destination, expected in (
            ("tcp 1.1.1.1:445", "DIRECT lan-only-port"),
            ("udp 2606:4700::1:5353", "DIRECT lan-only-port"),
            ("tcp 1.1.1.1:443", "PROXY default"),
            ("tcp 1.1.1.2:445", "REJECT lan-only-port"),
        ):
            with self.subTest(destination):
                self.assertDecided(decide(found, flow(destination)), expected)

    def test_lanOnlyTrouble(self) -> None:
        """A refusal of such a port names the port and the cure, but no host."""
        for destination, cure in (
            ("tcp 1.1.1.1:445", "with lanOnlyPorts: [] they would"),
            ("tcp 198.19.0.7:445", "into fakeIpExclude, or set lanOnlyPorts: [] to"),
        ):
            decision = decide(rules(), flow(destination))
            self.assertIn("Flows to TCP port 445 of ", decision.trouble)
            self.assertIn(cure, decision.trouble)
            host = destination.split()[1].rpartition(":")[0]
            self.assertNotIn(host, decision.trouble)
            self.assertIn(host, decision.reason)

    def test_inCell(self) -> None:
        """A command in a cell reaches no link-local address but those of C{excludedIPs}."""
        cell = rules(
            lan="proxy",
            linkDirect=False,
            dnsOverride=False,
            excludedIPs=networks("169.254.169.253"),
        )
        for destination, expected in (
            ("tcp 169.254.169.254:80", "REJECT link-local"),
            ("udp 169.254.169.254:53", "REJECT link-local"),
            ("udp fe80::1:80", "REJECT link-local"),
            ("tcp febf::1:80", "REJECT link-local"),
            ("tcp 169.254.169.253:80", "DIRECT excluded-ip"),
            ("tcp 10.1.2.3:80", "PROXY default"),
        ):
            with self.subTest(destination):
                self.assertDecided(decide(cell, flow(destination)), expected)
        decision = decide(rules(linkDirect=False), flow("tcp 169.254.169.254:80"))
        self.assertEqual(
            decision.reason,
            "169.254.0.0/16 (link local, RFC 3927) is this machine's own link, which a command of "
            "'nanotun run' does not reach",
        )

    def test_nothingSet(self) -> None:
        """Rules that are not configured decide nothing."""
        for destination, expected in (
            ("udp 1.1.1.1:53", "PROXY default"),
            ("tcp 1.1.1.1:445", "PROXY default"),
            ("tcp 198.19.0.7:443", "DIRECT reserved"),
            ("tcp 8.8.4.4:443", "PROXY default"),
        ):
            with self.subTest(destination):
                self.assertDecided(decide(Rules(isLocal=isLocal), flow(destination)), expected)

    def test_byOwner(self) -> None:
        """An excluded process, and the proxy's, go direct to any address that a host can have."""
        for destination, expected in (
            ("tcp 1.1.1.1:443", "DIRECT"),
            ("tcp 1.1.1.1:445", "DIRECT"),
            ("tcp 198.19.0.7:443", "DIRECT"),
            ("udp 1.1.1.1:53", "DIRECT"),
            ("tcp 10.0.0.1:80", "DIRECT"),
            ("tcp 198.18.0.1:53", "SERVE gateway"),
            ("udp 239.1.1.1:1", "DROP no-host"),
            ("tcp 127.0.0.1:1", "REJECT host-only"),
        ):
            for owner, rule in ((CURL, "excluded-process"), (PROXY, "local-proxy")):
                decision = decide(rules(), flow(destination), owner)
                whole = f"{expected} {rule}" if expected == "DIRECT" else expected
                self.assertDecided(decision, whole)

    def test_loop(self) -> None:
        """The daemon's own flows are refused to every destination; those of others are not."""
        for destination in ("tcp 1.1.1.1:443", "udp 1.1.1.1:53", "tcp 10.0.0.1:445"):
            decision = decide(rules(), flow(destination), Owner(42, 0, "twistd"))
            self.assertDecided(decision, "REJECT loop")
        nobody = Owner(0, 0)
        decision = decide(rules(ownPid=lambda: 0), flow("tcp 1.1.1.1:443"), nobody)
        self.assertDecided(decision, "PROXY default")

    def test_forwarded(self) -> None:
        """Another machine's flows reach no address and no DNS relay of this machine."""
        for destination, expected in (
            ("tcp 1.1.1.1:443", "PROXY default"),
            ("udp 1.1.1.1:53", "PROXY default"),
            ("tcp 198.19.0.7:443", "PROXY default"),
            ("tcp 10.1.2.3:80", "DIRECT reserved"),
            ("tcp 203.0.113.9:80", "DIRECT excluded-ip"),
            ("tcp 127.0.0.1:80", "REJECT host-only"),
            ("tcp 169.254.169.254:80", "REJECT forwarded"),
            ("tcp 64:ff9b::a9fe:a9fe:80", "REJECT forwarded"),
            ("tcp 2002:7f00:1::1:80", "REJECT forwarded"),
            ("tcp fe80::1:80", "REJECT forwarded"),
            ("tcp 192.168.1.2:22", "REJECT forwarded"),
            ("tcp 2001:db8:aaaa::2:22", "REJECT forwarded"),
            ("tcp 198.18.0.2:22", "REJECT forwarded"),
            ("tcp 192.168.1.2:445", "REJECT forwarded"),
        ):
            with self.subTest(destination):
                decision = decide(rules(), flow(destination, NEIGHBOUR))
                self.assertDecided(decision, expected)

    def test_lacksOwner(self) -> None:
        """The owner is lacking only if a rule is about processes, and where it can matter."""
        both, none = rules(), rules(processes=False)
        for destination, matters in (
            ("tcp 1.1.1.1:443", True),
            ("udp 1.1.1.1:53", True),
            ("tcp 198.19.0.7:443", True),
            ("tcp 10.0.0.1:443", False),
            ("tcp 1.1.1.1:445", True),
            ("tcp 10.0.0.1:445", False),
            ("tcp 198.18.0.1:53", False),
            ("udp 224.0.0.1:1", False),
            ("tcp 127.0.0.1:1", False),
        ):
            expected = OWNER if matters else 0
            self.assertEqual(outcome(both, flow(destination))[1], expected, destination)
            self.assertEqual(outcome(both, flow(destination, NEIGHBOUR))[1], 0, destination)
            self.assertEqual(outcome(both, flow(destination), OTHER)[1], 0, destination)
            self.assertEqual(outcome(none, flow(destination))[1], 0, destination)

    def test_ownerMattersNowhereElse(self) -> None:
        """Where the owner is not said to be lacking, none of them changes the verdict."""
        hosts = ("1.1.1.1", "10.0.0.1", "198.18.0.1", "127.0.0.1", "198.19.0.7", "224.0.0.1")
        for protocol, host, port in itertools.product(("tcp", "udp"), hosts, (53, 80, 445)):
            asked = flow(f"{protocol} {host}:{port}")
            without, lacks = outcome(rules(), asked)
            if not lacks:
                for owner in (CURL, PROXY, OTHER):
                    verdict = decide(rules(), asked, owner).verdict
                    self.assertIs(verdict, without.verdict, f"{asked} {owner.name}")

    def test_userRules(self) -> None:
        """The user's rules come after the proxy's own flows and before all other settings."""
        user = {"to": "reject", "domains": "x.example", "networks": ["0.0.0.0/0", "::/0"]}
        mine = rules(table=ruleTable(user))
        for destination, owner, expected in (
            ("tcp 1.1.1.1:443", CURL, "REJECT #1"),
            ("tcp 203.0.113.9:443", None, "REJECT #1"),
            ("udp 1.1.1.1:53", None, "REJECT #1"),
            ("tcp 10.0.0.1:445", None, "REJECT #1"),
            ("tcp 169.254.169.254:80", None, "REJECT #1"),
            ("tcp fd00::1:80", None, "REJECT #1"),
            ("tcp 1.1.1.1:443", PROXY, "DIRECT local-proxy"),
            ("tcp 1.1.1.1:443", Owner(42, 0), "REJECT loop"),
            ("tcp 198.18.0.1:53", None, "SERVE gateway"),
            ("udp 224.0.0.251:5353", None, "DROP no-host"),
            ("tcp 127.0.0.1:80", None, "REJECT host-only"),
            ("tcp 198.19.0.7:443", OTHER, "PROXY default"),
        ):
            with self.subTest(destination):
                self.assertDecided(decide(mine, flow(destination), owner), expected)
        forwarded = decide(mine, flow("tcp 169.254.169.254:80", NEIGHBOUR))
        self.assertDecided(forwarded, "REJECT forwarded")

    def test_lacksForUserRules(self) -> None:
        """An excluded process is looked for only where no rule decides before."""
        mine = rules(table=ruleTable({"to": "reject", "ports": 80}))
        for destination, lacks in (("tcp 1.1.1.1:443", OWNER), ("tcp 1.1.1.1:80", 0)):
            self.assertEqual(outcome(mine, flow(destination))[1], lacks)
        # What comes before the rules matters all the same.
        mine = rules(localProxy=True, table=ruleTable({"to": "reject"}))
        self.assertEqual(outcome(mine, flow("tcp 1.1.1.1:80"))[1], OWNER)
        mine = rules(localProxy=True, table=ruleTable({"to": "direct"}))
        self.assertEqual(outcome(mine, flow("tcp 1.1.1.1:80"))[1], 0)
        # A rule about processes makes them matter where no other setting does.
        mine = rules(processes=False, table=ruleTable({"to": "direct", "processes": "curl"}))
        for destination, lacks in (("tcp 1.1.1.1:443", OWNER), ("tcp 10.0.0.1:80", 0)):
            self.assertEqual(outcome(mine, flow(destination))[1], lacks)

    def test_default(self) -> None:
        """Everything else goes where C{default} says; local networks where C{lan} says."""
        for default, lan, expected in (
            ("proxy", "direct", ("PROXY default", "DIRECT reserved")),
            ("proxy", "proxy", ("PROXY default", "PROXY default")),
            ("direct", "direct", ("DIRECT default", "DIRECT reserved")),
            ("direct", "proxy", ("DIRECT default", "PROXY reserved")),
            ("office", "proxy", ("PROXY default", "PROXY reserved")),
            ("reject", "direct", ("REJECT default", "DIRECT reserved")),
            ("drop", "proxy", ("DROP default", "PROXY reserved")),
        ):
            mine = rules(default=default, lan=lan)
            for hosts, words in zip(
                (("1.1.1.1", "198.19.0.7"), ("10.0.0.1", "fd00::1")), expected, strict=True
            ):
                for host in hosts:
                    decision = decide(mine, flow(f"tcp {host}:80"))
                    self.assertDecided(decision, words)
                    office = default == "office" and decision.rule == "default"
                    self.assertEqual(decision.upstream, "office" if office else "")
            link = decide(mine, flow("tcp 169.254.169.254:80"))
            self.assertDecided(link, "DIRECT link-local")
        found = decide(rules(default="office"), flow("tcp 1.1.1.1:80"))
        self.assertEqual(found.reason, "no other rule applies, and default is office")

    def test_documented(self) -> None:
        """docs/rules.md has every rule, in the order in which they are asked."""
        text = (ROOT / "docs" / "rules.md").read_text()
        self.assertEqual(
            re.findall(r"^\| [0-9]+ \| `([a-z-]+|#1)`", text, re.MULTILINE), list(RULES)
        )
        for outcome in OUTCOMES:
            self.assertIn(f"`{outcome}`", text)

    def test_named(self) -> None:
        """An owner's name consists of what is known about it."""
        self.assertEqual(named(CURL), "curl (pid 77)")
        self.assertEqual(named(Owner(0, 1000)), "uid 1000")
        self.assertEqual(named(Owner(0, 1000, cgroup="/a")), "uid 1000")
        self.assertEqual(named(Owner(0, -1, cgroup="/a")), "cgroup:/a")
        self.assertEqual(named(Owner(5, 1000)), "pid 5")
        self.assertEqual(named(Owner(0, 0, "x")), "x")


class ReservedTests(SynchronousTestCase):
    """The table of reserved addresses."""

    def test_rows(self) -> None:
        """Each row is a network in canonical form with a source, and no network is there twice."""
        found = [str(ip_network(special.network)) for special in SPECIALS]
        # Python 3.13 and newer write the IPv4 address within this one with dots.
        mapped = {"::ffff:0.0.0.0/96": "::ffff:0:0/96"}
        found = [mapped.get(each, each) for each in found]
        self.assertEqual(found, [special.network for special in SPECIALS])
        self.assertEqual(len(set(found)), len(found))
        for special in SPECIALS:
            self.assertRegex(special.source, r"^RFC [0-9]+$")

    def test_asPython(self) -> None:
        """
        The table agrees with the standard library's copy of the registries, but for
        newer rows.
        """
        newer = ("192.88.99.2/32", "100:0:0:1::/64", "3fff::/20", "5f00::/16", "64:ff9b:1::/48")
        shared = ("100.64.0.0/10", "192.0.0.9/32", "192.0.0.10/32", *newer)
        for special in SPECIALS:
            address = ip_address(special.network.partition("/")[0])
            if special.network in shared or special.network.startswith("2001:"):
                continue
            self.assertTrue(address.is_private or not address.is_global, special.network)

    def test_edges(self) -> None:
        """A network's first and last addresses are found, their neighbours are not."""
        for special in SPECIALS:
            network = ip_network(special.network)
            for address in (network[0], network[-1]):
                found = specialOf(str(address))
                assert found is not None
                self.assertTrue(ip_network(found.network).subnet_of(network))  # type: ignore[arg-type]
        for host in ("9.255.255.255", "11.0.0.0", "100.128.0.0", "fec0::1", "2001:200::1"):
            self.assertIsNone(specialOf(host), host)

    def test_exceptions(self) -> None:
        """Addresses on the Internet that are inside a reserved network are found as such."""
        for host in ("192.0.0.9", "2001:20::1", "2001:0:1::1"):
            found = specialOf(host)
            assert found is not None
            self.assertIs(found.reach, Reach.GLOBAL, host)

    def test_narrowest(self) -> None:
        """The narrowest network wins, and of equal ones the first."""
        found = NetworkMap((("10.0.0.0/8", 1), ("10.1.0.0/16", 2), ("10.0.0.0/8", 3)))
        self.assertEqual([found.find(f"10.{x}.0.1") for x in (0, 1)], [1, 2])
        self.assertIsNone(found.find("11.0.0.1"))
        self.assertIsNone(found.find("::a00:1"))
        self.assertEqual(NetworkMap((("::/0", 1),)).find("2001:db8::1"), 1)
