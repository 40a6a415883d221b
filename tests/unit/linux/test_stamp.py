"""Tests of L{nanotun.linux.stamp}."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux.stamp import stampAt, stampOf


class StampTests(SynchronousTestCase):
    """L{stampAt} and L{stampOf}."""

    def setUp(self) -> None:
        self.path = self.mktemp()
        self.write("nameserver 9.9.9.9\n")

    def write(self, text: str, path: str = "") -> None:
        """Write a file in place."""
        with open(path or self.path, "w") as file:
            file.write(text)

    def test_same(self) -> None:
        """A file that nobody touches keeps its stamp, and it is that of its status."""
        self.assertEqual(stampAt(self.path), stampAt(self.path))
        self.assertEqual(stampAt(self.path), stampOf(os.stat(self.path)))

    def test_changes(self) -> None:
        """It is another one once the file was written, replaced, moved to or removed."""
        seen = [stampAt(self.path)]

        def look() -> None:
            self.assertNotIn(stampAt(self.path), seen)
            seen.append(stampAt(self.path))

        self.write("nameserver 192.0.2.1\n")
        look()
        self.write("nameserver 192.0.2.1\n", f"{self.path}.new")
        os.rename(f"{self.path}.new", self.path)
        look()
        self.write("nameserver 192.0.2.1\n", f"{self.path}.other")
        os.remove(self.path)
        os.symlink(os.path.abspath(f"{self.path}.other"), self.path)
        look()
        self.write("nameserver 192.0.2.2 # and more\n", f"{self.path}.other")
        look()
        os.remove(self.path)
        look()
        self.assertIsNone(seen[-1])
