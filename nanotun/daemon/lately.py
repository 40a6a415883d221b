"""
The control request C{ended}: the flows that have ended since it was asked last.  Most flows are
over before anybody could ask for the list of those that are open.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from typing import Any

from zope.interface import implementer

from nanotun.errors import RunningError
from nanotun.flow import FlowEnd, Note
from nanotun.interfaces import IEndObserver
from nanotun.router.ends import EndObservers
from nanotun.router.listing import endedRows
from nanotun.timer import Timer

#: Flows that are kept for the next question, and the most that one is answered with.
KEPT = 8192
PAGE_LIMIT = 2000

#: Seconds after the last question in which flows are kept: nobody pays for them otherwise.
INTEREST = 15.0


@implementer(IEndObserver)
class LatelyEnded:
    """
    Keeps the flows that have ended, while somebody asks.

    @param clock: what the time is taken from.
    """

    def __init__(self, ends: EndObservers, clock: Any) -> None:
        self._ends = ends
        self._timer = Timer(clock, self._forget)
        self._kept: deque[tuple[FlowEnd, Note | None]] = deque(maxlen=KEPT)
        self._count = 0

    def flowEnded(self, end: FlowEnd, note: Note | None) -> None:
        """See L{IEndObserver.flowEnded}."""
        self._kept.append((end, note))
        self._count += 1

    def __call__(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """
        Answer the request.

        @param arguments: C{after}, what the last answer has as C{next}; without it only those are
            told next time that end from now on.
        @return: C{flows}, as the list of open flows has each, and C{next}.
        """
        after = arguments.get("after", self._count)
        if not isinstance(after, int) or isinstance(after, bool) or after < 0:
            raise RunningError("after must be a number, that of the last answer.")
        self._ends.follow(self)
        self._timer.start(INTEREST)
        first = self._count - len(self._kept)
        skipped = max(0, after - first)
        flows = endedRows(itertools.islice(self._kept, skipped, skipped + PAGE_LIMIT))
        return {"flows": flows, "next": min(first + skipped + len(flows), self._count)}

    def _forget(self) -> None:
        self._ends.unfollow(self)
        self._kept.clear()
