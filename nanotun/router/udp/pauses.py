"""
How long a source of datagrams waits for a new leg when its legs end as soon as they
stand.

Such a leg costs a connection and a handshake and carries nothing, and without a
pause each datagram of an app would ask for the next.  The cause may be the proxy, but
a destination as well: dante ends an association for which one refuses.  So one
source's trouble is nobody else's.

What is known of one::

    no pause  a young leg ends    -> no pause, but for the last of ENDS in a row: paused
    paused    its time came       -> on trial
    on trial  a young leg ends    -> paused for twice as long
    any       a leg grows old     -> forgotten
              nothing for a while -> forgotten

Nothing here knows the time; it is passed in, as seconds of any one clock.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

#: Young legs in a row that end before there is a pause.  The proxy may restart, or
#: be one of several, and the next leg may well live; a few make no storm.
ENDS = 5

#: Seconds of the first pause and the longest.  Each is twice the one before.
PAUSE_FIRST = 1.0
PAUSE_LIMIT = 30.0

#: Seconds for which an end is remembered, and sources that are: ports are used again
#: by others.
MEMORY = 2 * PAUSE_LIMIT
RECORDS_LIMIT = 4096


class Pauses:
    """What is known of everybody whose last leg ended young."""

    def __init__(self) -> None:
        # Who had trouble last comes last.
        self._records: dict[Hashable, _Record] = {}

    def __len__(self) -> int:
        return len(self._records)

    def holds(self, who: Hashable, now: float) -> bool:
        """Whether no leg is to be asked for."""
        record = self._records.get(who)
        return record is not None and now < record.until

    def grown(self, who: Hashable) -> None:
        """A leg is old enough to have been of use."""
        self._records.pop(who, None)

    def ended(self, who: Hashable, now: float) -> None:
        """A young leg ended."""
        record = self._records.pop(who, None) or _Record()
        self._records[who] = record
        record.end(now)
        while len(self._records) > RECORDS_LIMIT or self._oldest().last <= now - MEMORY:
            del self._records[next(iter(self._records))]

    def _oldest(self) -> _Record:
        return next(iter(self._records.values()))


class _Record:
    __slots__ = ("_ends", "_seconds", "last", "until")

    def __init__(self) -> None:
        self.last = self.until = -math.inf
        self._ends = 0
        self._seconds = PAUSE_FIRST

    def end(self, now: float) -> None:
        self.last = now
        self._ends += 1
        # One that was asked for before the pause says nothing new.
        if self._ends >= ENDS and now >= self.until:
            self.until = now + self._seconds
            self._seconds = min(2 * self._seconds, PAUSE_LIMIT)
