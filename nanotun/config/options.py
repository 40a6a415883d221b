"""
The command line: C{twistd nanotun [options]}.

The flags come from L{nanotun.config.keys.KEYS}.  This module also reads the configuration
file and checks its owner and mode, because nanotun runs as root and does what the file
says.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import BinaryIO

from twisted.python import usage

from nanotun import __version__
from nanotun.config.arguments import ArrangedOptions
from nanotun.config.entry import Key
from nanotun.config.file import Given, parseFile
from nanotun.config.keys import KEYS
from nanotun.config.notices import (
    fakesUnused,
    metricsShown,
    serversExcluded,
    systemThroughProxy,
    unguarded,
    unmetNeeds,
    webShown,
)
from nanotun.config.rulecheck import neverMatch, neverUsed
from nanotun.config.secretfiles import FILE_VARIABLES, fileSentence, readSecrets
from nanotun.config.settings import (
    Settings,
    flagValue,
    makeSettings,
    strayVariables,
    variableValues,
)
from nanotun.config.upstreamentries import PROXY
from nanotun.config.upstreams import upstreamsOf
from nanotun.errors import ConfigError, WrongOption
from nanotun.interfaces import ProxyURL, UpstreamSettings
from nanotun.linux.container import inContainer
from nanotun.upstream.url import PASSWORD_VARIABLE, addPassword, wantsPassword

#: Bytes.  A configuration is a page of text, or some megabytes if it has many networks;
#: anything longer is the wrong file.
FILE_LIMIT = 8 << 20

#: The file that is read where neither a file nor a proxy is given.
DEFAULT_FILE = "/etc/nanotun.yaml"

#: Seconds; a user who has cut himself off should not wait longer for his machine.
CONFIRM_LIMIT = 3600

#: What to do about a file that cannot be read: one that the user has named, and the
#: default one.
PATH_ADVICE = "check the path after --config"
DEFAULT_ADVICE = "try it with sudo, or give --config FILE or --proxy URL"

#: Variables that are not of a setting: the last is the init script's.
OTHER_VARIABLES = (PASSWORD_VARIABLE, *FILE_VARIABLES.values(), "NANOTUN_DEFAULTS")


def readFile(
    path: str, uid: int, what: str = "configuration", advice: str = PATH_ADVICE
) -> tuple[str, bool]:
    """
    Read a configuration or password file, if nobody else can have written it.

    @param uid: the effective user id of this process.
    @param what: the kind of file, for errors.
    @param advice: what to do if it cannot be read, for errors.
    @return: the text, and whether others can read it.
    @raise ConfigError: the file is missing, unreadable, unsafe or too long.
    """
    with openSafe(path, uid, what, advice) as file:
        mode = os.fstat(file.fileno()).st_mode
        data = file.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise ConfigError(f"The {what} file {path} is longer than 8 MiB; {advice}.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: this is not UTF-8; save it as UTF-8.") from None
    return text, bool(mode & stat.S_IROTH)


@contextmanager
def openSafe(path: str, uid: int, what: str, advice: str) -> Iterator[BinaryIO]:
    """
    Open a file, if nobody else can have written it, for as long as a C{with} statement.

    @param uid: see L{readFile}, and so C{what} and C{advice}.
    @raise ConfigError: the file is missing, unreadable or unsafe; or it cannot be read in the
        C{with} statement.
    """
    try:
        with open(path, "rb") as file:
            _checkSafe(f"The {what} file {path}", path, os.fstat(file.fileno()), uid)
            yield file
    except OSError as error:
        raise ConfigError(
            f"The {what} file {path} cannot be read ({error.strerror}); {advice}."
        ) from None


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


def _readSecret(uid: int, path: str, advice: str) -> str:
    """Read a file with a secret; see L{readSecrets}."""
    if inContainer():
        # Compose mounts the file as it is on the machine, where it belongs to whoever wrote it.
        with suppress(OSError):
            uid = os.stat(path).st_uid
    # That every user can read it is no warning: containers are given secrets like this.
    return readFile(path, uid, "secret", advice)[0]


def helpOf(key: Key) -> str:
    """The help of its option: one line, with the default."""
    help = key.help
    if key.default not in (None, ""):
        help = f"{help} [default: {key.default}]"
    return f"{help}; may be given several times" if key.repeats else help


class Options(ArrangedOptions):
    """
    twistd's view of the settings.

    @ivar settings: the L{Settings}, once the options were parsed.
    @ivar given: the names of the settings that a flag or an environment variable sets.
    @ivar flags: the names of the settings that a flag sets.
    @ivar filed: the names of the settings that the file sets.
    @ivar written: what the user has written, by the names of settings.
    @ivar confirm: seconds until all changes are taken back unless the user confirms them,
        or 0.
    @ivar notices: sentences to log as warnings once logging has begun.
    @ivar defaultFile: the file that is read, if it is there, where neither a file nor a proxy
        is given; empty for none.
    @ivar defaulted: whether it was.
    """

    longdesc = (
        "Sends what arrives on a TUN device through a proxy. Every option but --config and "
        "--confirm can also be given in an environment variable, such as NANOTUN_MTU for mtu, or "
        "in the configuration file. An option wins over a variable, and that over the file. "
        f"{fileSentence()} A switch is --x, --no-x or --x=true|false."
    )

    optParameters = [
        ["config", "c", None, "YAML configuration file"],
        # The default is part of the help only.  As a value it could not be distinguished from
        # a flag that was given, and only such a flag may win over variables and the file.
        *([key.flag, None, None, helpOf(key)] for key in KEYS.values() if not key.repeats),
        [
            "confirm",
            None,
            None,
            "with --auto-route: take everything back after this many seconds, unless "
            "'nanotun confirm' is called before",
        ],
    ]

    switches = frozenset(key.flag for key in KEYS.values() if key.switch)

    settings: Settings
    given: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()
    filed: frozenset[str] = frozenset()
    written: Mapping[str, Given] = {}
    confirm = 0
    notices: tuple[str, ...] = ()
    defaultFile = DEFAULT_FILE
    defaulted = False

    def __init__(self) -> None:
        super().__init__()
        self.update((key.flag, None) for key in KEYS.values() if key.repeats)

    def takeDefault(self) -> None:
        """Set C{config} to L{defaultFile} if that is to be read; again if called again."""
        missing = self["config"] is None and self["proxy"] is None
        if missing and self.defaultFile and os.path.lexists(self.defaultFile):
            self["config"], self.defaulted = self.defaultFile, True

    @property
    def source(self) -> str:
        """Where the settings are from, as a sentence; empty if the user has said so."""
        if not self.defaulted:
            return ""
        return (
            f"The configuration is {self['config']}, because neither --config nor --proxy was "
            "given."
        )

    def readSettings(self, uid: int, environment: Mapping[str, str]) -> None:
        """
        Read the files, merge them with flags and variables, and set L{settings}, L{given},
        L{flags}, L{filed} and L{notices}.

        @param uid: the effective user id of this process.
        @param environment: the environment variables.
        @raise ConfigError: with one sentence for the user.
        """
        self.takeDefault()
        environment, places = readSecrets(environment, partial(_readSecret, uid))
        path: str | None = self["config"]
        fileValues: dict[str, Given] = {}
        readable = False
        if path is not None:
            advice = DEFAULT_ADVICE if self.defaulted else PATH_ADVICE
            text, readable = readFile(path, uid, advice=advice)
            fileValues = parseFile(text, path, KEYS)
        flagValues = {
            key.name: flagValue(key, self[key.flag])
            for key in KEYS.values()
            if self[key.flag] is not None
        }
        given = {**variableValues(environment, places), **flagValues}
        fallback = {} if path is not None else self.fallback(environment)
        self.settings = makeSettings(fileValues, {**fallback, **given}, path, self.defaultFile)
        self.given = frozenset(given)
        self.flags = frozenset(flagValues)
        self.filed = frozenset(fileValues)
        self.written = {**fileValues, **fallback, **given}
        self.notices += strayVariables(environment, OTHER_VARIABLES)
        self.notices += self.settingNotices()
        self._readConfirm()
        self.notices += self._exposed(path if readable else None)
        self._findPasswords(uid, environment, places.get(PASSWORD_VARIABLE, PASSWORD_VARIABLE))

    def fallback(self, environment: Mapping[str, str]) -> dict[str, Given]:
        """
        Values by key, for what neither a flag nor a variable sets; asked without a file only.
        """
        return {}

    def settingNotices(self) -> tuple[str, ...]:
        """Sentences about settings that do not do together what they promise."""
        checks = (
            unmetNeeds,
            serversExcluded,
            systemThroughProxy,
            fakesUnused,
            unguarded,
            metricsShown,
            webShown,
            neverUsed,
            neverMatch,
        )
        return tuple(sentence for check in checks for sentence in check(self.settings))

    def _readConfirm(self) -> None:
        text: str | None = self["confirm"]
        if text is None:
            return
        if not re.fullmatch("[0-9]{1,4}", text) or not 5 <= int(text) <= CONFIRM_LIMIT:
            raise WrongOption(
                f"--confirm must be a whole number of seconds from 5 to {CONFIRM_LIMIT}, "
                f"not {text[:20]!a}."
            )
        if not self.settings.autoDefaultRoute:
            raise WrongOption("--confirm is for --auto-route: without it no route is changed.")
        self.confirm = int(text)

    def _exposed(self, path: str | None) -> tuple[str, ...]:
        """
        Sentences about passwords in URLs that every user of this machine can read: at most
        one about the command line, and one about the file.

        @param path: the configuration file, if they all can read it.
        """
        found = {}
        named = tuple(url for each in self.settings.upstreams for url in each.proxy)
        for key, whose, urls in (
            ("proxy", "The proxy's password", self.settings.proxy),
            ("upstreams", "A proxy's password", named),
        ):
            if all(url.password is None for url in urls):
                continue
            if key in self.flags:
                found["flag"] = (
                    f"{whose} is on the command line, where every user of this machine can read "
                    "it; put the proxy into a configuration file."
                )
            elif path is not None and key not in self.given:
                found["file"] = (
                    f"The configuration file {path} holds {whose.lower()} and every user of this "
                    f"machine can read it; run 'chmod o-r {path}'."
                )
        return tuple(found.values())

    def _findPasswords(self, uid: int, environment: Mapping[str, str], place: str) -> None:
        """
        Look for the passwords that the proxies' URLs leave out.

        @param place: what to call the variable with the password in an error.
        """
        variable = environment.get(PASSWORD_VARIABLE, "")
        proxy, *named = (
            self._withPasswords(each, uid, variable if each.name == PROXY else "", place)
            for each in upstreamsOf(self.settings).values()
        )
        # An entry is kept as it was written but for its proxies.
        written = zip(self.settings.upstreams, named, strict=True)
        upstreams = tuple(each._replace(proxy=urls) for each, urls in written)
        self.settings = replace(self.settings, proxy=proxy, upstreams=upstreams)

    def _withPasswords(
        self, entry: UpstreamSettings, uid: int, variable: str, place: str
    ) -> tuple[ProxyURL, ...]:
        """
        The proxies of an upstream, with the password for those that lack one.

        @param variable: the password where there is no file.
        @param place: what to call that in an error.
        """
        path = entry.passwordFile
        ours = "" if entry.name == PROXY else f" of the upstream {entry.name}"
        if not any(wantsPassword(url) for url in entry.proxy):
            if path:
                self.notices += (
                    f"The password file {path} is not used, because no proxy{ours} has a user "
                    "name that lacks a password.",
                )
            return entry.proxy
        text, where = variable, place
        if path:
            where = f"The password file {path}"
            key = f"passwordFile of upstreams.{entry.name}" if ours else "proxyPasswordFile"
            text, readable = readFile(path, uid, "password", f"check the path after {key}")
            if readable:
                self.notices += (
                    f"Every user of this machine can read the password file {path}; "
                    f"run 'chmod o-r {path}'.",
                )
        elif not text:
            return entry.proxy
        return tuple(
            addPassword(url, text, where) if wantsPassword(url) else url for url in entry.proxy
        )

    def postOptions(self) -> None:
        """
        Read the settings.

        @raise SystemExit: with the error's sentence, for exit status 1.  A C{UsageError}
            would bury the sentence under all of twistd's help.
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
        """Refuse arguments: there are only options."""
        if args:
            raise usage.UsageError(f"there is no argument {args[0]!r}; every option begins with --")


def _repeatedOption(key: Key) -> Callable[[Options, str], None]:
    def option(options: Options, text: str) -> None:
        before: str | None = options[key.flag]
        between = "\n---\n" if key.structured else ","
        options[key.flag] = text if before is None else f"{before}{between}{text}"

    option.__doc__ = helpOf(key)
    return option


for _key in KEYS.values():
    if _key.repeats:
        setattr(Options, f"opt_{_key.flag.replace('-', '_')}", _repeatedOption(_key))
