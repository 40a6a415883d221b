"""Tests of L{nanotun.routing.firewall.switchtext}."""

from __future__ import annotations

import shutil
import subprocess
from itertools import product
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.routing.firewall.rules import signatureIn
from nanotun.routing.firewall.switchtext import PREFIX, iptablesLines, nftText
from nanotun.routing.plan import plan
from nanotun.routing.values import Earlier, Host, Interface, Mark, Rule, Wishes

HOST = Host(
    interfaces=(Interface("up0", ("203.0.113.0/24", "2001:db8:1::/64"), ("203.0.113.1",)),),
    sshPorts=(2222,),
    proxies=("9.9.9.9", "2001:db8:9::9"),
    behind=("172.17.0.2", "fd17::2"),
    marks=(Mark(4, 0xCA6C), Mark(6, 0x80000, 0xFF0000)),
)
EARLIER = (
    Earlier(4, 5210, 0x80000, 0xFF0000),
    Earlier(6, 5270, device="tailscale0"),
    Earlier(6, 100, to="2001:db8:5::/48"),
)


def rulesOf(host: Host = HOST, **wishes: Any) -> list[Rule]:
    """All routing rules of a plan with a kill switch."""
    wanted = Wishes(**{"device": "tun9", "killSwitch": True, **wishes})
    return [each for part in plan(wanted, host) for each in part if isinstance(each, Rule)]


class NftTextTests(SynchronousTestCase):
    """L{nftText}."""

    def chain(self, name: str, earlier: tuple[Earlier, ...] = (), **wishes: Any) -> list[str]:
        """The lines of a chain, after its type."""
        text = nftText(rulesOf(**wishes), earlier, "tun9")
        body = text.partition(f"chain {name} {{\n")[2].partition("\n\t}")[0]
        return [line.strip() for line in body.splitlines() if "type filter" not in line]

    def test_everythingElse(self) -> None:
        """What no line lets past is dropped, whether it is forwarded or sent by the machine."""
        self.assertEqual(self.chain("both")[-1], "counter drop")
        for name in ("forwarded", "leaving"):
            self.assertEqual(self.chain(name)[-1], "jump both")
            self.assertNotIn("accept", self.chain(name)[-1])

    def test_tunnel(self) -> None:
        """The tunnel, the loopback and marked packets pass, and so does what left the tunnel."""
        lines = self.chain("both")
        self.assertTrue(lines[0].startswith('oifname { "lo", "tun9" } accept'))
        self.assertEqual(lines[1], "meta mark 0x6e74 accept")
        self.assertEqual(self.chain("forwarded")[0], 'iifname "tun9" meta mark set 0x6e74')

    def test_local(self) -> None:
        """SSH, DHCP and excluded users pass if this machine sends them, and never forwarded."""
        lines = self.chain("leaving", uids=(33,))
        for version in (4, 6):
            family = f"meta nfproto ipv{version}"
            self.assertIn(f"{family} tcp sport 2222 accept", lines)
            self.assertIn(f"{family} meta skuid 33 accept", lines)
        self.assertIn("meta nfproto ipv4 udp sport 68 udp dport 67 accept", lines)
        self.assertIn("meta nfproto ipv6 udp sport 546 udp dport 547 accept", lines)
        for name in ("forwarded", "both"):
            self.assertNotIn("sport", "".join(self.chain(name, uids=(33,))))
            self.assertNotIn("skuid", "".join(self.chain(name, uids=(33,))))

    def test_sources(self) -> None:
        """
        What a proxy behind this machine sends is marked before NAT can replace its source; it is
        not let past by its source where this machine may be the sender.
        """
        lines = self.chain("forwarded", lan="proxy")
        for each in ("ip saddr 172.17.0.2/32", "ip6 saddr fd17::2/128"):
            self.assertIn(f"{each} meta mark set 0x6e74", lines)
            self.assertLess(lines.index(f"{each} meta mark set 0x6e74"), lines.index("jump both"))
        for name in ("leaving", "both"):
            self.assertNotIn("saddr", "".join(self.chain(name)))

    def test_marks(self) -> None:
        """Another VPN's own packets pass if this machine sends them, and never forwarded."""
        lines = self.chain("leaving")
        self.assertIn("meta nfproto ipv4 meta mark 0xca6c accept", lines)
        self.assertIn("meta nfproto ipv6 meta mark and 0xff0000 == 0x80000 accept", lines)
        for name in ("forwarded", "both"):
            self.assertNotIn("0xca6c", "".join(self.chain(name)))

    def test_destinations(self) -> None:
        """The proxies and the link always pass; the LAN only with lan: direct."""
        always = ("ip daddr 9.9.9.9/32", "ip6 daddr 2001:db8:9::9/128", "ip6 daddr fe80::/10")
        lan = ("ip daddr 192.168.0.0/16", "ip daddr 203.0.113.0/24", "ip6 daddr 2001:db8:1::/64")
        for word, wanted in (("direct", (*always, *lan)), ("proxy", always)):
            lines = self.chain("both", lan=word)
            for each in wanted:
                self.assertIn(f"{each} accept", lines)
        for each in lan:
            self.assertNotIn(f"{each} accept", self.chain("both", lan="proxy"))

    def test_link(self) -> None:
        """What the kernel sends without asking its routing rules passes with lan: proxy, too."""
        lines = self.chain("leaving", lan="proxy")
        self.assertIn("fib daddr type { broadcast, multicast } accept", lines)
        self.assertIn("icmpv6 type 133-137 ip6 hoplimit 255 accept", lines)

    def test_earlier(self) -> None:
        """What other programs' rules let past before passes, under all of its conditions."""
        lines = self.chain("both", EARLIER)
        self.assertIn("meta nfproto ipv4 meta mark and 0xff0000 == 0x80000 accept", lines)
        self.assertIn('meta nfproto ipv6 oifname "tailscale0" accept', lines)
        self.assertIn("meta nfproto ipv6 ip6 daddr 2001:db8:5::/48 accept", lines)

    def test_signature(self) -> None:
        """Two tables have the same signature only if they are the same."""
        texts = [
            nftText(rulesOf(), (), "tun9"),
            nftText(rulesOf(), (), "tun8"),
            nftText(rulesOf(), EARLIER, "tun9"),
            nftText(rulesOf(HOST._replace(sshPorts=(22,))), (), "tun9"),
        ]
        self.assertEqual(len(set(map(signatureIn, texts))), len(texts))
        self.assertEqual(texts[0], nftText(rulesOf(), (), "tun9"))

    def test_realNft(self) -> None:
        """nft understands it, whatever is let past."""
        nft = shutil.which("nft")
        if nft is None:
            self.skipTest("nft is not installed")
        text = nftText(rulesOf(uids=(33, 4294967294)), EARLIER, "tun9")
        ran = subprocess.run([nft, "-c", "-f", "-"], input=text, capture_output=True, text=True)
        if "Operation not permitted" not in ran.stderr:
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))


