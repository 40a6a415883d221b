"""
C{nanotun plan}: what C{autoDefaultRoute} would change, and how it would be undone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from nanotun.config.options import Options
from nanotun.console import GOOD
from nanotun.console.command import run
from nanotun.routing.netlink import CachedRoutes, NetlinkRoutes
from nanotun.routing.preview import plannedChanges


class PlanOptions(Options):
    """The daemon's own options."""

    synopsis = "Usage: nanotun plan [the options of the daemon]"
    longdesc = (
        "Prints every change that --auto-route makes to this machine, and its undo, as commands. "
        "Changes nothing. Without root it does not see who serves SSH on other ports than 22."
    )

    def postOptions(self) -> None:
        """Does nothing: L{main} reads the settings and reports errors."""


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = PlanOptions()

    def work() -> int:
        options.readSettings(os.geteuid(), os.environ)
        if not options.settings.autoDefaultRoute:
            where = f" in {options['config']}" if options.defaulted else ""
            print(
                f"autoDefaultRoute is off{where}, so nothing is changed; add --auto-route to see "
                "more."
            )
            return GOOD
        kernel = CachedRoutes(NetlinkRoutes())
        try:
            changes = plannedChanges(options.settings, kernel, os.environ)
        finally:
            kernel.close()
        if options.source:
            print(f"# {options.source}\n")
        print("# Done at the start, in this order:")
        for change in changes:
            print(change.describe())
        print("\n# Undone at the stop, in this order:")
        for change in reversed(changes):
            print(change.describeUndo())
        return GOOD

    return run("plan", options, arguments, work)
