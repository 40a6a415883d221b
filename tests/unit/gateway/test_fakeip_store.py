"""
Tests for L{nanotun.gateway.fakeip.store}.
"""

from __future__ import annotations

import json
import os
import stat

from twisted.logger import LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from nanotun.gateway.fakeip.pool import FakePool
from nanotun.gateway.fakeip.store import FakeStore


class StoreTests(SynchronousTestCase):
    """Tests for L{FakeStore}."""

    def setUp(self) -> None:
        """A path in a directory that does not exist."""
        self.path = os.path.join(self.mktemp(), "fakeip.json")
        self.logged: list[LogEvent] = []
        log = Logger(observer=self.logged.append, namespace="test")  # type: ignore[arg-type]
        self.patch(FakeStore, "_log", log)

    def lines(self) -> list[str]:
        """The log's lines."""
        return [f"{each['log_level'].name}: {formatEvent(each)}" for each in self.logged]

    def filled(self) -> FakePool:
        """A pool with two names."""
        pool = FakePool()
        for text in ("b.example", "a.example"):
            pool.give(text, 0)
        return pool

    def loaded(self) -> list[tuple[int, str]]:
        """The numbers and names that a new pool gets from the file."""
        pool = FakePool()
        FakeStore(self.path).load(pool, 0)
        return pool.saved()

    def write(self, data: bytes, mode: int = 0o600) -> None:
        """Write a file of the test's own."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "wb") as file:
            file.write(data)
        os.chmod(self.path, mode)

    def test_restart(self) -> None:
        """The next run has the names that one run saved; other users cannot read them."""
        pool = self.filled()
        FakeStore(self.path).save(pool)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.dirname(self.path)).st_mode), 0o700)
        self.assertEqual(self.loaded(), [(1, "b.example"), (2, "a.example")])
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["fakeip.json"])
        self.assertEqual(self.lines(), [])

    def test_unchanged(self) -> None:
        """Without new names nothing is written."""
        pool = self.filled()
        store = FakeStore(self.path)
        store.save(pool)
        os.unlink(self.path)
        pool.give("a.example", 1)
        store.save(pool)
        self.assertFalse(os.path.exists(self.path))

    def test_missing(self) -> None:
        """A missing file, or no path, is not logged."""
        self.assertEqual(self.loaded(), [])
        none = FakeStore("")
        none.load(FakePool(), 0)
        none.save(self.filled())
        self.assertEqual(self.lines(), [])

    def test_useless(self) -> None:
        """A file with anything else in it is logged as one warning, and gives no names."""
        FakeStore(self.path).save(self.filled())
        with open(self.path) as file:
            good = json.load(file)
        for bad in (
            b"",
            b"{",
            b"[]",
            b"\xff\xfe",
            b"[" * 100_000,
            json.dumps({**good, "version": 2}).encode(),
            json.dumps({**good, "ipv4": "10.0.0.0/8"}).encode(),
            json.dumps({**good, "names": {}}).encode(),
            json.dumps({**good, "names": [[1]]}).encode(),
            json.dumps({**good, "names": [[True, "a"]]}).encode(),
            json.dumps({**good, "names": [[1, "a"], [1, "b"]]}).encode(),
            json.dumps({**good, "names": [[1, "\u00fc.example"]]}).encode(),
        ):
            self.logged.clear()
            self.write(bad)
            self.assertEqual(self.loaded(), [], bad[:60])
            (line,) = self.lines()
            self.assertIn("warn: The file", line)
            self.assertIn("cannot be used", line)

    def test_unsafe(self) -> None:
        """A file that others can write is not read, nor is a link or a pipe."""
        FakeStore(self.path).save(self.filled())
        os.chmod(self.path, 0o620)
        self.assertEqual(self.loaded(), [])
        self.assertIn("others can write it", self.lines()[0])
        os.rename(self.path, f"{self.path}.real")
        os.chmod(f"{self.path}.real", 0o600)
        os.symlink(f"{self.path}.real", self.path)
        self.assertEqual(self.loaded(), [])
        os.unlink(self.path)
        os.mkfifo(self.path)
        self.assertEqual(self.loaded(), [])
        self.assertEqual(len(self.lines()), 3)

    def test_replaced(self) -> None:
        """The file is replaced as a whole, and a link beside it is not followed."""
        FakeStore(self.path).save(self.filled())
        victim = self.mktemp()
        with open(victim, "w") as file:
            file.write("victim")
        os.symlink(victim, f"{self.path}.new")
        FakeStore(self.path).save(self.filled())
        with open(victim) as file:
            self.assertEqual(file.read(), "victim")
        self.assertEqual(len(self.loaded()), 2)

    def test_unwritable(self) -> None:
        """A file that cannot be written is logged once, until it has been written again."""
        folder = os.path.dirname(self.path)
        with open(folder, "w"):
            pass
        store = FakeStore(self.path)
        for _ in range(3):
            store.save(self.filled())
        (line,) = self.lines()
        self.assertIn("error: The file", line)
        self.assertIn("dnsStateFile", line)
        os.unlink(folder)
        store.save(self.filled())
        self.assertEqual(len(self.loaded()), 2)

    def test_again(self) -> None:
        """Names that could not be written are written later, and no temporary file is left."""
        pool = self.filled()
        store = FakeStore(self.path)
        # A directory cannot be replaced by a file.
        os.makedirs(self.path)
        store.save(pool)
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["fakeip.json"])
        os.rmdir(self.path)
        store.save(pool)
        self.assertEqual(len(self.loaded()), 2)
