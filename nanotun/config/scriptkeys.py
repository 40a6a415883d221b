"""
The settings of the user's script; a part of L{nanotun.config.keys}.
"""

from __future__ import annotations

from dataclasses import dataclass

from nanotun.config import values
from nanotun.config.entry import InRun, setting


@dataclass(frozen=True, kw_only=True)
class ScriptSettings:
    """
    The user's script.

    @ivar script: a path, or the empty string for none.
    @ivar scriptTimeout: seconds.
    """

    script: str = setting(
        values.path("a file's path, or '' for none"),
        "",
        "FILE",
        "Python file that decides about flows; `''` for none",
        doc="A Python file whose functions are asked about each connection, before it is "
        "accepted: docs/script.md.  Only root may be able to write it, its directories and what "
        "it imports.",
        live=True,
        rights=True,
        run=InRun(metavar="FILE", help="a Python file that decides about COMMAND's connections"),
    )
    scriptTimeout: float = setting(
        # Shorter is no time to look anything up; longer, and programs have given up.
        values.duration("100ms", "2m", "5s or 1m"),
        "5s",
        "DURATION",
        "how long the script's answer may take, 100ms to 2m",
        doc="How long the script may take for one answer while the connection waits: 100ms to "
        "2m.  Programs give up after one or two minutes.",
        live=True,
    )
    scriptError: str = setting(
        values.Choice("reject", "rules"),
        "reject",
        "MODE",
        "when the script fails: `reject` the connection, or let the `rules` decide",
        doc="What counts when the script fails, is late, or answers what there is not: reject "
        "refuses the connection, rules lets the rules decide.",
        live=True,
    )
