"""
The calls of the API by their paths, and how their arguments are written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nanotun.errors import RunningError
from nanotun.web.api import FLOW_PAGE, LINES, Api, Coming

#: What every path of the API begins with.
PREFIX = "/api/v1/"

#: Characters of a number in a query: those of 64 bits.
_DIGITS = 20


class Call(NamedTuple):
    """
    A request to the API.

    @ivar query: of the URL.
    @ivar body: as it was sent.
    """

    query: Mapping[str, str]
    body: bytes = b""

    def number(self, name: str, default: int) -> int:
        """
        A number in the query.

        @raise RunningError: it is none.
        """
        text = self.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
            raise RunningError(f"{name} must be a number.")
        return int(text)

    def json(self) -> dict[str, Any]:
        """
        The body's object.

        @raise RunningError: it has none.
        """
        try:
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise RunningError("The body must be a JSON object.")
        return found


Answering = Callable[[Api, Call], Coming]

GETS: dict[str, Answering] = {
    "config": lambda api, call: api.config(),
    "dns": lambda api, call: api.dns(),
    "flows": lambda api, call: api.flows(call.number("after", 0), call.number("limit", FLOW_PAGE)),
    "log": lambda api, call: api.log(call.number("lines", LINES)),
    "rules": lambda api, call: api.rules(),
    "status": lambda api, call: api.status(),
    "upstreams": lambda api, call: api.upstreams(),
}

POSTS: dict[str, Answering] = {
    "explain": lambda api, call: api.explain(call.json()),
    "flows/close": lambda api, call: api.close(_ids(call.json())),
    "reload": lambda api, call: api.reload(),
}


def _ids(body: Mapping[str, Any]) -> list[int]:
    ids = body.get("ids")
    if not isinstance(ids, list):
        raise RunningError("ids must be a list of numbers of flows.")
    return ids
