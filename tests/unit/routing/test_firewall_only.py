"""
Tests of the firewall for chosen programs alone (C{onlyProcesses}), with both tools.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

from twisted.logger import LogEvent, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import RoutingError
from nanotun.routing.firewall import cgroups, nft
from nanotun.routing.firewall.cgroups import Cgroups
from nanotun.routing.firewall.iptables import IptablesChains
from nanotun.routing.firewall.iptablestext import TABLES, loading
from nanotun.routing.firewall.iptablestext import signatureOf as iptablesSignatureOf
from nanotun.routing.firewall.nft import NftLoader, NftTable
from nanotun.routing.firewall.nfttext import signatureOf, tableText
from nanotun.routing.firewall.rules import (
    ALONE,
    EVERYBODY,
    TABLE,
    Cgroup,
    Chosen,
    Exclusions,
    FirewallRules,
    digest,
    keyOf,
)
from nanotun.routing.interfaces import IFollowingChange
from tests.contracts.firewall import ChangeContract
from tests.unit.routing.firewall_cases import FirewallCase

RULES = FirewallRules(
    "tun9",
    (5,),
    uplinks=("up0",),
    only=True,
    onlyUids=(7, 8),
    onlyGroups=(Cgroup("/a/b", "unified/a/b", 7),),
)
EMPTY = dict.fromkeys(TABLES, "")
CHOSEN = Chosen((7,), ("cgroup:/games", "unit:backup.service"))


class NftTextTests(SynchronousTestCase):
    """L{tableText}."""

    def chain(self, name: str, rules: FirewallRules = RULES) -> list[str]:
        """The lines of a chain, after its type."""
        body = tableText(rules, True).partition(f"chain {name} {{\n")[2].partition("\n\t}")[0]
        return [line.strip() for line in body.splitlines() if "type " not in line]

    def test_marked(self) -> None:
        """
        What the chosen send is marked, after what is excluded; the rest passes before anything
        is done about it.
        """
        lines = self.chain("sending")
        first = lines.index("meta skuid { 7, 8 } meta mark set 0x6e75")
        self.assertLess(lines.index("meta skuid { 5 } goto uplink"), first)
        self.assertEqual(
            lines[first + 1 : first + 6],
            [
                'socket cgroupv2 level 2 "unified/a/b" meta mark set 0x6e75',
                "meta mark != 0x6e75 meta skuid 0-4294967295 accept",
                "ct mark 0x6e75 meta mark set 0x6e75",
                "meta mark != 0x6e75 accept",
                "ct mark 0 ct mark set 0x6e75",
            ],
        )
        self.assertIn("dport 53", "".join(lines[first + 6 :]))
        self.assertNotIn("dport 53", "".join(lines[:first]))

    def test_forgotten(self) -> None:
        """The kernel's answers to what comes out of the tunnel belong to the chosen."""
        line = 'iifname "tun9" ct direction original ct mark 0 ct mark set 0x6e75'
        self.assertIn(line, self.chain("arriving"))

    def test_queries(self) -> None:
        """Only the chosen programs' queries are redirected or dropped, and none forwarded."""
        self.assertEqual(self.chain("dns-forwarded"), [])
        lines = self.chain("dns-sent")
        self.assertEqual(lines[:2], ["meta mark 0x6e74 accept", "meta mark != 0x6e75 accept"])
        self.assertIn("dnat", lines[-1])
        lines = self.chain("guard")
        passed = lines.index("meta mark != 0x6e75 accept")
        for line in lines[:passed]:
            self.assertTrue("drop" not in line or "daddr 198.18." in line or "daddr fdfe:" in line)
        self.assertIn("drop", lines[-1])

    def test_noneYet(self) -> None:
        """Everybody is left alone as well if no group that is chosen exists."""
        rules = FirewallRules("tun9", only=True)
        lines = self.chain("sending", rules)
        self.assertIn("meta mark != 0x6e75 accept", lines)
        self.assertFalse([line for line in lines if "meta mark set 0x6e75" in line[:24]])
        self.assertEqual(self.chain("dns-sent", rules)[1], "meta mark != 0x6e75 accept")

    def test_everybody(self) -> None:
        """Without onlyProcesses nothing of it is there."""
        self.assertNotIn("0x6e75", tableText(FirewallRules("tun9", (5,)), True))

    def test_numbers(self) -> None:
        """A group of the same path with another number is another table."""
        anew = RULES._replace(onlyGroups=(Cgroup("/a/b", "unified/a/b", 8),))
        for signed in (signatureOf, iptablesSignatureOf):
            self.assertNotEqual(signed(RULES), signed(anew))

    def test_realNft(self) -> None:
        """nft understands it."""
        program = shutil.which("nft")
        if program is None:
            self.skipTest("nft is not installed")
        text = tableText(RULES._replace(onlyGroups=()), False)
        argv = [program, "-c", "-f", "-"]
        ran = subprocess.run(argv, input=text, capture_output=True, text=True)
        if "Operation not permitted" not in ran.stderr:
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))


