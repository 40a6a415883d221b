"""
The values of a rule's C{times}: days of the week, and times of the day.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from nanotun.errors import ConfigError

DAY = 24 * 60  #: Minutes.
WEEK = 7 * DAY


class TimeSpan(NamedTuple):
    """
    A time that comes every week, by this machine's clock.

    @ivar days: the days on which it begins; 0 is Monday.
    @ivar first: the minute of the day at which it begins.
    @ivar last: the minute at which it is over, up to L{DAY}; no greater than C{first} if that
        is on the following day.
    """

    days: frozenset[int]
    first: int
    last: int

    def includes(self, day: int, minute: int) -> bool:
        """
        Whether a moment is in it.

        @param day: 0 is Monday, as in C{datetime.weekday}.
        @param minute: of the day.
        """
        if self.first < self.last:
            return day in self.days and self.first <= minute < self.last
        begun = day in self.days and minute >= self.first
        return begun or ((day - 1) % 7 in self.days and minute < self.last)


def minutesToEdge(spans: Iterable[TimeSpan], day: int, minute: int) -> int:
    """
    How many minutes it is until any span begins or ends.

    @param spans: at least one.
    @param day: as for L{TimeSpan.includes}, like C{minute}.
    @return: from 1 on; by a clock that nobody sets, and that has no summer time.
    """
    now = day * DAY + minute
    edges = (
        each * DAY + edge
        for span in spans
        for each in span.days
        for edge in (span.first, span.last if span.first < span.last else span.last + DAY)
    )
    return min((edge - now - 1) % WEEK + 1 for edge in edges)


_DAYS = ("mo", "tu", "we", "th", "fr", "sa", "su")
_DAY = "|".join(_DAYS)
_CLOCK = r"([0-2]?[0-9]):([0-5][0-9])"
_FORM = re.compile(
    rf"(?:(?P<begin>{_DAY})(?:-(?P<end>{_DAY}))?)?\s*(?:{_CLOCK}\s*-\s*{_CLOCK})?", re.IGNORECASE
)


def timeSpan(text: str) -> TimeSpan:
    """
    Parse one value, such as C{"Mo-Fr 08:00-18:00"}, C{"Sa-Su"} or C{"22:00-06:00"}.

    @raise ConfigError: with the end of a sentence; it is known what was meant.
    @raise ValueError: for anything else that is no such value.
    """
    match = _FORM.fullmatch(text)
    if match is None or not text:
        raise ValueError("not a time")
    days = frozenset(range(7))
    if match["begin"]:
        begin = _DAYS.index(match["begin"].lower())
        end = _DAYS.index((match["end"] or match["begin"]).lower())
        days = frozenset((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    clock = [int(each) for each in match.groups()[2:] if each is not None]
    if not clock:
        return TimeSpan(days, 0, DAY)
    first, last = clock[0] * 60 + clock[1], clock[2] * 60 + clock[3]
    if first >= DAY or last > DAY:
        raise ValueError("not a time of the day")
    if first == last:
        raise ConfigError(
            f": {text} ends when it begins; leave the hours out if the whole day is meant"
        )
    return TimeSpan(days, first, last)


def checkTogether(texts: Sequence[str]) -> None:
    """
    Check values that stand in one text, with commas between them.

    @raise ConfigError: with the end of a sentence; a day may be meant to have the hours of the
        next one.
    """
    for text, following in pairwise(texts):
        days, hours = _FORM.fullmatch(text), _FORM.fullmatch(following)
        if days and hours and not days[3] and hours["begin"] and hours[3]:
            its = following[max(hours.end("begin"), hours.end("end")) :].strip()
            raise ConfigError(
                f": it is not clear whether {text} has the hours of {following}; write "
                f"{text} {its}, {following} if so, else {following}, {text}"
            )
