"""
Reads the file, while the daemon writes to it or when none runs.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import quote

from nanotun.history.schema import APPLICATION, VERSION, FlowRecord
from nanotun.history.store import HistoryError

#: What flows can be summed up by: the same in rows, and in the totals of days.
SUMMED: dict[str, tuple[str, str]] = {
    "process": ("CASE name WHEN '' THEN path ELSE name END", "process"),
    "domain": ("CASE domain WHEN '' THEN destination ELSE domain END", "domain"),
    "upstream": ("upstream", "upstream"),
    "rule": ("rule", "rule"),
    "day": ("date(ended, 'unixepoch', 'localtime')", "day"),
}


class HistoryFilter(NamedTuple):
    """
    Which flows are meant.

    @ivar since: seconds since 1970; 0 for the beginning.
    @ivar until: the first moment that is not meant any more; 0 for the end.
    @ivar isProcess: takes a program's name, path and pid, as texts; L{None} for all.
    @ivar isDomain: takes a name; L{None} for all flows, also those without one.
    @ivar upstreams: names; empty for all.
    @ivar rules: likewise.
    @ivar byName: whether C{isProcess} needs no more than a program's name.
    """

    since: float = 0.0
    until: float = 0.0
    isProcess: Callable[[str, str, str], bool] | None = None
    isDomain: Callable[[str], bool] | None = None
    upstreams: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    byName: bool = True


class Sum(NamedTuple):
    """
    Flows with something in common.

    @ivar name: what they have in common; empty if it is not known.
    """

    name: str
    flows: int
    up: int
    down: int


class Sums(NamedTuple):
    """
    @ivar sums: those with the most bytes first; days from the last one on.
    @ivar wholeDays: whether they are of whole days, because single flows are not kept for so
        long.
    """

    sums: list[Sum]
    wholeDays: bool


class HistoryReader:
    """
    The file, open as a context manager.

    @raise HistoryError: it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            os.stat(path)
            allowed = os.access(path, os.R_OK)
        except PermissionError:
            allowed = False  # its folder may be root's alone
        except OSError:
            raise HistoryError(
                f"There is no file {path}: nothing has been recorded there yet."
            ) from None
        if not allowed:
            raise HistoryError(f"Only root may read {path}; try it with sudo.")
        # Whoever may write could make the files beside it that SQLite needs to read.
        self._connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)
        try:
            self._check()
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> HistoryReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def flows(self, wanted: HistoryFilter, limit: int) -> list[FlowRecord]:
        """
        The last flows.

        @param limit: how many at most.
        @return: the newest first.
        @raise HistoryError: the file cannot be read.
        """
        where, values = self._where(wanted)
        columns = ", ".join(FlowRecord._fields)
        query = f"SELECT {columns} FROM flows {where} ORDER BY ended DESC, id DESC LIMIT ?"
        return [FlowRecord(*row) for row in self._ask(query, *values, limit)]

    def sums(self, wanted: HistoryFilter, by: str) -> Sums:
        """
        Sum flows up: exactly, as long as all of them are kept; else by the totals of days.

        @param by: one of L{SUMMED}.
        @raise HistoryError: the file cannot be read, or the totals do not know what is wanted.
        """
        ((deleted,),) = self._ask("SELECT deleted FROM state")
        wholeDays = 0 < deleted and wanted.since <= deleted
        if wholeDays and not wanted.byName:
            raise HistoryError(
                "For so long a time only totals are kept, which know programs by their names: give "
                "a name after --process, or a later time after --since."
            )
        where, values = (self._whereOfTotals if wholeDays else self._where)(wanted)
        what = SUMMED[by][wholeDays]
        counted = "sum(flows)" if wholeDays else "count(*)"
        order = "1 DESC" if by == "day" else "sum(up) + sum(down) DESC, 2 DESC, 1"
        table = "totals" if wholeDays else "flows"
        rows = self._ask(
            f"SELECT {what}, {counted}, sum(up), sum(down) FROM {table} {where} "
            f"GROUP BY 1 ORDER BY {order}",
            *values,
        )
        return Sums([Sum(*row) for row in rows], wholeDays)

    def _where(self, wanted: HistoryFilter) -> tuple[str, list[Any]]:
        """The condition for rows, and its values."""
        parts, values = self._common(wanted)
        for text, moment in (("ended >= ?", wanted.since), ("ended < ?", wanted.until)):
            if moment:
                parts.append(text)
                values.append(moment)
        if wanted.isProcess is not None:
            parts.append("isProcess(name, path, CAST(pid AS TEXT))")
        return _joined(parts), values

    def _whereOfTotals(self, wanted: HistoryFilter) -> tuple[str, list[Any]]:
        """The condition for totals, and its values."""
        parts, values = self._common(wanted)
        # Days that are begun are meant as a whole; the end is the first moment that is not meant.
        last = wanted.until and wanted.until - 0.001
        for sign, moment in ((">=", wanted.since), ("<=", last)):
            if moment:
                parts.append(f"day {sign} date(?, 'unixepoch', 'localtime')")
                values.append(moment)
        if wanted.isProcess is not None:
            parts.append("isProcess(process, '', '')")
        return _joined(parts), values

    def _common(self, wanted: HistoryFilter) -> tuple[list[str], list[Any]]:
        parts: list[str] = []
        values: list[Any] = []
        for column, names in (("upstream", wanted.upstreams), ("rule", wanted.rules)):
            if names:
                parts.append(f"{column} IN ({', '.join('?' * len(names))})")
                values += names
        if wanted.isDomain is not None:
            self._connection.create_function("isDomain", 1, wanted.isDomain, deterministic=True)
            parts.append("isDomain(domain)")
        if wanted.isProcess is not None:
            self._connection.create_function("isProcess", 3, wanted.isProcess, deterministic=True)
        return parts, values

    def _ask(self, query: str, *values: object) -> list[Any]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._unreadable(error) from None

    def _check(self) -> None:
        try:
            (application,) = self._connection.execute("PRAGMA application_id").fetchone()
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        except sqlite3.Error as error:
            raise self._unreadable(error) from None
        if application != APPLICATION:
            raise HistoryError(f"{self._path} is no history of nanotun's; name another file.")
        if version > VERSION:
            raise HistoryError(
                f"{self._path} was written by a newer nanotun (form {version}; this one knows "
                f"{VERSION}); read it with that one."
            )

    def _unreadable(self, error: sqlite3.Error) -> HistoryError:
        return HistoryError(f"{self._path} cannot be read ({error}).")


def _joined(parts: list[str]) -> str:
    return f"WHERE {' AND '.join(parts)}" if parts else ""
