"""
The control requests about flows: C{flows} and C{close}.  docs/flows.md describes both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nanotun.errors import RunningError
from nanotun.router.listing import FlowListing

#: Flows of a page that is asked for without a limit, and the most of any.  A page keeps the
#: reactor for some milliseconds.
PAGE, PAGE_LIMIT = 1000, 2000

#: The engine's numbers have 64 bits.
_ID_LIMIT = 1 << 64


def flowsHandler(
    listing: FlowListing, now: Callable[[], float]
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """
    The handler of C{flows}.

    @param now: seconds since 1970.
    """

    def handler(arguments: Mapping[str, Any]) -> dict[str, Any]:
        after = arguments.get("after", 0)
        limit = arguments.get("limit", PAGE)
        what = arguments.get("what", {})
        if not (_isID(after) and _isID(limit) and 1 <= limit <= PAGE_LIMIT):
            raise RunningError(f"This is no request for flows; at most {PAGE_LIMIT} are told.")
        if not isinstance(what, dict) or not what.keys() <= {"ids"}:
            raise RunningError("The daemon looks for flows by their ids only; it may be older.")
        ids = frozenset(_idsIn(what)) if what else None
        page = listing.page(after, limit, ids)
        return {"flows": page.flows, "next": page.next, "now": now()}

    return handler


def closeHandler(listing: FlowListing) -> Callable[[Mapping[str, Any]], dict[str, int]]:
    """The handler of C{close}."""
    return lambda arguments: {"closed": listing.end(_idsIn(arguments))}


def _idsIn(arguments: Mapping[str, Any]) -> list[int]:
    ids = arguments.get("ids")
    if not isinstance(ids, list) or len(ids) > PAGE_LIMIT or not all(map(_isID, ids)):
        raise RunningError(f"ids must be a list of at most {PAGE_LIMIT} numbers of flows.")
    return ids


def _isID(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _ID_LIMIT
