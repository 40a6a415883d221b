"""Writes every TCP connection into a table of SQLite."""

import time

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from nanotun.script import End, Flow

FILE = "/var/lib/nanotun/flows.db"

TABLE = """CREATE TABLE IF NOT EXISTS flows (
    ended REAL, seconds REAL, user TEXT, process TEXT, host TEXT, port INTEGER,
    upstream TEXT, rule TEXT, up INTEGER, down INTEGER, reason TEXT)"""

INSERT = "INSERT INTO flows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

log = Logger()
rows: list[tuple[object, ...]] = []
pool: ConnectionPool
writing: LoopingCall


def ended(flow: Flow, end: End) -> None:
    process = flow.process
    who = (process.user, process.name) if process else ("", "")
    where = (flow.host, flow.port, end.upstream, end.rule)
    rows.append((time.time(), end.duration, *who, *where, end.bytesUp, end.bytesDown, end.reason))


async def start() -> None:
    global pool, writing
    # SQLite waits for the disk, so it has a thread; one for all, as it locks anyway.
    pool = ConnectionPool("sqlite3", FILE, check_same_thread=False, cp_min=1, cp_max=1)
    writing = LoopingCall(write)
    writing.start(1.0, now=False)
    await pool.runOperation(TABLE)


async def write() -> None:
    taken = rows[:]
    rows.clear()
    try:
        await pool.runInteraction(lambda each: each.executemany(INSERT, taken))
    except Exception:
        # Otherwise the loop would end with the first error.
        log.failure("Flows are not written")


async def stop() -> None:
    writing.stop()
    await write()
    pool.close()
