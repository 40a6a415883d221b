"""Tests of L{nanotun.history.store}."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.history import store as storing
from nanotun.history.schema import APPLICATION, OTHERS, VERSION, FlowRecord
from nanotun.history.store import BATCH, BUSY, HistoryError, Store
from nanotun.history.totals import keyOf
from tests import ROOT
from tests.unit.history.cases import DAY, NOON, RECORD, ask, some

MIB = 1 << 20


class StoreCase(SynchronousTestCase):
    """
    A file in a directory of its own.

    @ivar now: seconds since 1970.
    """

    def setUp(self) -> None:
        directory = self.mktemp()
        os.mkdir(directory)
        self.path = os.path.abspath(os.path.join(directory, "flows.db"))
        self.now = NOON

    def opened(self, size: int = 64 * MIB, days: int = 30) -> tuple[Store, sqlite3.Connection]:
        """A store and its connection, as the thread makes them."""
        store = Store(self.path, size, days, lambda: self.now)
        store.makeFile()
        connection = sqlite3.connect(self.path, timeout=BUSY)
        self.addCleanup(connection.close)
        store.prepare(connection)
        return store, connection

    def written(self, records: Sequence[FlowRecord], size: int = 64 * MIB) -> sqlite3.Connection:
        """Write some flows."""
        store, connection = self.opened(size)
        for start in range(0, len(records), BATCH):
            store.write(connection, records[start : start + BATCH])
        return connection

    def place(self) -> int:
        """Bytes of all files."""
        directory = os.path.dirname(self.path)
        return sum(os.stat(os.path.join(directory, each)).st_size for each in os.listdir(directory))

    def kept(self) -> int:
        """How many rows there are."""
        (count,) = ask(self.path, "SELECT count(*) FROM flows")
        return int(count)


class FileTests(StoreCase):
    """The file itself."""

    def test_made(self) -> None:
        """A new file has the schema and its version, and nobody but its owner can read it."""
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        self.written([RECORD])
        self.assertEqual(ask(self.path, "PRAGMA application_id"), [APPLICATION])
        self.assertEqual(ask(self.path, "PRAGMA user_version"), [VERSION])
        self.assertEqual(ask(self.path, "PRAGMA journal_mode"), ["wal"])
        directory = os.path.dirname(self.path)
        modes = {
            each: stat.S_IMODE(os.stat(os.path.join(directory, each)).st_mode)
            for each in os.listdir(directory)
        }
        self.assertEqual(modes, {"flows.db": 0o600, "flows.db-wal": 0o600, "flows.db-shm": 0o600})

    def test_folder(self) -> None:
        """A folder that is not there is made, for nobody but its owner."""
        folder = os.path.join(os.path.dirname(self.path), "deep", "in")
        Store(os.path.join(folder, "flows.db"), MIB, 30).makeFile()
        self.assertEqual(stat.S_IMODE(os.stat(folder).st_mode), 0o700)

    def test_modeTightened(self) -> None:
        """A file that others could read is one that only its owner can read from then on."""
        self.written([RECORD]).close()
        os.chmod(self.path, 0o644)
        self.opened()
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)

    def test_wholeRecord(self) -> None:
        """A row has all that is known of a flow, as it was."""
        self.written([RECORD])
        columns = ", ".join(FlowRecord._fields)
        self.assertEqual(ask(self.path, f"SELECT {columns} FROM flows"), [tuple(RECORD)])

    def test_again(self) -> None:
        """What is written after a restart is added to what was there, in rows and in totals."""
        self.written(some(3)).close()
        self.written(some(2))
        self.assertEqual(self.kept(), 5)
        self.assertEqual(
            ask(self.path, "SELECT flows, up, down FROM totals"), [(5, 5 * 100, 5 * 5000)]
        )

    def refused(self, why: str) -> None:
        """The file is not used, and stays as it is."""
        with open(self.path, "rb") as file:
            before = file.read()
        error = self.assertRaises(HistoryError, self.opened)
        self.assertIn(why, str(error))
        self.assertIn(self.path, str(error))
        with open(self.path, "rb") as file:
            self.assertEqual(file.read(), before)

    def test_foreignDatabase(self) -> None:
        """Another program's database is not touched."""
        with sqlite3.connect(self.path) as connection:
            connection.execute("CREATE TABLE flows (a)")
        connection.close()
        self.refused("another program's database")

    def test_noDatabase(self) -> None:
        """A file that is no database is not touched."""
        with open(self.path, "w") as file:
            file.write("precious\n" * 1000)
        self.refused("it is no database")

    def test_newer(self) -> None:
        """A newer nanotun's file is not touched."""
        connection = self.written([RECORD])
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.close()
        self.refused(f"written by a newer nanotun (form {VERSION + 1}")

    def test_otherKinds(self) -> None:
        """A symbolic link, a directory, a device or a pipe is not used."""
        store = Store(self.path, MIB, 30)
        with open(f"{self.path}.real", "w"):
            os.symlink(f"{self.path}.real", self.path)
        self.assertRaises(OSError, store.makeFile)
        self.assertEqual(os.stat(f"{self.path}.real").st_size, 0)
        os.unlink(self.path)
        os.mkdir(self.path)
        self.assertRaises(OSError, store.makeFile)
        os.rmdir(self.path)
        os.mkfifo(self.path)
        self.assertRaises(HistoryError, store.makeFile)

    def test_otherOwner(self) -> None:
        """A file that another user made ready to read it later is not used."""
        with open(self.path, "w"):
            pass
        self.patch(os, "geteuid", lambda: os.stat(self.path).st_uid + 1)
        error = self.assertRaises(HistoryError, Store(self.path, MIB, 30).makeFile)
        self.assertIn("belongs to another user", str(error))

    def test_otherBeside(self) -> None:
        """Nor is one beside which another user has made a file that SQLite would write to."""
        lstat = os.lstat
        store = Store(self.path, MIB, 30)
        for each in ("-wal", "-shm"):
            beside = f"{self.path}{each}"
            with open(beside, "w"):
                pass
            self.patch(os, "lstat", lstat)
            store.makeFile()
            other = os.stat_result((0o100666, 0, 0, 1, os.geteuid() + 1, 0, 0, 0, 0, 0))
            known = {beside: other}
            self.patch(os, "lstat", lambda path, known=known: known.get(path) or lstat(path))
            error = self.assertRaises(HistoryError, store.makeFile)
            self.assertIn(f"{beside} belongs to another user", str(error))

    def test_broken(self) -> None:
        """A history whose pages are spoilt is an error, not a new history."""
        self.written(some(2000)).close()
        size = os.stat(self.path).st_size
        with open(self.path, "r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (size - 4096))
        store, connection = self.opened()
        self.assertRaises(sqlite3.DatabaseError, store.write, connection, some(1))
        self.assertEqual(os.stat(self.path).st_size, size)


class BoundsTests(StoreCase):
    """What is kept."""

    def test_size(self) -> None:
        """All files together never take more than the limit, and the newest rows are kept."""
        store, connection = self.opened(MIB)
        for batch in range(60):
            records = [
                each._replace(domain=f"host-{batch}-{number}.example.org")
                for number, each in enumerate(some(BATCH, NOON + batch * 10))
            ]
            store.write(connection, records)
            self.assertLessEqual(self.place(), MIB)
        kept = self.kept()
        self.assertGreater(kept, 3 * BATCH)
        (oldest,) = ask(self.path, "SELECT min(ended) FROM flows")
        (newest,) = ask(self.path, "SELECT max(ended) FROM flows")
        self.assertEqual(newest, NOON + 59 * 10 + (BATCH - 1) * 0.01)
        # From then on nothing is missing.
        (deleted,) = ask(self.path, "SELECT deleted FROM state")
        self.assertLess(deleted, oldest)
        ends = [each.ended for batch in range(60) for each in some(BATCH, NOON + batch * 10)]
        self.assertEqual(kept, sum(each >= oldest for each in ends))
        self.assertEqual(ask(self.path, "PRAGMA integrity_check"), ["ok"])

    def test_totalsSurvive(self) -> None:
        """Totals have every flow, also those whose rows are deleted."""
        self.written(some(40 * BATCH), MIB)
        self.assertLess(self.kept(), 40 * BATCH)
        self.assertEqual(
            ask(self.path, "SELECT sum(flows), sum(up), sum(down) FROM totals"),
            [(40 * BATCH, 40 * BATCH * 100, 40 * BATCH * 5000)],
        )

    def test_longTexts(self) -> None:
        """Texts of the greatest length keep the file within the limit, too."""
        long: dict[str, Any] = {"path": "/" + "x" * 1023, "name": "y" * 255, "domain": "z" * 253}
        store, connection = self.opened(MIB)
        for _ in range(20):
            store.write(connection, some(100, **long))
            self.assertLessEqual(self.place(), MIB)
        self.assertGreater(self.kept(), 99)

    def test_days(self) -> None:
        """Rows that are too old are deleted, and totals of those days stay."""
        store, connection = self.opened(days=7)
        store.write(connection, some(10, NOON - 8 * DAY) + some(5, NOON - 6 * DAY))
        store.tidy(connection)
        self.assertEqual(self.kept(), 5)
        self.now += 2 * DAY
        store.tidy(connection)
        self.assertEqual(self.kept(), 0)
        self.assertEqual(ask(self.path, "SELECT flows FROM totals ORDER BY day"), [10, 5])
        (deleted,) = ask(self.path, "SELECT deleted FROM state")
        self.assertAlmostEqual(deleted, NOON - 6 * DAY + 0.04)

    def test_daysWithMany(self) -> None:
        """More rows become too old between two tidyings than one deletes: all of them go."""
        self.written(some(6 * BATCH)).close()
        self.now += 8 * DAY
        store, connection = self.opened(days=7)
        self.patch(storing, "TIDIED", 1)
        store.tidy(connection)
        for number in range(4):
            store.write(connection, some(BATCH, self.now + number))
        self.assertEqual(self.kept(), 4 * BATCH)

    def test_shrinks(self) -> None:
        """A file that was large gives its place back, when rows get old or the limit is lower."""
        self.written(some(80 * BATCH)).close()
        large = self.place()
        store, connection = self.opened(2 * MIB)
        store.tidy(connection)
        self.assertGreater(large, 4 * MIB)
        self.assertLessEqual(self.place(), 2 * MIB)
        self.assertGreater(self.kept(), BATCH)
        store, connection = self.opened(2 * MIB)
        self.now += 40 * DAY
        store.tidy(connection)
        self.assertLess(self.place(), MIB)

    def test_manyTotals(self) -> None:
        """
        Of a day's many domains, and of programs' many names, those beyond the limit are counted
        together, and none is missing.
        """
        store, connection = self.opened(4 * MIB)
        for batch in range(10):
            store.write(
                connection,
                [
                    each._replace(domain=f"h{batch}-{number}.lab", name=f"p{number % 300}")
                    for number, each in enumerate(some(BATCH))
                ],
            )
        (count,) = ask(self.path, "SELECT count(*) FROM totals")
        self.assertLess(count, 4 * MIB // 4 // 400 // 10 * 5 // 4 + 2)
        self.assertEqual(ask(self.path, "SELECT sum(flows) FROM totals"), [10 * BATCH])
        last = "SELECT count(*) FROM totals WHERE domain = ? AND process = ?"
        self.assertEqual(ask(self.path, last, OTHERS, OTHERS), [1])

    def test_oldTotals(self) -> None:
        """With too many totals the oldest days are deleted, never the present one."""
        store, connection = self.opened(2 * MIB)
        for day in range(40):
            names = [f"h{number}.lab" for number in range(BATCH)]
            store.write(
                connection,
                [RECORD._replace(ended=NOON + day * DAY, domain=name) for name in names],
            )
            (count,) = ask(self.path, "SELECT count(*) FROM totals")
            self.assertLess(count, 2 * MIB // 4 // 400 + 1)
        days = ask(self.path, "SELECT DISTINCT day FROM totals ORDER BY day")
        self.assertEqual(days[-1], keyOf(RECORD._replace(ended=NOON + 39 * DAY)).day)
        self.assertGreater(len(days), 5)
        self.assertLess(len(days), 20)

    def test_key(self) -> None:
        """A flow without a name is counted by its address, and by its program's path."""
        key = keyOf(RECORD._replace(domain="", name=""))
        self.assertEqual((key.domain, key.process), ("192.0.2.1", "/usr/bin/curl"))

    def test_longReader(self) -> None:
        """Somebody who reads for long cannot make the log beside the file grow without end."""
        store, connection = self.opened(MIB)
        reader = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(reader.close)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM flows").fetchone()

        def fill() -> None:
            for _ in range(100):
                store.write(connection, some(BATCH))

        connection.execute("PRAGMA busy_timeout = 10")
        error = self.assertRaises(HistoryError, fill)
        self.assertIn("has been reading it for too long", str(error))
        self.assertLess(self.place(), 2 * MIB)
        reader.execute("COMMIT")
        store.write(connection, some(1))


class FailureTests(StoreCase):
    """What must not be lost, and what may."""

    def child(self, code: str) -> subprocess.Popen[str]:
        """Another process that has the file open, as C{store} and C{connection}."""
        begin = (
            "import resource, signal, sqlite3, sys\n"
            "from nanotun.history.store import BATCH, Store\n"
            "from tests.unit.history.cases import some\n"
            f"store = Store({self.path!r}, 1 << 28, 30)\n"
            "store.makeFile()\n"
            f"connection = sqlite3.connect({self.path!r})\n"
            "store.prepare(connection)\n"
        )
        return subprocess.Popen(
            [sys.executable, "-c", begin + code], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )

    def test_killed(self) -> None:
        """After kill -9 in the midst of writing all finished batches are there, and no part."""
        child = self.child(
            "while True:\n store.write(connection, some(BATCH))\n print('x', flush=True)\n"
        )
        assert child.stdout is not None
        for _ in range(5):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        told = 5 + len(child.stdout.read().split())
        child.wait()
        child.stdout.close()
        kept = self.kept()
        self.assertEqual(kept % BATCH, 0)
        self.assertGreaterEqual(kept, told * BATCH)
        self.assertEqual(ask(self.path, "SELECT sum(flows) FROM totals"), [kept])
        self.written([RECORD])
        self.assertEqual(self.kept(), kept + 1)
        self.assertEqual(ask(self.path, "PRAGMA integrity_check"), ["ok"])

    def test_full(self) -> None:
        """A batch for which the disk has no room is not there at all; later ones are."""
        child = self.child(
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))\n"
            "count = 0\n"
            "try:\n"
            " while True:\n  store.write(connection, some(BATCH))\n  count += 1\n"
            "except sqlite3.OperationalError as error:\n print(count, error)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n"
            "store.write(connection, some(1))\n"
        )
        said, _ = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 0)
        count, _, why = said.partition(" ")
        self.assertTrue("full" in why or "I/O" in why, why)
        self.assertEqual(self.kept(), int(count) * BATCH + 1)
        self.assertEqual(ask(self.path, "SELECT sum(flows) FROM totals"), [self.kept()])
        self.assertEqual(ask(self.path, "PRAGMA integrity_check"), ["ok"])

    def test_locked(self) -> None:
        """While somebody else writes to the file by hand, a write fails in a moment."""
        store, connection = self.opened()
        other = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(other.close)
        other.execute("BEGIN IMMEDIATE")
        connection.execute("PRAGMA busy_timeout = 10")
        self.assertRaises(sqlite3.OperationalError, store.write, connection, some(1))
        other.execute("ROLLBACK")
        store.write(connection, some(1))
        self.assertEqual(self.kept(), 1)
