"""
The command line of C{nanotun run}.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from twisted.python import usage

from nanotun.cell.command import OWN_FAULT, CommandUser
from nanotun.cell.passages import Port
from nanotun.cell.users import findUser
from nanotun.config.askedservers import mayGoBare
from nanotun.config.file import Given
from nanotun.config.keys import KEYS
from nanotun.config.notices import systemThroughProxy
from nanotun.config.options import Options, helpOf
from nanotun.config.rulecheck import neverMatch, neverUsed
from nanotun.config.secretfiles import FILE_VARIABLES
from nanotun.config.upstreams import allProxies, withFields
from nanotun.console.run.openings import NO_PROXY, allProxy, directOf, openings, openLine
from nanotun.console.run.ports import checkApart, hostPort, openedBy, published
from nanotun.console.screen import bySubject, screen
from nanotun.errors import ConfigError
from nanotun.linux.users import nameOf
from nanotun.upstream.scheme import sendsNamesWith

#: The daemon's options that are an error here.
REFUSED = (*(key.flag for key in KEYS.values() if key.run.refused), "confirm")

_PROXY = KEYS["proxy"].variable
_PROXY_VARIABLES = (_PROXY, FILE_VARIABLES[_PROXY])


def _shown() -> dict[str, str]:
    """What the help explains, in its order; it only names the other options."""
    required: dict[str, str] = {}
    optional: dict[str, str] = {}
    for key in KEYS.values():
        if key.run.help:
            lines = required if key.default is None else optional
            lines[f"--{key.flag} {key.run.metavar}"] = key.run.help
    return {
        **required,
        "-c, --config FILE": "take the settings from a configuration file; it cannot open a way "
        "past the proxy, and what it says about routes, processes and logs is not used",
        "-u, --user NAME": "run COMMAND as this user, with its groups and HOME",
        **optional,
        "--publish PORT": "let connections from this machine reach a port that COMMAND listens on; "
        "more: [ADDRESS:][PORT:]PORT",
        "--host-port PORT": "let COMMAND reach a port of this machine's loopback at its own; more: "
        "[PORT:]PORT, of which the first is COMMAND's",
        "--allow-direct": "let what the script, a rule, an upstream or dns sends direct go past "
        "the proxy",
        "--keep-proxy-env": "leave http_proxy, https_proxy, all_proxy and no_proxy to COMMAND",
        "--help": "this text",
    }


def _others() -> dict[str, str]:
    """What the first part of the help leaves out."""
    return {
        f"--{key.flag}" if key.switch else f"--{key.flag} {key.metavar}": helpOf(key)
        for key in KEYS.values()
        if not key.run.help and not key.run.refused
    }


#: What the first screen of the help explains.
_EXPLAINED = {
    "--proxy URL": "the proxy, such as socks5://host:1080",
    "-c, --config FILE": "take the settings from a configuration file",
    "-u, --user NAME": "run COMMAND as this user, with its groups and HOME",
}

#: The options that it does not name as those of this word.
_COMMON = {"config", "user", "confirm", "help", "version", *(key.flag for key in KEYS.values())}

_WHAT = (
    "Runs COMMAND in a network of its own, whose only way out is the proxy. Nothing on this "
    "machine is changed, and nothing is left behind."
)

_STATUS = (
    "Exit status: COMMAND's, or 128 and the number of the signal that ended it; 127: not found; "
    "126: not executable; 125: nanotun's own trouble."
)

_HELP = """\

Runs COMMAND in a network of its own, whose only way out is the proxy. Nothing
on this machine is changed, and nothing is left behind.

{shown}

