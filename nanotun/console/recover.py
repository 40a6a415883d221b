"""
C{nanotun recover}: undo the changes that a killed daemon left behind.
"""

from __future__ import annotations

from collections.abc import Sequence

from nanotun.console import GOOD
from nanotun.console.command import AskOptions, run
from nanotun.routing.make import makeChanges
from nanotun.routing.netlink import CachedRoutes, NetlinkRoutes
from nanotun.routing.recover import recover
from nanotun.rundir import command


class RecoverOptions(AskOptions):
    """The command line."""

    synopsis = "Usage: nanotun recover [options]"
    longdesc = (
        "Undoes what the journal of a daemon that was killed says, and nothing else. Harmless "
        "where there is nothing to undo."
    )
    optFlags = [
        ["force", None, "also remove rules and routes that bear nanotun's number (protocol 110)"],
        ["keep-kill-switch", None, "change nothing if killSwitch was on: traffic stays in"],
    ]


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = RecoverOptions()

    def work() -> int:
        runDir = options.runDir()
        kernel = CachedRoutes(NetlinkRoutes())
        try:
            done = recover(
                runDir,
                kernel,
                makeChanges(kernel),
                bool(options["force"]),
                bool(options["keep-kill-switch"]),
            )
        finally:
            kernel.close()
        for line in done.undone:
            print(line)
        if done.kept:
            print(
                "The kill switch is on, so everything stays as it is and traffic stays in; "
                f"'{command('recover', runDir)}' lets it out."
            )
        elif not done.undone:
            print("There is nothing to take back.")
        return GOOD

    return run("recover", options, arguments, work)
