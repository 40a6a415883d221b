"""
Flows that have ended, and sums of them: as JSON objects, and as tables for people.

Pure, but for the names of users and the time zone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nanotun.console.flows.rows import Row, Total
from nanotun.console.flows.table import Column, lines
from nanotun.console.flows.text import FLOW_COLUMNS, shortTime, totalColumns
from nanotun.flow import Endpoint
from nanotun.history.reader import Sum
from nanotun.history.schema import FlowRecord

#: The columns that open flows have, too.
_SHARED = {
    column.title: column
    for column in FLOW_COLUMNS
    if column.title not in ("ID", "STATE", "AGE", "IDLE", "UP/S", "DOWN/S")
}


def flowJson(record: FlowRecord) -> dict[str, Any]:
    """The fields of a flow; docs/history.md explains them."""
    process = {
        "pid": record.pid,
        "uid": record.uid,
        "name": record.name,
        "path": record.path,
        "unit": record.unit or None,
    }
    return {
        "ended": round(record.ended, 3),
        "seconds": round(record.seconds, 3),
        "protocol": record.protocol,
        "source": str(Endpoint(record.source, record.sourcePort)),
        "destination": str(Endpoint(record.destination, record.port)),
        "domain": record.domain or None,
        "verdict": record.verdict or None,
        "rule": record.rule or None,
        "upstream": record.upstream or None,
        "by": record.proxy or None,
        "process": None if record.uid < 0 else process,
        "up": record.up,
        "down": record.down,
        "end": record.ending,
    }


def sumJson(each: Sum) -> dict[str, Any]:
    """The fields of a sum."""
    return {**each._asdict(), "name": each.name or None}


def _ended(row: Row) -> str:
    return datetime.fromtimestamp(row.flow["ended"]).strftime("%Y-%m-%d %H:%M:%S")


#: In the order in which they are shown.
COLUMNS: tuple[Column[Row], ...] = (
    Column("ENDED", _ended, lambda row: row.flow["ended"]),
    Column("TOOK", lambda row: shortTime(row.flow["seconds"]), lambda row: 0, True, rank=3),
    *_SHARED.values(),
    Column("END", lambda row: row.flow["end"], lambda row: row.flow["end"], rank=6),
)


def flowLines(flows: Sequence[Mapping[str, Any]], width: int | None) -> list[str]:
    """
    A table of flows.

    @param flows: from L{flowJson}.
    @param width: how many characters a line may have; L{None} for any number.
    """
    return lines(COLUMNS, [Row(flow, 0.0, 0.0) for flow in flows], width)


def sumLines(sums: Sequence[Sum], by: str, width: int | None) -> list[str]:
    """
    A table of sums.

    @param by: what they are of.
    @param width: see L{flowLines}.
    """
    rows = [Total(each.name or None, *each[1:], 0.0, 0.0) for each in sums]
    columns = [each for each in totalColumns(by) if not each.title.endswith("/S")]
    return lines(columns, rows, width)