Exit status: COMMAND's, or 128 and the number of the signal that ended it;
127: not found; 126: not executable; 125: nanotun's own trouble.
"""


class RunOptions(Options):
    """
    The daemon's options that make sense for one command.

    @ivar refused: the daemon's options that are an error here.
    @ivar command: the command and its arguments.
    @ivar user: the user that the command runs as; L{None} for the caller.
    @ivar ports: what C{--publish} and C{--host-port} ask for.
    @ivar tellsAll: whether log lines were asked for.
    @ivar ignored: the settings that a file or a variable would have opened more by.
    @ivar warnings: sentences to say whatever the log level is.
    """

    synopsis = "Usage: nanotun run [options] -- COMMAND [ARGUMENT ...]"

    # For the manual; the help has a text of its own.
    longdesc = (
        "Runs COMMAND in a network of its own, whose only way out is the proxy. Nothing on this "
        f"machine is changed, so there is no --{', --'.join(REFUSED[:-1])} or --{REFUSED[-1]}. "
        "Exit status: COMMAND's, or 128 and the number of the signal that ended it; 127: not "
        "found; 126: not executable; 125: nanotun's own trouble."
    )

    optParameters = [
        ["user", "u", None, "run COMMAND as this user, a name or a number; its groups and HOME too"]
    ]

    optFlags = [
        [
            "keep-proxy-env",
            None,
            "leave http_proxy, https_proxy, all_proxy and no_proxy to COMMAND",
        ],
        [
            "allow-direct",
            None,
            "let what the script, a rule, an upstream or dns sends direct go past the proxy",
        ],
    ]

    refused = REFUSED
    mixed = False
    defaultFile = ""
    command: tuple[str, ...] = ()
    user: CommandUser | None = None
    ports: tuple[Port, ...] = ()
    tellsAll = False
    ignored: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def opt_publish(self, text: str) -> None:
        """
        let connections from outside reach a TCP port that COMMAND listens on, without ADDRESS those
        from this machine only: [ADDRESS:][PORT:]PORT; may be given several times
        """
        self._addPort(published, text)

    def opt_host_port(self, text: str) -> None:
        """
        let COMMAND reach a TCP port of this machine's loopback at its own: [PORT:]PORT, of which
        the first is COMMAND's; may be given several times
        """
        self._addPort(hostPort, text)

    def _addPort(self, read: Callable[[str], Port], text: str) -> None:
        try:
            self.ports += (read(text),)
            checkApart(self.ports)
        except ConfigError as error:
            raise usage.UsageError(str(error)) from None

    def getUsage(self, width: int | None = None) -> str:
        """The help: one screen, or all of it after C{--help all}."""
        if not self.whole:
            left = {"proxy", *self.refused}
            own = [each.rstrip("=") for each in self.longOpt if each.rstrip("=") not in _COMMON]
            return screen("run", _WHAT, _EXPLAINED, bySubject(left, {"general": own}), _STATUS)
        shown = []
        for flag, text in {**_shown(), **_others()}.items():
            first, *more = textwrap.wrap(text, 54)
            begin = [f"  {flag:22}{first}"] if len(flag) < 22 else [f"  {flag}", f"{'':24}{first}"]
            shown += [*begin, *(" " * 24 + line for line in more)]
        return _HELP.format(shown="\n".join(shown))

    @property
    def keepsProxyEnv(self) -> bool:
        """Whether the command gets the variables that programs take their proxy from."""
        return bool(self["keep-proxy-env"])

    @property
    def known(self) -> dict[str, str]:
        """What the fields of an upstream's user name stand for: no process is looked for here."""
        uid = os.geteuid() if self.user is None else self.user.uid
        known = {"uid": str(uid), "process": os.path.basename(self.command[0])}
        # Only then, because a user's name may be asked of daemons, or of other machines.
        if any("user" in fields for fields in withFields(self.settings).values()):
            known["user"] = nameOf(uid)
        return known

    @property
    def allowsDirect(self) -> bool:
        """Whether the script, a rule, an upstream or dns may send something past the proxy."""
        return bool(self["allow-direct"])

    def parseArgs(self, *args: str) -> None:
        """Keep the command."""
        self.command = args

    def readSettings(self, uid: int, environment: Mapping[str, str]) -> None:
        """
        See L{Options.readSettings}.  What the file, or the environment, says about this
        machine is left out, so that those of the daemon can be used.
        """
        for flag in self.refused:
            if self[flag] is not None:
                raise ConfigError(
                    f"--{flag} has no meaning for 'nanotun run': COMMAND has a network of its "
                    "own, and nothing of this machine's is changed; leave it out."
                )
        if (
            self["proxy"] is None
            and self["config"] is None
            and not any(environment.get(each) for each in _PROXY_VARIABLES)
            and allProxy(environment) is None
        ):
            raise ConfigError(NO_PROXY)
        super().readSettings(uid, environment)
        self.tellsAll = "logLevel" in self.given
        self._fixValues()
        for beginning in directOf(self.settings):
            if not self.allowsDirect:
                raise ConfigError(f"{beginning}; give --allow-direct if that is meant.")
        self.warnings = (
            *systemThroughProxy(self.settings),
            *neverUsed(self.settings),
            *neverMatch(self.settings, inRun=True),
        )
        if self["user"] is not None:
            self.user = findUser(self["user"])
            if uid not in (0, self.user.uid):
                raise ConfigError(
                    f"--user: {nameOf(uid)} cannot run COMMAND as another user, which only root "
                    "can; leave it out, or run nanotun by sudo."
                )
        if not self.command:
            raise ConfigError(
                "there is no command to run; write it last, as in "
                "'nanotun run --proxy socks5://host:port -- curl https://example.org'."
            )

    def settingNotices(self) -> tuple[str, ...]:
        """None: what these settings need is refused here, or COMMAND's network has it."""
        return ()

    def fallback(self, environment: Mapping[str, str]) -> dict[str, Given]:
        """See L{Options.fallback}: the proxy that other programs would use."""
        found = allProxy(environment)
        return {} if found is None else {"proxy": found}

    def _fixValues(self) -> None:
        """
        Close every way past the proxy that no flag opens, and note what that changes.  An
        upstream that queries are sent through opens none, unless it is a way past itself.
        """
        fixed: dict[str, Any] = {}
        ignored = []
        for key in KEYS.values():
            counts = self.flags if key.run.guarded else self.given
            if key.fixedInRun is None or (key.name in counts and not key.run.refused):
                continue
            if key.name == "dnsVia" and not mayGoBare(self.settings, self.settings.dnsVia):
                continue
            fixed[key.name] = key.check(key.fixedInRun)
            if key.run.guarded and key.name in self.given | self.filed:
                if getattr(self.settings, key.name) != fixed[key.name]:
                    ignored.append(key.name)
        if "dnsMode" not in self.given | self.filed:
            takeNames = all(sendsNamesWith(url.scheme, True) for url in allProxies(self.settings))
            fixed["dnsMode"] = "fake-ip" if takeNames else "normal"
        self.settings = replace(self.settings, **fixed)
        self.ignored = tuple(ignored)

    def openLine(self) -> str:
        """
        The line about what is open past the proxy; empty if there is nothing to say.
        """
        opened = (*openings(self.settings, self.allowsDirect), *openedBy(self.ports))
        if not (opened or self.ignored or self.tellsAll):
            return ""
        given = [name for name in self.ignored if name in self.given]
        sources = [self["config"]] if len(given) < len(self.ignored) else []
        sources += ["variables"] if given else []
        return openLine(opened, self.ignored, " or ".join(sources))

    def postOptions(self) -> None:
        """
        Read the settings.

        @raise SystemExit: with status L{OWN_FAULT}, after the error's sentence is printed.
        """
        try:
            self.readSettings(os.geteuid(), os.environ)
        except ConfigError as error:
            fail(str(error))


def fail(sentence: str, status: int = OWN_FAULT) -> None:
    """
    Print why, and exit.

    @raise SystemExit: always.
    """
    say(sentence)
    raise SystemExit(status)


def say(sentence: str) -> None:
    """
    Print one of nanotun's own sentences, beside the command's output.  A process chooses
    its own name, so no control character in it may reach the terminal.
    """
    shown = "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in sentence)
    line = f"nanotun: {shown}\n".encode("utf-8", "backslashreplace")
    try:
        os.write(2, line)
    except OSError:
        return  # Nobody reads it: perhaps the terminal is gone.
