"""
Tests for L{nanotun.routing.place}.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from nanotun.routing.place import NetworkPlace, currentPlace, isGone

HERE = NetworkPlace("boot", 7, 100)
THERE = NetworkPlace("boot", 8, 101)


class PlaceTests(SynchronousTestCase):
    """Tests for L{NetworkPlace}, L{currentPlace} and L{isGone}."""

    def setUp(self) -> None:
        """Make a machine with one process."""
        self.root = Path(self.mktemp())
        self.process = self.root / "proc" / "12"
        self.process.joinpath("task", "12", "ns").mkdir(parents=True)
        self.process.joinpath("fd").mkdir()
        self.root.joinpath("proc", "self").mkdir()
        self.root.joinpath("proc", "version").touch()
        self.mounts("0 0 0:4 net:[77] /run/netns/other rw - nsfs nsfs rw\n")

    def mounts(self, text: str) -> None:
        """Write what is mounted."""
        self.root.joinpath("proc", "self", "mountinfo").write_text(text)

    def gone(self) -> bool:
        """Whether the other namespace is gone."""
        return isGone(THERE, HERE, str(self.root))

    def test_current(self) -> None:
        """This boot and this network namespace are identified."""
        place = currentPlace()
        self.assertEqual(len(place.boot), 36)
        self.assertEqual(place.namespace, os.stat("/proc/self/ns/net").st_ino)
        self.assertTrue(place.isSame(currentPlace()))
        self.assertFalse(isGone(place._replace(cookie=1), place._replace(namespace=1)))

    def test_same(self) -> None:
        """The cookie tells namespaces that have had the same inode; without it, the inode does."""
        self.assertFalse(HERE.isSame(HERE._replace(cookie=101)))
        self.assertTrue(HERE.isSame(HERE._replace(cookie=0)))
        self.assertFalse(HERE.isSame(THERE._replace(cookie=0)))

    def test_inode(self) -> None:
        """A namespace whose inode ours has is gone."""
        self.assertTrue(isGone(HERE._replace(cookie=99), HERE))

    def test_nobody(self) -> None:
        """One that nobody uses and nothing mounts is gone."""
        self.assertTrue(self.gone())
        self.root.joinpath("proc", "self", "mountinfo").unlink()
        self.process.joinpath("fd").rmdir()
        self.assertTrue(self.gone())

    def test_mounted(self) -> None:
        """One that has a name is there."""
        self.mounts("0 0 0:4 net:[8] /run/netns/there rw - nsfs nsfs rw\n")
        self.assertFalse(self.gone())

    def test_used(self) -> None:
        """One that a thread is in, or that a process holds open, is there."""
        for path in ("task/12/ns/net", "fd/3"):
            self.process.joinpath(path).symlink_to("net:[8]")
            self.assertFalse(self.gone())
            self.process.joinpath(path).unlink()
