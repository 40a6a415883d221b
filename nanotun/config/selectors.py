"""
The checks of settings that select processes: parse their texts into one L{Selector} each.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from nanotun.errors import ConfigError

SELECTOR_LIMIT = 256  #: Selectors; each is compared with every process of a scan.


class SelectorKind(enum.Enum):
    """The property of a process that is compared; the values are the words before the colon."""

    NAME = "name"
    PATH = "path"
    PID = "pid"
    UID = "uid"
    CGROUP = "cgroup"
    UNIT = "unit"


class Selector(NamedTuple):
    """
    Selects processes by one of their properties.

    @ivar value: for NAME the executable's name, lower case, without C{.exe}; for
        PATH its absolute path; for PID and UID digits, or for UID a user's name;
        for CGROUP the path below the cgroup root, beginning with a slash; for UNIT
        a systemd unit's whole name.
    """

    kind: SelectorKind
    value: str

    def __str__(self) -> str:
        if self.kind in (SelectorKind.NAME, SelectorKind.PATH):
            return self.value
        return f"{self.kind.value}:{self.value}"


def processName(name: str) -> str:
    """A process's name in the form that is compared: lower case, without C{.exe}."""
    return name.lower().removesuffix(".exe")


#: The kinds that routing and firewall rules know.
_BY_KERNEL = (SelectorKind.UID, SelectorKind.CGROUP, SelectorKind.UNIT)

#: The control group of all.
_ROOT = Selector(SelectorKind.CGROUP, "/")

_RULE = (
    "must be processes: a name such as curl, a path such as /usr/bin/curl, pid:N, uid:N, "
    "uid:USER, cgroup:/PATH or unit:NAME.service"
)

_PATTERNS = {
    "pid": r"[1-9][0-9]{0,9}",
    "uid": r"[0-9]{1,10}|[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?",
    "cgroup": r"/[^\0\n]{0,4000}",
    "unit": r"[A-Za-z0-9:_.\\@-]{1,255}\.(?:service|scope|slice)",
}


def selectors(value: object) -> tuple[Selector, ...]:
    """
    Selectors: a text with commas between them, or a list of such texts.

    @return: each once.
    @raise ConfigError: with the end of a sentence, C{"must be ..."}.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise ConfigError(_RULE)
    parts = [part.strip() for text in texts for part in text.split(",")]
    found = tuple(dict.fromkeys(_selector(part) for part in parts if part))
    if len(found) > SELECTOR_LIMIT:
        raise ConfigError(f"must name at most {SELECTOR_LIMIT} processes, not {len(found)}")
    return found


def kernelSelectors(value: object) -> tuple[Selector, ...]:
    """
    As L{selectors}, but only of what the kernel can tell apart for each packet.

    @raise ConfigError: with the end of a sentence, C{"must be ..."}.
    """
    found = selectors(value)
    for each in found:
        if each.kind not in _BY_KERNEL:
            raise ConfigError(
                "must be users, control groups or units (uid:N, uid:USER, cgroup:/PATH or "
                f"unit:NAME.service), which the kernel can tell apart, not {str(each)[:40]!a}; "
                "for a program set default: direct and write the rule {to: proxy, processes: "
                f"[{str(each)[:40]}]}}"
            )
        if each == _ROOT:
            raise ConfigError(f"must not be {each}, which every process is in; leave it out")
        if each.kind is SelectorKind.CGROUP and not isMatchable(each.value):
            raise ConfigError(
                f"must not be {str(each)[:40]!a}, whose path firewall rules cannot contain; name a "
                "group above it, or a user"
            )
    return found


def isMatchable(path: str) -> bool:
    """Whether firewall rules can contain the path of a control group."""
    return path.isprintable() and '"' not in path and ".." not in path.split("/")


def _selector(text: str) -> Selector:
    if text.startswith("/"):
        return Selector(SelectorKind.PATH, text)
    word, colon, value = text.partition(":")
    if not colon or word.lower() not in _PATTERNS:
        if not text.isprintable() or "/" in text or colon:
            raise ConfigError(f"{_RULE}; not {text[:40]!a}")
        return Selector(SelectorKind.NAME, processName(text))
    word = word.lower()
    if not re.fullmatch(_PATTERNS[word], value):
        raise ConfigError(f"{_RULE}; not {text[:40]!a}")
    return Selector(SelectorKind(word), value.rstrip("/") or "/" if word == "cgroup" else value)
