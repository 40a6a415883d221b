"""
Tests for L{nanotun.linux.users}.
"""

from __future__ import annotations

import pwd

from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux.users import nameOf, nearUser, uidByName, uidOf, userEntry


class UserTests(SynchronousTestCase):
    """Tests for L{uidOf}, L{userEntry}, L{nearUser} and L{nameOf}."""

    def test_number(self) -> None:
        """A number is a user's number, whether there is such a user or not."""
        self.assertEqual(uidOf("0"), 0)
        self.assertEqual(uidOf("007"), 7)
        self.assertEqual(uidOf("4294967295"), 0xFFFFFFFF)

    def test_name(self) -> None:
        """A name is looked up."""
        self.assertEqual(uidOf("root"), 0)
        self.assertEqual(uidByName("root"), 0)
        self.assertEqual(uidOf("ann", {"ann": 12}.__getitem__), 12)

    def test_nobody(self) -> None:
        """A name that no user has, or too long a number, is a KeyError."""
        for text in ("nobody.here", "", "12345678901", "-1", "\u0661"):
            self.assertRaises(KeyError, uidOf, text)
            self.assertRaises(KeyError, userEntry, text)

    def test_entry(self) -> None:
        """A user is found by name or by number; a number needs a user that has it."""
        self.assertEqual(userEntry("root").pw_uid, 0)
        self.assertEqual(userEntry("0").pw_name, "root")
        for text in ("4294967295", "9999999999"):
            self.assertRaises(KeyError, userEntry, text)

    def test_near(self) -> None:
        """A mistyped name is known for the user's that is most like it."""
        names = ("root", "backup", "www-data")
        users = [pwd.struct_passwd((each, "x", 0, 0, "", "/", "/bin/sh")) for each in names]
        self.patch(pwd, "getpwall", lambda: users)
        self.assertEqual([nearUser(each) for each in ("bakup", "rot", "x")], ["backup", "root", ""])

    def test_nameOf(self) -> None:
        """A user is called by name, and one that the machine does not know by number."""
        self.assertEqual(nameOf(0), "root")
        for uid in (0xFFFFFFFE, 1 << 40):
            self.assertEqual(nameOf(uid), str(uid))

    def test_nameOfNewcomer(self) -> None:
        """A name is asked for once; that there is none is not remembered."""
        asked: list[int] = []
        names: dict[int, str] = {}

        def entry(uid: int) -> pwd.struct_passwd:
            asked.append(uid)
            return pwd.struct_passwd((names[uid], "x", uid, uid, "", "/", "/bin/sh"))

        self.patch(pwd, "getpwuid", entry)
        uid = 0xFFFFFF01
        self.assertEqual(nameOf(uid), str(uid))
        names[uid] = "ann"
        self.assertEqual([nameOf(uid), nameOf(uid)], ["ann", "ann"])
        self.assertEqual(asked, [uid, uid])
