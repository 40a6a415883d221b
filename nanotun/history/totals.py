"""
Totals by day, which stay when single flows are deleted.
"""

from __future__ import annotations

import datetime
import math
import sqlite3
from collections.abc import Iterable, Iterator

from nanotun.history.schema import ADD, BEGIN_TOTAL, OTHERS, FlowRecord, TotalKey

#: Bytes that count for each total where there may be many: names are seldom longer.
TOTAL_USUAL = 400

#: Totals of a day that are told apart.  More is a scan of ports or a file-sharing program, whose
#: thousands of addresses nobody reads.
DAY_LIMIT = 5000


def keyOf(record: FlowRecord) -> TotalKey:
    """What a flow is counted under."""
    day = datetime.datetime.fromtimestamp(record.ended).date().isoformat()
    host = record.domain or record.destination
    process = record.name or record.path
    return TotalKey(day, process, host, record.upstream, record.rule)


class DayTotals:
    """
    The totals of all days, within a transaction of the caller's.

    @param size: bytes that they may take, about.
    """

    def __init__(self, size: int) -> None:
        self._limit = max(DAY_LIMIT // 100, size // TOTAL_USUAL)
        self._dayLimit = min(DAY_LIMIT, self._limit // 10)
        self._day = ""
        self._told = 0

    def forget(self) -> None:
        """What is known of the table may be wrong: the transaction was taken back."""
        self._day = ""

    def add(self, connection: sqlite3.Connection, records: Iterable[FlowRecord]) -> None:
        """Add flows to the totals."""
        sums: dict[TotalKey, list[int]] = {}
        for each in records:
            found = sums.setdefault(keyOf(each), [0, 0, 0])
            found[0] += 1
            found[1] += each.up
            found[2] += each.down
        for key, added in sums.items():
            if key.day != self._day:
                self._beginDay(connection, key.day)
            for wanted, limit in self._ways(key):
                if connection.execute(ADD, (*added, *wanted)).rowcount:
                    break
                if self._told < limit:
                    self._told += 1
                    connection.execute(BEGIN_TOTAL, (*added, *wanted))
                    break

    def _ways(self, key: TotalKey) -> Iterator[tuple[TotalKey, float]]:
        """
        Under what a flow can be counted, the best first, and how many totals of that day may be
        there before a new one.  Anybody can think of domains, and of names for programs; of
        upstreams and rules there are as many as the settings have.
        """
        yield key, self._dayLimit
        yield key._replace(domain=OTHERS), self._dayLimit * 5 // 4
        yield key._replace(domain=OTHERS, process=OTHERS), math.inf

    def _beginDay(self, connection: sqlite3.Connection, day: str) -> None:
        """Find out how many totals a day has, and delete the oldest days if there are too many."""
        self._day = day
        found = connection.execute("SELECT count(*) FROM totals WHERE day = ?", (day,))
        (self._told,) = found.fetchone()
        (whole,) = connection.execute("SELECT count(*) FROM totals").fetchone()
        while whole + self._dayLimit > self._limit:
            (oldest,) = connection.execute("SELECT min(day) FROM totals").fetchone()
            if oldest is None or oldest >= day:
                break
            whole -= connection.execute("DELETE FROM totals WHERE day = ?", (oldest,)).rowcount
