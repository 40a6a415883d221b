"""
Tests for L{nanotun.owners.cgroups}, with a directory instead of a mount.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.owners import cgroups as cgroupsModule
from nanotun.owners.cgroups import UNKNOWN_LIMIT, WALK_LIMIT, WALK_PAUSES, CgroupTree
from nanotun.owners.interfaces import ICgroups

WALK = 0.001
"""Seconds that each walk takes."""

PAUSE = 1.01 * WALK_PAUSES * WALK


class CgroupTreeTests(SynchronousTestCase):
    """Tests for L{CgroupTree}."""

    def setUp(self) -> None:
        """A tree of two levels."""
        self.clock = Clock()
        self.root = Path(self.mktemp()).resolve()
        (self.root / "system.slice" / "x.service").mkdir(parents=True)
        (self.root / "cgroup.procs").write_text("1\n2\n")
        self.tree = CgroupTree(str(self.root), self.clock.seconds)
        self.walks = 0
        real = self.tree._walk

        def walk(deadline: float) -> bool:
            self.walks += 1
            done = real(deadline)
            self.clock.advance(WALK)
            return done

        self.patch(self.tree, "_walk", walk)

    def identity(self, path: str) -> int:
        """The id of a cgroup."""
        return os.stat(f"{self.root}{path}").st_ino

    def test_paths(self) -> None:
        """Every cgroup is known by its id, after one walk."""
        verifyObject(ICgroups, self.tree)
        for path in ("/", "/system.slice", "/system.slice/x.service"):
            self.assertEqual(self.tree.pathOf(self.identity(path)), path)
        self.assertEqual(self.walks, 1)

    def test_new(self) -> None:
        """A new cgroup is found by another walk, but not before a pause."""
        self.tree.pathOf(self.identity("/"))
        (self.root / "new").mkdir()
        self.assertEqual(self.tree.pathOf(self.identity("/new")), "")
        self.clock.advance(PAUSE)
        self.assertEqual(self.tree.pathOf(self.identity("/new")), "/new")

    def test_unknown(self) -> None:
        """An id of no cgroup costs one walk; 0 costs none."""
        for _ in range(3):
            self.assertEqual(self.tree.pathOf(1), "")
            self.assertEqual(self.tree.pathOf(0), "")
            self.clock.advance(PAUSE)
        self.assertEqual(self.walks, 1)
        for identity in range(2, 2 * UNKNOWN_LIMIT):
            self.tree.pathOf(identity)
            self.clock.advance(PAUSE)
        self.assertLessEqual(len(self.tree._unknown), UNKNOWN_LIMIT)

    def test_late(self) -> None:
        """A walk that takes too long ends, and cgroups that it did not reach are remembered."""
        identity = self.identity("/system.slice/x.service")

        def seconds() -> float:
            self.clock.advance(WALK_LIMIT)
            return self.clock.seconds()

        self.tree._seconds = seconds
        self.assertEqual(self.tree.pathOf(identity), "")
        self.clock.advance(1)
        self.tree._seconds = self.clock.seconds
        self.assertEqual(self.tree.pathOf(identity), "/system.slice/x.service")

    def test_limit(self) -> None:
        """Of a tree with too many cgroups only a part is read."""
        self.patch(cgroupsModule, "CGROUP_LIMIT", 2)
        self.assertEqual(self.tree.pathOf(self.identity("/system.slice")), "/system.slice")
        self.assertEqual(self.tree.pathOf(self.identity("/system.slice/x.service")), "")

    def test_members(self) -> None:
        """The processes in a cgroup are listed; of a removed one nothing is known."""
        self.assertEqual(self.tree.members(""), [1, 2])
        self.assertIsNone(self.tree.members("/gone"))

    def test_noMount(self) -> None:
        """Without a mount nothing is known and nothing raises."""
        for mount in ("", str(self.root / "gone")):
            self.assertEqual(CgroupTree(mount, self.clock.seconds).pathOf(1), "")
