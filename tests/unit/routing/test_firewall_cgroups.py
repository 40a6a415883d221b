"""Tests of L{nanotun.routing.firewall.cgroups}."""

from __future__ import annotations

import os

from nanotun.config.selectors import selectors
from nanotun.routing.firewall import cgroups
from nanotun.routing.firewall.cgroups import Cgroups, usualPath
from tests.unit.routing.firewall_cases import FirewallCase


class HierarchyTests(FirewallCase):
    """L{usualPath}."""

    def test_usualPath(self) -> None:
        """Services are in system.slice, instances in their template's, slices in each other."""
        self.assertEqual(usualPath("ssh.service"), "/system.slice/ssh.service")
        instances = {
            "db@15-main.service": "system-db.slice",
            "vpn-client@a.service": r"system-vpn\x2dclient.slice",
            r"a\x2db@c.service": r"system-a\x5cx2db.slice",
        }
        for unit, slice in instances.items():
            self.assertEqual(usualPath(unit), f"/system.slice/{slice}/{unit}")
        self.assertEqual(usualPath("user.slice"), "/user.slice")
        self.assertEqual(usualPath("user-1000.slice"), "/user.slice/user-1000.slice")


class CgroupsTests(FirewallCase):
    """L{Cgroups}."""

    def paths(self, finder: Cgroups, search: bool = False) -> list[str]:
        """The paths of the groups that exist."""
        return [each.path for each in finder.existing(search)]

    def test_existing(self) -> None:
        """Existing groups are found, with their number and level."""
        self.makeGroup("/system.slice/a.service")
        finder = self.cgroups("cgroup:/games,cgroup:/none,unit:a.service,unit:b.service,curl")
        found = finder.existing()
        self.assertEqual([each.path for each in found], ["/games", "/system.slice/a.service"])
        self.assertEqual([each.level for each in found], [1, 2])
        self.assertEqual(found[0].id, os.stat(f"{self.folder}/games").st_ino)

    def test_search(self) -> None:
        """A unit at an unusual path is found by a search, and then remembered."""
        path = "/user.slice/user-1.slice/app.slice/game.service"
        self.makeGroup(path)
        finder = self.cgroups("unit:game.service")
        self.assertEqual(self.paths(finder), [])
        self.assertEqual(self.paths(finder, search=True), [path])
        self.assertEqual(self.paths(finder), [path])
        self.removeGroup(path)
        self.assertEqual(self.paths(finder), [])

    def test_searchIsBounded(self) -> None:
        """A search ends after a limited number of groups."""
        self.makeGroup("/a/b/c/far.service")
        self.patch(cgroups, "SEARCH_LIMIT", 3)
        self.assertEqual(self.paths(self.cgroups("unit:far.service"), search=True), [])

    def test_unusable(self) -> None:
        """A path that cannot be matched, or is not a group's, is not found."""
        self.makeGroup('/x"y')
        finder = self.cgroups('cgroup:/,cgroup:/games/../games,cgroup:/x"y')
        self.assertEqual(self.paths(finder), [])
        self.assertEqual([each.path for each in finder.usual()], ["/games/../games", '/x"y'])

    def test_noHierarchy(self) -> None:
        """Without a hierarchy there are no groups."""
        finder = Cgroups(selectors("cgroup:/games,unit:a.service"), "")
        self.assertEqual(self.paths(finder, search=True), [])
        self.assertEqual(len(finder.usual()), 2)

    def test_namesForNft(self) -> None:
        """nft gets the paths below its own folder."""
        for folder, tool in (
            ("/sys/fs/cgroup", "games"),
            ("/sys/fs/cgroup/unified", "unified/games"),
            ("/mnt/cg", ""),
            ("/sys/fs/cgroup2", ""),
        ):
            (group,) = Cgroups(selectors("cgroup:/games"), folder).usual()
            self.assertEqual(group.tool, tool)

    def test_hidden(self) -> None:
        """Groups are hidden if the hierarchy is not mounted, or not below the given folder."""
        for text, folder, below, hidden in (
            ("cgroup:/a", "/mnt/cg", "/sys/fs/cgroup", True),
            ("cgroup:/a", "/mnt/cg", "", False),
            ("cgroup:/a", "", "", True),
            ("unit:a.service", "/sys/fs/cgroup/unified", "/sys/fs/cgroup", False),
            ("curl", "", "", False),
        ):
            self.assertEqual(Cgroups(selectors(text), folder).hidden(below), hidden)
