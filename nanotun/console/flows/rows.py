"""
What is shown of flows: each with its rates, and sums of those that have something in common.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from nanotun.console.flows.ends import endpointOf

#: What C{nanotun top} can sum up by: how to find a flow's.
GROUPS: Mapping[str, Callable[[Mapping[str, Any]], str | None]] = {
    "process": lambda flow: (flow["process"] or {}).get("name") or None,
    "domain": lambda flow: flow["domain"] or str(endpointOf(flow["destination"]).host),
    "upstream": lambda flow: flow["upstream"],
    "rule": lambda flow: flow["rule"],
}


class Row(NamedTuple):
    """
    One flow.

    @ivar flow: as the daemon describes it (docs/flows.md).
    @ivar rateUp: bytes per second from the app: since the last look, or since it began.
    @ivar rateDown: to the app.
    """

    flow: Mapping[str, Any]
    rateUp: float
    rateDown: float

    def json(self) -> dict[str, Any]:
        """The flow and its rates, for C{--json}."""
        return {**self.flow, "rateUp": round(self.rateUp), "rateDown": round(self.rateDown)}


class Total(NamedTuple):
    """
    The sum of some flows.

    @ivar name: what they have in common; L{None} if that is not known.
    @ivar flows: how many there are.
    """

    name: str | None
    flows: int
    up: int
    down: int
    rateUp: float
    rateDown: float

    def json(self) -> dict[str, Any]:
        """The fields, for C{--json}."""
        rates = {"rateUp": round(self.rateUp), "rateDown": round(self.rateDown)}
        return {**self._asdict(), **rates}


class _Counted(NamedTuple):
    """What a look has seen of a flow."""

    age: float
    up: int
    down: int


_NEW = _Counted(0.0, 0, 0)


class Rates:
    """Makes rows, look by look."""

    def __init__(self) -> None:
        self._before: dict[int, _Counted] = {}

    def rows(self, flows: Iterable[Mapping[str, Any]]) -> list[Row]:
        """
        The rows of one look.  Flows that were not seen at the last one have their mean rate.
        """
        rows, seen = [], {}
        for flow in flows:
            now = _Counted(flow["age"], flow["up"], flow["down"])
            then = self._before.get(flow["id"], _NEW)
            seen[flow["id"]] = now
            # Each page of a listing has a time of its own, so it is the age that says how long
            # this took.
            seconds = now.age - then.age
            up, down = now.up - then.up, now.down - then.down
            rates = (up / seconds, down / seconds) if seconds > 0 else (0.0, 0.0)
            rows.append(Row(flow, *rates))
        self._before = seen
        return rows


def totals(rows: Iterable[Row], by: str) -> list[Total]:
    """
    Sum up.

    @param by: one of L{GROUPS}.
    """
    nameOf = GROUPS[by]
    sums: dict[str | None, list[Any]] = {}
    for flow, rateUp, rateDown in rows:
        found = sums.setdefault(nameOf(flow), [0, 0, 0, 0.0, 0.0])
        for at, more in enumerate((1, flow["up"], flow["down"], rateUp, rateDown)):
            found[at] += more
    return [Total(name, *found) for name, found in sums.items()]