class IptablesTextTests(SynchronousTestCase):
    """L{loading}."""

    def chain(self, name: str, version: int, rules: FirewallRules = RULES) -> list[str]:
        """The rules of a chain."""
        begin = f"-A NANOTUN_{name} "
        lines = loading(rules, version, EMPTY).splitlines()
        return [line.removeprefix(begin) for line in lines if line.startswith(begin)]

    def test_marked(self) -> None:
        """The same packets are marked as with nft, and the rest passes."""
        choose = "-j MARK --set-xmark 0x6e75/0xffffffff"
        for version in (4, 6):
            lines = self.chain("SENDING", version)
            first = lines.index(f"-m owner --uid-owner 7 {choose}")
            self.assertLess(lines.index("-m owner --uid-owner 5 -g NANOTUN_UPLINK"), first)
            self.assertEqual(
                lines[first + 1 : first + 7],
                [
                    f"-m owner --uid-owner 8 {choose}",
                    f'-m cgroup --path "/a/b" {choose}',
                    "-m mark ! --mark 0x6e75 -m owner --uid-owner 0-4294967294 -j RETURN",
                    f"-m connmark --mark 0x6e75 {choose}",
                    "-m mark ! --mark 0x6e75 -j RETURN",
                    "-m connmark --mark 0x0 -j CONNMARK --set-xmark 0x6e75/0xffffffff",
                ],
            )
            self.assertNotIn("dport 53", "".join(lines[:first]))
            self.assertIn("dport 53", "".join(lines[first:]))

    def test_queries(self) -> None:
        """Only the chosen programs' queries are redirected or dropped, and none forwarded."""
        for version in (4, 6):
            self.assertEqual(self.chain("DNS_FORWARDED", version), [])
            self.assertEqual(
                self.chain("DNS_SENT", version)[1], "-m mark ! --mark 0x6e75 -j RETURN"
            )
            lines = self.chain("GUARD", version)
            passed = lines.index("-m mark ! --mark 0x6e75 -j RETURN")
            own = "198.18.0.0/15" if version == 4 else "fdfe:dcba:9876::/48"
            for line in lines[:passed]:
                self.assertTrue("DROP" not in line or f"-d {own}" in line)

    def test_everybody(self) -> None:
        """Without onlyProcesses nothing of it is there."""
        self.assertNotIn("0x6e75", loading(FirewallRules("tun9", (5,)), 4, EMPTY))


class KeyTests(SynchronousTestCase):
    """L{keyOf} and L{Chosen}."""

    def test_earlier(self) -> None:
        """Without a choice the key and the record are those of earlier versions."""
        made = ("tun9", False, Exclusions((5,)), ALONE)
        self.assertEqual(keyOf(EVERYBODY, *made), digest(repr(made)))
        self.assertNotEqual(keyOf(CHOSEN, *made), keyOf(EVERYBODY, *made))
        self.assertEqual(EVERYBODY.record(), {})
        self.assertEqual(Chosen.fromRecord({}), EVERYBODY)
        self.assertEqual(Chosen.fromRecord(CHOSEN.record()), CHOSEN)
        for broken in ({"onlyUids": ["x"]}, {"onlyUids": 5}, {"onlySelectors": None}):
            self.assertRaises((ValueError, TypeError), Chosen.fromRecord, broken)


class OnlyCase(FirewallCase):
    """Both tools; /games exists, and backup.service does not."""

    def setUp(self) -> None:
        """Have nft find groups in the test's folder."""
        super().setUp()
        self.patch(cgroups, "SYSTEM_FOLDER", self.folder)
        self.patch(nft, "SYSTEM_FOLDER", self.folder)

    def makeChange(self, chosen: Chosen = CHOSEN) -> Any:
        """A new object for the change."""
        raise NotImplementedError

    def takeAway(self) -> None:
        """What another program does to the change."""
        raise NotImplementedError

    def finder(self) -> Cgroups:
        """A finder of groups in the test's folder; of none if that is empty."""
        return Cgroups((), self.folder)

    def loaded(self) -> str:
        """What is loaded."""
        raise NotImplementedError

    def refuse(self, part: str) -> None:
        """Have the kernel refuse scripts with this."""
        raise NotImplementedError


