"""
Asks the daemon about flows until it does not answer any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from nanotun.errors import RunningError

#: Flows of one answer, which the daemon limits as well.
PAGE = 2000


class Asking(Protocol):
    """See L{nanotun.control.client.Client}."""

    def ask(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Send one request and wait for its answer."""


class DaemonFlows:
    """
    The daemon's flows, as it describes them (docs/flows.md), and those that have ended since it
    was asked last.

    @ivar silent: whether it has ceased to answer, as it may be stopping.  The packets of the
        device are captured nevertheless.
    @param connect: makes a connection to it.  Each question has its own, as the daemon closes
        those that are silent.
    """

    def __init__(self, connect: Callable[[], AbstractContextManager[Asking]]) -> None:
        self._connect = connect
        self._hasAnswered = False
        self._ends: int | None = None
        self.silent = False

    def __call__(self, after: int) -> list[dict[str, Any]]:
        """
        Ask.

        @param after: those that are open have greater ids.
        @return: first those that are open; those that have ended are in the state C{ended}.
        @raise RunningError: it does not answer at all; with one sentence.
        """
        if self.silent:
            return []
        try:
            with self._connect() as client:
                if self._ends is None:
                    # From now on they are kept.
                    self._ends = client.ask("ended", {})["next"]
                rows = _pages(client, after) + self._ended(client)
        except RunningError:
            if not self._hasAnswered:
                raise
            self.silent = True
            return []
        self._hasAnswered = True
        return rows

    def _ended(self, client: Asking) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        # A page is shorter than others where texts are long, so only an empty one is the last.
        while flows := (page := client.ask("ended", {"after": self._ends}))["flows"]:
            rows += flows
            self._ends = page["next"]
        return rows


def _pages(client: Asking, after: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    next: int | None = after
    while next is not None:
        page = client.ask("flows", {"after": next, "limit": PAGE})
        rows += page["flows"]
        next = page["next"]
    return rows
