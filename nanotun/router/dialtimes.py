"""
How long dials take, for the metrics; nobody counts it otherwise.
"""

from __future__ import annotations

from nanotun.timer import Durations

#: Seconds.  From a proxy on the same machine to one behind a satellite, with a lost packet or
#: two: the kernel repeats a SYN after 1, 3 and 7 seconds.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class DialTimes:
    """
    Of TCP flows, by the names of upstreams.

    @ivar opened: how long those took that have led to a leg.
    @ivar failed: how many have not, by upstream and whose fault it was: C{upstream}, or the
        C{destination} as the proxy or the network says.  A flow whose app has given up is in
        neither.
    """

    def __init__(self) -> None:
        self.opened: dict[str, Durations] = {}
        self.failed: dict[tuple[str, str], int] = {}

    def add(self, upstream: str, seconds: float, count: int = 1) -> None:
        """
        Dials have led to legs.

        @param seconds: that each of them took, on average.
        """
        durations = self.opened.get(upstream)
        if durations is None:
            durations = self.opened[upstream] = Durations(BOUNDS)
        durations.add(seconds, count)

    def addFailure(self, upstream: str, ofDestination: bool) -> None:
        """A dial has failed; see L{failed}."""
        key = upstream, "destination" if ofDestination else "upstream"
        self.failed[key] = self.failed.get(key, 0) + 1
