"""
Asks the daemon for its flows, page by page, and has it close some.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

#: Flows of one answer: the daemon gives no more, as an answer's length is limited.
PAGE = 2000

#: Flows of one request to close them, whose length is limited, too.
CLOSED_AT_ONCE = 1000


class Listing(NamedTuple):
    """
    The open flows.

    @ivar flows: as the daemon describes each (docs/flows.md), by ascending ids.
    @ivar now: seconds since 1970, by the daemon's clock.
    """

    flows: list[dict[str, Any]]
    now: float


def listing(ask: Callable[[str, dict[str, Any]], Any]) -> Listing:
    """
    All open flows.

    @param ask: see L{nanotun.control.client.Client.ask}.
    @raise RunningError: as from C{ask}.
    """
    flows: list[dict[str, Any]] = []
    after: int | None = 0
    now = 0.0
    while after is not None:
        page = ask("flows", {"after": after, "limit": PAGE})
        flows += page["flows"]
        after, now = page["next"], page["now"]
    return Listing(flows, now)


def close(ask: Callable[[str, dict[str, Any]], Any], ids: Iterable[int]) -> int:
    """
    Close flows.

    @param ask: see L{nanotun.control.client.Client.ask}.
    @return: how many were still there.
    @raise RunningError: as from C{ask}.
    """
    closed, left = 0, iter(ids)
    while some := list(itertools.islice(left, CLOSED_AT_ONCE)):
        closed += ask("close", {"ids": some})["closed"]
    return closed
