"""Tests of L{nanotun.routing.firewall}."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

from twisted.logger import capturedLogs

from nanotun.config.keys import KEYS
from nanotun.config.selectors import selectors
from nanotun.config.settings import Settings, flagValue, makeSettings
from nanotun.errors import RoutingError
from nanotun.routing.firewall.firewall import (
    NETWORKS,
    Firewall,
    firewallKinds,
    firewallLeftovers,
    groupsAmong,
)
from nanotun.routing.firewall.resolvconf import ResolvConfFile
from nanotun.routing.firewall.rules import keyIn, signature
from nanotun.routing.interfaces import IChange
from nanotun.routing.values import Host, Interface, Mark
from tests.unit.routing.firewall_cases import FirewallCase


def settingsWith(**values: str) -> Settings:
    """Settings; all others have their defaults."""
    given = {"proxy": "direct://", "tunName": "tun9", **values}
    return makeSettings({}, {name: flagValue(KEYS[name], each) for name, each in given.items()}, "")


class ChangesTests(FirewallCase):
    """
    L{Firewall} and L{firewallKinds}.

    @cvar files: what names DNS servers on the machine.
    """

    files: Sequence[IChange] = ()

    def kinds(self, hasIPv6: bool = True, **values: str) -> list[str]:
        """Descriptions of the changes."""
        return [each.kind for each in self.firewall(hasIPv6, **values).changes()]

    def firewall(self, hasIPv6: bool = True, **values: str) -> Firewall:
        """The firewall of these settings, on a machine with the fake tools."""
        return Firewall(settingsWith(**values), self.tools, self.mounts, hasIPv6, self.files)

    def test_nft(self) -> None:
        """nft is used if it works, and systemd-resolved is configured if busctl is installed."""
        self.assertEqual(self.kinds(), ["nft", "resolved"])
        self.tools.installed.discard("busctl")
        self.assertEqual(self.kinds(), ["nft"])

    def test_iptables(self) -> None:
        """If nft does not work, iptables is used, for the families that the kernel has."""
        self.tools.nft.refused["chain"] = "Error: no"
        self.assertEqual(self.kinds(), ["iptables", "resolved"])
        self.tools.installed.discard("nft")
        for hasIPv6, versions in ((True, [4, 6]), (False, [4])):
            (change, _) = self.firewall(hasIPv6).changes()
            record = change.record()
            self.assertEqual((record["versions"], record["variant"]), (versions, "nft"))

    def test_neither(self) -> None:
        """Without nft and iptables the error says what to install."""
        self.tools.installed.clear()
        self.assertIn("install nftables", str(self.assertRaises(RoutingError, self.kinds)))

    def test_theSameChanges(self) -> None:
        """Further calls return the same changes, without examining the machine again."""
        firewall = self.firewall()
        first = firewall.changes()
        self.tools.installed.clear()
        self.assertEqual(firewall.changes(), first)

    def test_confirmed(self) -> None:
        """
        From a table with an owner to the kill switch's, and back: the new is applied,
        then the old undone, and there is never none.
        """
        firewall = self.firewall(killSwitch="true")
        before, after = firewall.changes(False)[0], firewall.changes()[0]
        self.assertEqual(firewall.changes(True)[0], after)
        before.apply()
        self.assertEqual(len(self.tools.nft.owners), 1)
        after.apply()
        before.undo()
        self.assertTrue(after.holds())
        self.assertEqual((len(self.tools.nft.tables), self.tools.nft.owners), (1, {}))
        self.assertFalse(self.tools.held[0].isRunning())
        before.apply()
        after.undo()
        self.assertTrue(before.holds())
        before.undo()
        self.assertEqual(self.tools.nft.tables, {})

    def test_marks(self) -> None:
        """
        Another VPN's mark makes another table, which takes the place of the first in one step;
        it is in the journal, whose older records have none.
        """
        for nft in (True, False):
            if not nft:
                self.tools.nft.refused["chain"] = "Error: no"
            firewall = self.firewall()
            plain, link = firewall.changes()
            marked, again = firewall.changes(host=Host(marks=(Mark(4, 0xCA6C), Mark(6, 0xCA6C))))
            self.assertIs(again, link)
            self.assertIn("0xca6c", marked.describe())
            self.assertEqual(marked.record()["marks"], [[0xCA6C, 0]])
            self.assertEqual(plain.record()["marks"], [])
            kinds = firewallKinds(self.tools, self.mounts)
            for change in (plain, marked):
                made: IChange = kinds[change.kind](change.record())
                self.assertEqual(made.describe(), change.describe())
            plain.apply()
            marked.apply()
            plain.undo()
            self.assertTrue(marked.holds())
            self.assertEqual(len(self.tools.nft.tables), int(nft))
            back = firewall.changes()[0]
            back.apply()
            marked.undo()
            self.assertTrue(back.holds())
            back.undo()

    def test_settings(self) -> None:
        """The device, the kill switch and the exclusions are those of the settings."""
        (change, _) = self.firewall(
            excludedProcesses="uid:33,cgroup:/games,curl,unit:x.service", killSwitch="true"
        ).changes()
        self.assertEqual(
            change.record(),
            {
                "device": "tun9",
                "killSwitch": True,
                "uids": [33],
                "selectors": ["cgroup:/games", "unit:x.service"],
                "marks": [],
                "networks": [],
                "uplinks": [],
                "behind": [],
                "proxies": [],
            },
        )
        self.assertIn("tun9", change.describe())

    def test_uplinks(self) -> None:
        """
        Another uplink is another change, which takes the place of the old one.  With nft a
        network behind is none; with iptables it is.
        """
        up, bridge = Interface("up0", ("192.168.1.0/24",)), Interface("br0", ("172.17.0.0/16",))
        host = Host((up,), uplinks=("up0",))
        for tool in ("nft", "iptables"):
            firewall = self.firewall()
            first = firewall.changes(None, host)[0]
            self.assertIs(firewall.changes(None, host)[0], first)
            more = firewall.changes(None, host._replace(interfaces=(up, bridge)))[0]
            self.assertEqual(first.describe() == more.describe(), tool == "nft")
            other = firewall.changes(None, host._replace(uplinks=("up0", "br0")))[0]
            self.assertNotEqual(other.describe(), first.describe())
            first.apply()
            other.apply()
            first.undo()
            self.assertTrue(other.holds())
            other.undo()
            self.tools.nft.refused["chain"] = "Error: no"

    def test_proxies(self) -> None:
        """
        Proxies on networks of interfaces that are no uplinks may ask any DNS server; another one
        is another change.
        """
        host = Host(
            (Interface("up0", ("192.168.1.0/24",)), Interface("br0", ("172.17.0.0/16",))),
            uplinks=("up0",),
            behind=("172.17.0.2", "192.168.1.9", "9.9.9.9", "fd17::2"),
        )
        for tool in ("nft", "iptables"):
            for lan in ("direct", "proxy"):
                firewall = self.firewall(lan=lan)
                change = firewall.changes(None, host)[0]
                self.assertEqual(change.record()["proxies"], ["172.17.0.2"], tool)
                self.assertEqual(self.remake(change).describe(), change.describe())
                other = firewall.changes(None, host._replace(behind=("172.17.0.3",)))[0]
                self.assertNotEqual(other.describe(), change.describe())
                nowhere = firewall.changes(None, host._replace(uplinks=()))[0]
                self.assertEqual(nowhere.record()["proxies"], [])
            self.tools.nft.refused["chain"] = "Error: no"

    def test_behind(self) -> None:
        """With iptables, the networks behind are those of interfaces that are no uplinks."""
        self.tools.nft.refused["chain"] = "Error: no"
        host = Host(
            (Interface("up0", ("192.168.1.0/24",)), Interface("br0", ("172.17.0.0/16",))),
            uplinks=("up0",),
        )

        def behind(host: Host, lan: str = "direct") -> object:
            return self.firewall(lan=lan).changes(None, host)[0].record()["behind"]

        self.assertEqual(behind(host), ["172.17.0.0/16"])
        self.assertEqual(behind(host._replace(uplinks=())), [])
        # Queries to it would go into the tunnel.
        self.assertEqual(behind(host, "proxy"), [])

    def test_exclude(self) -> None:
        """Networks of excludedIPs are put in force live; overlapping ones become one."""
        firewall = self.firewall(excludedIPs="10.0.0.0/8, 2001:db8::/32, 10.1.0.0/16")
        (change, _) = firewall.changes()
        self.assertEqual(change.record()["networks"], ["10.0.0.0/8", "2001:db8::/32"])
        same = [ip_network("2001:db8::/32"), ip_network("10.0.0.0/8")]
        self.assertFalse(firewall.exclude(same))
        self.assertIs(firewall.changes()[0], change)
        self.assertTrue(firewall.exclude(same[:1]))
        self.assertEqual(firewall.changes()[0].record()["networks"], ["2001:db8::/32"])

    def test_excludeMany(self) -> None:
        """Of too many networks the widest are put in force, and one line says so."""
        numbers = range(NETWORKS)
        many = ", ".join(f"11.{each >> 8}.{each & 255}.0/24" for each in numbers)
        with capturedLogs() as captured:
            firewall = self.firewall(excludedIPs=f"192.0.2.7, {many}, 10.0.0.0/8, 10.9.0.0/24")
        (change, _) = firewall.changes()
        networks = change.record()["networks"]
        self.assertEqual((len(networks), networks[0]), (NETWORKS, "10.0.0.0/8"))
        self.assertNotIn("192.0.2.7/32", networks)
        self.assertEqual([each["rest"] for each in captured], [2])

    def test_unknownUser(self) -> None:
        """A user who does not exist is told once, however often the rules change."""
        firewall = self.firewall(excludedProcesses="uid:nobody.here")
        with capturedLogs() as captured:
            firewall.changes()
            firewall.changes(None, Host(uplinks=("up0",)))
        self.assertEqual(len(captured), 1)

    def test_earlierRecord(self) -> None:
        """A journal of an earlier version is read."""
        record = {"device": "tun9", "killSwitch": True, "uids": [], "selectors": []}
        change = firewallKinds(self.tools, self.mounts)["nft"](record)
        self.assertEqual(change.record()["uplinks"], [])
        more = {"variant": "", "versions": [4], **record}
        self.assertEqual(
            firewallKinds(self.tools, self.mounts)["iptables"](more).record()["networks"], []
        )

    def test_kinds(self) -> None:
        """Each kind of change can be made from its record."""
        self.files = (ResolvConfFile("/run/nanotun"),)
        made = [*self.firewall().changes(), *self.firewall().switch((), ())]
        self.tools.installed.discard("nft")
        made += [*self.firewall().changes(), *self.firewall().switch((), ())]
        kinds = firewallKinds(self.tools, self.mounts)
        self.assertEqual(set(kinds), {each.kind for each in made})
        for change in made:
            again: IChange = kinds[change.kind](change.record())
            self.assertEqual(again.describe(), change.describe())

    def test_badRecords(self) -> None:
        """An invalid record is refused, whatever is wrong with it."""
        for kind, make in firewallKinds(self.tools, self.mounts).items():
            record: dict[str, Any] = {}
            error = self.assertRaises((ValueError, TypeError, KeyError), make, record)
            self.assertIsNotNone(error, kind)

    def test_leftovers(self) -> None:
        """Changes that are ours by their name are undone without a journal."""
        before = [rules.save() for rules in self.tools.iptables.values()]
        self.firewall(killSwitch="true").changes()[0].apply()
        self.tools.nft.refused["chain"] = "Error: no"
        self.firewall().changes()[0].apply()
        self.tools.installed.add("iptables-legacy")  # but no iptables-legacy-save
        for change in firewallLeftovers(self.tools):
            change.undo()
        self.assertEqual(self.tools.nft.tables, {})
        self.assertEqual([rules.save() for rules in self.tools.iptables.values()], before)


class ExcludedTests(FirewallCase):
    """L{groupsAmong}."""

    def test_groups(self) -> None:
        """Groups and units are returned as they are written."""
        chosen = selectors("uid:7,cgroup:/a/,unit:b.slice")
        self.assertEqual(groupsAmong(chosen), ("cgroup:/a", "unit:b.slice"))


class SignatureTests(FirewallCase):
    """L{signature} and L{keyIn}."""

    def test_key(self) -> None:
        """The key is found in a text that was signed with it, and in no other."""
        self.assertEqual(keyIn(f'drop comment "{signature("12ab", "text")}"'), "12ab")
        self.assertEqual(keyIn(signature("", "text")), "")
        self.assertIsNone(keyIn("table inet nanotun { # progname nft"))
