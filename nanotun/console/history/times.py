"""
Moments, as people write them.

Pure, but for this machine's time zone.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

_AGO = re.compile(r"(?:[0-9]{1,6}[smhdw])+")

FORMS = "2h, 90m, 7d, 14:30, today, yesterday, 2026-11-29 or '2026-11-29 14:30'"


def spanOf(text: str, now: float) -> tuple[float, float]:
    """
    The time that is meant.

    @param text: how long ago, a time of today, a day, or a moment.
    @param now: seconds since 1970.
    @return: its beginning, and the first moment after it, which is the same but for days.
    @raise ValueError: with the end of a sentence.
    """
    text = text.strip().lower()
    if _AGO.fullmatch(text):
        found = re.findall(r"([0-9]+)([smhdw])", text)
        moment = now - sum(int(number) * _UNITS[unit] for number, unit in found)
        return moment, moment
    today = datetime.fromtimestamp(now).date()
    try:
        if text in ("today", "yesterday"):
            return _day(today - timedelta(days=text == "yesterday"))
        if re.fullmatch(r"[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?", text):
            padded = text if text[2] == ":" else f"0{text}"
            at = datetime.combine(today, time.fromisoformat(padded))
            return at.timestamp(), at.timestamp()
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            return _day(date.fromisoformat(text))
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[t ][0-9]{2}:[0-9]{2}(:[0-9]{2})?", text):
            at = datetime.fromisoformat(text.replace("t", " "))
            return at.timestamp(), at.timestamp()
    except (ValueError, OverflowError, OSError):
        pass  # There is no such day, or no such time.
    raise ValueError(f"must be a time, such as {FORMS}, not {text[:40]!a}")


def _day(day: date) -> tuple[float, float]:
    """A day, which may have 23 hours or 25."""
    begin = datetime.combine(day, time())
    return begin.timestamp(), (begin + timedelta(days=1)).timestamp()