class EveryRuleTests(SynchronousTestCase):
    """That no rule can be forgotten."""

    def test_everyPlan(self) -> None:
        """Every rule of every plan that lets something past has a line."""
        for lan, ipv6, uids, has in product(
            ("direct", "proxy"), ("auto", "capture", "block"), ((), (33,)), (True, False)
        ):
            rules = rulesOf(HOST._replace(hasIPv6=has), lan=lan, ipv6=ipv6, uids=uids)
            text = nftText(rules, (), "tun9")
            lines = [*iptablesLines(rules, (), "tun9", 4), *iptablesLines(rules, (), "tun9", 6)]
            for rule in rules:
                if rule.action == "goto" and rule.to:
                    self.assertIn(f"daddr {rule.to} accept", text)
                    self.assertIn(f"-A {PREFIX}LEAVING -d {rule.to} -j RETURN", lines)
                    self.assertIn(f"-A {PREFIX}FORWARDED -d {rule.to} -j RETURN", lines)
                if rule.source:
                    self.assertIn(f"saddr {rule.source} meta mark set", text)
                    self.assertIn(f"-A {PREFIX}FORWARDED -s {rule.source} -j MARK", "".join(lines))

    def test_unknown(self) -> None:
        """A rule that cannot be expressed is an error, rather than a hole or a wall."""
        for rule in (
            Rule(4, 7441, "goto", 7499, to="10.0.0.0/8", transport="tcp", sourcePort=5),
            Rule(4, 7441, "goto", 7499),
            Rule(4, 7441, "goto", 7499, incoming="lo"),
            Rule(4, 7441, "goto", 7499, incoming="lo", to="10.0.0.0/8", uids=(1, 1)),
            Rule(4, 7441, "goto", 7499, incoming="lo", source="10.0.0.1/32", uids=(1, 1)),
            Rule(4, 7441, "goto", 7499, to="10.0.0.0/8", source="10.0.0.1/32"),
            Rule(4, 7441, "goto", 7499, mark=5),
            Rule(4, 7441, "goto", 7499, to="10.0.0.0/8", invert=True),
            Rule(4, 7441, "goto", 7499, transport="tcp", incoming="lo"),
        ):
            self.assertRaises(ValueError, nftText, [rule], (), "tun9")
            self.assertRaises(ValueError, iptablesLines, [rule], (), "tun9", 4)


