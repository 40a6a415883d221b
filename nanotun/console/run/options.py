"""
The command line of C{nanotun run}.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from dataclasses import replace

from nanotun.cell.command import OWN_FAULT, CommandUser
from nanotun.cell.users import findUser
from nanotun.config.keys import KEYS
from nanotun.config.options import Options
from nanotun.errors import ConfigError

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


#: What the help explains; the others it only names.
SHOWN = {
    "--proxy URL": "the way out: socks5, socks5h, socks4, socks4a, http or https "
    "://[user:password@]host[:port]; the only option that must be given",
    "-c, --config FILE": "take the settings from a configuration file; what it says of routes, "
    "processes and logs is not used",
    "-u, --user NAME": "run COMMAND as this user, with his groups and HOME",
    "--dns ADDRESS": "the DNS server that is asked, past the proxy [8.8.8.8]",
    "--dns-mode fake-ip": "have the proxy look up the names instead",
    "--lan proxy": "send private addresses to the proxy as well [direct]",
    "--exclude-ip NETWORK": "addresses that are reached past the proxy",
    "--log-level LEVEL": "show log lines: debug, info or warn [errors only]",
    "--log-dir DIR": "write log lines to files there [none]",
    "--help": "this text",
}

_HELP = """\

Runs COMMAND in a network of its own, whose only way out is the proxy. Nothing
of this machine's is changed, and nothing is left behind.

{shown}

As for the daemon: {others}.

Exit status: COMMAND's, or 128 and the number of the signal that ended it;
127: not found; 126: not executable; 125: nanotun's own trouble.
"""


class RunOptions(Options):
    """
    Those of the daemon that make sense for one command.

    @ivar refused: flags of the daemon's that are an error here.
    @ivar command: the command and its arguments.
    @ivar user: whom it runs as; L{None} for whoever called.
    @ivar tellsAll: whether log lines were asked for.
    """

    synopsis = "Usage: nanotun run [options] -- COMMAND [ARGUMENT ...]"

    # For the manual; the help has its own way to say so.
    longdesc = (
        "Runs COMMAND in a network of its own, whose only way out is the proxy. Nothing of this "
        f"machine's is changed, so there is no --{', --'.join(REFUSED[:-1])} or --{REFUSED[-1]}. "
        "Exit status: COMMAND's, or 128 and the number of the signal that ended it; 127: not "
        "found; 126: not executable; 125: nanotun's own trouble."
    )

    optParameters = [
        ["user", "u", None, "run COMMAND as this user, a name or a number; its groups and HOME too"]
    ]

    refused = REFUSED
    command: tuple[str, ...] = ()
    user: CommandUser | None = None
    tellsAll = False

    def getUsage(self, width: int | None = None) -> str:
        """The help: one screen."""
        shown = []
        for flag, text in SHOWN.items():
            first, *more = textwrap.wrap(text, 54)
            shown += [f"  {flag:22}{first}", *(" " * 24 + line for line in more)]
        named = {word.strip(",").lstrip("-") for flag in SHOWN for word in flag.split()}
        others = [
            f"--{key.flag}"
            for key in KEYS.values()
            if key.flag not in named and key.flag not in REFUSED
        ]
        text = _HELP.format(shown="\n".join(shown), others=", ".join(others))
        return "\n".join(
            "\n".join(textwrap.wrap(line, 80, break_on_hyphens=False)) if "As for" in line else line
            for line in text.split("\n")
        )

    def parseArgs(self, *args: str) -> None:
        """The command."""
        self.command = args

    def readSettings(self, uid: int, environment: Mapping[str, str]) -> None:
        """
        See L{Options.readSettings}.  What a file says of the machine is left out: the
        daemon's own file can be used.
        """
        for flag in self.refused:
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
    """
    One of nanotun's own sentences, beside the command's output.  Processes' names are
    their own choice: no control character of theirs reaches the terminal.
    """
    shown = "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in sentence)
    line = f"nanotun: {shown}\n".encode("utf-8", "backslashreplace")
    try:
        os.write(2, line)
    except OSError:
        return  # Nobody listens: the terminal is gone, say.