# What the mixin is mixed into, for mypy.
if TYPE_CHECKING:
    Base = OnlyCase
else:
    Base = object


class OnlyChecks(Base):
    """The change, with each of the tools."""

    def test_unitStarts(self) -> None:
        """A group that comes later, or again, is an outdated change, and no alarm."""
        change = self.makeChange()
        self.assertTrue(IFollowingChange.providedBy(change))
        change.apply()
        self.assertEqual((change.holds(), change.outdated), (True, False))
        for path in ("/system.slice/backup.service", "/user.slice/own/backup.service"):
            self.makeGroup(path)
            self.assertEqual((change.holds(), change.outdated), (False, True))
            with capturedLogs() as logs:
                change.apply()
            self.assertEqual([each["path"] for each in self.said(logs)], [path])
            self.assertIn(path.strip("/"), self.loaded())
            self.assertEqual((change.holds(), change.outdated), (True, False))
            self.removeGroup(path)
            self.assertEqual((change.holds(), change.outdated), (False, True))
            change.apply()

    def test_takenAway(self) -> None:
        """A change that somebody has undone is not an outdated one."""
        change = self.makeChange()
        change.apply()
        self.takeAway()
        self.assertEqual((change.holds(), change.outdated), (False, False))

    def test_cannotTellGroupsApart(self) -> None:
        """A firewall that cannot match groups is an error, as is a hierarchy that it cannot see."""
        self.refuse("cgroup")
        error = str(self.assertRaises(RoutingError, self.makeChange().apply))
        self.assertIn("onlyProcesses names control groups, and this machine's firewall", error)
        self.assertIn("; name users (uid:) instead.", error)
        self.assertNotIn("0x6e75", self.loaded())
        self.makeChange(Chosen((7,))).apply()
        self.assertIn("0x6e75", self.loaded())

    def test_refusedOtherwise(self) -> None:
        """Another refusal is told as it is."""
        self.refuse("skuid { 7 }" if isinstance(self.makeChange(), NftTable) else "uid-owner 7")
        error = str(self.assertRaises(RoutingError, self.makeChange().apply))
        self.assertIn(": no", error)
        self.assertNotIn("cannot tell them apart", error)

    def test_notMounted(self) -> None:
        """Without a hierarchy of version 2 a chosen group is an error, and a user is none."""
        self.folder = ""
        error = str(self.assertRaises(RoutingError, self.makeChange().apply))
        self.assertIn("onlyProcesses names control groups", error)
        self.makeChange(Chosen((7,))).apply()

    def said(self, logs: Any) -> list[LogEvent]:
        """What was logged of groups."""
        return [each for each in logs if "of onlyProcesses was made" in each["log_format"]]


class NftOnlyTests(OnlyChecks, OnlyCase, ChangeContract):
    """nft."""

    owned = True

    def makeChange(self, chosen: Chosen = CHOSEN) -> NftTable:
        """See L{OnlyCase.makeChange}."""
        loader = NftLoader(self.tools)
        return NftTable(loader, "tun9", self.exclusions(""), False, self.finder(), chosen=chosen)

    def state(self) -> str:
        """See L{ChangeContract.state}."""
        return repr(self.tools.nft.tables)

    def loaded(self) -> str:
        """See L{OnlyCase.loaded}."""
        return self.tools.nft.tables.get(TABLE, "")

    def takeAway(self) -> None:
        """See L{OnlyCase.takeAway}."""
        self.tools.nft.tables.clear()

    def refuse(self, part: str) -> None:
        """See L{OnlyCase.refuse}."""
        self.tools.nft.refused[part] = "Error: no"


class IptablesOnlyTests(OnlyChecks, OnlyCase, ChangeContract):
    """iptables."""

    def makeChange(self, chosen: Chosen = CHOSEN) -> IptablesChains:
        """See L{OnlyCase.makeChange}."""
        versions = (4, 6)
        return IptablesChains(
            self.tools, "tun9", self.exclusions(""), "nft", versions, self.finder(), chosen=chosen
        )

    def state(self) -> str:
        """See L{ChangeContract.state}."""
        return repr([self.tools.iptables[each].lines for each in (4, 6)])

    def loaded(self) -> str:
        """See L{OnlyCase.loaded}."""
        return self.state()

    def takeAway(self) -> None:
        """See L{OnlyCase.takeAway}."""
        self.makeChange().undo()

    def refuse(self, part: str) -> None:
        """See L{OnlyCase.refuse}."""
        for version in (4, 6):
            self.tools.iptables[version].refused[part] = "Error: no"
