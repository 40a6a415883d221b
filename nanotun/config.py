"""
The configuration: values from file and flags in, one frozen L{Settings} out.

Every setting stands once, in L{KEYS}: its name in the file, its flag, its
range, its default and its help.  Nothing here opens a file or looks at the
machine; L{nanotun.options} does.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from nanotun.configfile import Given
from nanotun.errors import ConfigError
from nanotun.proxyurl import ProxyURL, parseProxyURL

MTU_MIN = 1280  #: Bytes; RFC 8200, section 5: less cannot carry IPv6.
MTU_MAX = 65535  #: Bytes; what an IPv4 packet's length field can say.
CONNECT_TIMEOUT_MIN = 0.1  #: Seconds; less fails on proxies that are merely far away.
CONNECT_TIMEOUT_MAX = 300.0  #: Seconds; no app waits longer for a connection.
TUN_NAME_LIMIT = 15  #: Bytes; Linux, IFNAMSIZ less the closing zero.

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Settings:
    """
    The whole configuration; the names are those of the file.

    @ivar mtu: bytes.
    @ivar connectTimeout: seconds for connect, handshake and reply together.
    @ivar logDir: a path, or the empty string for no log files.
    @ivar proxyPasswordFile: a path, or the empty string for none.
    """

    proxy: ProxyURL
    tunName: str
    mtu: int
    stackMode: str
    offload: str
    connectTimeout: float
    logLevel: str
    logDir: str
    proxyPasswordFile: str


def parseDuration(text: str) -> float:
    """
    Read a duration as Go writes it, such as C{300ms}, C{1m} or C{2m30s}.

    @return: seconds.
    @raise ValueError: for anything else, a bare number included.
    """
    if not re.fullmatch(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|s|m|h))+", text):
        raise ValueError("not a duration")
    return sum(
        float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)(ms|s|m|h)", text)
    )


def _shown(value: object) -> str:
    """What the user wrote, on one line, short and without a password."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "a mapping"
    if not isinstance(value, str):
        return str(value)
    text = re.sub(r"[^\s/]*@", "***@", value)
    return ascii(text if len(text) <= 40 else text[:37] + "...")


