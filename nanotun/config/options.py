"""
The command line: C{twistd nanotun [options]}.

The flags come from L{nanotun.config.settings.KEYS}.  Reading the configuration file is
here too, with the checks that its owner and mode deserve: nanotun runs as root
and does what the file says.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import replace

from twisted.python import usage

from nanotun import __version__
from nanotun.config.file import Given, parseFile
from nanotun.config.keys import KEYS, Key
from nanotun.config.password import PASSWORD_VARIABLE, addPassword, wantsPassword
from nanotun.config.settings import Settings, flagValue, makeSettings
from nanotun.errors import ConfigError

#: Bytes.  A configuration is a page of text; more is the wrong file, and YAML
#: takes a second of start-up for each megabyte.
FILE_LIMIT = 1 << 20

#: Seconds; who is cut off is not to wait longer for his machine.
CONFIRM_LIMIT = 3600

#: The flags of settings of several values, which may be given several times.
LISTS = ("proxy", "dns", "fake-ip-exclude", "exclude", "exclude-ip")

#: The flags that take no value, and have a --no- of their own.
SWITCHES = ("auto-route",)


def readFile(
    path: str, uid: int, what: str = "configuration", flag: str = "--config"
) -> tuple[str, bool]:
    """
    Read a configuration or password file, if nobody else can have written it.

    @param uid: the effective user id of this process.
    @param what: which kind, for errors.
    @param flag: what names the file, for errors.
    @return: the text, and whether others can read it.
    @raise ConfigError: the file is missing, unreadable, unsafe or too long.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            _checkSafe(f"The {what} file {path}", path, status, uid)
            data = file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(
            f"The {what} file {path} cannot be read ({error.strerror}); "
            f"check the path after {flag}."
        ) from None
    if len(data) > FILE_LIMIT:
        raise ConfigError(
            f"The {what} file {path} is longer than 1 MiB; check the path after {flag}."
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: this is not UTF-8; save it as UTF-8.") from None
    return text, bool(status.st_mode & stat.S_IROTH)


def _checkSafe(file: str, path: str, status: os.stat_result, uid: int) -> None:
    if status.st_uid not in (0, uid):
        raise ConfigError(
            f"{file} belongs to another user (uid {status.st_uid}), who "
            f"could change what nanotun does as root; run 'chown root {path}'."
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"{file} can be written by others, who could change what "
            f"nanotun does as root; run 'chmod go-w {path}'."
        )


def _helpOf(key: Key) -> str:
    return key.help if key.default in (None, "") else f"{key.help} [default: {key.default}]"


class Options(usage.Options):
    """
    twistd's view of the settings.

    @ivar settings: the L{Settings}, once the options were parsed.
    @ivar confirm: seconds until everything is taken back if nobody confirms, or 0.
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
        *(
            [key.flag, None, None, _helpOf(key)]
            for key in KEYS.values()
            if key.flag not in LISTS + SWITCHES
        ),
        [
            "confirm",
            None,
            None,
            "with --auto-route: take everything back after this many seconds, unless "
            "'nanotun confirm' is called before",
        ],
    ]

    settings: Settings
    confirm = 0
    notices: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.update(dict.fromkeys(LISTS + SWITCHES))

    def opt_dns(self, servers: str) -> None:
        """Another server; the help is set below."""
        self._extend("dns", servers)

    def opt_fake_ip_exclude(self, names: str) -> None:
        """More names; the help is set below."""
        self._extend("fake-ip-exclude", names)

    def opt_proxy(self, proxies: str) -> None:
        """Another proxy; the help is set below."""
        self._extend("proxy", proxies)

    def opt_exclude(self, processes: str) -> None:
        """More processes; the help is set below."""
        self._extend("exclude", processes)

    def opt_exclude_ip(self, networks: str) -> None:
        """More networks; the help is set below."""
        self._extend("exclude-ip", networks)

    def opt_auto_route(self) -> None:
        """The help is set below."""
        self["auto-route"] = "true"

    def opt_no_auto_route(self) -> None:
        """Change no route, whatever the configuration file says."""
        self["auto-route"] = "false"

    opt_auto_route.__doc__ = KEYS["autoDefaultRoute"].help
    opt_exclude.__doc__ = f"{_helpOf(KEYS['excludedProcesses'])}; may be given several times"
    opt_exclude_ip.__doc__ = f"{_helpOf(KEYS['excludedIPs'])}; may be given several times"
    opt_dns.__doc__ = f"{_helpOf(KEYS['dns'])}; may be given several times"
    opt_fake_ip_exclude.__doc__ = f"{_helpOf(KEYS['fakeIpExclude'])}; may be given several times"
    opt_proxy.__doc__ = f"{_helpOf(KEYS['proxy'])}; may be given several times"

    def _extend(self, flag: str, text: str) -> None:
        self[flag] = text if self[flag] is None else f"{self[flag]},{text}"

    def readSettings(self, uid: int, environment: Mapping[str, str]) -> None:
        """
        Read the files, merge the flags and set L{settings} and L{notices}.

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
        self._readConfirm()
        inURL = any(proxy.password is not None for proxy in self.settings.proxy)
        if inURL and "proxy" in flagValues:
            self.notices += (
                "The proxy's password is on the command line, where every user of this machine "
                "can read it; put the proxy into a configuration file.",
            )
        elif inURL and readable:
            self.notices += (
                f"The configuration file {path} holds the proxy's password and every user of "
                f"this machine can read it; run 'chmod o-r {path}'.",
            )
        self._findPassword(uid, environment)

    def _readConfirm(self) -> None:
        text: str | None = self["confirm"]
        if text is None:
            return
        if not re.fullmatch("[0-9]{1,4}", text) or not 5 <= int(text) <= CONFIRM_LIMIT:
            raise ConfigError(
                f"--confirm must be a whole number of seconds from 5 to {CONFIRM_LIMIT}, "
                f"not {text[:20]!a}."
            )
        if not self.settings.autoDefaultRoute:
            raise ConfigError("--confirm is for --auto-route: without it no route is changed.")
        self.confirm = int(text)

    def _findPassword(self, uid: int, environment: Mapping[str, str]) -> None:
        """Look for the password that proxies' URLs leave out."""
        path = self.settings.proxyPasswordFile
        if not any(wantsPassword(proxy) for proxy in self.settings.proxy):
            if path:
                self.notices += (
                    f"The password file {path} is not used, because no proxy has a user name "
                    "that lacks a password.",
                )
            return
        text, where = environment.get(PASSWORD_VARIABLE, ""), PASSWORD_VARIABLE
        if path:
            where = f"The password file {path}"
            text, readable = readFile(path, uid, "password", "proxyPasswordFile")
            if readable:
                self.notices += (
                    f"Every user of this machine can read the password file {path}; "
                    f"run 'chmod o-r {path}'.",
                )
        elif not text:
            return
        proxies = tuple(
            addPassword(proxy, text, where) if wantsPassword(proxy) else proxy
            for proxy in self.settings.proxy
        )
        self.settings = replace(self.settings, proxy=proxies)

    def postOptions(self) -> None:
        """
        Read the settings.

        @raise SystemExit: with the error's sentence, status 1.  A
            C{UsageError} would bury the sentence under all of twistd's help.
        """
        try:
            self.readSettings(os.geteuid(), os.environ)
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
