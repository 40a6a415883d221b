"""
C{nanotun recover}: take back what a daemon that was killed has left.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from twisted.python import usage

from nanotun.configfile import parseFile
from nanotun.errors import ConfigError, NanotunError
from nanotun.keys import KEYS
from nanotun.options import readFile
from nanotun.routing.cached import CachedRoutes
from nanotun.routing.netlink import NetlinkRoutes
from nanotun.routing.parts import makeChanges
from nanotun.routing.recovering import recover


class RecoverOptions(usage.Options):
    """What may stand behind C{nanotun recover}."""

    synopsis = "Usage: nanotun recover [options]"
    longdesc = (
        "Undoes what the journal of a daemon that was killed says, and nothing else. Harmless "
        "where there is nothing to undo."
    )
    optParameters = [
        ["config", "c", None, "YAML configuration file, for its runDir"],
        ["run-dir", None, None, f"directory of the journal [default: {KEYS['runDir'].default}]"],
    ]
    optFlags = [
        ["force", None, "also remove rules and routes that bear nanotun's number (protocol 110)"],
        ["keep-kill-switch", None, "change nothing if killSwitch was on: traffic stays in"],
    ]

    def runDir(self, uid: int) -> str:
        """
        The directory of the journal.

        @raise ConfigError: the file or the directory is no good.
        """
        if self["run-dir"] is None and self["config"] is not None:
            text, _ = readFile(self["config"], uid)
            given = parseFile(text, self["config"], KEYS).get("runDir")
            where, value = (given.where, given.value) if given else ("", KEYS["runDir"].default)
        else:
            where, value = "--run-dir", self["run-dir"] or KEYS["runDir"].default
        try:
            return str(KEYS["runDir"].check(value))
        except ConfigError as error:
            raise ConfigError(f"{where} {error}.") from None


def main(arguments: Sequence[str]) -> int:
    """
    Do it.

    @return: 0 if nothing is left, 1 with one sentence if something is, 2 for a wrong
        command line.
    """
    options = RecoverOptions()
    try:
        options.parseOptions(list(arguments))
    except usage.UsageError as error:
        print(f"nanotun recover: {error}; see nanotun recover --help.", file=sys.stderr)
        return 2
    kernel = CachedRoutes(NetlinkRoutes())
    try:
        done = recover(
            options.runDir(os.geteuid()),
            kernel,
            makeChanges(kernel),
            bool(options["force"]),
            bool(options["keep-kill-switch"]),
        )
    except NanotunError as error:
        print(f"nanotun: {error}", file=sys.stderr)
        return 1
    finally:
        kernel.close()
    for command in done.undone:
        print(command)
    if done.kept:
        print(
            "The kill switch is on: the routes stay, and traffic with them. 'nanotun recover' "
            "gives it back."
        )
    elif not done.undone:
        print("There is nothing to take back.")
    return 0
