"""
What the tests of the firewall start from: fake tools, and a folder that stands for the
hierarchy of control groups.
"""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.selectors import selectors
from nanotun.routing.firewall.cgroups import Cgroups
from nanotun.routing.firewall.firewall import firewallKinds
from nanotun.routing.firewall.rules import Exclusions
from nanotun.routing.interfaces import IChange
from nanotun.testing.firewall import FakeTools

#: What is excluded, as in the settings.
EXCLUDED = "cgroup:/games, unit:backup.service"


class FirewallCase(SynchronousTestCase):
    """
    @ivar tools: the fake.
    @ivar folder: the hierarchy, with the group C{/games} in it.
    """

    def setUp(self) -> None:
        """Make the folder and the tools."""
        self.tools = FakeTools(
            "nft",
            "busctl",
            *(
                f"{name}{tail}"
                for name in ("iptables", "ip6tables")
                for tail in ("", "-restore", "-save")
            ),
        )
        self.folder = os.path.realpath(self.mktemp())
        self.makeGroup("/games")
        self.mounts = self.mktemp()
        with open(self.mounts, "w") as file:
            file.write(
                "24 30 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
                f"25 30 0:23 / {self.folder} rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
            )

    def makeGroup(self, path: str) -> None:
        """Make a control group, and its parents."""
        os.makedirs(self.folder + path)

    def removeGroup(self, path: str) -> None:
        """Remove a control group."""
        os.rmdir(self.folder + path)

    def exclusions(self, text: str = EXCLUDED) -> Exclusions:
        """Two users and some groups."""
        return Exclusions((33, 1000), tuple(str(each) for each in selectors(text)))

    def cgroups(self, text: str = EXCLUDED) -> Cgroups:
        """The finder of groups, in the test's folder."""
        return Cgroups(selectors(text), self.folder)

    def remake(self, change: IChange) -> IChange:
        """Make the change from its record."""
        return firewallKinds(self.tools, self.mounts)[change.kind](change.record())
