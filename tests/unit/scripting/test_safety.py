"""Tests of L{nanotun.scripting.safety}."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import ConfigError
from nanotun.scripting.safety import LINK_LIMIT, stepsTo, writersOf
from tests.unit.scripting.scripts import Folder


class WritersTests(SynchronousTestCase):
    """L{writersOf}."""

    def setUp(self) -> None:
        self.folder = Folder(self.mktemp())
        self.file = self.folder.write("etc/flows.py")

    def writers(self, path: str = "") -> dict[int, str]:
        """Those of the file, or of another one."""
        return writersOf(path or self.file, "It", lstat=self.folder.lstat)

    def refused(self, path: str = "") -> str:
        """Why a file is refused."""
        return str(self.assertRaises(ConfigError, self.writers, path))

    def test_root(self) -> None:
        """Nobody but root can change what is root's all the way."""
        self.assertEqual(self.writers(), {})

    def test_owners(self) -> None:
        """The owner of the file, or of any directory or link on the way, can change it."""
        os.mkdir(self.folder.place("links"), 0o755)
        link = self.folder.place("links/flows.py")
        os.symlink("../other/flows.py", link)
        os.symlink(self.folder.place("etc"), self.folder.place("other"))
        for name in ("etc", "etc/flows.py", "links", "links/flows.py", "other"):
            place = self.folder.place(name)
            self.folder.owners = {place: 1000}
            self.assertEqual(self.writers(link), {1000: place})

    def test_several(self) -> None:
        """Each owner comes with the first place on the way that is theirs."""
        etc = self.folder.place("etc")
        self.folder.owners = {self.folder.path: 1001, etc: 1000, self.file: 1001}
        self.assertEqual(self.writers(), {1001: self.folder.path, 1000: etc})

    def test_everybody(self) -> None:
        """A file that others than its owner may write is refused, with the place and the cure."""
        os.chmod(self.file, 0o664)
        self.assertEqual(
            self.refused(),
            "It could be changed by others than its owner, because it can be written by its group; "
            f"run 'chmod go-w {self.file}'.",
        )
        os.chmod(self.file, 0o646)
        self.assertIn("it can be written by everybody", self.refused())

    def test_directory(self) -> None:
        """A directory that others may write is refused, too, wherever it is on the way."""
        path = self.folder.write("a/b/flows.py")
        for name in ("a", "a/b"):
            place = self.folder.place(name)
            os.chmod(place, 0o775)
            self.assertIn(
                f"because the directory {place} can be written by its group", self.refused(path)
            )
            os.chmod(place, 0o755)
        self.assertEqual(self.writers(path), {})

    def test_sticky(self) -> None:
        """In a directory like /tmp, a directory of root's is safe, but a file is not."""
        tmp = self.folder.place("tmp")
        path = self.folder.write("tmp/mine/flows.py")
        os.chmod(tmp, 0o1777)
        self.assertEqual(self.writers(path), {})
        path = self.folder.write("tmp/flows.py")
        self.assertIn(f"the directory {tmp} can be written by everybody", self.refused(path))

    def test_known(self) -> None:
        """A place that somebody else answers for is not looked at."""
        etc = self.folder.place("etc")
        self.folder.owners[etc] = 1000
        os.chmod(etc, 0o777)
        self.assertEqual(writersOf(self.file, "It", {etc}, self.folder.lstat), {})

    def test_missing(self) -> None:
        """A file that is not there cannot be read, and a way that goes round has an end."""
        self.assertEqual(
            self.refused(self.folder.place("none")),
            "It cannot be read (No such file or directory); check its path.",
        )
        os.symlink("round", self.folder.place("round"))
        self.assertIn("Too many levels of symbolic links", self.refused(self.folder.place("round")))

    def test_chain(self) -> None:
        """As many links are followed as the kernel follows."""
        before = "etc/flows.py"
        for number in range(LINK_LIMIT):
            os.symlink(before, self.folder.place(f"link{number}"))
            before = f"link{number}"
        self.assertEqual(self.writers(self.folder.place(before)), {})
        os.symlink(before, self.folder.place("last"))
        self.assertIn("symbolic links", self.refused(self.folder.place("last")))

    def test_upwards(self) -> None:
        """The way is the kernel's: what is above a link's target is above the target."""
        os.makedirs(self.folder.place("a/b"), 0o755)
        os.symlink("a/b", self.folder.place("short"))
        self.folder.write("a/flows.py")
        path = self.folder.place("short/../flows.py")
        places = [place for place, _ in stepsTo(path, self.folder.lstat)]
        self.assertEqual(places[-1], self.folder.place("a/flows.py"))
        self.assertIn(self.folder.place("short"), places)
