"""
Numbers for people.  C{static/page.js} says them in the same way.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from nanotun.config.units import sizeText

#: How what is no UTF-8 in a program's name or path, which any user can choose, is written: as an
#: error handler's name.
UNENCODABLE = "backslashreplace"

#: What stands for something that is not known.
NOTHING = "–"  # noqa: RUF001


def rateText(rate: float) -> str:
    """Bytes per second."""
    return f"{sizeText(rate)}/s"


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
