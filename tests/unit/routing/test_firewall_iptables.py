"""Tests of L{nanotun.routing.firewall.iptables} and L{nanotun.routing.firewall.iptablestext}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import LOCAL_NETWORKS
from nanotun.errors import RoutingError
from nanotun.routing.firewall.iptables import IptablesChains, variantOf
from nanotun.routing.firewall.iptablestext import JUMPS, TABLES, loading, removing, tablesOf
from nanotun.routing.firewall.rules import Cgroup, FirewallRules, Neighbourhood
from nanotun.routing.interfaces import IChange
from tests.contracts.firewall import ChangeContract
from tests.unit.routing.firewall_cases import FirewallCase

RULES = FirewallRules("tun9", (5,), (Cgroup('/a/b\\"c', "", 7),))
EMPTY = dict.fromkeys(TABLES, "")


class TextTests(SynchronousTestCase):
    """L{loading} and L{removing}."""

    def chain(self, name: str, version: int = 4, rules: FirewallRules = RULES) -> list[str]:
        """The rules of a chain."""
        begin = f"-A NANOTUN_{name} "
        lines = loading(rules, version, EMPTY).splitlines()
        return [line.removeprefix(begin) for line in lines if line.startswith(begin)]

    def test_redirect(self) -> None:
        """DNS of each family is redirected to its gateway, but for marked and own packets."""
        for version, gateway, own in (
            (4, "198.18.0.1", "198.18.0.0/15"),
            (6, "fdfe:dcba:9876::1", "fdfe:dcba:9876::/48"),
        ):
            for name, ourselves in (
                ("DNS_SENT", "-o lo"),
                ("DNS_FORWARDED", "-m addrtype --dst-type LOCAL"),
            ):
                self.assertEqual(
                    self.chain(name, version),
                    [
                        "-m mark --mark 0x6e74 -j RETURN",
                        f"{ourselves} -j RETURN",
                        f"-d {own} -j RETURN",
                        f"-p udp --dport 53 -j DNAT --to-destination {gateway}",
                        f"-p tcp --dport 53 -j DNAT --to-destination {gateway}",
                    ],
                )

    def test_guard(self) -> None:
        """Unmarked DNS leaves by the tunnel and the loopback only."""
        lines = self.chain("GUARD")
        self.assertEqual(lines[:2], ["-m mark --mark 0x6e74 -j RETURN", "-o lo -j RETURN"])
        self.assertTrue(lines[2].startswith("-o tun9 ") and lines[2].endswith(" -j RETURN"))
        end = ["-p udp --dport 53 -j DROP", "-p tcp --dport 53 -j DROP"]
        own = [f"{line[:17]} -d 198.18.0.0/15{line[17:]}" for line in end]
        local = [f"-d {each} -m conntrack --ctstate DNAT -j RETURN" for each in LOCAL_NETWORKS[4]]
        self.assertEqual(lines[3:], [*own, *local, *end])

    def test_leftAlone(self) -> None:
        """
        Networks of excludedIPs are neither redirected nor guarded; those behind this machine
        are not for forwarded queries.
        """
        rules = RULES._replace(
            networks=("192.0.2.0/24", "2001:db8::/32"), behind=("172.17.0.0/16", "fd17::/64")
        )
        for version, excluded, behind in (
            (4, "192.0.2.0/24", "172.17.0.0/16"),
            (6, "2001:db8::/32", "fd17::/64"),
        ):
            sent, forwarded, guard = (
                self.chain(name, version, rules) for name in ("DNS_SENT", "DNS_FORWARDED", "GUARD")
            )
            self.assertEqual(sent[3:-2], [f"-d {excluded} -j RETURN"])
            self.assertEqual(
                forwarded[3:-2], [f"-d {excluded} -j RETURN", f"-d {behind} -j RETURN"]
            )
            self.assertIn(f"-d {excluded} -j RETURN", guard)
            self.assertEqual(guard[-3], f"-d {behind} -m owner ! --socket-exists -j RETURN")

    def test_proxies(self) -> None:
        """The DNS of proxies behind this machine is marked, and nothing else of theirs."""
        rules = RULES._replace(proxies=("172.17.0.2", "fd17::2"))
        for version, proxy in ((4, "172.17.0.2"), (6, "fd17::2")):
            found = [each for each in self.chain("ARRIVING", version, rules) if " -s" in each]
            mark = "-j MARK --set-xmark 0x6e74/0xffffffff"
            self.assertEqual(
                found,
                [f"-p {each} --dport 53 -s {proxy} {mark}" for each in ("udp", "tcp")],
            )

    def test_alsoAnUplinks(self) -> None:
        """What leaves by an uplink is stopped even if that is where a network behind would be."""
        rules = RULES._replace(behind=("172.17.0.0/16",), uplinks=("eth0", "wlan0"))
        guard = self.chain("GUARD", 4, rules)
        behind = guard.index("-d 172.17.0.0/16 -m owner ! --socket-exists -j RETURN")
        for name in rules.uplinks:
            for protocol in ("udp", "tcp"):
                line = f"-p {protocol} --dport 53 -o {name} -j DROP"
                self.assertLess(guard.index(line), behind)

    def test_arrivesFromOutside(self) -> None:
        """What comes from outside with an address of the tunnel at either end is dropped."""
        for version, kernel, link in (
            (4, "198.18.0.2", "198.18.0.2/30"),
            (6, "fdfe:dcba:9876::2", "fdfe:dcba:9876::2/126"),
        ):
            lines = self.chain("ARRIVING", version)
            own = lines.index("-i tun9 -j RETURN")
            self.assertEqual(
                lines[own + 1 : own + 3], [f"-d {link} -j DROP", f"-s {kernel} -j DROP"]
            )

    def test_marks(self) -> None:
        """
        Another VPN's mark is never replaced by ours, and its packets are neither redirected
        nor stopped, whatever their port.
        """
        rules = RULES._replace(marks=((0xCA6C, 0), (0x80000, 0xFF0000)))
        for name in ("SENDING", "DNS_SENT", "DNS_FORWARDED", "GUARD"):
            lines = self.chain(name, 6, rules)
            first = min(
                n
                for n, line in enumerate(lines)
                if any(w in line for w in ("MARK", "DNAT", "DROP"))
            )
            for each in ("0xca6c", "0x80000/0xff0000"):
                self.assertIn(f"-m mark --mark {each} -j RETURN", lines[:first], name)

    def test_excluded(self) -> None:
        """Users and groups are marked; a name is quoted as iptables-restore reads it."""
        lines = self.chain("SENDING")
        self.assertIn("-m owner --uid-owner 5 -g NANOTUN_UPLINK", lines)
        self.assertIn('-m cgroup --path "/a/b\\\\\\"c" -g NANOTUN_UPLINK', lines)

    def test_families(self) -> None:
        """The versions differ in addresses, and in link-local servers, which IPv4 does not have."""
        four, six = self.chain("SENDING"), self.chain("SENDING", 6)
        known = "-p tcp --sport 1:1023 --tcp-flags FIN,SYN,RST NONE -m conntrack --ctstate NEW"
        for lines, kernel in ((four, "198.18.0.2"), (six, "fdfe:dcba:9876::2")):
            self.assertIn(f"! -s {kernel} {known} -g NANOTUN_UPLINK", lines)
        local = [f"-p {each} --dport 53 ! -o lo -d fe80::/10 -j DROP" for each in ("udp", "tcp")]
        self.assertEqual([line for line in six if "DROP" in line], local)
        self.assertEqual(len(six) - len(four), 2)

    def test_order(self) -> None:
        """In each table the rules are loaded before the jumps to them, in one commit."""
        for part in loading(RULES, 4, EMPTY).split("*")[1:]:
            lines = part.splitlines()
            first = min(n for n, line in enumerate(lines) if line.startswith("-I "))
            ours = [n for n, line in enumerate(lines) if line.startswith("-A NANOTUN_")]
            self.assertLess(max(ours), first)
            self.assertEqual((lines.count("COMMIT"), lines[-1]), (1, "COMMIT"))

    def test_again(self) -> None:
        """Existing jumps to our chains are removed in the same commit."""
        present = {"mangle": "-A OUTPUT -p tcp -j NANOTUN_SENDING\n-A OUTPUT -j X", "nat": ""}
        deleted = [line for line in loading(RULES, 4, present).splitlines() if line[:2] == "-D"]
        self.assertEqual(deleted, ["-D OUTPUT -p tcp -j NANOTUN_SENDING"])

    def test_removing(self) -> None:
        """Only existing rules of ours are removed."""
        self.assertEqual(removing(EMPTY), "")
        saved = (
            "*filter\n:NANOTUN_NOT_HERE - [0:0]\nCOMMIT\n"
            "*nat\n:OUTPUT ACCEPT [0:0]\n:SOMEBODY - [0:0]\n:NANOTUN_SOURCE - [0:0]\n"
            "-A POSTROUTING -j SOMEBODY\n-A POSTROUTING -j NANOTUN_SOURCE\n"
            "-A NANOTUN_SOURCE -j RETURN\nCOMMIT\n"
        )
        self.assertEqual(
            removing(tablesOf(saved)),
            "*nat\n-D POSTROUTING -j NANOTUN_SOURCE\n-F NANOTUN_SOURCE\n-X NANOTUN_SOURCE\n"
            "COMMIT\n",
        )


class IptablesTests(FirewallCase, ChangeContract):
    """L{IptablesChains}."""

    device = "tun9"

    def makeChange(self) -> IChange:
        """The rules of both families."""
        return IptablesChains(
            self.tools, self.device, self.exclusions(), "", (4, 6), self.cgroups()
        )

    def state(self) -> str:
        """All rules."""
        return repr([self.tools.iptables[version].lines for version in (4, 6)])

    def test_jumps(self) -> None:
        """The kernel's chains jump to ours first, but for DNS last, in both families."""
        for rules in self.tools.iptables.values():
            for table in TABLES:
                hooks = {jump.hook for jump in JUMPS if jump.table == table}
                rules.lines[table] = [f"-A {hook} -j X" for hook in sorted(hooks)]
        self.makeChange().apply()
        for rules in self.tools.iptables.values():
            for jump in JUMPS:
                lines = [x for x in rules.lines[jump.table] if x.startswith(f"-A {jump.hook} ")]
                self.assertEqual(lines.index(f"-A {jump.rule}"), int("DNS" in jump.chain))

    def test_flushed(self) -> None:
        """It does not hold if somebody has removed a jump to our chains, or one of our rules."""
        for table, part in (("nat", "-A OUTPUT -j NANOTUN"), ("mangle", "-A NANOTUN_GUARD -p udp")):
            change = self.makeChange()
            change.apply()
            lines = self.tools.iptables[6].lines[table]
            lines.remove(next(line for line in lines if line.startswith(part)))
            self.assertFalse(change.holds())
            change.apply()
            self.assertTrue(change.holds())

    def test_cheap(self) -> None:
        """With nft's iptables no tool is run as long as nobody changes any rules."""
        for variant, runs in (("nft", 0), ("legacy", 2), ("", 2)):
            change = IptablesChains(
                self.tools, self.device, self.exclusions(), variant, (4, 6), self.cgroups()
            )
            change.apply()
            self.assertTrue(change.holds())
            self.tools.ran.clear()
            self.assertTrue(change.holds())
            self.assertEqual(len(self.tools.ran), runs, variant)
            self.tools.iptables[4].lines["nat"].clear()
            self.assertFalse(change.holds())
            change.undo()

    def test_cannotLook(self) -> None:
        """If no tool can be run, the change is assumed to hold, and is not applied again."""
        change = self.makeChange()
        change.apply()
        before = self.state()
        self.tools.broken = "Too many open files"
        self.tools.nft.loads += 1  # something has changed
        self.assertTrue(change.holds())
        self.assertIn("Too many open files", str(self.assertRaises(RoutingError, change.apply)))
        self.tools.broken = ""
        self.assertEqual(self.state(), before)
        self.assertTrue(change.holds())

    def test_secondFamilyFails(self) -> None:
        """If one family's rules cannot be loaded, the other's are removed."""
        before = self.state()
        self.tools.iptables[6].refused["*nat"] = "ip6tables: no table `nat'\nmore"
        error = self.assertRaises(RoutingError, self.makeChange().apply)
        self.assertEqual(
            str(error),
            "DNS cannot be redirected: ip6tables-restore: ip6tables: no table `nat'",
        )
        self.assertEqual(self.state(), before)

    def test_failedReload(self) -> None:
        """If the rules cannot be loaded again, the old ones are kept."""
        change = self.makeChange()
        change.apply()
        before = self.state()
        self.tools.iptables[6].refused["*nat"] = "Another app is currently holding the lock"
        self.assertIn("the lock", str(self.assertRaises(RoutingError, change.apply)))
        self.assertEqual(self.state(), before)
        self.assertTrue(change.holds())

    def test_noGroups(self) -> None:
        """If groups cannot be matched, the other rules are loaded."""
        self.tools.iptables[4].refused["cgroup"] = "iptables-restore: no such match"
        change = self.makeChange()
        change.apply()
        self.assertTrue(change.holds())
        self.assertFalse([x for x in self.tools.iptables[6].lines["mangle"] if "cgroup" in x])

    def test_noOwners(self) -> None:
        """
        Where forwarded queries cannot be told from others, all of them are redirected, and the
        control groups are still matched.
        """
        around = Neighbourhood(("eth0",), ("172.17.0.0/16", "fd17::/64"))
        for lacks, kept, left in (("socket-exists", "cgroup", ""), ("cgroup", "172.17", "172.17")):
            for version, rules in self.tools.iptables.items():
                rules.refused = {lacks: f"iptables-restore v1.8.9: no {lacks} in {version}"}
            args = (self.tools, self.device, self.exclusions(), "", (4, 6), self.cgroups(), around)
            change = IptablesChains(*args)
            change.apply()
            self.assertTrue(change.holds())
            lines = repr(self.tools.iptables[4].lines)
            self.assertIn(kept, lines)
            self.assertNotIn(lacks, lines)
            self.assertEqual("172.17" in lines, bool(left))
            self.flushLoggedErrors()
            change.undo()

    def test_otherSettings(self) -> None:
        """Undoing a change that another one has replaced leaves the other one alone."""
        before = self.state()
        old = self.makeChange()
        old.apply()
        self.device = "tun8"
        new = self.makeChange()
        new.apply()
        self.remake(old).undo()
        self.assertTrue(new.holds())
        new.undo()
        self.assertEqual(self.state(), before)

    def test_halfUndone(self) -> None:
        """Rules that an interrupted undo has left are removed."""
        before = self.state()
        change = self.makeChange()
        change.apply()
        rules = self.tools.iptables[4]
        rules.restore(removing({**tablesOf(rules.save()), "nat": ""}))
        self.assertNotEqual(self.state(), before)
        self.remake(change).undo()
        self.assertEqual(self.state(), before)

    def test_missing(self) -> None:
        """Without the tools the error says what to install."""
        self.tools.installed.discard("ip6tables-save")
        error = self.assertRaises(RoutingError, self.makeChange().apply)
        self.assertIn("install iptables", str(error))

    def test_badRecord(self) -> None:
        """An invalid record is refused."""
        record = self.makeChange().record()
        for wrong in ({"variant": "x"}, {"versions": [5]}, {"versions": None}):
            change = IptablesChains(
                self.tools, self.device, self.exclusions(), "", (4,), self.cgroups()
            )
            self.patch(change, "record", lambda wrong=wrong: {**record, **wrong})
            self.assertRaises((ValueError, TypeError), self.remake, change)


class VariantTests(FirewallCase):
    """L{variantOf}."""

    def test_variants(self) -> None:
        """The variant is read from the output of iptables --version."""
        for said, variant in (
            ("iptables v1.8.9 (legacy)", "legacy"),
            ("iptables v1.8.9 (nf_tables)", "nft"),
            ("iptables v1.6.1", ""),
        ):
            self.tools.version = said
            self.assertEqual(variantOf(self.tools), variant)

    def test_none(self) -> None:
        """Without iptables the error says what to do."""
        self.tools.installed.clear()
        error = self.assertRaises(RoutingError, variantOf, self.tools)
        self.assertIn("install nftables", str(error))

    def test_byItsFullName(self) -> None:
        """The variant that was found is used, even if the plain name means another one later."""
        change = IptablesChains(
            self.tools, "tun9", self.exclusions(), "legacy", (4,), self.cgroups()
        )
        self.assertIn("iptables-restore", change.describe())
        self.tools.installed.add("iptables-legacy")
        self.assertIn("iptables-legacy-restore", change.describe())
