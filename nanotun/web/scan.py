"""
Looks at all open flows, a few at a time: all at once would keep the reactor for as long as a
busy machine's ten thousand flows take.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

#: Flows of one turn of the reactor, about a millisecond.
STEP = 250

#: Lists a page of flows, as the control request C{flows} does.
List = Callable[[Mapping[str, Any]], "dict[str, Any]"]


def eachFlow(
    flows: List, clock: IReactorTime, take: Callable[[dict[str, Any]], object]
) -> Deferred[None]:
    """
    Look at all flows.

    @param take: called with each.
    @return: fires after the last; fails with what C{flows} or C{take} raise.
    """
    done: Deferred[None] = Deferred()

    def step(after: int) -> None:
        try:
            page = flows({"after": after, "limit": STEP})
            for each in page["flows"]:
                take(each)
        except Exception:
            done.errback()
            return
        if page["next"] is None:
            done.callback(None)
        else:
            clock.callLater(0, step, page["next"])

    step(0)
    return done


class FlowRates:
    """
    How fast flows are, from one scan to the next.

    @param limit: how many flows are told of.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._before: dict[int, tuple[int, int]] = {}
        self._time = 0.0

    def begin(self, now: float) -> RateScan:
        """
        Begin a scan.

        @param now: seconds that only grow.
        """
        elapsed = now - self._time if self._before else 0.0
        scan = RateScan(self._before, elapsed, self._limit)
        self._before, self._time = scan.seen, now
        return scan

    def forget(self) -> None:
        """Rates are again those since the flows began."""
        self._before = {}


class RateScan:
    """
    One scan.

    @ivar seen: the bytes up and down by the ids of flows.
    @param before: those of the scan before.
    @param elapsed: seconds since that; 0 for none.
    """

    def __init__(self, before: Mapping[int, tuple[int, int]], elapsed: float, limit: int) -> None:
        self.seen: dict[int, tuple[int, int]] = {}
        self._before = before
        self._elapsed = elapsed
        self._limit = limit
        # A heap.  To keep all rows would have the collector walk through them.
        self._best: list[tuple[int, int, dict[str, Any]]] = []

    def take(self, row: dict[str, Any]) -> None:
        """A flow, as the list has it; gets C{rateUp} and C{rateDown}, bytes a second."""
        number, up, down = row["id"], row["up"], row["down"]
        self.seen[number] = up, down
        beforeUp, beforeDown = self._before.get(number, (0, 0))
        # A new one has carried everything since it began.
        known = self._elapsed and number in self._before
        seconds = self._elapsed if known else max(row["age"], 0.001)
        row["rateUp"] = round((up - beforeUp) / seconds)
        row["rateDown"] = round((down - beforeDown) / seconds)
        place = row["rateUp"] + row["rateDown"], number, row
        if len(self._best) < self._limit:
            heapq.heappush(self._best, place)
        else:
            heapq.heappushpop(self._best, place)

    def fastest(self) -> list[dict[str, Any]]:
        """The flows with the highest rates, of equal ones the newest first."""
        return [row for _, _, row in sorted(self._best, reverse=True)]

    def __len__(self) -> int:
        return len(self.seen)
