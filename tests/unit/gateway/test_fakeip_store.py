"""
Tests for L{nanotun.gateway.fakeip.store}.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys

from twisted.logger import LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import FAKE4, FAKE6
from nanotun.gateway.fakeip.pool import HOLD, FakePool, addresses
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
        return pool.saved()[1]

    def store(self) -> FakeStore:
        """A store, closed at the test's end."""
        store = FakeStore(self.path)
        self.addCleanup(store.close)
        return store

    def write(self, data: bytes, mode: int = 0o600) -> None:
        """Write a file of the test's own."""
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path, "wb") as file:
            file.write(data)
        os.chmod(self.path, mode)

    def test_restart(self) -> None:
        """The next run has the names that one run saved; other users cannot read them."""
        pool = self.filled()
        self.store().save(pool)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(os.stat(os.path.dirname(self.path)).st_mode), 0o700)
        self.assertEqual(self.loaded(), [(1, "b.example"), (2, "a.example")])
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["fakeip.json"])
        self.assertEqual(self.lines(), [])

    def test_unchanged(self) -> None:
        """The file is not written anew while nothing comes into use, nor goes out of use."""
        pool = self.filled()
        store = self.store()
        store.save(pool)
        os.unlink(self.path)
        pool.give("a.example", 1)
        store.save(pool)
        self.assertFalse(os.path.exists(self.path))
        pool.give("c.example", 2 * HOLD)
        pool.changed = False
        store.save(pool)
        self.assertEqual(len(self.loaded()), 3)

    def crashed(self, *names: str) -> FakePool:
        """A pool that was saved, and then asked for names until a crash, as the file has it."""
        store = self.store()
        pool = FakePool(3, note=store.note)
        store.load(pool, 0)
        store.save(pool, always=True)
        for each, name in enumerate(names):
            pool.give(name, each * HOLD)
        again = FakePool(3)
        self.store().load(again, 0)
        return again

    def test_crash(self) -> None:
        """A name that was given a number before a crash has it afterwards."""
        again = self.crashed("a.example")
        self.assertEqual(again.saved(), (0, [(1, "a.example")]))
        fake = again.give("b.example", 0)
        self.assertEqual(fake and fake.number, 2)
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    def test_crashRecycled(self) -> None:
        """A number that was given to another name before a crash is the other's."""
        again = self.crashed(*(f"{each}.example" for each in "abcde"))
        found = {addresses(number)[0]: name for number, name in again.saved()[1]}
        self.assertEqual(
            found, {"198.19.0.1": "d.example", "198.19.0.2": "e.example", "198.19.0.3": "c.example"}
        )

    def test_crashAgain(self) -> None:
        """
        A name in no use that was asked for again before a crash is in use after it, so a pool
        that is full does not give its number away.
        """
        store = self.store()
        pool = FakePool(4, note=store.note)
        for name in "abcd":
            pool.give(name, 0)
        pool.give("d", HOLD)
        pool.give("d", 2 * HOLD)
        self.assertIsNotNone(pool.give("e", 2 * HOLD))
        store.save(pool)
        self.assertEqual(pool.saved()[0], 2)
        pool.give("b", 2 * HOLD)
        again = FakePool(4)
        self.store().load(again, 0)
        self.assertEqual(again.saved()[0], 1)
        given = [again.give(name, 0) for name in "xyz"]
        self.assertEqual([fake and fake.number for fake in given], [3, None, None])

    def test_anothers(self) -> None:
        """A file that another process has written and still uses is neither read nor replaced."""
        program = (
            "import sys; from nanotun.gateway.fakeip.store import FakeStore; "
            "from nanotun.gateway.fakeip.pool import FakePool; "
            "store = FakeStore(sys.argv[1]); pool = FakePool(note=store.note); "
            "store.save(pool, always=True); pool.give('theirs.example', 0); print(flush=True); "
            "sys.stdin.read()"
        )
        argv = [sys.executable, "-c", program, self.path]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            store, pool = self.store(), self.filled()
            store.load(pool, 0)
            store.save(pool, always=True)
            assert other.stdin is not None
            other.stdin.close()
        self.assertEqual(
            self.lines(),
            [
                f"error: The file {self.path} with the names of fake addresses is another "
                "daemon's, so these are not kept; give each daemon a dnsStateFile of its own."
            ],
        )
        self.assertEqual(self.loaded(), [(1, "theirs.example")])

    def test_cutLine(self) -> None:
        """Half a line at the end, of a full disk, is left out."""
        self.crashed("a.example", "b.example")
        with open(self.path, "rb+") as file:
            file.seek(-3, os.SEEK_END)
            file.truncate()
        self.assertEqual(self.loaded(), [(1, "a.example")])

    def test_firstVersion(self) -> None:
        """A file of the first version is read, and replaced by the next one."""
        names = [[each + 1, name] for each, name in enumerate("abcd")]
        head = {"version": 1, "ipv4": FAKE4, "ipv6": FAKE6, "names": names}
        self.write(json.dumps(head).encode())
        pool = FakePool(4)
        store = self.store()
        store.load(pool, 0)
        self.assertIsNotNone(pool.give("x", 0))
        store.save(pool)
        with open(self.path) as file:
            self.assertEqual(json.loads(file.readline())["version"], 2)

    def test_appendFails(self) -> None:
        """A line that cannot be appended is logged once, and all is written later."""
        store = self.store()
        pool = FakePool(note=store.note)
        store.save(pool, always=True)
        self.patch(os, "write", lambda fd, data: 1)
        pool.give("a.example", 0)
        pool.give("b.example", 0)
        (line,) = self.lines()
        self.assertIn("error: The file", line)
        self.assertIn("No space left", line)
        store.save(pool)
        self.assertEqual(len(self.loaded()), 2)

    def test_missing(self) -> None:
        """A missing file, or no path, is not logged."""
        self.assertEqual(self.loaded(), [])
        none = FakeStore("")
        none.load(FakePool(), 0)
        none.save(self.filled(), always=True)
        none.note(1, "a.example")
        self.assertEqual(self.lines(), [])

    def test_useless(self) -> None:
        """A file with anything else in it is logged as one warning, and gives no names."""
        good = {"version": 2, "ipv4": FAKE4, "ipv6": FAKE6, "spare": 0}
        first = {**good, "version": 1}

        def text(head: object, lines: str = "") -> bytes:
            return f"{json.dumps(head)}\n{lines}".encode()

        for bad in (
            b"",
            b"{",
            b"[]",
            b"\xff\xfe",
            b"[" * 100_000,
            text({**good, "version": 3}),
            text({**good, "ipv4": "10.0.0.0/8"}),
            text({**good, "spare": None}),
            text(good, "1\n"),
            text(good, "a b\n"),
            text(good, "0 a\n"),
            text(good, "1 \u00fc.example\n"),
            text({**first, "names": {}}),
            text({**first, "names": [[1]]}),
            text({**first, "names": [[True, "a"]]}),
            text({**first, "names": [[1, "a"], [1, "b"]]}),
            text({**first, "names": [[1, "\u00fc.example"]]}),
        ):
            self.logged.clear()
            self.write(bad)
            self.assertEqual(self.loaded(), [], bad[:60])
            (line,) = self.lines()
            self.assertIn("warn: The file", line)
            self.assertIn("cannot be used", line)

    def test_unsafe(self) -> None:
        """A file that others can write is not read, nor is a link or a pipe."""
        self.store().save(self.filled())
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
        self.store().save(self.filled())
        victim = self.mktemp()
        with open(victim, "w") as file:
            file.write("victim")
        os.symlink(victim, f"{self.path}.new")
        self.store().save(self.filled())
        with open(victim) as file:
            self.assertEqual(file.read(), "victim")
        self.assertEqual(len(self.loaded()), 2)

    def test_unwritable(self) -> None:
        """A file that cannot be written is logged once, until it has been written again."""
        folder = os.path.dirname(self.path)
        with open(folder, "w"):
            pass
        store = self.store()
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
        store = self.store()
        # A directory cannot be replaced by a file.
        os.makedirs(self.path)
        store.save(pool)
        self.assertEqual(os.listdir(os.path.dirname(self.path)), ["fakeip.json"])
        os.rmdir(self.path)
        store.save(pool)
        self.assertEqual(len(self.loaded()), 2)
