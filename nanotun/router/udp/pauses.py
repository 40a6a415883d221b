"""
How long a source of datagrams waits for a new association when its associations end as
soon as they are open.

Such an association costs a connection and a handshake and carries nothing, and without a
pause each datagram of an app would open the next one.  The cause may be the proxy, but a
destination as well: a proxy may end an association for which a destination refuses.  So the
pauses of one source are not those of another.

A source is paused from the last of L{ENDS} young ends in a row, and after each pause again
at the next young end, for twice as long as before.  It is forgotten as soon as one of its
associations matures, or after L{MEMORY} without an end.

Nothing here knows the time; it is passed in, as seconds of any one clock.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

from nanotun.timer import backOff

#: Ends of young associations in a row before there is a pause.  The proxy may restart, or
#: be one of several, and the next association may well last; a few make no storm.
ENDS = 5

#: Seconds of the first pause and the longest.  Each is twice the one before.
PAUSE_FIRST = 1.0
PAUSE_LIMIT = 30.0

#: Seconds for which an end is remembered, and how many sources are: their ports are used
#: again by others.
MEMORY = 2 * PAUSE_LIMIT
RECORDS_LIMIT = 4096

#: From the number of pauses so far to the seconds of the next one.  Nothing is left to
#: chance, because the sources do not all fail at once.
pauseAfter = backOff(PAUSE_FIRST, PAUSE_LIMIT, lambda: 1.0)


class Pauses:
    """What is known of each source whose last association ended young."""

    def __init__(self) -> None:
        # In the order of their last ends.
        self._records: dict[Hashable, _Record] = {}

    def __len__(self) -> int:
        return len(self._records)

    def holds(self, who: Hashable, now: float) -> bool:
        """Whether C{who} is paused: no association may be opened."""
        record = self._records.get(who)
        return record is not None and now < record.until

    def matured(self, who: Hashable) -> None:
        """An association was open for long enough to be of use."""
        self._records.pop(who, None)

    def ended(self, who: Hashable, now: float) -> None:
        """A young association ended."""
        record = self._records.pop(who, None) or _Record()
        self._records[who] = record
        record.end(now)
        while len(self._records) > RECORDS_LIMIT or self._oldest().last <= now - MEMORY:
            del self._records[next(iter(self._records))]

    def _oldest(self) -> _Record:
        return next(iter(self._records.values()))


class _Record:
    __slots__ = ("_ends", "_pauses", "last", "until")

    def __init__(self) -> None:
        self.last = self.until = -math.inf
        self._ends = 0
        self._pauses = 0

    def end(self, now: float) -> None:
        self.last = now
        self._ends += 1
        # An association that was opened before the pause proves nothing new.
        if self._ends >= ENDS and now >= self.until:
            self.until = now + pauseAfter(self._pauses)
            self._pauses += 1
