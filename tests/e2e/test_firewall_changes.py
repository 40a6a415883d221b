"""
The firewall's changes with the real tools, beside other people's rules: what they make, what
they leave, and how long they last.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

from twisted.trial.unittest import SkipTest

from nanotun.routing.firewall.firewall import Firewall, firewallKinds
from nanotun.routing.firewall.generation import generation
from nanotun.routing.firewall.rules import TABLE
from nanotun.routing.interfaces import IChange
from nanotun.routing.plan import plan
from nanotun.routing.values import Earlier, Host, Rule, Wishes
from tests.contracts.firewall import ChangeContract
from tests.e2e.firewall_case import (
    ByIptablesNft,
    ByLegacy,
    ByNft,
    ChosenTools,
    FirewallLabCase,
    controlGroup,
)
from tests.e2e.lab.process import PATIENCE, PROJECT_ROOT, waitUntil

#: Other people's rules.  All chains of the kernel that we use are in use, because with
#: iptables-nft each chain appears on its first use and never disappears again.
FOREIGN_NFT = """\
table inet somebody {
    chain output {
        type nat hook output priority -100;
        udp dport 5353 redirect to :53
    }
}
table ip nanotunnel {
    set s { type ipv4_addr; elements = { 10.1.1.1 } }
}
"""
FOREIGN_IPTABLES = """\
*mangle
:SOMEBODY - [0:0]
-A SOMEBODY -p tcp --dport 443 -j MARK --set-xmark 0x1/0xffffffff
-A PREROUTING -j SOMEBODY
-A OUTPUT -j SOMEBODY
-A POSTROUTING -j SOMEBODY
-A FORWARD -j SOMEBODY
COMMIT
*nat
:NANO - [0:0]
-A NANO -p udp --dport 5353 -j RETURN
-A PREROUTING -j NANO
-A OUTPUT -j NANO
-A POSTROUTING -o docker0 -j MASQUERADE
COMMIT
"""

#: Makes the change, and waits to be killed.
DAEMON = """
import sys, time
from nanotun.config.settings import flagValue, makeSettings
from nanotun.config.keys import KEYS
from nanotun.routing.firewall.firewall import Firewall
from nanotun.routing.netlink import NetlinkRoutes
from nanotun.routing.values import Host
flags = {"proxy": flagValue(KEYS["proxy"], "direct://"),
         "killSwitch": flagValue(KEYS["killSwitch"], sys.argv[1])}
host = Host(uplinks=NetlinkRoutes().uplinks())
for change in Firewall(makeSettings({}, flags, None)).changes(None, host)[:1]:
    change.apply()
print("made", flush=True)
time.sleep(60)
"""


class ChangesCase(FirewallLabCase):
    """Other people's rules of all kinds exist."""

    settings: dict[str, str] = {"excludedProcesses": "uid:33"}

    def setUp(self) -> None:
        """Load these rules."""
        super().setUp()
        self.lab.app.nft(FOREIGN_NFT)
        for name in ("iptables", "ip6tables"):
            for variant in ("legacy", "nft"):
                self.lab.app.run([f"{name}-{variant}-restore"], stdin=FOREIGN_IPTABLES)

    def makeChange(self) -> IChange:
        """The change, on a machine with one kind of tools."""
        (change,) = self.changes(**self.settings)
        self.enter()
        self.addCleanup(change.undo)
        return change

    def enter(self) -> None:
        """Move the test's thread into the namespace."""
        stack = contextlib.ExitStack()
        stack.enter_context(self.lab.app.entered())
        self.addCleanup(stack.close)

    def remake(self, change: IChange) -> IChange:
        """Make the change from its record."""
        return firewallKinds(ChosenTools(self.firewall))[change.kind](change.record())

    def state(self) -> str:
        """Every rule in the namespace."""
        run = self.lab.app.run
        shown = run(["nft", "-s", "list", "ruleset"]).stdout
        for name in ("iptables", "ip6tables"):
            saved = run([f"{name}-legacy-save"]).stdout
            shown += "\n".join(
                line.partition(" [")[0] for line in saved.splitlines() if line[:1] != "#"
            )
        return shown


