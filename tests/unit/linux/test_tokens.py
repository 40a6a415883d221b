"""Tests of L{nanotun.linux.tokens}."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import ConfigError
from nanotun.linux.tokens import LONGEST, SHORTEST, tokenOf
from nanotun.linux.trust import NotTrusted


class TokenTests(SynchronousTestCase):
    """L{tokenOf}."""

    def setUp(self) -> None:
        """Make a directory that nobody else can write to."""
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir(mode=0o755)
        self.directory.chmod(0o755)
        self.file = self.directory / "token"

    def read(self) -> str:
        """The token."""
        return tokenOf(str(self.directory), "token")

    def write(self, text: str, mode: int = 0o600) -> None:
        """Somebody has written one."""
        self.file.write_text(text)
        self.file.chmod(mode)

    def test_made(self) -> None:
        """One is made that only this user can read, whatever the umask, and it stays."""
        self.addCleanup(os.umask, os.umask(0))
        token = self.read()
        self.assertGreaterEqual(len(token), 40)
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        self.assertEqual(self.file.read_text(), f"{token}\n")
        self.assertEqual(self.read(), token)
        self.assertEqual(os.listdir(self.directory), ["token"])

    def test_different(self) -> None:
        """No two are the same."""
        first = self.read()
        self.file.unlink()
        self.assertNotEqual(self.read(), first)

    def test_crash(self) -> None:
        """What a crash has left half made is no obstacle."""
        Path(f"{self.file}.new").write_text("x")
        self.assertEqual(self.read(), self.file.read_text().strip())
        self.assertEqual(os.listdir(self.directory), ["token"])

    def test_own(self) -> None:
        """A token that somebody has written is taken, and a group may be able to read it."""
        for mode in (0o600, 0o640, 0o400):
            self.write("a-token-of-my-own\n", mode)
            self.assertEqual(self.read(), "a-token-of-my-own")
            self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), mode)

    def test_shown(self) -> None:
        """One that everybody can read is none."""
        self.write("a-token-of-my-own", 0o644)
        self.assertIn("can be read by everybody", str(self.assertRaises(ConfigError, self.read)))

    def test_foreign(self) -> None:
        """One that others can write is none, nor is a link."""
        self.write("a-token-of-my-own", 0o620)
        self.assertRaises(NotTrusted, self.read)
        self.file.rename(self.directory / "other")
        self.file.symlink_to("other")
        self.assertRaises(OSError, self.read)

    def test_bad(self) -> None:
        """Something short, long, of several words or of strange letters is no token."""
        for text in (
            "",
            "x" * (SHORTEST - 1),
            "x" * (LONGEST + 1),
            "two words of a text",
            "é" * 20,
        ):
            self.write(text)
            self.assertIn("is no token", str(self.assertRaises(ConfigError, self.read)))
            self.assertNotIn("two words", str(self.assertRaises(ConfigError, self.read)))
        for text in ("x" * SHORTEST, "x" * LONGEST):
            self.write(text)
            self.assertEqual(self.read(), text)
