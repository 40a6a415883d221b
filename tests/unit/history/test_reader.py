"""Tests of L{nanotun.history.reader}."""

from __future__ import annotations

import errno
import os
import sqlite3

from nanotun.history.reader import SUMMED, HistoryFilter, HistoryReader, Sum
from nanotun.history.schema import VERSION
from nanotun.history.store import BATCH, HistoryError
from nanotun.history.totals import keyOf
from tests.unit.history.cases import DAY, NOON, RECORD, some
from tests.unit.history.test_store import MIB, StoreCase

#: Flows that differ in all that can be asked for.
MIXED = [
    RECORD,
    RECORD._replace(ended=NOON + 10, name="wget", path="/usr/bin/wget", pid=99, up=1, down=1),
    RECORD._replace(ended=NOON + 20, domain="www.example.com", upstream="office", rule="#2"),
    RECORD._replace(ended=NOON + 30, domain="", uid=-1, pid=0, name="", path="", unit=""),
]


class ReaderCase(StoreCase):
    """A file with L{MIXED} in it."""

    def setUp(self) -> None:
        super().setUp()
        self.written(MIXED)

    def reader(self) -> HistoryReader:
        """The file, until the test ends."""
        made = HistoryReader(self.path)
        self.addCleanup(made.__exit__, None, None, None)
        return made

    def found(self, **wanted: object) -> list[int]:
        """Which of L{MIXED} meet a filter."""
        flows = self.reader().flows(HistoryFilter(**wanted), 100)  # type: ignore[arg-type]
        return sorted(MIXED.index(each) for each in flows)


class FlowsOfFileTests(ReaderCase):
    """Single flows."""

    def test_newestFirst(self) -> None:
        """The last flow comes first, and no more come than are asked for."""
        self.assertEqual(self.reader().flows(HistoryFilter(), 3), MIXED[:0:-1])

    def test_filters(self) -> None:
        """Each filter takes what it names, and a flow has to meet all of them."""
        self.assertEqual(self.found(), [0, 1, 2, 3])
        self.assertEqual(self.found(since=NOON + 10), [1, 2, 3])
        self.assertEqual(self.found(until=NOON + 10), [0])
        self.assertEqual(self.found(upstreams=("office", "other")), [2])
        self.assertEqual(self.found(rules=("#2",)), [2])
        self.assertEqual(self.found(isDomain=lambda name: name.startswith("www")), [2])
        self.assertEqual(self.found(isProcess=lambda name, path, pid: name == "wget"), [1])
        self.assertEqual(self.found(isProcess=lambda name, path, pid: pid == "4711"), [0, 2])
        self.assertEqual(self.found(rules=("#2",), until=NOON + 20), [])

    def test_withoutDaemon(self) -> None:
        """It is read while somebody writes, and after that one has ended or was killed."""
        connection = self.written([])
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM flows")
        self.assertEqual(self.found(), [0, 1, 2, 3])
        connection.execute("ROLLBACK")
        connection.close()
        self.assertEqual(self.found(), [0, 1, 2, 3])

    def test_nothingWritten(self) -> None:
        """A reader can change nothing."""
        reader = self.reader()
        self.assertRaises(HistoryError, reader._ask, "DELETE FROM flows")


