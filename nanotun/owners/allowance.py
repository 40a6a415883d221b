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
SHARE = 0.25

#: Seconds that each flow gets even so: one look at an ordinary program's files.
LEAST = 0.0003


class Allowance:
    """
    Time that is saved up and spent.

    @param seconds: the clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._saved = BURST
        self._began = self._then = seconds()

    def begin(self) -> float:
        """
        Start a lookup.

        @return: when it has to end, by the clock.
        """
        now = self._began = self._seconds()
        # A clock that was set takes and gives nothing.
        self._saved = min(BURST, self._saved + max(0.0, now - self._then) * SHARE)
        self._then = now
        return now + max(LEAST, min(LOOKUP_LIMIT, self._saved))

    def end(self) -> None:
        """It has ended."""
        now = self._seconds()
        self._saved = max(0.0, self._saved - max(0.0, now - self._began))
        self._then = now
