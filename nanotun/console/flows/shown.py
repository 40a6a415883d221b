"""
Shows flows, or sums of them, once or repeatedly: as a table or as JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from nanotun.console import GOOD
from nanotun.console.flows.keyboard import keyboard
from nanotun.console.flows.looks import Look, Looker
from nanotun.console.flows.options import SortedOptions
from nanotun.console.flows.rows import Row
from nanotun.console.flows.table import Column, Order, lines, ordered
from nanotun.console.flows.watch import Watched, showLive


class _Rowlike(Protocol):
    """What is shown on one line."""

    def json(self) -> dict[str, Any]:
        """Its fields."""


T = TypeVar("T", bound=_Rowlike)


@dataclass(frozen=True)
class Shown(Generic[T]):
    """
    What is shown, and how.

    @ivar make: makes it of the flows of one look.
    @ivar fields: more fields of the JSON object.
    @ivar name: that of the list in it.
    """

    columns: Sequence[Column[T]]
    order: Order
    make: Callable[[list[Row]], list[T]]
    fields: Mapping[str, Any]
    name: str

    def rows(self, look: Look) -> list[T]:
        """The rows, sorted."""
        return ordered(self.columns, self.make(look.rows), self.order)

    def text(self, look: Look, width: int | None) -> str:
        """
        The rows for people.

        @param width: see L{lines}.
        """
        if not look.rows:
            return sentence(look)
        return "\n".join(lines(self.columns, self.rows(look), width))

    def json(self, look: Look, pretty: bool) -> str:
        """
        One JSON object.

        @param pretty: whether each row is on a line of its own.
        """
        begin = json.dumps({"now": look.now, **self.fields}).removesuffix("}")
        between = ",\n " if pretty else ", "
        # The whole with an indent would take ten times as long.
        texts = between.join(json.dumps(row.json()) for row in self.rows(look))
        if pretty and texts:
            texts = f"\n {texts}\n"
        return f'{begin}, "{self.name}": [{texts}]}}'


def sentence(look: Look) -> str:
    """Says how many flows there are."""
    count, whole = len(look.rows), look.open
    if not whole:
        return "No flow is open."
    if not count:
        are = "1 is" if whole == 1 else f"{whole} are"
        return f"No flow meets the filters; {are} open."
    flows = "1 flow is open" if whole == 1 else f"{whole} flows are open"
    return f"{flows}." if count == whole else f"{flows}; {count} of them meet the filters."


def show(
    shown: Shown[T],
    looker: Looker,
    options: SortedOptions,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """
    Show it as the command line says.

    @return: the exit status.
    @raise RunningError: the daemon cannot be asked.
    """
    if looker.trouble:
        print(f"nanotun: {looker.trouble}", file=sys.stderr)
    if not options["watch"]:
        _print(shown, looker.look(), options["json"], pretty=True)
        return GOOD
    try:
        if not options["json"] and sys.stdout.isatty():
            _live(shown, looker, options.interval)
            return GOOD
        while True:
            _print(shown, looker.look(), options["json"], pretty=False)
            sleep(options.interval)
    except KeyboardInterrupt:
        return GOOD


def _print(shown: Shown[T], look: Look, asJson: bool, pretty: bool) -> None:
    if asJson:
        print(shown.json(look, pretty), flush=True)
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(shown.text(look, width), end="\n" if pretty else "\n\n", flush=True)


def _live(shown: Shown[T], looker: Looker, interval: float) -> None:
    seen = looker.look()

    def look() -> list[T]:
        nonlocal seen
        seen = looker.look()
        return shown.make(seen.rows)

    watched = Watched(shown.columns, shown.order, lambda rows: sentence(seen))
    with keyboard(sys.stdin.fileno()) as keys:
        showLive(watched, look, interval, keys)
