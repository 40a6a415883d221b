"""
The command line of C{nanotun run}.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from nanotun.cell.command import OWN_FAULT, CommandUser
from nanotun.cell.users import findUser
from nanotun.errors import ConfigError
from nanotun.options import Options

#: What is about this machine's routes, its processes and the daemon's files.
REFUSED = (
    "tun",
    "exclude",
    "exclude-children",
    "exclude-refresh",
    "auto-route",
    "confirm",
    "ipv6",
    "kill-switch",
    "run-dir",
    "dns-state-file",
)


class RunOptions(Options):
    """
    Those of the daemon that make sense for one command.

    @ivar command: the command and its arguments.
    @ivar user: whom it runs as; L{None} for whoever called.
    @ivar tellsAll: whether log lines were asked for.
    """

    synopsis = "Usage: nanotun run [options] -- COMMAND [ARGUMENT ...]"

    longdesc = (
        "Runs COMMAND in a network of its own, whose only way out is the proxy; nothing of this "
        "machine's is changed. Exit status: COMMAND's, or 128 and the signal's number; 127: not "
        "found; 126: not executable; 125: nanotun's own trouble. From a configuration file the "
        "settings of routes, processes and logs are not used; their options are refused here: "
        + ", ".join(f"--{flag}" for flag in REFUSED)
        + "."
    )

    optParameters = [
        ["user", "u", None, "run COMMAND as this user, a name or a number; its groups and HOME too"]
    ]

    command: tuple[str, ...] = ()
    user: CommandUser | None = None
    tellsAll = False

    def parseArgs(self, *args: str) -> None:
        """The command."""
        self.command = args

    def readSettings(self, uid: int, environment: Mapping[str, str]) -> None:
        """
        See L{Options.readSettings}.  What a file says of the machine is left out: the
        daemon's own file can be used.
        """
        for flag in REFUSED:
            if self[flag] is not None:
                raise ConfigError(
                    f"--{flag} has no meaning for 'nanotun run': COMMAND has a network of its "
                    "own, and nothing of this machine's is changed; leave it out."
                )
        super().readSettings(uid, environment)
        self.tellsAll = self["log-level"] is not None
        self.settings = replace(
            self.settings,
            tunName="nano0",
            excludedProcesses=(),
            autoDefaultRoute=False,
            killSwitch=False,
            dnsStateFile="",
            logLevel=self.settings.logLevel if self.tellsAll else "error",
            logDir=self.settings.logDir if self["log-dir"] is not None else "",
        )
        if self["user"] is not None:
            self.user = findUser(self["user"])
        if not self.command:
            raise ConfigError(
                "there is no command to run; write it last, as in "
                "'nanotun run --proxy socks5://host:port -- curl https://example.org'."
            )

    def postOptions(self) -> None:
        """
        Read the settings.

        @raise SystemExit: as L{OWN_FAULT}, once the error's sentence is printed.
        """
        try:
            self.readSettings(os.geteuid(), os.environ)
        except ConfigError as error:
            fail(str(error))


def fail(sentence: str, status: int = OWN_FAULT) -> None:
    """
    Say why, and end.

    @raise SystemExit: always.
    """
    say(sentence)
    raise SystemExit(status)


def say(sentence: str) -> None:
    """One of nanotun's own sentences, beside the command's output."""
    line = f"nanotun: {sentence}\n".encode("utf-8", "backslashreplace")
    try:
        os.write(2, line)
    except OSError:
        return  # Nobody listens: the terminal is gone, say.
