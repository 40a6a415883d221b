"""
C{nanotun close}: end flows, as a reset of the connection would.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from nanotun.console import FAILED, GOOD
from nanotun.console.command import run
from nanotun.console.flows.client import close
from nanotun.console.flows.looks import Look, Looker
from nanotun.console.flows.options import CloseOptions
from nanotun.console.flows.shown import sentence
from nanotun.console.flows.table import lines
from nanotun.console.flows.text import FLOW_COLUMNS
from nanotun.control.client import Client
from nanotun.errors import RunningError


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = CloseOptions()

    def work() -> int:
        ids, daemon = options.ids, 0
        if not ids:
            with Looker(options.runDir(), options.filter()) as looker:
                look = looker.look()
            if not look.rows:
                print(sentence(look))
                return FAILED
            if not options["yes"] and not _agreed(look):
                print("Nothing was closed.")
                return FAILED
            # What began after the look has another id.
            ids, daemon = tuple(row.flow["id"] for row in look.rows), look.daemon
        with Client(options.runDir()) as client:
            if daemon and client.pid != daemon:
                raise RunningError(
                    "nanotun was started again meanwhile, which has ended these flows; nothing "
                    "was closed."
                )
            closed = close(client.ask, ids)
        print(_result(closed, len(ids)))
        return GOOD if closed else FAILED

    return run("close", options, arguments, work)


def _agreed(look: Look) -> bool:
    """
    Show what would be closed, and ask the user.

    @raise RunningError: nobody can be asked.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise RunningError(
            f"{_flows(len(look.rows))} would be closed, and nobody can be asked here; add --yes."
        )
    print("\n".join(lines(FLOW_COLUMNS, look.rows, shutil.get_terminal_size().columns)))
    which = "this flow" if len(look.rows) == 1 else f"these {len(look.rows)} flows"
    try:
        return input(f"Close {which}? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def _result(closed: int, asked: int) -> str:
    if closed == asked:
        return f"Closed {_flows(closed)}."
    gone = asked - closed
    rest = "1 was not open any more" if gone == 1 else f"{gone} were not open any more"
    if not closed:
        return "That flow is not open." if asked == 1 else "None of those flows is open."
    return f"Closed {_flows(closed)}; {rest}."


def _flows(count: int) -> str:
    return "1 flow" if count == 1 else f"{count} flows"
