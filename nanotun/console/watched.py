"""
The command line of the words that can show something again and again.
"""

from __future__ import annotations

import re

from twisted.python import usage

from nanotun.console.command import AskOptions

#: Seconds between two looks: by default, at least and at most.  A report costs the daemon a few
#: milliseconds, and nobody reads faster than the minimum.
INTERVAL = 2.0
SHORTEST = 0.2
LONGEST = 3600.0


class WatchOptions(AskOptions):
    """
    An option C{--watch} and its seconds.

    @ivar interval: seconds between two looks.
    """

    optFlags: list[list[str | None]] = [
        ["watch", "w", f"again every {INTERVAL:g} seconds, or SECONDS; Ctrl-C ends it"],
    ]

    interval = INTERVAL

    def parseArgs(self, *args: str) -> None:
        """Take the seconds."""
        if not args:
            return
        (text, *more) = args
        if not self["watch"] or more:
            raise usage.UsageError(f"there is no argument {args[-1][:40]!a}")
        if not re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,3})?", text) or not (
            SHORTEST <= float(text) <= LONGEST
        ):
            raise usage.UsageError(
                f"--watch takes {SHORTEST:g} to {LONGEST:g} seconds, not {text[:40]!a}"
            )
        self.interval = float(text)
