"""
Tests for L{nanotun.gateway.dns.hostsfile}.
"""

from __future__ import annotations

import builtins
import errno
import os
from pathlib import Path
from typing import NoReturn

from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.dns import hostsfile
from nanotun.gateway.dns.hostsfile import MAX_AGE, HostsFile
from nanotun.linux import stamp
from tests.unit.gateway.gateway_cases import A


class HostsFileTests(SynchronousTestCase):
    """L{HostsFile}."""

    def setUp(self) -> None:
        """No file yet."""
        self.path = Path(self.mktemp())
        self.reports: list[str] = []
        self.hosts = HostsFile(self.reports.append, str(self.path))
        self.now = 0.0

    def find(self, name: str = "h.lan") -> list[bytes] | None:
        """Its addresses, once the file may be looked at again."""
        self.now += MAX_AGE
        return self.hosts.table(self.now).of(name, A)

    def test_follows(self) -> None:
        """A file that appears, is written to, renamed over or removed counts as it is then."""
        self.assertIsNone(self.find())
        self.path.write_text("10.0.0.1 h.lan\n")
        self.assertEqual(self.find(), [b"\x0a\0\0\x01"])
        with self.path.open("a") as file:
            file.write("10.0.0.2 h.lan\n")
        self.assertEqual(self.find(), [b"\x0a\0\0\x01", b"\x0a\0\0\x02"])
        other = Path(self.mktemp())
        other.write_text("10.0.0.3 h.lan\n")
        other.rename(self.path)
        self.assertEqual(self.find(), [b"\x0a\0\0\x03"])
        self.path.unlink()
        self.assertIsNone(self.find())
        self.assertEqual(self.reports, [])

    def test_oneLook(self) -> None:
        """However many ask, the file is looked at once a second, and read if it has changed."""
        self.path.write_text("10.0.0.1 h.lan\n")
        looks: list[str] = []

        def stampAt(path: str) -> tuple[int, ...] | None:
            looks.append(path)
            return original(path)

        original = stamp.stampAt
        self.patch(hostsfile, "stampAt", stampAt)
        first = self.hosts.table(0.0)
        self.path.write_text("10.0.0.2 h.lan\n10.0.0.3 h.lan\n")
        for moment in (0.1, 0.5, 0.99):
            self.assertIs(self.hosts.table(moment), first)
        self.assertEqual(len(looks), 1)
        second = self.hosts.table(1.0)
        self.assertIsNot(second, first)
        self.assertIs(self.hosts.table(2.0), second)
        self.assertEqual(looks, [str(self.path)] * 3)

    def test_tooLong(self) -> None:
        """A file that is too long is as good as empty, and said so once, until it changes."""
        self.patch(hostsfile, "HOSTS_BYTES", 30)
        self.path.write_text("10.0.0.1 h.lan\n" + "#" * 15 + "\n")
        for _ in range(3):
            self.assertIsNone(self.find())
        (report,) = self.reports
        self.assertIn("is longer than", report)
        self.path.write_text("10.0.0.1 h.lan\n" + "#" * 14 + "\n")
        self.assertEqual(self.find(), [b"\x0a\0\0\x01"])
        self.assertEqual(len(self.reports), 1)

    def test_unreadable(self) -> None:
        """What cannot be read is as good as empty, and said so."""
        self.path.mkdir()
        self.assertIsNone(self.find())
        os.rmdir(self.path)
        self.assertIsNone(self.find())
        (report,) = self.reports
        self.assertTrue(report.startswith(f"{self.path} cannot be read (Is a directory), so "))

    def test_readAgain(self) -> None:
        """A file that could not be read, though it is the same, is read as soon as it can be."""
        self.path.write_text("10.0.0.1 h.lan\n")

        def full(*args: object) -> NoReturn:
            raise OSError(errno.EMFILE, "Too many open files")

        patched = self.patch(builtins, "open", full)
        self.assertIsNone(self.find())
        self.assertIsNone(self.find())
        patched.restore()
        self.assertEqual(self.find(), [b"\x0a\0\0\x01"])
        self.assertEqual(len(self.reports), 2)
        self.assertIn("(Too many open files)", self.reports[0])
