"""Tests of L{nanotun.routing.firewall.nft} and L{nanotun.routing.firewall.nfttext}."""

from __future__ import annotations

import shutil
from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import LOCAL_NETWORKS, OWN4
from nanotun.errors import RoutingError
from nanotun.routing.firewall import cgroups, nft
from nanotun.routing.firewall.nft import NftLoader, NftTable, works
from nanotun.routing.firewall.nfttext import oneLine, signatureOf, tableText
from nanotun.routing.firewall.rules import TABLE, Cgroup, FirewallRules
from nanotun.testing.firewall import DENIED, FakeHeld
from tests.contracts.firewall import ChangeContract
from tests.unit.routing.firewall_cases import FirewallCase

RULES = FirewallRules("tun9", (5,), (Cgroup("/a/b", "unified/a/b", 7), Cgroup("/c", "", 8)))


class TextTests(SynchronousTestCase):
    """L{tableText}, L{oneLine} and L{signatureOf}."""

    def chain(self, name: str, rules: FirewallRules = RULES) -> list[str]:
        """The lines of a chain."""
        body = tableText(rules, True).partition(f"chain {name} {{\n")[2].partition("\n\t}")[0]
        return [line.strip() for line in body.splitlines()]

    def test_redirect(self) -> None:
        """DNS of both families and protocols is redirected, but for marked and own packets."""
        query = "udp dport 53 @th,80,5 0 @th,96,16 1"
        for name, ourselves in (
            ("dns-sent", 'oifname "lo" accept'),
            ("dns-forwarded", "fib daddr type local accept"),
        ):
            lines = self.chain(name)
            self.assertIn("priority -99", lines[0])
            self.assertEqual(lines[1:3], ["meta mark 0x6e74 accept", ourselves])
            self.assertEqual(
                lines[-4:],
                [
                    "meta nfproto ipv4 tcp dport 53 dnat ip to 198.18.0.1",
                    f"meta nfproto ipv4 {query} dnat ip to 198.18.0.1",
                    "meta nfproto ipv6 tcp dport 53 dnat ip6 to fdfe:dcba:9876::1",
                    f"meta nfproto ipv6 {query} dnat ip6 to fdfe:dcba:9876::1",
                ],
            )

    def test_toNeighbours(self) -> None:
        """What goes to another interface than tunnel and uplinks is left alone, if one is known."""
        line = (
            "fib daddr . mark oif exists "
            'fib daddr . mark oifname != { "tun9", "up0", "up1" } accept'
        )
        known = RULES._replace(uplinks=("up0", "up1"))
        self.assertIn(line, self.chain("dns-forwarded", known))
        self.assertNotIn(line, self.chain("dns-sent", known))
        self.assertFalse([each for each in self.chain("dns-forwarded") if "oifname" in each])

    def test_proxies(self) -> None:
        """The DNS of proxies behind this machine is marked, and nothing else of theirs."""
        rules = RULES._replace(proxies=("172.17.0.2", "172.17.0.4", "fd17::2"))
        lines = [each for each in self.chain("arriving", rules) if "saddr {" in each]
        dns = "meta l4proto { tcp, udp } th dport 53 meta mark set 0x6e74"
        away = 'iifname != { "lo", "tun9" }'
        self.assertEqual(
            lines,
            [
                f"{away} ip saddr {{ 172.17.0.2, 172.17.0.4 }} {dns}",
                f"{away} ip6 saddr {{ fd17::2 }} {dns}",
            ],
        )
        self.assertFalse([each for each in self.chain("arriving") if "saddr {" in each])

    def test_arrivesFromOutside(self) -> None:
        """What comes from outside with an address of the tunnel at either end is dropped."""
        away = 'iifname != { "lo", "tun9" }'
        self.assertEqual(
            [each for each in self.chain("arriving") if each.endswith(" drop")],
            [
                f"{away} ip daddr 198.18.0.2/30 drop",
                f"{away} ip saddr 198.18.0.2 drop",
                f"{away} ip6 daddr fdfe:dcba:9876::2/126 drop",
                f"{away} ip6 saddr fdfe:dcba:9876::2 drop",
            ],
        )

    def test_excludedNetworks(self) -> None:
        """Networks of excludedIPs are neither redirected nor guarded."""
        rules = RULES._replace(networks=("192.0.2.0/24", "10.0.0.1/32", "2001:db8::/32"))
        for name in ("dns-sent", "dns-forwarded", "guard"):
            lines = self.chain(name, rules)
            four = lines.index("ip daddr { 192.0.2.0/24, 10.0.0.1/32 } accept")
            self.assertEqual(lines[four + 1], "ip6 daddr { 2001:db8::/32 } accept")
            self.assertFalse([each for each in lines[:four] if "dnat" in each])

    def test_neighboursAreNotServed(self) -> None:
        """A query to the gateway itself is not redirected, and so keeps its source."""
        for line in ("ip daddr 198.18.0.0/15 accept", "ip6 daddr fdfe:dcba:9876::/48 accept"):
            self.assertIn(line, self.chain("dns-forwarded"))
        for line in self.chain("source")[1:]:
            self.assertTrue("ct status dnat" in line or "meta mark 0x6e74" in line)
        # The guard lets redirected packets to local networks pass, and drops these before.
        for network in LOCAL_NETWORKS[4]:
            self.assertFalse(ip_network(OWN4).overlaps(ip_network(network)))
        self.assertEqual(LOCAL_NETWORKS[6], ("fc00::/7",))

    def test_guard(self) -> None:
        """Unmarked DNS leaves by the tunnel and the loopback only."""
        query = "udp dport 53 @th,80,5 0 @th,96,16 1"
        own = [
            f"{network} {match} counter drop"
            for network in ("ip daddr 198.18.0.0/15", "ip6 daddr fdfe:dcba:9876::/48")
            for match in ("tcp dport 53", query)
        ]
        lines = self.chain("guard")
        self.assertTrue(lines[1].startswith('oifname { "lo", "tun9" } accept comment "nanotun-'))
        self.assertEqual(lines[2:7], ["meta mark 0x6e74 accept", *own])
        self.assertEqual([line[:15] for line in lines[7:9]], ["ct status dnat "] * 2)
        self.assertEqual(lines[9:], ["tcp dport 53 counter drop", f"{query} counter drop"])
        lines = self.chain("guard", RULES._replace(uplinks=("up0",)))
        self.assertEqual(lines[9], 'oifname != { "up0" } jump forwarded-on')
        self.assertEqual(self.chain("forwarded-on"), ["meta skuid 0-4294967295 return", "accept"])

    def test_excluded(self) -> None:
        """Users and groups are marked; a group outside of nft's folder is left out."""
        lines = self.chain("sending")
        self.assertIn("meta skuid { 5 } goto uplink", lines)
        self.assertIn('socket cgroupv2 level 2 "unified/a/b" goto uplink', lines)
        self.assertFalse([line for line in lines if "level 1" in line])
        nobody = self.chain("sending", FirewallRules("tun9"))
        self.assertFalse([line for line in nobody if "skuid" in line or "cgroup" in line])

    def test_connectedBefore(self) -> None:
        """A server's packets are marked on a connection that is new only to conntrack."""
        lines = [line for line in self.chain("sending") if "tcp sport 1-1023" in line]
        for line, version, kernel in zip(
            lines, ("ip", "ip6"), ("198.18.0.2", "fdfe:dcba:9876::2"), strict=True
        ):
            self.assertEqual(
                line,
                f"{version} saddr != {kernel} tcp sport 1-1023 "
                "tcp flags & (fin|syn|rst) == 0 ct state new goto uplink",
            )

    def test_markedFirst(self) -> None:
        """The first rule of each chain accepts marked packets."""
        for name in ("sending", "dns-sent", "dns-forwarded"):
            self.assertEqual(self.chain(name)[1], "meta mark 0x6e74 accept")

    def test_marks(self) -> None:
        """
        Another VPN's mark is never replaced by ours, and its packets are neither redirected
        nor stopped, whatever their port.
        """
        rules = RULES._replace(marks=((0xCA6C, 0), (0x80000, 0xFF0000)))
        wanted = ["meta mark 0xca6c accept", "meta mark and 0xff0000 == 0x80000 accept"]
        for name in ("sending", "dns-sent", "dns-forwarded", "guard"):
            lines = self.chain(name, rules)
            first = min(
                n
                for n, line in enumerate(lines)
                if any(w in line for w in ("ct mark", "dnat", "drop"))
            )
            for each in wanted:
                self.assertIn(each, lines[1:first], name)
                self.assertNotIn(each, self.chain(name))
        self.assertNotEqual(signatureOf(rules), signatureOf(RULES))

    def test_owner(self) -> None:
        """The owner flag is set if wanted."""
        self.assertIn("\n\tflags owner\n", tableText(RULES, True))
        self.assertNotIn("flags owner", tableText(RULES, False))

    def test_signatureOf(self) -> None:
        """Other rules have another signature, as has a group that was created again."""
        again = (Cgroup("/a/b", "unified/a/b", 9),)
        others = [
            FirewallRules("tun8", (5,)),
            FirewallRules("tun9", (6,)),
            RULES._replace(cgroups=again),
            RULES._replace(uplinks=("up0",)),
            RULES._replace(networks=("192.0.2.0/24",)),
        ]
        self.assertEqual(len({signatureOf(each) for each in [RULES, *others]}), 6)
        self.assertEqual(signatureOf(RULES), signatureOf(FirewallRules(*RULES)))
        self.assertIn(signatureOf(RULES), tableText(RULES, False))

    def test_oneLine(self) -> None:
        """The line has everything and no newline."""
        line = oneLine(tableText(FirewallRules("tun9"), True))
        self.assertNotIn("\n", line)
        self.assertTrue(line.startswith(f"table inet {TABLE} {{; flags owner; chain arriving {{;"))


