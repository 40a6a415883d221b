"""
What the words share: options that name a daemon, parsing and error messages.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence

from twisted.python import usage

from nanotun import __version__
from nanotun.config.arguments import ArrangedOptions, wrongUsage
from nanotun.config.file import parseFile
from nanotun.config.keys import KEYS
from nanotun.config.options import DEFAULT_FILE, readFile
from nanotun.console import FAILED, NOT_RUNNING, WRONG_USAGE
from nanotun.errors import ConfigError, NanotunError, NotRunning, WrongOption


class AskOptions(ArrangedOptions):
    """Options that say which daemon is meant."""

    optParameters = [
        ["config", "c", None, "the daemon's configuration file, for its runDir"],
        ["run-dir", None, None, f"the daemon's runDir [default: {KEYS['runDir'].default}]"],
    ]

    defaultFile = DEFAULT_FILE

    def runDir(self) -> str:
        """
        The directory of the daemon's lock and socket.  The file L{defaultFile} has it if nothing
        else is given; a mistake in that file is nothing to those who ask.

        @raise ConfigError: the file or the directory is wrong.
        """
        key = KEYS["runDir"]
        where: str = "--run-dir"
        value: object = self["run-dir"]
        if value is None:
            where, value = key.variable, os.environ.get(key.variable) or None
        if value is None and self["config"] is not None:
            where, value = self._inFile(self["config"], where)
        elif value is None and self.defaultFile and os.path.lexists(self.defaultFile):
            with contextlib.suppress(ConfigError):
                _, value = self._inFile(self.defaultFile, where)
                return str(key.check(key.default if value is None else value))
            value = None
        try:
            return str(key.check(key.default if value is None else value))
        except ConfigError as error:
            kind = ConfigError if self["run-dir"] is None else WrongOption
            raise kind(f"{where} {error}.") from None

    def _inFile(self, path: str, where: str) -> tuple[str, object]:
        """The file's C{runDir} and its place for errors; C{where} and L{None} without one."""
        text, _ = readFile(path, os.geteuid())
        given = parseFile(text, path, KEYS).get("runDir")
        return (where, None) if given is None else (given.where, given.value)

    def opt_version(self) -> None:
        """Display nanotun's version and exit."""
        print(f"nanotun {__version__}")
        raise SystemExit(0)

    def parseArgs(self, *args: str) -> None:
        """Accept no arguments."""
        if args:
            raise usage.UsageError(f"there is no argument {args[0][:40]!a}")


def run(
    word: str, options: usage.Options, arguments: Sequence[str], work: Callable[[], int]
) -> int:
    """
    Parse the command line and do the work; print every error as one sentence.

    @param word: which word this is, for the message about a wrong command line.
    @param work: returns the exit status; may raise L{NanotunError}.
    @return: the exit status.
    """
    try:
        options.parseOptions(list(arguments))
    except usage.UsageError as error:
        print(f"nanotun {word}: {wrongUsage(error, word)}", file=sys.stderr)
        return WRONG_USAGE
    try:
        return work()
    except NanotunError as error:
        print(f"nanotun: {error}", file=sys.stderr)
        if isinstance(error, WrongOption):
            return WRONG_USAGE
        return NOT_RUNNING if isinstance(error, NotRunning) else FAILED
