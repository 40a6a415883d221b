"""
C{nanotun run}: one command in a network of its own, which the tunnel alone connects to
the outside.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from nanotun.console.run.signals import blockSignals


def main(arguments: Sequence[str]) -> int:
    """
    Run the command.

    @param arguments: those after C{run}.
    @return: the exit status.
    """
    # Before the slow imports, so Ctrl-C cannot interrupt one of them.
    watched = blockSignals()
    from twisted.python import usage

    from nanotun.cell.command import visible
    from nanotun.cell.launch import Cell
    from nanotun.config.arguments import wrongUsage
    from nanotun.console.run.options import RunOptions, fail, say
    from nanotun.errors import NanotunError

    options = RunOptions()
    try:
        options.parseOptions(list(arguments))
    except usage.UsageError as error:
        fail(wrongUsage(error, "run"))
    line = options.openLine()
    if line:
        # Before anything else can be said.
        say(line)
    for sentence in options.warnings:
        say(sentence)
    try:
        environment = visible(os.environ, options.keepsProxyEnv)
        cell = Cell(
            options.command,
            options.user,
            "nanotun.console.run.helper",
            environment,
            # The proxy resolves names without a dot, too.
            wholeFirst=options.settings.dnsMode == "fake-ip",
            rootless=os.geteuid() != 0,
        )
    except NanotunError as error:
        fail(str(error))
    except OSError as error:
        fail(
            f"the command's network cannot be made ({error.strerror}); look at the limits of open "
            "files and of memory."
        )
    try:
        # Imported while the helper starts, which takes about as long.
        from nanotun.console.run.runner import run

        return run(options, cell, watched, say)
    finally:
        cell.end()
