"""
C{nanotun confirm}: keep the routes of a start with C{--confirm}, since the user can still
reach the machine.
"""

from __future__ import annotations

from collections.abc import Sequence

from nanotun.console import GOOD
from nanotun.console.command import AskOptions, run
from nanotun.control.client import Client


class ConfirmOptions(AskOptions):
    """The command line."""

    synopsis = "Usage: nanotun confirm [options]"
    longdesc = (
        "Keeps the routes of a daemon that was started with --confirm SECONDS, which takes them "
        "back otherwise."
    )


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = ConfirmOptions()

    def work() -> int:
        with Client(options.runDir()) as client:
            client.ask("confirm")
        print("The routes stay.")
        return GOOD

    return run("confirm", options, arguments, work)
