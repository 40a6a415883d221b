"""
Tests of L{nanotun.linux.trust}.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.linux.trust import NotTrusted, openTrusted


class TrustTests(SynchronousTestCase):
    """L{openTrusted}."""

    def setUp(self) -> None:
        """Make a file in a directory that nobody else can write to."""
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir(mode=0o755)
        self.file = self.directory / "file"
        self.file.write_text("content")
        self.file.chmod(0o644)
        self.directory.chmod(0o755)

    def read(self) -> str:
        """What is read."""
        with open(openTrusted(str(self.directory), "file", os.O_RDONLY)) as file:
            return file.read()

    def refusal(self) -> str:
        """Why it is refused; no descriptor is left open."""
        before = len(os.listdir("/proc/self/fd"))
        said = str(self.assertRaises(NotTrusted, self.read))
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        return said

    def test_trusted(self) -> None:
        """A file that only its owner, this process's user, can write to is opened."""
        self.assertEqual(self.read(), "content")
        self.directory.chmod(0o700)
        self.file.chmod(0o600)
        self.assertEqual(self.read(), "content")

    def test_modes(self) -> None:
        """File or directory that group or others can write to are refused, and who is named."""
        for path, good in ((self.file, 0o644), (self.directory, 0o755)):
            for bit, who in ((0o020, "the group "), (0o002, "everybody can")):
                path.chmod(good | bit)
                said = self.refusal()
                self.assertTrue(said.startswith(f"{path} is not trusted, because {who}"), said)
                self.assertTrue(said.endswith("can write to it; only root may."), said)
            path.chmod(good)
        self.assertEqual(self.read(), "content")

    def test_owners(self) -> None:
        """File or directory of another user are refused, and the user is named."""
        if os.geteuid() != 0:
            raise SkipTest("only root can give a file away")
        for path in (self.file, self.directory):
            for uid, name in ((65534, "nobody"), (54321, "54321")):
                os.chown(path, uid, 0)
                self.assertIn(f"{path} is not trusted, because the user {name} ", self.refusal())
            os.chown(path, 0, 0)
        self.assertEqual(self.read(), "content")

    def test_links(self) -> None:
        """A symbolic link in the file's place is not followed; a pipe there does not block."""
        other = self.directory / "other"
        self.file.rename(other)
        self.file.symlink_to(other)
        self.assertRaises(OSError, self.read)
        self.file.unlink()
        os.mkfifo(self.file, 0o600)
        self.assertIn("no regular file", self.refusal())

    def test_absent(self) -> None:
        """If there is no such file or directory, that is the error."""
        self.file.unlink()
        self.assertRaises(FileNotFoundError, self.read)
        self.directory.rmdir()
        self.assertRaises(FileNotFoundError, self.read)
