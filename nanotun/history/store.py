"""
Writes the file: all of it runs in the one thread that writes, where waiting for the disk keeps
nobody waiting.

The file and the log beside it (C{-wal}, https://sqlite.org/wal.html) together never take more
than C{flowLogSize}.  The oldest rows make way for new ones, a few at each write, so that no
write takes long.  Totals have a quarter of the place.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Sequence

from nanotun.errors import NanotunError
from nanotun.history.schema import (
    APPLICATION,
    INSERT,
    SCHEMA,
    VERSION,
    FlowRecord,
)
from nanotun.history.totals import DayTotals, keyOf

#: Rows of one transaction.
BATCH = 500

#: Rows that are deleted at a time: more than a transaction adds, so that they lead.
DELETED = 2 * BATCH

#: Times that a tidying deletes rows which are too old: what is left is for the next one.
TIDIED = 100

#: Seconds to wait for somebody else who writes to the file by hand; less than there are for
#: the stop.
BUSY = 1.0

PAGE = 4096  #: Bytes of a page, SQLite's default.

#: Bytes of a row with its place in the index, and of a total, without their texts.
ROW_BYTES, TOTAL_BYTES = 128, 64

#: The share of the whole that totals may take.
TOTALS_SHARE = 4

#: Bytes of the write-ahead log, at most, and the share of the whole for small ones.
LOG_LIMIT, LOG_SHARE = 8 << 20, 8

#: Bytes of the index of that log (C{-shm}), about.
SHARED = 64 << 10

#: Free pages that are given back at a time: the log has to hold them.
GIVEN_BACK = 250


class HistoryError(NanotunError):
    """The file cannot be used as it is; nothing in it has been changed."""


class Store:
    """
    @param path: the file, which is made if it is not there.
    @param size: bytes of all that it takes.
    @param days: how long rows are kept; totals stay.
    @param wallClock: seconds since 1970.
    """

    def __init__(
        self, path: str, size: int, days: int, wallClock: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._days = days
        self._wallClock = wallClock
        self._logLimit = min(LOG_LIMIT, size // LOG_SHARE)
        self._limit = size - self._logLimit - SHARED
        self._totals = DayTotals(size // TOTALS_SHARE)

    def makeFile(self) -> None:
        """
        Make sure that there is a file which nobody else may read, and a folder for it.

        @raise OSError: there can be none.
        @raise HistoryError: there is something else in its place.
        """
        folder = os.path.dirname(self._path)
        if not os.path.isdir(folder):
            os.makedirs(folder, 0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        fd = os.open(self._path, flags, 0o600)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise HistoryError(self._foreign("it is not a plain file"))
            if status.st_uid != os.geteuid():
                raise HistoryError(self._foreign("it belongs to another user"))
            for each in ("-wal", "-shm"):
                self._checkBeside(f"{self._path}{each}")
        finally:
            os.close(fd)

    def _checkBeside(self, path: str) -> None:
        """
        SQLite writes to one that is there already, whoever has made it.

        @raise HistoryError: another user could read what is written there.
        """
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(path).st_uid != os.geteuid():
                raise HistoryError(self._foreign(f"{path} belongs to another user"))

    def identity(self) -> tuple[int, int] | None:
        """What tells the file from any other; L{None} if there is none."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def prepare(self, connection: sqlite3.Connection) -> None:
        """
        Check whose file it is, and make an empty one ours.

        @param connection: just opened.
        @raise HistoryError: it is not ours, or a newer nanotun's.
        """
        connection.isolation_level = None  # Transactions are begun by hand.
        try:
            version = self._checkOwner(connection)
        except sqlite3.DatabaseError as error:
            if "not a database" not in str(error):
                raise
            raise HistoryError(self._foreign("it is no database")) from None
        # The files beside it get the same mode.
        os.chmod(self._path, 0o600)
        if not version:
            # Before the first table: later neither can be changed.
            connection.execute(f"PRAGMA page_size = {PAGE}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        # A commit that a power cut takes back is no harm, and the file stays whole.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {max(16, self._logLimit // 2 // PAGE)}")
        connection.execute(f"PRAGMA journal_size_limit = {self._logLimit}")
        if not version:
            with transaction(connection):
                for statement in SCHEMA:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
        self._totals.forget()

    def write(self, connection: sqlite3.Connection, records: Sequence[FlowRecord]) -> None:
        """
        Add some flows.

        @param records: at most L{BATCH}.
        @raise sqlite3.Error: none of them was added.
        @raise HistoryError: likewise.
        """
        self._checkLog(connection)
        # Tidying alone would be too slow where many flows end.
        self._delete(connection, 2 * len(records), self._tooOld())
        self._makeRoom(connection, sum(map(_bytesOf, records)))
        try:
            self._add(connection, records)
        except sqlite3.OperationalError as error:
            if "full" not in str(error) or not self._delete(connection, 4 * DELETED):
                raise
            # The estimate was too low; a disk that is full has no room for this, either.
            self._add(connection, records)

    def tidy(self, connection: sqlite3.Connection) -> None:
        """
        Delete what is too old, and give free pages back to the disk.

        @raise sqlite3.Error: not all of it is deleted.
        """
        for _ in range(TIDIED):
            if not self._delete(connection, DELETED, self._tooOld()):
                break
        self._makeRoom(connection, 0)
        free, pages = _number(connection, "freelist_count"), _number(connection, "page_count")
        if free > max(GIVEN_BACK, pages // 4):
            self._giveBack(connection, free - pages // 8)
        # What was given back is the disk's only when the log beside the file is emptied.
        self._emptyLog(connection)

    def _tooOld(self) -> float:
        """Rows of flows that ended before this are not kept."""
        return self._wallClock() - self._days * 86400

    def _checkOwner(self, connection: sqlite3.Connection) -> int:
        """
        The version of the file's form; 0 for an empty file.

        @raise HistoryError: it is not ours.
        """
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        application = _number(connection, "application_id")
        version = _number(connection, "user_version")
        if not application and not tables and not version:
            return 0
        if application != APPLICATION:
            raise HistoryError(self._foreign("it is another program's database"))
        if version > VERSION:
            raise HistoryError(
                f"flowLog {self._path} was written by a newer nanotun (form {version}; this one "
                f"knows {VERSION}): it is left alone, and flows are not recorded. Name another "
                "file."
            )
        return version

    def _foreign(self, why: str) -> str:
        return (
            f"flowLog {self._path} is no history of nanotun's ({why}): it is left alone, and "
            "flows are not recorded. Name another file."
        )

    def _checkLog(self, connection: sqlite3.Connection) -> None:
        """
        Have the write-ahead log emptied if it is large.

        @raise HistoryError: somebody who reads it for long prevents that.
        """
        name = f"{self._path}-wal"
        if _size(name) <= self._logLimit:
            return
        self._emptyLog(connection)
        if _size(name) > self._logLimit:
            raise HistoryError(
                f"Flows cannot be recorded in {self._path}, because a program has been reading "
                "it for too long: records are lost until it ends; nanotun itself runs on."
            )

    def _emptyLog(self, connection: sqlite3.Connection) -> None:
        """Does nothing while somebody reads."""
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _makeRoom(self, connection: sqlite3.Connection, needed: int) -> None:
        """
        Delete the oldest rows until there is room.

        @param needed: bytes.
        """
        while self._used(connection) + needed > self._limit:
            if not self._delete(connection, DELETED):
                break
        # The limit may have been higher before.
        self._giveBack(connection, _number(connection, "page_count") - self._limit // PAGE)
        # What the estimate is wrong by must not count.
        connection.execute(f"PRAGMA max_page_count = {self._limit // PAGE}")

    def _giveBack(self, connection: sqlite3.Connection, pages: int) -> None:
        """Make the file smaller, if there are free pages."""
        for done in range(0, pages, GIVEN_BACK):
            # Where execute() makes the first step of a statement, this makes all: one a page.
            count = min(GIVEN_BACK, pages - done)
            connection.executescript(f"PRAGMA incremental_vacuum({count})")

    def _used(self, connection: sqlite3.Connection) -> int:
        free = _number(connection, "freelist_count")
        return PAGE * (_number(connection, "page_count") - free)

    def _delete(self, connection: sqlite3.Connection, count: int, before: float = 0.0) -> int:
        """
        Delete the oldest rows.

        @param before: only of flows that ended before this; 0 for all.
        @return: how many were deleted.
        """
        where = f"WHERE ended < {before!r} ORDER BY ended" if before else "ORDER BY id"
        oldest = f"SELECT id, ended FROM flows {where} LIMIT {count}"
        with transaction(connection):
            (newest,) = connection.execute(f"SELECT max(ended) FROM ({oldest})").fetchone()
            if newest is None:
                return 0
            connection.execute("UPDATE state SET deleted = max(deleted, ?)", (newest,))
            done = connection.execute(f"DELETE FROM flows WHERE id IN (SELECT id FROM ({oldest}))")
            return done.rowcount

    def _add(self, connection: sqlite3.Connection, records: Sequence[FlowRecord]) -> None:
        try:
            with transaction(connection):
                connection.executemany(INSERT, records)
                self._totals.add(connection, records)
        except BaseException:
            self._totals.forget()
            raise


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # Some errors have taken it back already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _bytesOf(record: FlowRecord) -> int:
    """The place that a flow needs, and its total if that is a new one."""
    row = ROW_BYTES + sum(len(each) for each in record if isinstance(each, str))
    total = TOTAL_BYTES + sum(map(len, keyOf(record)))
    # Pages of a tree are not quite full, and letters may take more than one byte.
    return (row + total) * 3 // 2


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(value)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
