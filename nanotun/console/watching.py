"""
The status as a table that stays in its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nanotun.console.statustext import ratesOf, statusRows


def tableOf(report: dict[str, Any], rates: str = "") -> Table:
    """
    The report as a table.  All text goes in as it is: what looks like markup is none.

    @param rates: how fast it is just now.
    """
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column()
    for name, text in statusRows(report):
        table.add_row(Text(name), Text(text))
    if rates:
        table.add_row(Text("now"), Text(rates))
    return table


def showLive(
    fetch: Callable[[], Any],
    interval: float,
    sleep: Callable[[float], None],
    clock: Callable[[], float] = time.monotonic,
    console: Console | None = None,
) -> None:
    """
    Show it until C{fetch} or C{sleep} raises.

    @param fetch: gets the report.
    """
    before, then = fetch(), clock()
    with Live(tableOf(before), console=console, auto_refresh=False) as live:
        while True:
            sleep(interval)
            report, now = fetch(), clock()
            live.update(tableOf(report, ratesOf(before, report, now - then)), refresh=True)
            before, then = report, now
