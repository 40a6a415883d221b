"""
The record of flows as a part of the daemon: it exists only if C{flowLog} is set, and nothing of
it is imported otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from nanotun.config.settings import Settings
from nanotun.flow import FlowEnd, FlowState, Note
from nanotun.router.listing import FlowListing
from nanotun.router.router import FlowRouter

if TYPE_CHECKING:
    from nanotun.history.recorder import FlowRecorder

#: Flows that are listed at a time.
PAGE = 1000


def openFlows(listing: FlowListing) -> Iterator[tuple[FlowEnd, Note | None]]:
    """The flows that are carried, as if they ended now."""
    after = 0
    while page := listing.flows(after, PAGE):
        for listed, note in page:
            flow, state, age, _, number, up, down = listed
            after = flow.id
            if state in (FlowState.OPEN, FlowState.HALF_CLOSED):
                yield FlowEnd(flow, 0, up, down, number, age), note


def makeHistory(settings: Settings, router: FlowRouter, reactor: Any) -> tuple[FlowRecorder, ...]:
    """
    The part that records flows, if they are to be recorded.

    @raise SystemExit: Python lacks SQLite; with one sentence.
    """
    path = settings.flowLog
    if not path:
        return ()
    try:
        from nanotun.history.recorder import FlowRecorder
        from nanotun.history.store import Store
        from nanotun.history.writer import HistoryWriter
    except ImportError as error:
        raise SystemExit(
            f"nanotun: flowLog needs Python's module sqlite3 ({error}); install it, or unset "
            "flowLog."
        ) from None

    store = Store(path, settings.flowLogSize, settings.flowLogDays)
    writer = HistoryWriter(store, path, reactor)
    flows = partial(openFlows, router.listing)
    return (FlowRecorder(path, writer, router.ends, flows, reactor),)


def recordingReport(parts: tuple[FlowRecorder, ...]) -> dict[str, Any] | None:
    """
    How recording goes, for the status.

    @param parts: from L{makeHistory}.
    @return: see L{FlowRecorder.report}; L{None} where nothing is recorded.
    """
    return parts[0].report() if parts else None