class NftTests(ByNft, ChangesCase, ChangeContract):
    """nft, with an owner."""

    owned = True

    def test_flushed(self) -> None:
        """A flush of all rules by somebody else does not remove the table."""
        change = self.makeChange()
        change.apply()
        self.lab.app.run(["nft", "flush", "ruleset"])
        self.assertTrue(change.holds())
        self.assertNotIn("somebody", self.state())

    def test_killed(self) -> None:
        """If its maker is killed, the table is gone, but a kill switch's table stays."""
        for killSwitch in ("false", "true"):
            argv = self.lab.app.argv([sys.executable, "-c", DAEMON, killSwitch])
            daemon = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=PROJECT_ROOT)
            self.addCleanup(daemon.wait)
            self.addCleanup(daemon.kill)
            assert daemon.stdout is not None
            self.addCleanup(daemon.stdout.close)
            self.assertEqual(daemon.stdout.readline(), b"made\n")
            self.assertIn(f"table inet {TABLE} ", self.state())
            os.kill(daemon.pid, signal.SIGKILL)
            if killSwitch == "true":
                daemon.wait()
            else:
                waitUntil(
                    lambda: f"inet {TABLE} " not in self.state(), PATIENCE, "the table is gone"
                )
        self.assertIn(f"table inet {TABLE} ", self.state())
        self.settings = {"killSwitch": "true"}
        change = self.makeChange()
        self.assertTrue(change.holds())
        change.undo()
        self.assertNotIn(f"table inet {TABLE} ", self.state())

    def test_confirmed(self) -> None:
        """A table with an owner is replaced by the kill switch's without a gap."""
        firewall = Firewall(self.settingsWith(killSwitch="true"), ChosenTools(self.firewall))
        (before,), (after,) = firewall.changes(False), firewall.changes()
        self.enter()
        before.apply()
        self.assertIn("flags owner", self.state())
        after.apply()
        before.undo()
        self.assertTrue(after.holds())
        self.assertNotIn("flags owner", self.state())
        after.undo()
        self.assertNotIn(f"inet {TABLE} ", self.state())

    def test_groupMadeAnew(self) -> None:
        """Once a control group was removed and made again, the table no longer holds."""
        name = f"nt-{os.getpid()}"
        self.settings = {"excludedProcesses": f"cgroup:/{name}"}
        with controlGroup(name) as folder:
            if not folder:
                raise SkipTest("there are no control groups of version 2 that can be made")
            change = self.makeChange()
            change.apply()
            self.assertIn("socket cgroupv2 level 1 ", self.state())
            os.rmdir(folder)
            self.assertFalse(change.holds())
            os.mkdir(folder)
            self.assertFalse(change.holds())
            change.apply()
            self.assertTrue(change.holds())

    def test_generation(self) -> None:
        """Each change of rules gives a new generation, whoever makes it; reading does not."""
        self.enter()
        for tool in ("nft", "iptables-nft"):
            before = generation()
            self.assertGreater(before, 0)
            self.state()
            self.assertEqual(generation(), before)
            argv = ["nft", "add", "table", "inet", "more"]
            if tool != "nft":
                argv = [tool, "-A", "OUTPUT", "-j", "ACCEPT"]
            self.lab.app.run(argv)
            self.assertGreater(generation(), before)


class NftKillSwitchTests(ByNft, ChangesCase, ChangeContract):
    """nft, with a table that stays."""

    settings = {"excludedProcesses": "uid:33", "killSwitch": "true"}

    def test_flushed(self) -> None:
        """A flush of all rules by somebody else is noticed, and the table can be restored."""
        change = self.makeChange()
        change.apply()
        self.lab.app.run(["nft", "flush", "ruleset"])
        self.assertFalse(change.holds())
        change.apply()
        self.assertTrue(change.holds())


class LegacyTests(ByLegacy, ChangesCase, ChangeContract):
    """The old iptables."""


class IptablesNftTests(ByIptablesNft, ChangesCase, ChangeContract):
    """The iptables that makes nft rules."""


class SwitchCase(ChangesCase):
    """The switch table."""

    def makeChange(self) -> IChange:
        """The change, with every kind of line."""
        wishes = Wishes("nano0", killSwitch=True, uids=(33, 1000))
        host = Host(sshPorts=(22, 2222), proxies=("9.9.9.9", "2001:db8::9"))
        rules = [each for part in plan(wishes, host) for each in part if isinstance(each, Rule)]
        earlier = (
            Earlier(4, 5210, 0x80000, 0xFF0000),
            Earlier(6, 5270, device="tailscale0"),
            Earlier(6, 100, to="2001:db8:5::/48"),
        )
        firewall = Firewall(self.settingsWith(), ChosenTools(self.firewall))
        (change,) = firewall.switch(rules, earlier)
        self.enter()
        self.addCleanup(change.undo)
        return change


class NftSwitchTests(ByNft, SwitchCase, ChangeContract):
    """By nft."""


class LegacySwitchTests(ByLegacy, SwitchCase, ChangeContract):
    """By the old iptables."""


class IptablesNftSwitchTests(ByIptablesNft, SwitchCase, ChangeContract):
    """By the iptables that makes nft rules."""


del ChangesCase, FirewallLabCase, SwitchCase
