"""
The values of a rule's C{times}: days of the week, and times of the day.
"""

from __future__ import annotations

from typing import NamedTuple

DAY = 24 * 60  #: Minutes.


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