def _choice(*choices: str) -> Callable[[object], str]:
    rule = f"must be {', '.join(choices[:-1])} or {choices[-1]}"

    def check(value: object) -> str:
        if isinstance(value, str) and value in choices:
            return value
        near = difflib.get_close_matches(str(value).lower(), choices, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ConfigError(f"{rule}, not {_shown(value)}{hint}")

    return check


def _mtu(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not MTU_MIN <= value <= MTU_MAX:
        raise ConfigError(
            f"must be a whole number of bytes from {MTU_MIN} to {MTU_MAX}, not {_shown(value)}"
        )
    return value


def _connectTimeout(value: object) -> float:
    rule = "must be a duration from 100ms to 5m, such as 10s or 1m30s"
    try:
        seconds = parseDuration(value) if isinstance(value, str) else None
    except ValueError:
        seconds = None
    if seconds is None or not CONNECT_TIMEOUT_MIN <= seconds <= CONNECT_TIMEOUT_MAX:
        raise ConfigError(f"{rule}, not {_shown(value)}")
    return seconds


def _tunName(value: object) -> str:
    # Linux, dev_valid_name(); '%' would make the kernel choose a number, and a
    # name has to be typed in a shell.
    valid = isinstance(value, str) and re.fullmatch(r"[!-~]+", value) and value not in (".", "..")
    if not valid or re.search("[/:%]", str(value)) or len(str(value)) > TUN_NAME_LIMIT:
        raise ConfigError(
            f"must be 1 to {TUN_NAME_LIMIT} ASCII characters without spaces, '/', ':' or '%', "
            f"not {_shown(value)}"
        )
    return str(value)


def _logDir(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ConfigError(
            f"must be a directory's path, or '' for no log files, not {_shown(value)}"
        )
    return value


def _passwordFile(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ConfigError(f"must be a file's path, or '' for none, not {_shown(value)}")
    return value


def _proxy(value: object) -> ProxyURL:
    if not isinstance(value, str):
        raise ConfigError("must be a URL, such as socks5://host:port")
    return parseProxyURL(value)


class Key(NamedTuple):
    """
    One setting.

    @ivar check: takes the value and returns what L{Settings} holds; raises
        L{ConfigError} with the end of a sentence, C{"must be ..."}.
    @ivar default: as it would stand in the file; L{None} if it must be given.
    @ivar metavar: what the help calls the value.
    """

    name: str
    flag: str
    check: Callable[[object], Any]
    default: str | int | None
    metavar: str
    help: str


KEYS = {
    key.name: key
    for key in (
        Key(
            "proxy",
            "proxy",
            _proxy,
            None,
            "socks5://host:port",
            "socks5, socks5h, socks4, socks4a, http or https ://[user:password@]host[:port]; "
            "direct:// for no proxy, reject:// for no connections",
        ),
        Key("tunName", "tun", _tunName, "nano0", "NAME", "name of the TUN device"),
        Key("mtu", "mtu", _mtu, 1500, "BYTES", f"MTU of the TUN device, {MTU_MIN} to {MTU_MAX}"),
        Key(
            "stackMode",
            "stack",
            _choice("gvisor", "simple"),
            "gvisor",
            "MODE",
            "packet engine: gvisor (everything) or simple (less overhead)",
        ),
        Key(
            "offload",
            "offload",
            _choice("auto", "on", "off"),
            "auto",
            "MODE",
            "segmentation offload: auto (try it at start), on or off",
        ),
        Key(
            "connectTimeout",
            "connect-timeout",
            _connectTimeout,
            "10s",
            "DURATION",
            "how long a connection may take to open, 100ms to 5m",
        ),
        Key(
            "logLevel",
            "log-level",
            _choice("debug", "info", "warn", "error"),
            "info",
            "LEVEL",
            "what to log: debug, info, warn or error",
        ),
        Key("logDir", "log-dir", _logDir, "logs", "DIR", "directory of the log files; '' for none"),
        Key(
            "proxyPasswordFile",
            "proxy-password-file",
            _passwordFile,
            "",
            "FILE",
            "file with the proxy's password, for a proxy with a user name only",
        ),
    )
}


def flagValue(key: Key, text: str) -> Given:
    """Make a flag's text comparable to a value from the file, where numbers are numbers."""
    number = isinstance(key.default, int) and re.fullmatch(r"[0-9]{1,9}", text)
    return Given(int(text) if number else text, f"--{key.flag}")


def makeSettings(
    fileValues: Mapping[str, Given], flagValues: Mapping[str, Given], fileName: str | None
) -> Settings:
    """
    Merge and check: a flag wins over the file, the file over the default.

    @param fileValues: by key, from L{nanotun.configfile.parseFile}.
    @param flagValues: by key, from L{flagValue}.
    @param fileName: the file's name, for errors; L{None} without a file.
    @raise ConfigError: with one sentence for the user.
    """
    merged = {**fileValues, **flagValues}
    values: dict[str, Any] = {}
    for key in KEYS.values():
        given = merged.get(key.name)
        if given is None and key.default is None:
            raise ConfigError(_missing(key, fileName))
        if given is None:
            given = Given(key.default, f"The default of {key.name}")
        try:
            values[key.name] = key.check(given.value)
        except ConfigError as error:
            raise ConfigError(f"{given.where} {error}.") from None
    return Settings(**values)


def _missing(key: Key, fileName: str | None) -> str:
    line = f"'{key.name}: {key.metavar}'"
    flag = f"--{key.flag} {key.metavar}"
    if fileName is None:
        return f"No {key.name} is set: give {flag}, or --config FILE with the line {line}."
    return f"{fileName}: no {key.name} is set; add the line {line} or give {flag}."
