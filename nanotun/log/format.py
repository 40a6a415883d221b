"""
How an event becomes a line: as text for people, or as a JSON object for what
collects logs.

What came from outside may hold anything: in both formats every control character
is escaped, so that no text can forge a line or steer a terminal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from twisted.logger import LogEvent, LogLevel, eventAsText, formatTime
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from constantly import NamedConstant

#: Fields of a field of a field ...: deeper than anything worth a search.
DEPTH_LIMIT = 4

#: What sd-daemon(3) puts in front of a line for the journal.
PRIORITIES = {
    LogLevel.debug: "<7>",
    LogLevel.info: "<6>",
    LogLevel.warn: "<4>",
    LogLevel.error: "<3>",
    LogLevel.critical: "<2>",
}


def formatText(event: LogEvent) -> str:
    """
    Make a line for people of an event: time, level, namespace, text.  The lines of a
    traceback are indented below theirs.

    @return: with a newline at its end; empty if the event has no text.
    """
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    if not text:
        return ""
    text = "\n\t".join(_printable(part) for part in text.split("\n"))
    level = event.get("log_level", LogLevel.info).name
    return f"{formatTime(event.get('log_time'))} {level} [{_namespace(event)}] {text}\n"


def formatJSON(event: LogEvent) -> str:
    """
    Make one JSON object on one line of an event, in ASCII:

     - C{time}: ISO 8601 with milliseconds and zone.
     - C{level}: debug, info, warn, error or critical.
     - C{namespace}: who says it.
     - C{text}: what the line would say as text.
     - C{fields}: what the text was made of, each under its own name.  Numbers and
       truth values stay what they are; what JSON does not know is its text.
     - C{traceback}: of a mistake in the code only.

    Twisted's own format for events (L{twisted.logger.jsonFileLogObserver}) holds
    Twisted's own structure, and every object with its class: a collector could not
    search it.

    @return: with a newline at its end; empty if the event has no text.
    """
    text = eventAsText(event, includeTimestamp=False, includeSystem=False, includeTraceback=False)
    failure = event.get("log_failure")
    if not text and failure is None:
        return ""
    moment = datetime.fromtimestamp(event.get("log_time") or 0.0, timezone.utc).astimezone()
    line: dict[str, Any] = {
        "time": moment.isoformat(timespec="milliseconds"),
        "level": event.get("log_level", LogLevel.info).name,
        "namespace": _namespace(event),
        "text": text,
    }
    # Events by Twisted's older interface are made of its own bookkeeping.
    if "isError" not in event:
        fields = {
            name: _value(value, DEPTH_LIMIT)
            for name, value in event.items()
            if not name.startswith("log_")
        }
        if fields:
            line["fields"] = fields
    if isinstance(failure, Failure):
        line["traceback"] = failure.getTraceback()
    return json.dumps(line) + "\n"


FORMATS: dict[str, Callable[[LogEvent], str]] = {"text": formatText, "json": formatJSON}


def forJournal(line: str, level: NamedConstant) -> str:
    """
    Tell the journal the level of a line; of a traceback every line is one there.

    @param line: with a newline at its end.
    """
    prefix = PRIORITIES[level]
    return "".join(f"{prefix}{part}\n" for part in line.splitlines())


def _namespace(event: LogEvent) -> str:
    return _printable(str(event.get("log_namespace", "-")))


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _value(value: object, depth: int) -> object:
    """C{value}, or what stands for it in JSON."""
    if value is None or type(value) in (bool, int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if depth and isinstance(value, list | tuple | set | frozenset) and type(value) in _PLAIN:
        return [_value(each, depth - 1) for each in value]
    if depth and type(value) is dict:
        return {str(name): _value(each, depth - 1) for name, each in value.items()}
    try:
        return str(value)
    except Exception:
        # As in a text: whatever a value is up to, the line is written.
        return "(cannot be shown)"


#: Values of ours that are made as named tuples have a text of their own.
_PLAIN = (list, tuple, set, frozenset)
