"""
The checks of settings' values.  Each takes a value as the user wrote it and returns one of
the right type, or raises L{ConfigError} with the end of a sentence, C{"must be ..."}.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection
from ipaddress import ip_address
from typing import TypeVar

from nanotun.errors import ConfigError, EntryError
from nanotun.flow import Endpoint
from nanotun.interfaces import ProxyURL
from nanotun.upstream.schemes.table import parseProxyURL

_Number = TypeVar("_Number", int, float)

TUN_NAME_LIMIT = 15  #: Bytes; Linux, IFNAMSIZ without the closing zero.
PROXY_LIMIT = 16  #: Proxies; each is checked, and no flow tries more than two.

#: What errors repeat of a word that is wrong: anything else may be a URL with its password.
WORD = re.compile("[A-Za-z0-9_-]{1,40}")

#: Bytes by the unit of a size.
_SIZES = {unit: 1 << 10 * power for power, unit in enumerate(("KiB", "MiB", "GiB", "TiB"), 1)}

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parseDuration(text: str) -> float:
    """
    Parse a duration in Go's notation, such as C{300ms}, C{1m} or C{2m30s}.

    @return: seconds.
    @raise ValueError: for anything else, a bare number included.
    """
    if not re.fullmatch(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|s|m|h))+", text):
        raise ValueError("not a duration")
    return sum(
        float(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9.]+)(ms|s|m|h)", text)
    )


def parseSize(text: str) -> int:
    """
    Parse a size such as C{512KiB} or C{2 GiB}.

    @return: bytes.
    @raise ValueError: for anything else, a bare number included.
    """
    found = re.fullmatch(r"([0-9]{1,9}) ?(KiB|MiB|GiB|TiB)", text)
    if found is None:
        raise ValueError("not a size")
    return int(found[1]) * _SIZES[found[2]]


def shown(value: object) -> str:
    """A user's value on one line, shortened and without a password, for an error."""
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