class NftCase(FirewallCase):
    """A table, and the fake tools that load it."""

    killSwitch = False

    def makeChange(self) -> NftTable:
        """The table."""
        return NftTable(
            NftLoader(self.tools),
            "tun9",
            self.exclusions(),
            self.killSwitch,
            self.cgroups(),
            sleep=lambda seconds: None,
        )

    def state(self) -> str:
        """All tables."""
        return repr(self.tools.nft.tables)


class OwnedTableTests(NftCase, ChangeContract):
    """L{NftTable} with an owner."""

    owned = True

    def test_goesWithItsHolder(self) -> None:
        """If somebody kills the owner, the change does not hold, and can be applied again."""
        change = self.makeChange()
        change.apply()
        self.tools.held[0].close()
        self.assertFalse(change.holds())
        change.apply()
        self.assertTrue(change.holds())
        change.undo()
        self.assertEqual(self.tools.nft.tables, {})

    def test_oneHolder(self) -> None:
        """Only the owner may replace the table, so the same process does."""
        change = self.makeChange()
        change.apply()
        change.apply()
        self.assertEqual(len(self.tools.held), 1)

    def test_noOwnerFlag(self) -> None:
        """If the kernel or nft does not know owners, the table is loaded without one."""
        self.tools.nft.refused["flags owner"] = "Error: Operation not supported"
        change = self.makeChange()
        change.apply()
        self.assertTrue(change.holds())
        self.assertEqual(self.tools.nft.owners, {})
        self.assertFalse(self.tools.held[0].isRunning())
        self.remake(change).undo()
        self.assertEqual(self.tools.nft.tables, {})

    def test_holderDoesNotWork(self) -> None:
        """An nft without an interactive mode loads the table without an owner."""

        def fail(line: str, question: str, answer: str) -> str:
            raise RoutingError("nft has ended.")

        self.patch(FakeHeld, "ask", staticmethod(fail))
        change = self.makeChange()
        change.apply()
        self.assertTrue(change.holds())
        self.assertFalse(self.tools.held[0].isRunning())

    def test_somebodyElsesTable(self) -> None:
        """A table that another process owns can be neither replaced nor removed."""
        self.makeChange().apply()
        other = self.makeChange()
        error = self.assertRaises(RoutingError, other.apply)
        self.assertIn("not permitted", str(error))
        self.assertIn("not permitted", str(self.assertRaises(RoutingError, other.undo)))
        self.assertEqual(len(self.tools.nft.tables), 1)

    def test_ownerThatIsJustEnding(self) -> None:
        """An undo waits for the kernel to remove a killed daemon's table."""
        self.makeChange().apply()
        other = NftTable(
            NftLoader(self.tools),
            "tun9",
            self.exclusions(),
            False,
            self.cgroups(),
            sleep=lambda seconds: self.tools.held[0].close(),
        )
        other.undo()
        self.assertEqual(self.tools.nft.tables, {})

    def test_failedReload(self) -> None:
        """If the table cannot be replaced, the old one is kept."""
        change = self.makeChange()
        change.apply()
        self.tools.nft.refused["chain"] = "Error: no\n  quoted"
        error = self.assertRaises(RoutingError, change.apply)
        self.assertEqual(str(error), "nft cannot load the table inet nanotun: no")
        self.assertTrue(change.holds())

    def test_failedLoad(self) -> None:
        """If the table cannot be loaded, there is none, and no owner runs."""
        self.tools.nft.refused["chain"] = "Error: no"
        self.assertRaises(RoutingError, self.makeChange().apply)
        self.assertEqual(self.tools.nft.tables, {})
        self.assertFalse(any(held.isRunning() for held in self.tools.held))

    def test_survivesAFlush(self) -> None:
        """Another program's flush of all rules does not remove a table with an owner."""
        change = self.makeChange()
        change.apply()
        self.tools.nft.flush()
        self.assertTrue(change.holds())