class OnlyTests(SynchronousTestCase):
    """The switch table for chosen programs alone."""

    def test_nft(self) -> None:
        """
        Only what is chosen gets to the lines that drop: by its mark, by its connection's, or by
        its user, which a packet of the kernel's own does not have.
        """
        for only, users in (((), []), ((7, 8), ["meta skuid { 7, 8 } goto chosen"])):
            text = nftText(rulesOf(), EARLIER, "tun9", only=only)
            plain = nftText(rulesOf(), EARLIER, "tun9")
            forwarded, leaving, chosen, _ = (
                each.partition("\n\t}")[0].splitlines()[1:] for each in text.split("chain ")[1:]
            )
            self.assertEqual([line for line in forwarded if "type filter" not in line], [])
            self.assertEqual(
                [line.strip() for line in leaving[1:]],
                ["meta mark 0x6e75 goto chosen", "ct mark 0x6e75 goto chosen", *users],
            )
            usual = plain.partition("chain leaving {\n")[2].partition("\n\t}")[0].splitlines()
            self.assertEqual(chosen, usual[1:])
            self.assertNotEqual(signatureIn(text), signatureIn(plain))

    def test_iptables(self) -> None:
        """iptables does the same."""
        for version in (4, 6):
            lines = iptablesLines(rulesOf(), EARLIER, "tun9", version, (7,))
            plain = iptablesLines(rulesOf(), EARLIER, "tun9", version)
            start, to = f"-A {PREFIX}LEAVING ", f" -g {PREFIX}CHOSEN"
            self.assertEqual(
                [line for line in lines if not line.startswith(f"-A {PREFIX}CHOSEN")],
                [
                    f"{start}-m mark --mark 0x6e75{to}",
                    f"{start}-m connmark --mark 0x6e75{to}",
                    f"{start}-m owner --uid-owner 7{to}",
                ],
            )
            usual = [line.replace("LEAVING", "CHOSEN") for line in plain if line.startswith(start)]
            signed = signatureIn("".join(plain)), signatureIn("".join(lines))
            self.assertEqual(lines[3:], [line.replace(*signed) for line in usual])

    def test_realNft(self) -> None:
        """nft understands it."""
        nft = shutil.which("nft")
        if nft is None:
            self.skipTest("nft is not installed")
        text = nftText(rulesOf(), EARLIER, "tun9", only=(7,))
        ran = subprocess.run([nft, "-c", "-f", "-"], input=text, capture_output=True, text=True)
        if "Operation not permitted" not in ran.stderr:
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))


class IptablesTests(SynchronousTestCase):
    """L{iptablesLines}."""

    def chain(self, name: str, version: int, **wishes: Any) -> list[str]:
        """The lines of a chain, without its name."""
        start = f"-A {PREFIX}{name} "
        lines = iptablesLines(rulesOf(**wishes), EARLIER, "tun9", version)
        return [line[len(start) :] for line in lines if line.startswith(start)]

    def test_everythingElse(self) -> None:
        """What no line lets past is dropped, in both chains and versions."""
        for name, version in product(("FORWARDED", "LEAVING"), (4, 6)):
            self.assertEqual(self.chain(name, version)[-1], "-j DROP")

    def test_lines(self) -> None:
        """The same passes as with nft."""
        four, six = (self.chain("LEAVING", version, uids=(33,)) for version in (4, 6))
        for lines in (four, six):
            self.assertIn("-p tcp -m tcp --sport 2222 -j RETURN", lines)
            self.assertIn("-m owner --uid-owner 33-33 -j RETURN", lines)
            self.assertIn("-m mark --mark 0x6e74 -j RETURN", lines)
            self.assertIn("-m addrtype --dst-type MULTICAST -j RETURN", lines)
        self.assertIn("-p udp -m udp --sport 68 --dport 67 -j RETURN", four)
        self.assertIn("-m mark --mark 0xca6c -j RETURN", four)
        self.assertIn("-m mark --mark 0x80000/0xff0000 -j RETURN", six)
        self.assertIn("-p udp -m udp --sport 546 --dport 547 -j RETURN", six)
        self.assertIn("-m mark --mark 0x80000/0xff0000 -j RETURN", four)
        self.assertIn("-o tailscale0 -j RETURN", six)
        self.assertIn("-d 2001:db8:5::/48 -j RETURN", six)
        neighbours = "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -m hl --hl-eq 255 -j RETURN"
        self.assertIn(neighbours, six)
        self.assertNotIn(neighbours, four)

    def test_forwarded(self) -> None:
        """What only this machine may send is not let past if it is forwarded."""
        for version in (4, 6):
            lines = self.chain("FORWARDED", version, uids=(33,))
            self.assertEqual(lines[0], "-i tun9 -j MARK --set-xmark 0x6e74/0xffffffff")
            proxy = "172.17.0.2/32" if version == 4 else "fd17::2/128"
            self.assertEqual(lines[1], f"-s {proxy} -j MARK --set-xmark 0x6e74/0xffffffff")
            self.assertNotIn(" -s ", "".join(self.chain("LEAVING", version)))
            self.assertNotIn("sport", "".join(lines))
            self.assertNotIn("owner", "".join(lines))
            self.assertNotIn("ca6c", "".join(lines))
