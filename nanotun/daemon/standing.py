"""
What ends standing decisions (L{nanotun.policy.standing}): whatever the judge or the upstreams may
say something else after.

A reload ends them by L{nanotun.router.router.FlowRouter.configure}, and with it what is read from
files.  Upstreams say for themselves when they would dial otherwise
(L{nanotun.interfaces.UpstreamContext}).  A fake address keeps its name as long as a decision about
it stands.  All the rest is here: links, addresses, routes, other VPNs, forwarding, and the clock
that rules with C{times} go by.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable

from nanotun.config.times import TimeSpan, minutesToEdge

#: Seconds; edges that are further away are not looked for, as no decision stands for so long.
HORIZON = 600.0

#: Seconds by which the clock may differ from what it should be.
TOLERANCE = 0.1


def untilEdge(
    spans: Collection[TimeSpan],
    clock: Callable[[], float] = time.time,
    local: Callable[[float], time.struct_time] = time.localtime,
) -> float:
    """
    Seconds until any of these times begins or ends, or until the clock is put forward or back for
    summer time, whichever comes first; L{HORIZON} at most.

    @param spans: at least one.
    @param clock: seconds since 1970.
    @param local: what the clock on the wall shows then.
    """
    now = clock()
    here = local(now)
    minutes = minutesToEdge(spans, here.tm_wday, here.tm_hour * 60 + here.tm_min)
    seconds = min(minutes * 60.0 - here.tm_sec - now % 1.0, HORIZON)
    # Times of day are changed at a whole second.
    before, after = int(now), int(now + seconds)
    if local(after).tm_gmtoff == here.tm_gmtoff:
        return seconds
    while after - before > 1:
        middle = (before + after) // 2
        if local(middle).tm_gmtoff == here.tm_gmtoff:
            before = middle
        else:
            after = middle
    return after - now


def lead() -> float:
    """
    By how many seconds the time of day is ahead of the clock that nobody sets.  It changes if the
    time of day is set, and while the machine sleeps.
    """
    return time.time() - time.monotonic()


class Withdrawals:
    """
    Has standing decisions withdrawn.  L{nanotun.daemon.networkwatch.NetworkWatch} says when to
    look.

    @param withdraw: withdraws all of them.
    @param forget: have those forget what they know of the network who would give old answers for
        new decisions.
    @param lead: see L{lead}.
    """

    def __init__(
        self,
        withdraw: Callable[[], object],
        forget: Iterable[Callable[[], object]],
        lead: Callable[[], float] = lead,
    ) -> None:
        self._withdraw = withdraw
        self._forget = tuple(forget)
        self._lead = lead
        self._ahead = lead()

    def networkChanged(self) -> None:
        """Links, addresses, routes or rules of the machine have changed."""
        for each in self._forget:
            each()
        self._withdraw()

    def look(self, told: bool) -> None:
        """
        See whether the clock was set; every few seconds.

        @param told: whether L{networkChanged} is called when there is a change.
        """
        ahead = self._lead()
        # Small steps add up.
        stepped = abs(ahead - self._ahead) > TOLERANCE
        if stepped:
            self._ahead = ahead
        if not told:
            self.networkChanged()
        elif stepped:
            self._withdraw()
