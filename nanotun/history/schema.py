"""
The form of the file: a SQLite database with one row for each flow that has ended, and totals
by day that stay when rows are deleted.

Pure.
"""

from __future__ import annotations

from typing import NamedTuple

#: In the header of the file (PRAGMA application_id), which tells it from other databases:
#: the letters "nanF".
APPLICATION = 0x6E616E46

#: PRAGMA user_version.  Another number for every change that an older nanotun cannot cope with.
VERSION = 1

#: What stands for all further values of a day, once there are too many for one row each.
OTHERS = "(others)"


class FlowRecord(NamedTuple):
    """
    One flow that has ended.

    @ivar ended: seconds since 1970.
    @ivar seconds: from the app's request on.
    @ivar protocol: C{tcp} or C{udp}.
    @ivar domain: the name that the flow was judged by; empty for none.
    @ivar proxy: what the upstream's proxy is, without secrets.
    @ivar pid: of the program; 0 if it is not known, and then the rest is empty, too.
    @ivar uid: -1 if not known.
    @ivar name: of the program.
    @ivar unit: of systemd, that the program belongs to; or empty.
    @ivar up: payload bytes from the app.
    @ivar down: payload bytes to the app.
    @ivar ending: C{closed}, the name of an errno, or C{stop} for the end of nanotun itself.
    """

    ended: float
    seconds: float
    protocol: str
    source: str
    sourcePort: int
    destination: str
    port: int
    domain: str
    verdict: str
    rule: str
    upstream: str
    proxy: str
    pid: int
    uid: int
    name: str
    path: str
    unit: str
    up: int
    down: int
    ending: str


#: Makes an empty file one of ours, in this order.
#:
#: Rows get their numbers in the order in which they are written, so that the oldest ones are
#: side by side and free whole pages.  Totals are found by their whole key.  Of what was deleted
#: C{state} has the newest end: from then on the rows are complete.
SCHEMA = (
    """
    CREATE TABLE flows (
        id INTEGER PRIMARY KEY,
        ended REAL NOT NULL,
        seconds REAL NOT NULL,
        protocol TEXT NOT NULL,
        source TEXT NOT NULL,
        sourcePort INTEGER NOT NULL,
        destination TEXT NOT NULL,
        port INTEGER NOT NULL,
        domain TEXT NOT NULL,
        verdict TEXT NOT NULL,
        rule TEXT NOT NULL,
        upstream TEXT NOT NULL,
        proxy TEXT NOT NULL,
        pid INTEGER NOT NULL,
        uid INTEGER NOT NULL,
        name TEXT NOT NULL,
        path TEXT NOT NULL,
        unit TEXT NOT NULL,
        up INTEGER NOT NULL,
        down INTEGER NOT NULL,
        ending TEXT NOT NULL
    )
    """,
    "CREATE INDEX byEnd ON flows (ended)",
    """
    CREATE TABLE totals (
        day TEXT NOT NULL,
        process TEXT NOT NULL,
        domain TEXT NOT NULL,
        upstream TEXT NOT NULL,
        rule TEXT NOT NULL,
        flows INTEGER NOT NULL,
        up INTEGER NOT NULL,
        down INTEGER NOT NULL,
        PRIMARY KEY (day, process, domain, upstream, rule)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE state (deleted REAL NOT NULL)",
    "INSERT INTO state VALUES (0)",
)

INSERT = (
    f"INSERT INTO flows ({', '.join(FlowRecord._fields)}) "
    f"VALUES ({', '.join('?' * len(FlowRecord._fields))})"
)

#: The rows of some totals, with what to add to each: flows, bytes up, bytes down, and the key.
ADD = (
    "UPDATE totals SET flows = flows + ?, up = up + ?, down = down + ? "
    "WHERE day = ? AND process = ? AND domain = ? AND upstream = ? AND rule = ?"
)
BEGIN_TOTAL = (
    "INSERT INTO totals (flows, up, down, day, process, domain, upstream, rule) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)


class TotalKey(NamedTuple):
    """
    What flows are counted by, together.

    @ivar day: by this machine's clock, as C{2026-11-29}.
    @ivar process: the program's name, or empty.
    @ivar domain: the name that was asked for, or else the address.
    """

    day: str
    process: str
    domain: str
    upstream: str
    rule: str
