"""
Tests of L{nanotun.linux.trust}.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.linux.trust import NotTrusted, openTrusted, othersMayWrite


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


class OthersMayWriteTests(SynchronousTestCase):
    """L{othersMayWrite}."""

    def setUp(self) -> None:
        """The user ada has a group of her own, and is in staff besides."""
        self.users = {1000: ("ada", 1000), 1001: ("bob", 50)}
        groups = {1000: ("ada", ["ada"]), 50: ("staff", []), 1001: ("bob", [])}

        def user(uid: int) -> pwd.struct_passwd:
            name, gid = self.users[uid]
            return pwd.struct_passwd((name, "x", uid, gid, "", "/", "/bin/sh"))

        def group(gid: int) -> grp.struct_group:
            name, members = groups[gid]
            return grp.struct_group((name, "x", gid, members))

        def attribute(path: str, name: str) -> bytes:
            if name not in self.attributes:
                raise OSError(errno.ENODATA, "No data available")
            return b"..."

        self.members = groups[1000][1]
        self.attributes: set[str] = set()
        self.patch(pwd, "getpwuid", user)
        self.patch(pwd, "getpwall", lambda: [user(uid) for uid in self.users])
        self.patch(grp, "getgrgid", group)
        self.patch(os, "getxattr", attribute)

    def others(self, mode: int, uid: int = 1000, gid: int = 1000) -> bool:
        """What is said of a file."""
        status = os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))
        patched = self.patch(os, "stat", lambda path: status)
        try:
            return othersMayWrite("file")
        finally:
            patched.restore()

    def test_bits(self) -> None:
        """Only bits for writing count; those for everybody let everybody in."""
        for mode, others in ((0o755, False), (0o555, False), (0o757, True), (0o777, True)):
            self.assertEqual(self.others(mode), others, oct(mode))

    def test_ownGroup(self) -> None:
        """A user's own group lets nobody else in, while it has no other member."""
        self.assertFalse(self.others(0o775))
        self.members.append("bob")
        self.assertTrue(self.others(0o775))

    def test_firstGroup(self) -> None:
        """Somebody whose first group it is is a member, though no list has the name."""
        self.users[1001] = ("bob", 1000)
        self.assertTrue(self.others(0o775))

    def test_list(self) -> None:
        """Where an access control list gives others the right, the group's bits show it."""
        self.attributes.add("system.posix_acl_access")
        self.assertTrue(self.others(0o775))
        self.assertFalse(self.others(0o755))

    def test_otherGroups(self) -> None:
        """Any other group does: one of another name, not the user's first, or unknown."""
        for uid, gid in ((1000, 50), (1001, 50), (1001, 1001), (1000, 7), (7, 1000)):
            self.assertTrue(self.others(0o775, uid, gid), (uid, gid))
