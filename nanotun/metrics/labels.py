"""
Keeps sets of labels few, and each of them once.

A monitor keeps each set of labels forever, so nothing here has more than a configuration of
usual size; and it refuses a whole page on which one set is there twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

#: Sets of labels of one metric.  So many rules and upstreams nobody has written by hand.
LABEL_SETS = 200

#: The value of the labels of whatever comes after these.
OTHER = "other"

#: The values of the labels of one row.
Labels: TypeAlias = "tuple[str, ...]"

Value = TypeVar("Value")


def bounded(
    rows: Iterable[tuple[Labels, Value]],
    join: Callable[[Value, Value], Value],
    kept: int = 0,
    limit: int = LABEL_SETS,
) -> dict[Labels, Value]:
    """
    Put rows together that have the same labels, and those beyond the limit.

    @param rows: in an order that stays, so that a set of labels is either always there or
        always one of the others.
    @param join: makes one value of two.
    @param kept: how many labels, from the first, the others keep: those that have few values
        anyway.
    """
    made: dict[Labels, Value] = {}
    for labels, value in rows:
        if labels not in made and len(made) >= limit:
            labels = (*labels[:kept], *(OTHER,) * (len(labels) - kept))
        made[labels] = join(made[labels], value) if labels in made else value
    return made
