"""
Tables as text: as wide as what is in them, or with the columns that there is room for.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")

#: Between two columns.
GAP = "  "

#: How a text ends that is cut off.
CUT = "\u2026"

#: Characters that are left of one, at least.
LEAST = 20

#: Behind the title of the column by which rows are sorted, the largest first or last.
FALLING, RISING = "\u25bc", "\u25b2"


@dataclass(frozen=True)
class Column(Generic[T]):
    """
    One property of rows.

    @ivar title: in capitals; in small letters it is what rows can be sorted by.
    @ivar text: what is shown of a row; a column without any is left out.
    @ivar key: what the rows are sorted by.
    @ivar isNumber: whether it is flush right, and the largest comes first.
    @ivar rank: where there is no room, those with the highest are left out first; 0: never.
    @ivar isLong: whether its texts may be cut off.
    """

    title: str
    text: Callable[[T], str]
    key: Callable[[T], Any]
    isNumber: bool = False
    rank: int = 0
    isLong: bool = False

    @property
    def name(self) -> str:
        """What the rows can be sorted by."""
        return self.title.lower()


class Order(NamedTuple):
    """
    How rows are sorted.

    @ivar name: a column's.
    @ivar turned: whether in the other direction than the column's usual one.
    """

    name: str
    turned: bool = False


def ordered(columns: Iterable[Column[T]], rows: Iterable[T], order: Order) -> list[T]:
    """Sort rows; those without a value come last, and equal ones stay as they are."""
    column = next(each for each in columns if each.name == order.name)
    known: list[T] = []
    unknown: list[T] = []
    for row in rows:
        (unknown if column.key(row) is None else known).append(row)
    return sorted(known, key=column.key, reverse=column.isNumber != order.turned) + unknown


def lines(
    columns: Sequence[Column[T]],
    rows: Sequence[T],
    width: int | None = None,
    order: Order | None = None,
) -> list[str]:
    """
    A heading and a line for each row.

    @param width: how many characters a line may have; L{None} for any number.
    @param order: marks the title of the column by which the rows are sorted.
    """
    texts = {}
    for column in columns:
        found = [column.text(row) for row in rows]
        if any(found) or not rows:
            title = column.title
            if order is not None and order.name == column.name:
                title += FALLING if column.isNumber != order.turned else RISING
            texts[column] = [title, *found]
    whole = {column: max(map(len, found)) for column, found in texts.items()}
    widths = whole.copy()
    if width is not None:
        _fit(widths, width)
    pattern = GAP.join(
        f"{{:{'>' if column.isNumber else '<'}{size}}}" for column, size in widths.items()
    )
    shown = [
        [_cut(text, size) for text in texts[column]] if size < whole[column] else texts[column]
        for column, size in widths.items()
    ]
    return [pattern.format(*cells).rstrip() for cells in zip(*shown, strict=True)]


def _fit(widths: dict[Column[T], int], width: int) -> None:
    """Leave columns out, and shorten the long ones, until all fit."""

    def excess() -> int:
        return sum(widths.values()) + len(GAP) * (len(widths) - 1) - width

    def spare() -> int:
        return sum(max(0, widths[each] - LEAST) for each in widths if each.isLong)

    for column in sorted(widths, key=lambda each: -each.rank):
        if column.rank and excess() > spare():
            del widths[column]
    for column in [each for each in widths if each.isLong]:
        widths[column] = max(min(LEAST, widths[column]), widths[column] - max(0, excess()))


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + CUT