class SumsTests(ReaderCase):
    """Sums."""

    def sums(self, by: str, **wanted: object) -> dict[str, int]:
        """How many flows each sum has."""
        found = self.reader().sums(HistoryFilter(**wanted), by)  # type: ignore[arg-type]
        self.assertFalse(found.wholeDays)
        return {each.name: each.flows for each in found.sums}

    def test_by(self) -> None:
        """Flows are summed up by each of their properties."""
        self.assertEqual(self.sums("process"), {"curl": 2, "wget": 1, "": 1})
        domains = {"example.com": 2, "www.example.com": 1, "192.0.2.1": 1}
        self.assertEqual(self.sums("domain"), domains)
        self.assertEqual(self.sums("upstream"), {"proxy": 3, "office": 1})
        self.assertEqual(self.sums("rule"), {"default": 3, "#2": 1})
        self.assertEqual(self.sums("day"), {keyOf(RECORD).day: 4})
        self.assertEqual(self.sums("rule", since=NOON + 15), {"#2": 1, "default": 1})

    def test_order(self) -> None:
        """What carried most comes first; of days the last one."""
        (first, *_) = self.reader().sums(HistoryFilter(), "process").sums
        self.assertEqual(first, Sum("curl", 2, 200, 10000))
        store, connection = self.opened()
        store.write(connection, some(5, NOON - DAY))
        days = self.reader().sums(HistoryFilter(), "day").sums
        self.assertEqual([each.flows for each in days], [4, 5])

    def test_totals(self) -> None:
        """
        For a time of which rows were deleted, the totals of its days count; for a later one
        the rows.
        """
        store, connection = self.opened(days=1)
        store.write(connection, some(BATCH, NOON - 3 * DAY))
        expected = {by: self.sums(by) for by in SUMMED}
        store.tidy(connection)
        for by in SUMMED:
            found = self.reader().sums(HistoryFilter(), by)
            self.assertTrue(found.wholeDays)
            self.assertEqual({each.name: each.flows for each in found.sums}, expected[by], by)
        self.assertEqual(self.sums("rule", since=NOON - DAY), {"default": 3, "#2": 1})

    def test_totalsFiltered(self) -> None:
        """Totals take the filters that they know, and a day that has begun counts as a whole."""
        store, connection = self.opened(days=1)
        store.write(connection, some(9, NOON - 3 * DAY, name="wget", domain="a.lab", rule="#2"))
        store.tidy(connection)
        reader = self.reader()

        def count(**wanted: object) -> int:
            meant = HistoryFilter(**wanted)  # type: ignore[arg-type]
            found = reader.sums(meant, "upstream")
            self.assertTrue(found.wholeDays)
            return sum(each.flows for each in found.sums)

        self.assertEqual(count(), 13)
        self.assertEqual(count(since=NOON - 3 * DAY - 60), 13)
        self.assertEqual(count(since=NOON - 3 * DAY - 60, until=NOON - 2 * DAY), 9)
        self.assertEqual(count(until=NOON), 13)
        self.assertEqual(count(rules=("#2",)), 10)
        self.assertEqual(count(upstreams=("office",)), 1)
        self.assertEqual(count(isDomain=lambda name: name == "a.lab"), 9)
        self.assertEqual(count(isProcess=lambda name, path, pid: name == "wget"), 10)
        wanted = HistoryFilter(isProcess=lambda name, path, pid: pid == "99", byName=False)
        error = self.assertRaises(HistoryError, reader.sums, wanted, "rule")
        self.assertIn("know programs by their names", str(error))
        self.assertEqual(len(reader.sums(wanted._replace(since=NOON), "rule").sums), 1)

    def test_afterManyDeleted(self) -> None:
        """Sums are right, too, when rows were deleted for their size."""
        store, connection = self.opened(MIB)
        for batch in range(30):
            store.write(connection, some(BATCH, NOON + 60 + batch * 10))
        (each,) = self.reader().sums(HistoryFilter(upstreams=("proxy",)), "upstream").sums
        self.assertEqual(each.flows, 30 * BATCH + 3)


class UnreadableTests(StoreCase):
    """Files that are none."""

    def refused(self, sentence: str) -> None:
        """The file is not read."""
        error = self.assertRaises(HistoryError, HistoryReader, self.path)
        self.assertIn(sentence, str(error))
        self.assertIn(self.path, str(error))

    def test_missing(self) -> None:
        """A file that is not there is not made."""
        self.refused("nothing has been recorded there yet")
        self.assertFalse(os.path.exists(self.path))

    def test_forbidden(self) -> None:
        """Others are told who may read it."""
        self.written([RECORD])
        self.patch(os, "access", lambda path, mode: False)
        self.refused("Only root may read")

    def test_folder(self) -> None:
        """So they are where they may not even see whether there is one."""

        def stat(path: str) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        self.patch(os, "stat", stat)
        self.refused("Only root may read")

    def test_foreign(self) -> None:
        """Other files are named as what they are."""
        with open(self.path, "w") as file:
            file.write("x" * 5000)
        self.refused("cannot be read (file is not a database)")
        os.unlink(self.path)
        with sqlite3.connect(self.path) as connection:
            connection.execute("CREATE TABLE a (b)")
        connection.close()
        self.refused("is no history of nanotun's")
        os.unlink(self.path)
        connection = self.written([RECORD])
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        self.refused("was written by a newer nanotun")