class KillSwitchTableTests(NftCase, ChangeContract):
    """L{NftTable} without an owner, which stays when the daemon has ended."""

    killSwitch = True

    def test_noHolder(self) -> None:
        """The table has no owner."""
        change = self.makeChange()
        change.apply()
        self.assertEqual((self.tools.held, self.tools.nft.owners), ([], {}))
        self.assertNotIn("flags owner", change.describe())

    def test_flushed(self) -> None:
        """If another program flushes all rules, the change does not hold."""
        change = self.makeChange()
        change.apply()
        self.tools.nft.flush()
        self.assertFalse(change.holds())

    def test_otherSettings(self) -> None:
        """Undoing a change that another one has replaced leaves the other one alone."""
        old = self.makeChange()
        old.apply()
        new = NftTable(NftLoader(self.tools), "tun8", self.exclusions(), True, self.cgroups())
        new.apply()
        self.remake(old).undo()
        self.assertTrue(new.holds())
        new.undo()
        self.assertEqual(self.tools.nft.tables, {})

    def test_cheap(self) -> None:
        """As long as nobody changes any rules, no tool is run to see that it holds."""
        change = self.makeChange()
        change.apply()
        self.assertTrue(change.holds())
        self.tools.ran.clear()
        self.assertTrue(change.holds())
        self.assertEqual(self.tools.ran, [])
        self.tools.nft.tables["somebody"] = "table inet somebody {}"
        self.assertTrue(change.holds())
        self.assertEqual(self.tools.ran, ["nft"])

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

    def test_altered(self) -> None:
        """If somebody removes one of its rules, the change does not hold."""
        change = self.makeChange()
        change.apply()
        text = self.tools.nft.tables[TABLE]
        self.tools.nft.tables[TABLE] = text.replace('oifname "lo" accept', "")
        self.assertFalse(change.holds())

    def test_thenWithoutIt(self) -> None:
        """A start without the kill switch replaces the table of one with it."""
        self.makeChange().apply()
        self.killSwitch = False
        change = self.makeChange()
        change.apply()
        self.assertEqual(list(self.tools.nft.owners), [TABLE])
        change.undo()
        self.assertEqual(self.tools.nft.tables, {})


