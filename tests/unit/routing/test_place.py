"""
Tests for L{nanotun.routing.place}.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.routing.place import NetworkPlace, currentPlace, isGone

HERE = NetworkPlace("boot", 7, 100)
THERE = NetworkPlace("boot", 8, 101)

#: Prints whether the namespace with a number is gone.
ASK = """
import sys
from nanotun.daemon.privileges import LinuxKernel, Privileges
from nanotun.routing.place import currentPlace, isGone
Privileges(frozenset({"NET_ADMIN", "NET_RAW"}), LinuxKernel()).start()
here = currentPlace()
print(isGone(here._replace(namespace=int(sys.argv[1]), cookie=1), here))
"""

#: The first process of a container: asks about a namespace that C{cat} is in, and once it has left.
PROGRAM = f"""
import os, sys
from subprocess import PIPE, Popen, run
cat = Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=PIPE, stdout=PIPE)
cat.stdout.readline()
number = os.stat(f"/proc/{{cat.pid}}/ns/net").st_ino
ask = [sys.executable, "-c", {ASK!r}, str(number)]
run(ask, check=True)
cat.communicate()
run(ask, check=True)
"""


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

    def test_closed(self) -> None:
        """A thread that has ended, or a descriptor that is closed, hides none of the others."""
        listed = os.listdir
        self.patch(os, "listdir", lambda path: sorted(listed(path)))
        self.process.joinpath("task", "11").mkdir()
        self.process.joinpath("fd", "2").touch()
        self.test_used()

    def test_notToBeSeen(self) -> None:
        """
        A process that may not be looked into may be in it, unless it is in ours or has ended.
        """
        real, hidden = os.readlink, str(self.process)

        def readlink(path: str) -> str:
            if path.startswith(hidden):
                raise PermissionError(13, os.strerror(13))
            return real(path)

        self.patch(os, "readlink", readlink)
        ours = self.root / "proc" / "thread-self" / "net" / "dev"
        ours.parent.mkdir(parents=True)
        ours.touch()
        self.assertTrue(self.gone())
        for each in (self.process, self.process / "task" / "12"):
            theirs = each / "net" / "dev"
            theirs.parent.mkdir()
            theirs.touch()
            self.assertFalse(self.gone())
            theirs.unlink()
            theirs.hardlink_to(ours)
            self.assertTrue(self.gone())

    def test_real(self) -> None:
        """
        With the capabilities of a daemon without routes, a namespace that somebody else is in is
        there; it is gone after that, though the first process may not be looked into.
        """
        if os.geteuid() or not shutil.which("unshare"):
            raise SkipTest("only root may make a network namespace, with unshare(1)")
        ran = subprocess.run(
            ["unshare", "--net", "--pid", "--fork", "--mount-proc", sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
        )
        if ran.stderr.startswith("unshare"):
            raise SkipTest(f"no network namespace here: {ran.stderr}")
        self.assertEqual((ran.stdout.split(), ran.stderr), (["False", "True"], ""))
