"""Tests of L{nanotun.routing.firewall.switch}."""

from __future__ import annotations

from zope.interface.verify import verifyObject

from nanotun.errors import RoutingError
from nanotun.routing.firewall.iptables import NAMES
from nanotun.routing.firewall.nft import NftLoader
from nanotun.routing.firewall.switch import SwitchChains, SwitchTable, switchLeftovers
from nanotun.routing.firewall.switchtext import PREFIX, SWITCH, iptablesLines, nftText
from nanotun.routing.interfaces import IChange, ISwitchChange
from nanotun.testing.firewall import DENIED
from tests.contracts.firewall import ChangeContract
from tests.unit.routing.firewall_cases import FirewallCase
from tests.unit.routing.test_switchtext import HOST, rulesOf

OTHER = HOST._replace(sshPorts=(22,))


class SwitchTableTests(FirewallCase, ChangeContract):
    """L{SwitchTable}."""

    def setUp(self) -> None:
        """Make the loader that all changes of one daemon share."""
        super().setUp()
        self.loader = NftLoader(self.tools, SWITCH)

    def makeChange(self) -> SwitchTable:
        """The change."""
        return SwitchTable(self.loader, nftText(rulesOf(), (), "tun9"))

    def state(self) -> str:
        """All tables."""
        return repr(self.tools.nft.tables)

    def test_switch(self) -> None:
        """It says whether there is such a table, whoever has loaded it."""
        change = self.makeChange()
        verifyObject(ISwitchChange, change)
        (found,) = (each for each in switchLeftovers(self.tools) if each.kind == change.kind)
        assert isinstance(found, SwitchTable)
        self.assertFalse(found.isThere())
        change.apply()
        self.assertTrue(found.isThere())
        self.assertFalse(found.describe() == change.describe())
        found.undo()
        self.assertFalse(change.holds())

    def test_replaced(self) -> None:
        """A table of other exceptions replaces it at once, and the old change leaves it alone."""
        old, new = self.makeChange(), SwitchTable(self.loader, nftText(rulesOf(OTHER), (), "tun9"))
        old.apply()
        loads = self.tools.nft.loads
        new.apply()
        self.assertEqual(self.tools.nft.loads, loads + 1)
        self.assertFalse(old.holds())
        old.undo()
        self.assertTrue(new.holds())
        new.undo()
        self.assertEqual(self.state(), "{}")

    def test_taken(self) -> None:
        """It does not hold once somebody has flushed it or changed a line of it."""
        change = self.makeChange()
        change.apply()
        self.tools.nft.flush()
        self.assertFalse(change.holds())
        change.apply()
        self.assertTrue(change.holds())
        self.tools.nft.load(
            f"delete table inet {SWITCH}\n"
            + nftText(rulesOf(), (), "tun9").replace("counter drop", "counter accept")
        )
        self.assertFalse(change.holds())
        change.undo()
        self.assertEqual(self.state(), "{}")

    def test_asksOnce(self) -> None:
        """As long as the firewall does not change, nft is not run to see whether it holds."""
        change = self.makeChange()
        change.apply()
        self.assertTrue(change.holds())
        self.tools.ran.clear()
        self.assertTrue(change.holds())
        self.assertEqual(self.tools.ran, [])

    def test_refused(self) -> None:
        """What nft refuses is one sentence, and the table in force is kept."""
        change = self.makeChange()
        change.apply()
        new = SwitchTable(self.loader, nftText(rulesOf(OTHER), (), "tun9"))
        self.tools.nft.refused["fib daddr"] = DENIED
        error = self.assertRaises(RoutingError, new.apply)
        self.assertIn(SWITCH, str(error))
        self.tools.nft.refused.clear()
        self.assertTrue(change.holds())

    def test_noKernel(self) -> None:
        """Where the kernel knows no nftables, no table is found, and that is no error."""
        self.tools.broken = "netlink: Error: cache initialization failed: Invalid argument"
        found = [each for each in switchLeftovers(self.tools) if ISwitchChange.providedBy(each)]
        self.assertFalse(any(each.isThere() for each in found))  # type: ignore[attr-defined]

    def test_nothingWorks(self) -> None:
        """If nft cannot be run, the table may well hold."""
        change = self.makeChange()
        change.apply()
        self.tools.nft.loads += 1
        self.tools.broken = "it took more than 10 s"
        self.assertTrue(change.holds())


class SwitchChainsTests(FirewallCase, ChangeContract):
    """L{SwitchChains}."""

    def makeChange(self, host: object = HOST) -> SwitchChains:
        """The change."""
        rules = rulesOf(host)  # type: ignore[arg-type]
        lines = {version: iptablesLines(rules, (), "tun9", version) for version in NAMES}
        return SwitchChains(self.tools, "", lines)

    def state(self) -> str:
        """All rules."""
        return repr([rules.lines for rules in self.tools.iptables.values()])

    def test_switch(self) -> None:
        """It says whether there are such chains, whoever has loaded them."""
        change = self.makeChange()
        verifyObject(ISwitchChange, change)
        found = [each for each in switchLeftovers(self.tools) if each.kind == change.kind]
        self.assertFalse(any(each.isThere() for each in found))  # type: ignore[attr-defined]
        change.apply()
        self.assertTrue(all(each.isThere() for each in found))  # type: ignore[attr-defined]
        for each in found:
            each.undo()
        self.assertFalse(change.isThere())

    def test_beside(self) -> None:
        """The chains of the DNS redirect are another change's, and neither undoes the other."""
        self.tools.installed.discard("nft")
        before = self.state()
        redirect = self.redirect()
        change = self.makeChange()
        redirect.apply()
        change.apply()
        self.assertTrue(redirect.holds())
        redirect.undo()
        self.assertTrue(change.holds())
        alone = self.state()
        redirect.apply()
        # Its chains come after the switch's now.
        redirect.undo()
        self.assertEqual(self.state(), alone)
        redirect.apply()
        change.undo()
        self.assertTrue(redirect.holds())
        redirect.undo()
        self.assertEqual(self.state(), before)

    def redirect(self) -> IChange:
        """The change that redirects DNS."""
        from nanotun.routing.firewall.iptables import IptablesChains

        return IptablesChains(self.tools, "tun9", self.exclusions(), "", (4, 6), self.cgroups())

    def test_replaced(self) -> None:
        """Chains of other exceptions replace them, and the old change leaves those alone."""
        before = self.state()
        old, new = self.makeChange(), self.makeChange(OTHER)
        old.apply()
        new.apply()
        self.assertFalse(old.holds())
        old.undo()
        self.assertTrue(new.holds())
        new.undo()
        self.assertEqual(self.state(), before)

    def test_taken(self) -> None:
        """They do not hold without a jump to them, or with a line less."""
        for gone in ("-A FORWARD -j", "-A POSTROUTING -j", f"-A {PREFIX}LEAVING -j DROP"):
            change = self.makeChange()
            change.apply()
            lines = self.tools.iptables[6].lines["mangle"]
            lines[:] = [line for line in lines if not line.startswith(gone)]
            self.assertFalse(change.holds(), gone)
            change.apply()
            self.assertTrue(change.holds())
            change.undo()

    def test_refused(self) -> None:
        """What iptables refuses is one sentence, and half a switch is not left behind."""
        before = self.state()
        self.tools.iptables[6].refused["hl-eq"] = "no such match"
        error = self.assertRaises(RoutingError, self.makeChange().apply)
        self.assertIn("ip6tables-restore: no such match", str(error))
        self.assertEqual(self.state(), before)
