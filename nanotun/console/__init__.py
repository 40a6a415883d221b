"""
The C{nanotun} command: one module for each of its words.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from nanotun import __version__


class Command(NamedTuple):
    """
    One word.

    @ivar module: below C{nanotun.console}; its C{main} takes the arguments behind the
        word and returns the exit status.
    """

    module: str
    summary: str


COMMANDS: dict[str, Command] = {
    "explain": Command("explain", "say where a flow would go, and why"),
    "doctor": Command("doctor", "look for what is wrong, and say the cure"),
    "run": Command("run", "run one command in a network of its own, through the proxy"),
    "plan": Command("plan", "print what --auto-route would change, and its undo"),
    "recover": Command("recover", "take back what a daemon that was killed has left"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run one word of the command line.

    @param argv: what stands behind the program's name; C{sys.argv}'s by default.
    @return: the exit status: 0, 1 for what went wrong, 2 for a wrong command line.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--version"]:
        print(f"nanotun {__version__}")
        return 0
    command = COMMANDS.get(arguments[0]) if arguments else None
    if command is None:
        print(f"usage: nanotun [{'|'.join(COMMANDS)}] ...", file=sys.stderr)
        return 2
    status: int = import_module(f"nanotun.console.{command.module}").main(arguments[1:])
    return status
