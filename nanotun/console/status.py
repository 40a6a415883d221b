"""
C{nanotun status}: show the state of the daemon, once or repeatedly.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nanotun.console import FAILED, GOOD
from nanotun.console.command import run
from nanotun.console.statustext import printable, ratesOf, statusLines, statusRows
from nanotun.console.watched import WatchOptions
from nanotun.control.client import Client

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


class StatusOptions(WatchOptions):
    """The command line."""

    synopsis = "Usage: nanotun status [--json] [--watch [SECONDS]] [--check] [options]"
    longdesc = "Shows how the daemon does. Status 3: none runs."

    optFlags: list[list[str | None]] = [
        ["json", "j", "one JSON object; docs/command.md has its fields"],
        ["check", None, "only whether the tunnel works; status 1 and one sentence if not"],
    ]


def trouble(report: dict[str, Any]) -> str:
    """
    Why the tunnel does not work, as far as a report tells: a sentence, or the empty string.

    A proxy that nobody has asked yet counts as one that works, and one of several is enough.
    """
    proxies = report["upstream"]["proxies"] if report.get("upstream") else []
    known = (report.get("upstreams") or {}).get("proxy")
    down = [each for each in (known or {}).get("proxies", proxies) if each.get("health") == "down"]
    if down and len(down) == len(proxies):
        return str(down[0].get("trouble") or f"The proxy {down[0]['url']} does not answer.")
    routes = report.get("routes") or {}
    return str(routes.get("trouble") or "")


def watch(
    fetch: Callable[[], Any],
    options: StatusOptions,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """
    Show the report again and again until C{fetch} or C{sleep} raises: with C{--json} as one
    JSON object per line, on a terminal as a table that is redrawn in place, otherwise as one
    text after another.

    @param fetch: returns the current report.
    """
    if options["json"] or not sys.stdout.isatty():
        while True:
            report = fetch()
            print(json.dumps(report) if options["json"] else "\n".join(statusLines(report)) + "\n")
            sys.stdout.flush()
            sleep(options.interval)
    showLive(fetch, options.interval, sleep)


def tableOf(report: dict[str, Any], rates: str = "") -> Table:
    """
    The report as a table.  Text is shown literally, even if it looks like rich's markup.

    @param rates: the current speed, in words; empty if it is not known.
    """
    # rich takes a moment to import, and only --watch needs it.
    from rich.table import Table
    from rich.text import Text

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
    Redraw the table in place until C{fetch} or C{sleep} raises.

    @param fetch: returns the current report.
    @param interval: seconds between two reports.
    @param console: the terminal; L{None} for standard output.
    """
    from rich.live import Live

    before, then = fetch(), clock()
    with Live(tableOf(before), console=console, auto_refresh=False) as live:
        while True:
            sleep(interval)
            report, now = fetch(), clock()
            live.update(tableOf(report, ratesOf(before, report, now - then)), refresh=True)
            before, then = report, now


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = StatusOptions()

    def work() -> int:
        with Client(options.runDir()) as client:
            if options["watch"]:
                try:
                    watch(lambda: client.ask("status"), options)
                except KeyboardInterrupt:
                    return GOOD
            report = client.ask("status")
        if options["check"]:
            found = trouble(report)
            print(printable(found) if found else "The tunnel works.")
            return FAILED if found else GOOD
        print(json.dumps(report, indent=2) if options["json"] else "\n".join(statusLines(report)))
        return GOOD

    return run("status", options, arguments, work)
