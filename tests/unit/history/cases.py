"""
Flows that have ended, and how tests look into a file.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from nanotun.history.schema import FlowRecord

#: A moment that is not near midnight anywhere in Europe: 2026-11-29, 12:00 UTC.
NOON = 1795953600.0

DAY = 86400.0

RECORD = FlowRecord(
    ended=NOON,
    seconds=1.5,
    protocol="tcp",
    source="198.18.0.2",
    sourcePort=40000,
    destination="192.0.2.1",
    port=443,
    domain="example.com",
    verdict="proxy",
    rule="default",
    upstream="proxy",
    proxy="socks5://192.0.2.9:1080",
    pid=4711,
    uid=1000,
    name="curl",
    path="/usr/bin/curl",
    unit="user@1000.service",
    up=100,
    down=5000,
    ending="closed",
)


def some(count: int, start: float = NOON, step: float = 0.01, **changed: Any) -> list[FlowRecord]:
    """
    Flows, one after the other.

    @param start: when the first one ended.
    @param step: seconds from one to the next.
    """
    made = RECORD._replace(**changed)
    return [made._replace(ended=start + number * step) for number in range(count)]


def ask(path: str, query: str, *values: object) -> list[Any]:
    """The rows of an answer; those of one column as their values."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = connection.execute(query, values).fetchall()
    finally:
        connection.close()
    return [row[0] if len(row) == 1 else row for row in rows]
