"""
C{nanotun plan}: what C{autoDefaultRoute} would change, and how it would be undone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from twisted.python import usage

from nanotun.errors import NanotunError
from nanotun.options import Options
from nanotun.routing.cached import CachedRoutes
from nanotun.routing.netlink import NetlinkRoutes
from nanotun.routing.preview import plannedChanges


class PlanOptions(Options):
    """The daemon's own options."""

    synopsis = "Usage: nanotun plan [the options of the daemon]"
    longdesc = (
        "Prints every change that --auto-route makes to this machine, and its undo, as commands. "
        "Changes nothing. Without root it does not see who serves SSH on other ports than 22."
    )

    def postOptions(self) -> None:
        """The settings are read by L{main}, which says what is wrong."""


def main(arguments: Sequence[str]) -> int:
    """
    Print it.

    @return: 0, 1 with one sentence for what went wrong, 2 for a wrong command line.
    """
    options = PlanOptions()
    try:
        options.parseOptions(list(arguments))
    except usage.UsageError as error:
        print(f"nanotun plan: {error}; see nanotun plan --help.", file=sys.stderr)
        return 2
    kernel = CachedRoutes(NetlinkRoutes())
    try:
        options.readSettings(os.geteuid(), os.environ)
        if not options.settings.autoDefaultRoute:
            print("autoDefaultRoute is off, so nothing is changed; add --auto-route to see more.")
            return 0
        changes = plannedChanges(options.settings, kernel, os.environ)
    except NanotunError as error:
        print(f"nanotun: {error}", file=sys.stderr)
        return 1
    finally:
        kernel.close()
    print("# Done at the start, in this order:")
    for change in changes:
        print(change.describe())
    print("\n# Undone at the stop, in this order:")
    for change in reversed(changes):
        print(change.describeUndo())
    return 0