class GroupTests(NftCase):
    """Control groups in the table."""

    killSwitch = True

    def setUp(self) -> None:
        """Make nft look into the test's folder."""
        super().setUp()
        self.lookInto(self.folder)
        self.warned: list[str] = []
        case = self

        class Log:
            def warn(self, text: str, **fields: object) -> None:
                case.warned.append(text)

        self.patch(NftTable, "_log", Log())

    def lookInto(self, folder: str) -> None:
        """Set the folder in which nft looks for groups."""
        self.patch(cgroups, "SYSTEM_FOLDER", folder)
        self.patch(nft, "SYSTEM_FOLDER", folder)

    def test_whatExists(self) -> None:
        """Only groups that exist are loaded; all are described."""
        change = self.makeChange()
        change.apply()
        self.assertIn('level 1 "games"', self.tools.nft.tables[TABLE])
        self.assertNotIn("backup", self.tools.nft.tables[TABLE])
        self.assertIn('level 2 "system.slice/backup.service"', change.describe())

    def test_unitStarts(self) -> None:
        """When a unit is started, the change does not hold until it is applied again."""
        change = self.makeChange()
        change.apply()
        self.makeGroup("/system.slice/backup.service")
        self.assertFalse(change.holds())
        change.apply()
        self.assertTrue(change.holds())
        self.assertIn("backup", self.tools.nft.tables[TABLE])

    def test_groupMadeAnew(self) -> None:
        """If a group was removed and created again, the change does not hold."""
        change = self.makeChange()
        change.apply()
        # Another one in between, or the folder would get the same number again.
        self.removeGroup("/games")
        self.assertFalse(change.holds())

    def test_outOfReach(self) -> None:
        """If the groups are not where nft looks, none is loaded, with one warning."""
        self.lookInto("/nowhere")
        change = self.makeChange()
        for _ in range(2):
            change.apply()
            self.assertTrue(change.holds())
        self.assertNotIn("cgroupv2", self.tools.nft.tables[TABLE])
        self.assertEqual(len(self.warned), 1)

    def test_goneMeanwhile(self) -> None:
        """If a group is removed while the table is loaded, the other groups are kept."""
        self.tools.nft.refused["cgroupv2"] = "Error: cgroupv2 path fails"
        self.tools.nft.meanwhile = lambda: shutil.rmtree(f"{self.folder}/games", ignore_errors=True)
        change = self.makeChange()
        change.apply()
        self.assertTrue(change.holds())
        self.tools.nft.refused.clear()
        self.makeGroup("/games")
        self.assertFalse(change.holds())
        change.apply()
        self.assertTrue(change.holds())
        self.assertIn("cgroupv2", self.tools.nft.tables[TABLE])
        self.assertEqual(self.warned, [])

    def test_refused(self) -> None:
        """If the kernel cannot match groups, the other rules are loaded, with one warning."""
        self.tools.nft.refused["cgroupv2"] = "Error: cgroupv2 path fails"
        change = self.makeChange()
        change.apply()
        self.assertTrue(change.holds())
        change.apply()
        self.assertEqual(len(self.warned), 1)


class WorksTests(FirewallCase):
    """L{works}."""

    def test_works(self) -> None:
        """nft works if it is installed and accepts the table in a dry run."""
        self.assertTrue(works(self.tools))
        self.assertEqual(self.tools.nft.tables, {})

    def test_missing(self) -> None:
        """Without nft it does not work."""
        self.tools.installed.discard("nft")
        self.assertFalse(works(self.tools))

    def test_refused(self) -> None:
        """It does not work if the kernel lacks a part; without permission to ask it may work."""
        self.tools.nft.refused["fib"] = "Error: Operation not supported"
        self.assertFalse(works(self.tools))
        self.tools.nft.refused["fib"] = DENIED
        self.assertTrue(works(self.tools))
