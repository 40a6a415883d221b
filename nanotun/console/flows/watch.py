"""
Shows rows again and again, until the user has seen enough.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from nanotun.console.flows.keyboard import Keyboard
from nanotun.console.flows.table import Column, Order, lines, ordered

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

T = TypeVar("T")

#: Ends it, as Ctrl-C does; turns the order around.
QUIT, TURN = "q", "-"

HELP = "A letter sorts by a column that begins with it, - turns the order, q ends."

#: Lines that are no rows: the heading, an empty one and two at the end.
_OTHERS = 4

#: What a terminal sends for a key that is no character, such as an arrow.
_SPECIAL = re.compile(r"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z]|)")


class Watched(Generic[T]):
    """
    Rows, and how they are sorted.

    @ivar order: changes as keys are pressed.
    @param describe: a sentence about the rows.
    """

    def __init__(
        self, columns: Sequence[Column[T]], order: Order, describe: Callable[[Sequence[T]], str]
    ) -> None:
        self.order = order
        self._columns = columns
        self._describe = describe

    def press(self, keys: str) -> bool:
        """
        Take what was pressed.

        @return: whether it goes on.
        """
        for key in _SPECIAL.sub("", keys).lower():
            if key == QUIT:
                return False
            if key == TURN:
                self.order = self.order._replace(turned=not self.order.turned)
            else:
                self._sortBy(key)
        return True

    def _sortBy(self, letter: str) -> None:
        """Sort by the first column that begins with a letter, or by the next such."""
        names = [each.name for each in self._columns if each.name.startswith(letter)]
        if names:
            at = names.index(self.order.name) + 1 if self.order.name in names else 0
            self.order = Order(names[at % len(names)])

    def screen(self, rows: Sequence[T], width: int, height: int) -> list[str]:
        """What a terminal of a size shows: a heading, and the first rows that fit."""
        most = max(1, height - _OTHERS)
        first = ordered(self._columns, rows, self.order)[:most]
        shown = lines(self._columns, first, width, self.order)
        left = len(rows) - len(first)
        more = f" The first {len(first)} are shown." if left else ""
        return [*shown, "", (self._describe(rows) + more)[:width], HELP[:width]]


def showLive(
    watched: Watched[T],
    look: Callable[[], Sequence[T]],
    interval: float,
    keys: Keyboard,
    clock: Callable[[], float] = time.monotonic,
    console: Console | None = None,
) -> None:
    """
    Redraw the rows in place until a key ends it, or C{look} raises.

    @param look: returns the rows of the moment.
    @param interval: seconds between two looks.
    @param console: the terminal; L{None} for standard output.
    """
    # rich takes a moment to import, and only --watch needs it.
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    def drawn() -> RenderableType:
        heading, *others = watched.screen(rows, *live.console.size)
        texts = [Text(heading, "bold"), *map(Text, others)]
        for text in texts:
            text.no_wrap, text.overflow = True, "crop"
        return Group(*texts)

    rows = look()
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            end = clock() + interval
            while (left := end - clock()) > 0:
                live.update(drawn(), refresh=True)
                if not watched.press(keys.wait(left)):
                    return
            rows = look()
