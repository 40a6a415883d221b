"""
How long the lookup of an owner may keep the reactor busy.
"""

from __future__ import annotations

from collections.abc import Callable

#: Seconds for one flow: enough to read the links of two thousand open files.  After that
#: the flow waits: see L{nanotun.owners.waiting}.
LOOKUP_LIMIT = 0.005

#: Seconds that a burst of lookups may take together.  People who play or talk over the
#: network notice a packet that waits twice as long.
BURST = 0.010

#: The share of each second that lookups may take in the long run.
SHARE = 0.5

#: Seconds that each flow gets in any case: enough for an ordinary program's files.
LEAST = 0.0003


class LookupBudget:
    """
    Time that is saved up and spent (a token bucket).  Processor time is counted: on a busy
    machine a lookup waits for its turn, and should not be cut short for that.

    @param seconds: the clock.
    @param spent: the processor time of this thread in seconds; time.thread_time.
    """

    def __init__(self, seconds: Callable[[], float], spent: Callable[[], float]) -> None:
        self._seconds = seconds
        self._spent = spent
        self._saved = BURST
        self._then = seconds()
        self._began = spent()

    def begin(self, brief: bool = False) -> float:
        """
        Start a lookup.

        @param brief: whether it gets no more than L{LEAST}.
        @return: the deadline, as a value of C{spent}.
        """
        now = self._seconds()
        self._began = self._spent()
        self._saved = min(BURST, self._saved + (now - self._then) * SHARE)
        self._then = now
        return self._began + max(LEAST, 0.0 if brief else min(LOOKUP_LIMIT, self._saved))

    def isLong(self) -> bool:
        """Whether the lookup has already taken longer than L{LEAST}."""
        return self._spent() - self._began > LEAST

    def end(self) -> None:
        """End the lookup."""
        self._saved = max(0.0, self._saved - (self._spent() - self._began))
