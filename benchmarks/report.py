"""
Formats the figures as Markdown tables.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.cases import Case
from benchmarks.setups import Setup

NOISY = 0.15
"""A figure is marked with C{!} if others used at least this share of the machine."""


class Figure(NamedTuple):
    """
    One measurement.

    @ivar value: in the case's unit, or L{None} if it failed or has no meaning.
    @ivar noise: the share of the machine that others used, 0 to 1.
    @ivar error: why there is no value.
    """

    case: str
    setup: str
    value: float | None
    noise: float
    error: str = ""


def _median(figures: Sequence[Figure], case: str, setup: str) -> tuple[float | None, bool]:
    """The median of the quiet figures, or of all if none was quiet; and whether none was."""
    known = [f for f in figures if (f.case, f.setup) == (case, setup) and f.value is not None]
    quiet = [f for f in known if f.noise < NOISY]
    values = [f.value for f in quiet or known if f.value is not None]
    return (statistics.median(values) if values else None), bool(known and not quiet)


def _text(value: float | None, noisy: bool = False) -> str:
    if value is None:
        return "-"
    digits = f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    return digits + ("!" if noisy else "")


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def table(figures: Sequence[Figure], cases: Sequence[Case], setups: Sequence[Setup]) -> str:
    """Absolute medians, one row per case."""
    names = [setup.name for setup in setups]
    lines = [_row(["case", "unit", *names]), _row(["---", "---", *["---:"] * len(names)])]
    for case in cases:
        cells = [_text(*_median(figures, case.name, name)) for name in names]
        lines.append(_row([case.name, case.unit, *cells]))
    return "\n".join(lines)


def ratios(figures: Sequence[Figure], cases: Sequence[Case], setups: Sequence[Setup]) -> str:
    """
    The ratio of each setup with a tunnel to the one without.  Empty if there is none.
    """
    rows: list[str] = []
    tunnels = [setup for setup in setups if setup.stackMode]
    heads = [f"{setup.name} / {setup.limit}" for setup in tunnels]
    lines = [_row(["case", *heads]), _row(["---", *["---:"] * len(heads)])]
    for case in cases:
        cells = []
        for setup in tunnels:
            mine, noisy = _median(figures, case.name, setup.name)
            base, noisyBase = _median(figures, case.name, setup.limit)
            known = mine is not None and base is not None and base > 0
            ratio = mine / base if known and mine is not None and base is not None else None
            cells.append(_text(ratio, noisy or noisyBase))
        if any(cell != "-" for cell in cells):
            rows.append(_row([case.name, *cells]))
    return "\n".join([*lines, *rows]) if rows else ""


def notes(figures: Sequence[Figure], cases: Sequence[Case]) -> str:
    """List what the rows mean, how noisy the machine was, and which measurements failed."""
    lines = [f"- {case.name}: {case.what}" for case in cases]
    shares = [figure.noise for figure in figures if figure.value is not None]
    if shares:
        lines.append(
            f"- others used {statistics.median(shares):.0%} of the machine (median; at most "
            f"{max(shares):.0%}); ! marks figures measured only above {NOISY:.0%}"
        )
    lines += [f"- FAILED {f.case}, {f.setup}: {f.error}" for f in figures if f.error]
    return "\n".join(lines)
