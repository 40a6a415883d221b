"""
How long lookups may hold the reactor.
"""

from __future__ import annotations

from collections.abc import Callable

#: Seconds for one flow: the links of two thousand open files.  Past it the flow goes to
#: the proxy, as one whose owner is not known.
LOOKUP_LIMIT = 0.005

#: Seconds that lookups which come at once may take together.  A packet that waits
#: longer than twice this is felt by whoever plays or talks.
BURST = 0.010

#: Of each second, what lookups may take in the long run.
SHARE = 0.5

#: Seconds that each flow gets even so: one look at an ordinary program's files.
LEAST = 0.0003


class LookupBudget:
    """
    Time that is saved up and spent.  What is spent is time of the processor: on a busy
    machine a lookup waits for its turn, and would be cut short for nothing.

    @param seconds: the clock.
    @param spent: the seconds that this thread has had a processor; time.thread_time.
    """

    def __init__(self, seconds: Callable[[], float], spent: Callable[[], float]) -> None:
        self._seconds = seconds
        self._spent = spent
        self._saved = BURST
        self._then = seconds()
        self._began = spent()

    def begin(self) -> float:
        """
        Start a lookup.

        @return: at which C{spent} it has to end.
        """
        now = self._seconds()
        self._began = self._spent()
        # A clock that was set takes and gives nothing.
        self._saved = min(BURST, self._saved + max(0.0, now - self._then) * SHARE)
        self._then = now
        return self._began + max(LEAST, min(LOOKUP_LIMIT, self._saved))

    def isLong(self) -> bool:
        """Whether the lookup takes longer than L{LEAST} already."""
        return self._spent() - self._began > LEAST

    def end(self) -> None:
        """It has ended."""
        self._saved = max(0.0, self._saved - (self._spent() - self._began))
