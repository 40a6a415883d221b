"""
The figures as markdown tables.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.cases import Case
from benchmarks.paths import Way

NOISY = 0.15
"""From this share of the machine on a figure is marked with C{!}."""


class Figure(NamedTuple):
    """
    One measurement.

    @ivar value: in the case's unit, or L{None} where it failed or means nothing.
    @ivar noise: what others used of the machine, 0 to 1.
    @ivar error: why there is no value.
    """

    case: str
    way: str
    value: float | None
    noise: float
    error: str = ""


def _median(figures: Sequence[Figure], case: str, way: str) -> tuple[float | None, bool]:
    """The median of the quiet ones, or of all where none was; and whether it is noisy."""
    known = [f for f in figures if (f.case, f.way) == (case, way) and f.value is not None]
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


def table(figures: Sequence[Figure], cases: Sequence[Case], ways: Sequence[Way]) -> str:
    """Absolute medians, one row per case."""
    names = [way.name for way in ways]
    lines = [_row(["case", "unit", *names]), _row(["---", "---", *["---:"] * len(names)])]
    for case in cases:
        cells = [_text(*_median(figures, case.name, name)) for name in names]
        lines.append(_row([case.name, case.unit, *cells]))
    return "\n".join(lines)


def ratios(figures: Sequence[Figure], cases: Sequence[Case], ways: Sequence[Way]) -> str:
    """
    The tunnels' share of the way without a tunnel: of socks with dante, else
    of the kernel.  Empty if there is none.
    """
    rows: list[str] = []
    tunnels = [way for way in ways if way.stackMode]
    heads = [f"{way.name} / {'socks' if way.dante else 'kernel'}" for way in tunnels]
    lines = [_row(["case", *heads]), _row(["---", *["---:"] * len(heads)])]
    for case in cases:
        cells = []
        for way in tunnels:
            mine, noisy = _median(figures, case.name, way.name)
            base, noisyBase = _median(figures, case.name, "socks" if way.dante else "kernel")
            known = mine is not None and base is not None and base > 0
            ratio = mine / base if known and mine is not None and base is not None else None
            cells.append(_text(ratio, noisy or noisyBase))
        if any(cell != "-" for cell in cells):
            rows.append(_row([case.name, *cells]))
    return "\n".join([*lines, *rows]) if rows else ""


def notes(figures: Sequence[Figure], cases: Sequence[Case]) -> str:
    """What the rows are, how noisy it was, and what failed."""
    lines = [f"- {case.name}: {case.what}" for case in cases]
    shares = [figure.noise for figure in figures if figure.value is not None]
    if shares:
        lines.append(
            f"- others used {statistics.median(shares):.0%} of the machine (median; at most "
            f"{max(shares):.0%}); ! marks what was measured above {NOISY:.0%} only"
        )
    lines += [f"- FAILED {f.case}, {f.way}: {f.error}" for f in figures if f.error]
    return "\n".join(lines)
