"""
Flows, and sums of them, as text for people.

Pure but for the names of users.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nanotun.console.flows.rows import Row, Total
from nanotun.console.flows.table import Column
from nanotun.console.statustext import printable
from nanotun.linux.users import nameOf

#: What is shown where something is not known.
UNKNOWN = "-"

#: Letters of units, a factor of 1024 from one to the next.
_UNITS = "BKMGTP"


def shortSize(size: float) -> str:
    """A number of bytes in at most five characters: C{999B}, C{1.0K}, C{55.5M}."""
    if size < 1000:
        return f"{size:.0f}B"
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size /= 1024
        unit += 1
    return f"{size:.{0 if size >= 99.95 else 1}f}{_UNITS[unit]}"


def shortTime(seconds: float) -> str:
    """A number of seconds in its largest unit: C{59s}, C{3m}, C{47h}, C{4d}."""
    for size, unit, most in ((86400, "d", 2), (3600, "h", 2), (60, "m", 2)):
        if seconds >= size * most:
            return f"{seconds // size:.0f}{unit}"
    return f"{int(seconds)}s"


def _rate(rate: float) -> str:
    return shortSize(rate) if rate >= 0.5 else UNKNOWN


def _text(value: str | None) -> str:
    """A text from outside, which must not control the terminal."""
    if not value:
        return UNKNOWN
    return value if value.isprintable() else printable(value)


def _process(row: Row) -> str:
    process = row.flow["process"]
    if process is None or not process["pid"]:
        return UNKNOWN
    return f"{_text(process['name'])} {process['pid']}"


def _ofProcess(name: str) -> Callable[[Row], Any]:
    """What is known of a flow's process."""

    def value(row: Row) -> Any:
        process = row.flow["process"]
        return None if process is None else process[name] or None

    return value


def _unit(row: Row) -> str:
    unit = _ofProcess("unit")(row)
    return _text(unit) if unit else ""


def _user(row: Row) -> str | None:
    process = row.flow["process"]
    return None if process is None else nameOf(process["uid"])


def _to(row: Row) -> str:
    flow = row.flow
    domain, destination = flow["domain"], flow["destination"]
    return f"{_text(domain)}:{destination.rpartition(':')[2]}" if domain else str(destination)


def _field(name: str) -> Callable[[Row], Any]:
    return lambda row: row.flow[name]


def _fieldText(name: str) -> Callable[[Row], str]:
    return lambda row: _text(row.flow[name])


#: In the order in which they are shown.
FLOW_COLUMNS: tuple[Column[Row], ...] = (
    Column("ID", lambda row: str(row.flow["id"]), lambda row: -row.flow["id"], True),
    Column("PROTOCOL", _fieldText("protocol"), _field("protocol"), rank=9),
    Column("STATE", _fieldText("state"), _field("state"), rank=5),
    Column("AGE", lambda row: shortTime(row.flow["age"]), _field("age"), True, rank=3),
    Column("IDLE", lambda row: shortTime(row.flow["idle"]), _field("idle"), True, rank=10),
    Column("PROCESS", _process, _ofProcess("name"), isLong=True),
    Column("USER", lambda row: _text(_user(row)), _user, rank=7),
    Column("UNIT", _unit, _ofProcess("unit"), rank=11, isLong=True),
    Column("FROM", _fieldText("source"), _field("source"), rank=8),
    Column("TO", _to, _to, isLong=True),
    Column(
        "ADDRESS",
        lambda row: row.flow["destination"] if row.flow["domain"] else "",
        _field("destination"),
        rank=12,
    ),
    Column("RULE", _fieldText("rule"), _field("rule"), rank=4),
    Column("UPSTREAM", _fieldText("upstream"), _field("upstream"), rank=1),
    Column("BY", lambda row: _text(row.flow["by"]), _field("by"), rank=13),
    Column("UP", lambda row: shortSize(row.flow["up"]), _field("up"), True, rank=2),
    Column("DOWN", lambda row: shortSize(row.flow["down"]), _field("down"), True),
    Column("UP/S", lambda row: _rate(row.rateUp), lambda row: row.rateUp, True, rank=6),
    Column("DOWN/S", lambda row: _rate(row.rateDown), lambda row: row.rateDown, True, rank=1),
)


def totalColumns(by: str) -> tuple[Column[Total], ...]:
    """
    The columns of sums.

    @param by: what they are of.
    """
    return (
        Column(by.upper(), lambda total: _text(total.name), lambda total: total.name, isLong=True),
        Column("FLOWS", lambda total: str(total.flows), lambda total: total.flows, True),
        Column("UP", lambda total: shortSize(total.up), lambda total: total.up, True),
        Column("DOWN", lambda total: shortSize(total.down), lambda total: total.down, True),
        Column("UP/S", lambda total: _rate(total.rateUp), lambda total: total.rateUp, True),
        Column("DOWN/S", lambda total: _rate(total.rateDown), lambda total: total.rateDown, True),
    )
