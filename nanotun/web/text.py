"""
Numbers for people, also those in a terminal.  C{static/page.js} says them in the same way.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

#: How what is no UTF-8 in a program's name or path, which any user can choose, is written: as an
#: error handler's name.
UNENCODABLE = "backslashreplace"

#: What stands for something that is not known.
NOTHING = "–"  # noqa: RUF001


def sizeText(size: float) -> str:
    """A number of bytes, in the unit that keeps it short."""
    unit = 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size /= 1024
        unit += 1
    digits = 0 if unit == 0 or size >= 100 else 1
    return f"{size:.{digits}f} {_UNITS[unit]}"


def rateText(rate: float) -> str:
    """Bytes per second."""
    return f"{sizeText(rate)}/s"


def timeText(seconds: float) -> str:
    """A number of seconds, in its two largest units."""
    whole = int(seconds)
    for size, unit, less, lessUnit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // less} {lessUnit}"
    return f"{whole} s"


def millisText(seconds: float | None) -> str:
    """A short time, given in seconds; L{None} if it is not known."""
    return NOTHING if seconds is None else f"{seconds * 1000:.0f} ms"


def clockText(moment: float) -> str:
    """A time of day, given in seconds since 1970."""
    return datetime.fromtimestamp(moment).strftime("%H:%M:%S")


def clockOffset(moment: float) -> int:
    """Seconds by which L{clockText} is ahead of UTC then."""
    offset = datetime.fromtimestamp(moment).astimezone().utcoffset()
    return 0 if offset is None else round(offset.total_seconds())


def countText(count: int) -> str:
    """A number of things."""
    return f"{count:,}"


def processText(process: Mapping[str, Any] | None) -> str:
    """A flow's program (docs/flows.md) in a word or two."""
    if process is None:
        return NOTHING
    return process["name"] or (f"user {process['uid']}" if not process["pid"] else "unknown")


def targetText(flow: Mapping[str, Any]) -> str:
    """Where a flow goes: its name if that is known, and the port."""
    host, _, port = flow["destination"].rpartition(":")
    return f"{flow['domain'] or host}:{port}"


def plural(count: int, one: str, many: str = "") -> str:
    """A number with the word for so many."""
    return f"{countText(count)} {one if count == 1 else many or one + 's'}"
