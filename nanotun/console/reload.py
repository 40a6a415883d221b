"""
C{nanotun reload}: have the daemon read its configuration again.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from nanotun.console import GOOD
from nanotun.console.command import AskOptions, run
from nanotun.console.statustext import printable
from nanotun.control.client import Client


class ReloadOptions(AskOptions):
    """The command line."""

    synopsis = "Usage: nanotun reload [options]"
    longdesc = (
        "Has the daemon read its configuration again, with the flags that it was started with. "
        "Connections go on. If the configuration is no good nothing changes, and the status is 1."
    )


def answerLines(answer: Mapping[str, Any]) -> list[str]:
    """The daemon's answer in words."""
    changed = ", ".join(map(printable, answer["changed"]))
    lines = [f"Changed: {changed}." if changed else "Nothing has changed."]
    if answer["restart"]:
        restart = ", ".join(map(printable, answer["restart"]))
        lines.append(f"As before until nanotun is started again: {restart}.")
    return lines


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = ReloadOptions()

    def work() -> int:
        with Client(options.runDir()) as client:
            answer = client.ask("reload")
        for warning in answer["warnings"]:
            print(f"warning: {printable(warning)}", file=sys.stderr)
        print("\n".join(answerLines(answer)))
        return GOOD

    return run("reload", options, arguments, work)
