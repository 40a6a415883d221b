"""
The command line: C{twistd nanotun [options]}.

The flags come from L{nanotun.config.KEYS}.  Reading the configuration file is
here too, with the checks that its owner and mode deserve: nanotun runs as root
and does what the file says.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from twisted.python import usage

from nanotun import __version__
from nanotun.config import KEYS, Key, Settings, flagValue, makeSettings
from nanotun.configfile import Given, parseFile
from nanotun.errors import ConfigError

#: Bytes.  A configuration is a page of text; more is the wrong file, and YAML
#: takes a second of start-up for each megabyte.
FILE_LIMIT = 1 << 20

#: Settings of several values, whose flags may be given several times.
LISTS = ("proxy", "dns")


def readFile(path: str, uid: int) -> tuple[str, bool]:
    """
    Read a configuration file, if nobody else can have written it.

    @param uid: the effective user id of this process.
    @return: the text, and whether others can read it.
    @raise ConfigError: the file is missing, unreadable, unsafe or too long.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            _checkSafe(path, status, uid)
            data = file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(
            f"The configuration file {path} cannot be read ({error.strerror}); "
            "check the path after --config."
        ) from None
    if len(data) > FILE_LIMIT:
        raise ConfigError(
            f"The configuration file {path} is longer than 1 MiB; check the path after --config."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: this is not UTF-8; save it as UTF-8.") from None
    return text, bool(status.st_mode & stat.S_IROTH)


def _checkSafe(path: str, status: os.stat_result, uid: int) -> None:
    if status.st_uid not in (0, uid):
        raise ConfigError(
            f"The configuration file {path} belongs to another user (uid {status.st_uid}), who "
            f"could change what nanotun does as root; run 'chown root {path}'."
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"The configuration file {path} can be written by others, who could change what "
            f"nanotun does as root; run 'chmod go-w {path}'."
        )


def _helpOf(key: Key) -> str:
    return key.help if key.default is None else f"{key.help} [default: {key.default}]"


class Options(usage.Options):
    """
    twistd's view of the settings.

    @ivar settings: the L{Settings}, once the options were parsed.
    @ivar notices: sentences that are worth a warning once logging has begun.
    """

    longdesc = (
        "Sends what arrives on a TUN device through a proxy. Every option but --config can also "
        "stand in the configuration file; an option given here wins."
    )

    optParameters = [
        ["config", "c", None, "YAML configuration file"],
        # The default is in the text: as a value it could not be told from a
        # flag that was given, and only that one may win over the file.
        *([key.flag, None, None, _helpOf(key)] for key in KEYS.values() if key.name not in LISTS),
    ]

    settings: Settings
    notices: Sequence[str] = ()

    def __init__(self) -> None:
        super().__init__()
        self.update(dict.fromkeys(LISTS))

    def opt_dns(self, servers: str) -> None:
        """Another server; the help is set below."""
        self._extend("dns", servers)

    def opt_proxy(self, proxies: str) -> None:
        """Another proxy; the help is set below."""
        self._extend("proxy", proxies)

    opt_dns.__doc__ = f"{_helpOf(KEYS['dns'])}; may be given several times"
    opt_proxy.__doc__ = f"{_helpOf(KEYS['proxy'])}; may be given several times"

    def _extend(self, name: str, text: str) -> None:
        self[name] = text if self[name] is None else f"{self[name]},{text}"

    def readSettings(self, uid: int) -> None:
        """
        Read the file, merge the flags and set L{settings} and L{notices}.

        @param uid: the effective user id of this process.
        @raise ConfigError: with one sentence for the user.
        """
        path: str | None = self["config"]
        fileValues: dict[str, Given] = {}
        readable = False
        if path is not None:
            text, readable = readFile(path, uid)
            fileValues = parseFile(text, path, KEYS)
        flagValues = {
            key.name: flagValue(key, self[key.flag])
            for key in KEYS.values()
            if self[key.flag] is not None
        }
        self.settings = makeSettings(fileValues, flagValues, path)
        if all(proxy.password is None for proxy in self.settings.proxy):
            return
        if "proxy" in flagValues:
            self.notices = (
                "The proxy's password is on the command line, where every user of this machine "
                "can read it; put the proxy into a configuration file.",
            )
        elif readable:
            self.notices = (
                f"The configuration file {path} holds the proxy's password and every user of "
                f"this machine can read it; run 'chmod o-r {path}'.",
            )

    def postOptions(self) -> None:
        """
        Read the settings.

        @raise SystemExit: with the error's sentence, status 1.  A
            C{UsageError} would bury the sentence under all of twistd's help.
        """
        try:
            self.readSettings(os.geteuid())
        except ConfigError as error:
            raise SystemExit(f"nanotun: {error}") from None

    def opt_version(self) -> None:
        """Display nanotun's version and exit."""
        print(f"nanotun {__version__}")
        raise SystemExit(0)

    def parseArgs(self, *args: str) -> None:
        """There are options only."""
        if args:
            raise usage.UsageError(f"there is no argument {args[0]!r}; every option begins with --")
