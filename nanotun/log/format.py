"""
Formats a log event as one line: as text for people, or as JSON for log collectors.

Values may come from the network and contain anything.  In both formats every control
character is escaped, so that no value can forge a line or control a terminal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twisted.logger import LogEvent, LogLevel, eventAsText, formatTime
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from constantly import NamedConstant

#: How deep fields are nested in JSON; no log call nests them this deep.
DEPTH_LIMIT = 4

#: The prefixes by which the journal knows a line's level: sd-daemon(3).
PRIORITIES = {
    LogLevel.debug: "<7>",
    LogLevel.info: "<6>",
    LogLevel.warn: "<4>",
    LogLevel.error: "<3>",
    LogLevel.critical: "<2>",
}


def formatText(event: LogEvent) -> str:
    """
    Format an event as text: time, level, namespace, text.  A traceback follows on
    indented lines.

    @return: ends with a newline; empty if the event has no text.
    """
    text = eventAsText(event, includeTimestamp=False, includeSystem=False)
    if not text:
        return ""
    text = "\n\t".join(_printable(part) for part in text.split("\n"))
    level = event.get("log_level", LogLevel.info).name
    return f"{formatTime(event.get('log_time'))} {level} [{_namespace(event)}] {text}\n"


def formatJSON(event: LogEvent) -> str:
    """
    Format an event as one JSON object on one line, in ASCII:

     - C{time}: ISO 8601 with milliseconds and zone.
     - C{level}: debug, info, warn, error or critical.
     - C{namespace}: the class or module that logs.
     - C{text}: the same text as in L{formatText}.
     - C{fields}: the values in the text, by name.  Numbers and booleans stay as they
       are; values of types that JSON lacks become strings.
     - C{traceback}: for internal errors only.

    Twisted's own JSON (L{twisted.logger.jsonFileLogObserver}) contains Twisted's
    internal structure and every object with its class, which collectors cannot search.

    @return: ends with a newline; empty if the event has no text.
    """
    text = eventAsText(event, includeTimestamp=False, includeSystem=False, includeTraceback=False)
    failure = event.get("log_failure")
    if not text and failure is None:
        return ""
    moment = datetime.fromtimestamp(event.get("log_time") or 0.0, UTC).astimezone()
    line: dict[str, Any] = {
        "time": moment.isoformat(timespec="milliseconds"),
        "level": event.get("log_level", LogLevel.info).name,
        "namespace": _namespace(event),
        "text": text,
    }
    # The fields of events by Twisted's legacy logging are its own bookkeeping.
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
    Prefix a line with its level for the journal.  Every line of a traceback gets the
    prefix, as each is an entry there.

    @param line: ends with a newline.
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
    """A value as JSON can hold it."""
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
        # As in a text, a value that fails is no reason to lose the line.
        return "(cannot be shown)"


#: Converted element by element.  Named tuples are not: those of nanotun have a C{__str__}.
_PLAIN = (list, tuple, set, frozenset)