def listed(words: Collection[str]) -> str:
    """The words of a list, as a sentence has them."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def unknownKey(key: str, known: Collection[str], what: str, *path: str | int) -> EntryError:
    """
    The error about a key that a mapping must not have.

    @param what: what the mapping is about, with its article.
    @param path: leads to the mapping.
    """
    near = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {listed(known)}"
    if not WORD.fullmatch(key):
        return EntryError(f"must have no settings but {listed(known)}", *path)
    return EntryError(f": there is no such setting of {what}; {hint}", *path, key)


class Choice:
    """
    One of several words.

    @ivar choices: the words.
    """

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def __call__(self, value: object) -> str:
        """@raise ConfigError: it is none of them."""
        if isinstance(value, str) and value in self.choices:
            return value
        near = difflib.get_close_matches(str(value).lower(), self.choices, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        rule = f"must be {', '.join(self.choices[:-1])} or {self.choices[-1]}"
        raise ConfigError(f"{rule}, not {shown(value)}{hint}")


def number(lowest: int, highest: int, what: str) -> Callable[[object], int]:
    """
    A whole number.

    @param what: what is counted, in the plural.
    """

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise ConfigError(
                f"must be a whole number of {what} from {lowest} to {highest}, not {shown(value)}"
            )
        return value

    return check


def boolean(value: object) -> bool:
    """C{true} or C{false}, as a boolean or as text."""
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    said = str(value).lower()
    near = "true" if said in ("on", "yes", "1") else "false" if said in ("off", "no", "0") else ""
    hint = f" (did you mean {near}?)" if near else ""
    raise ConfigError(f"must be true or false, not {shown(value)}{hint}")


def duration(lowest: str, highest: str, examples: str) -> Callable[[object], float]:
    """
    A duration in the notation of L{parseDuration}; the check returns seconds.

    @param lowest: the shortest one that is allowed, in the same notation.
    @param highest: the longest one.
    @param examples: for the error.
    """
    return _between("duration", parseDuration, lowest, highest, examples)


def size(lowest: str, highest: str, examples: str) -> Callable[[object], int]:
    """
    A size in the notation of L{parseSize}; the check returns bytes.

    @param lowest: the smallest one that is allowed, in the same notation.
    @param highest: the largest one.
    @param examples: for the error.
    """
    return _between("size", parseSize, lowest, highest, examples)


def _between(
    what: str, parse: Callable[[str], _Number], lowest: str, highest: str, examples: str
) -> Callable[[object], _Number]:
    least, most = parse(lowest), parse(highest)

    def check(value: object) -> _Number:
        try:
            found = parse(value) if isinstance(value, str) else None
        except ValueError:
            found = None
        if found is None or not least <= found <= most:
            raise ConfigError(
                f"must be a {what} from {lowest} to {highest}, such as {examples}, "
                f"not {shown(value)}"
            )
        return found

    return check


def listening(value: object) -> Endpoint | None:
    """A literal address and a port to listen at; L{None} for the empty string."""
    if value == "":
        return None
    rule = "must be an address and a port, such as 127.0.0.1:9198 or '[::1]:9198', or '' for none"
    found = re.fullmatch(r"(?:\[([^\]]+)\]|([^:]+)):([0-9]{1,5})", str(value))
    try:
        if found is None or not 1 <= int(found[3]) <= 65535:
            raise ValueError
        host = ip_address(found[1] or found[2])
        if (host.version == 6) != bool(found[1]):
            raise ValueError
    except ValueError:
        raise ConfigError(f"{rule}, not {shown(value)}") from None
    return Endpoint(str(host), int(found[3]))


def serving(value: object) -> Endpoint | str:
    """As L{listening}, or the path of a unix socket; the empty string for none."""
    text = str(value)
    if "\0" not in text and (not text or text.startswith("/")):
        return text
    try:
        return listening(value) or ""
    except ConfigError:
        raise ConfigError(
            "must be an address and a port, such as 127.0.0.1:8198 or '[::1]:8198', a socket's "
            f"path that begins with /, or '' for none, not {shown(value)}"
        ) from None


def tunName(value: object) -> str:
    """The name of a network interface."""
    # Linux, dev_valid_name().  A '%' would make the kernel choose a number.  The rest is
    # what can be typed in a shell.
    valid = isinstance(value, str) and re.fullmatch(r"[!-~]+", value) and value not in (".", "..")
    if not valid or re.search("[/:%]", str(value)) or len(str(value)) > TUN_NAME_LIMIT:
        raise ConfigError(
            f"must be 1 to {TUN_NAME_LIMIT} ASCII characters without spaces, '/', ':' or '%', "
            f"not {shown(value)}"
        )
    return str(value)


def upstreamName(value: object) -> str:
    """The name of an upstream; whether there is one of that name, the name does not show."""
    if not isinstance(value, str) or not value:
        raise ConfigError(f"must be the name of an upstream, not {shown(value)}")
    return value


def path(rule: str) -> Callable[[object], str]:
    """
    A path, or the empty string.

    @param rule: what the value must be, for the error.
    """

    def check(value: object) -> str:
        if not isinstance(value, str) or "\0" in value:
            raise ConfigError(f"must be {rule}, not {shown(value)}")
        return value

    return check


def wholePath(value: object) -> str:
    """The absolute path of a directory."""
    if not isinstance(value, str) or "\0" in value or not value.startswith("/"):
        raise ConfigError(f"must be a directory's path that begins with /, not {shown(value)}")
    return value


def wholeFile(value: object) -> str:
    """The absolute path of a file, or the empty string."""
    if not isinstance(value, str) or "\0" in value or (value and not value.startswith("/")):
        raise ConfigError(
            f"must be a file's path that begins with /, or '' for none, not {shown(value)}"
        )
    return value


def domains(value: object) -> tuple[str, ...]:
    """
    Domain names: a text with commas between them, or a list of such texts.

    @return: each once, in lower case, without dots at the ends.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise ConfigError(f"must be {_DOMAINS}, not {shown(value)}")
    names = [part.strip().strip(".").lower() for text in texts for part in text.split(",")]
    for name in names:
        if name and not re.fullmatch(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*", name):
            raise ConfigError(f"must be {_DOMAINS}, not {shown(name)}")
    return tuple(dict.fromkeys(name for name in names if name))


_DOMAINS = "domain names, such as lan or intern.example.com"


def proxies(value: object) -> tuple[ProxyURL, ...]:
    """
    One or more proxies: a URL, or a list of URLs.

    @return: each once.
    """
    texts = value if isinstance(value, list) else [value]
    if not 1 <= len(texts) <= PROXY_LIMIT or not all(isinstance(each, str) for each in texts):
        raise ConfigError(
            f"must be a URL, such as socks5://host:port, or a list of 1 to {PROXY_LIMIT} of them"
        )
    urls = []
    for number, text in enumerate(texts, 1):
        try:
            urls.append(parseProxyURL(text))
        except ConfigError as error:
            if len(texts) == 1:
                raise
            raise ConfigError(
                f"{error} (in URL {number} of {len(texts)}; a comma in one is written %2C)"
            ) from None
    return tuple(dict.fromkeys(urls))
