"""
The thread that writes.

It is one of C{twisted.enterprise.adbapi}, with one connection.  After any error the connection
is closed and the file opened anew by the next write: it may have been moved, or its disk
mounted again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from nanotun.history.schema import FlowRecord
from nanotun.history.store import BUSY, Store


class _Pool(ConnectionPool):
    """One thread with one connection."""

    def __init__(self, store: Store, path: str, reactor: Any) -> None:
        self._store = store
        self._identity: tuple[int, int] | None = None
        super().__init__(
            "sqlite3",
            path,
            timeout=BUSY,
            # The reactor's thread closes it, when the other one has ended.
            check_same_thread=False,
            cp_min=1,
            cp_max=1,
            cp_openfun=self._prepared,
            cp_reactor=reactor,
        )

    def connect(self) -> Any:
        """
        See L{ConnectionPool.connect}.  A file that somebody has removed or replaced is opened
        anew; and SQLite would let everybody read one that it makes.
        """
        connection = self.connections.get(self.threadID())
        if connection is not None and self._store.identity() != self._identity:
            self.disconnect(connection)
            connection = None
        if connection is None:
            self._store.makeFile()
            self._identity = self._store.identity()
        return super().connect()

    def _prepared(self, connection: sqlite3.Connection) -> None:
        try:
            self._store.prepare(connection)
        except BaseException:
            connection.close()
            raise

    def finish(self) -> None:
        """Close the connection, if there is one, in the pool's thread."""
        for connection in list(self.connections.values()):
            self.disconnect(connection)

    def run(self, work: Callable[..., None], *arguments: object) -> None:
        """Call a method of the store, in the pool's thread."""
        connection = self.connect()
        try:
            work(connection, *arguments)
        except BaseException:
            self.disconnect(connection)
            raise


class HistoryWriter:
    """
    Writes without making anybody wait.

    @param path: the file.
    """

    def __init__(self, store: Store, path: str, reactor: Any) -> None:
        self._store = store
        self._path = path
        self._reactor = reactor
        self._pool: _Pool | None = None

    def start(self) -> None:
        """Start the thread, as soon as the reactor runs; it opens the file with the first call."""
        self._pool = _Pool(self._store, self._path, self._reactor)

    def write(self, records: Sequence[FlowRecord]) -> Deferred[None]:
        """
        Add flows, all or none.

        @param records: at most L{nanotun.history.store.BATCH}.
        @return: fires when they are in the file; fails with L{sqlite3.Error}, L{OSError} or
            L{nanotun.history.store.HistoryError}.
        """
        return self._run(self._store.write, records)

    def tidy(self) -> Deferred[None]:
        """
        Delete what is too old.

        @return: as from L{write}.
        """
        return self._run(self._store.tidy)

    def stop(self) -> Deferred[None] | None:
        """
        Close the file and end the thread.

        @return: fires when that is done, behind all else that the thread is to do.
        """
        pool, self._pool = self._pool, None
        assert pool is not None, "not started"
        if not pool.running:
            # The reactor has not begun to run.
            pool.close()
            return None
        # What is in the log beside the file goes into it now, which takes a moment.
        done = deferToThreadPool(self._reactor, pool.threadpool, pool.finish)
        # Not after a cancel: it would wait for the thread.
        return done.addCallback(lambda _: pool.close())

    def _run(self, work: Callable[..., None], *arguments: object) -> Deferred[None]:
        pool = self._pool
        assert pool is not None, "not started"
        return deferToThreadPool(self._reactor, pool.threadpool, pool.run, work, *arguments)
