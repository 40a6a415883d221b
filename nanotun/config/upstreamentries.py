"""
The upstreams as the settings name them: the check of each entry, and of a name.

What follows from all of them together is in L{nanotun.config.upstreams}.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection
from typing import TypeVar

from nanotun.config import values
from nanotun.errors import ConfigError, EntryError
from nanotun.interfaces import UpstreamSettings

_T = TypeVar("_T")

#: The upstream that the setting C{proxy} makes, and the ones that are always there.
PROXY = "proxy"
BUILT_IN = ("direct", "reject", "drop")

UPSTREAM_LIMIT = 32  #: Names; nobody keeps more ways out in mind.

_KEYS = ("proxy", "policy", "via", "passwordFile")
_NAME = re.compile("[a-z][a-z0-9-]{0,31}")
_FORM = "must be a mapping of names to proxies, such as {office: 'socks5://host:port'}"

#: The check of a policy.
policy = values.Choice("failover", "round-robin", "least-latency")

_file = values.path("a file's path, or '' for none")


def via(value: object) -> str:
    """The check of an upstream's name, or the empty string for none."""
    return values.upstreamName(value) if value else ""


def checked(value: object) -> tuple[UpstreamSettings, ...]:
    """
    The check of C{upstreams}: a mapping, or texts C{NAME=URL} of flags and variables.

    @raise ConfigError: with the end of a sentence.
    """
    if value in ("", []):
        return ()
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = _fromTexts(value)
    if not isinstance(value, dict):
        raise ConfigError(f"{_FORM}, not {values.shown(value)}")
    if len(value) > UPSTREAM_LIMIT:
        raise ConfigError(f"must be at most {UPSTREAM_LIMIT} upstreams, not {len(value)}")
    return tuple(_entry(name, given) for name, given in value.items())


def _fromTexts(texts: list[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, url = text.partition("=")
        if not equals:
            raise ConfigError("must be NAME=URL, such as office=socks5://host:port")
        found.setdefault(name.strip(), []).append(url.strip())
    return found


def _entry(given: object, value: object) -> UpstreamSettings:
    name = _nameOf(given)
    fields = value if isinstance(value, dict) else {"proxy": value}
    for key in fields:
        if key not in _KEYS:
            raise values.unknownKey(str(key), _KEYS, "an upstream", name)
    if not fields.get("proxy"):
        raise EntryError("must have a proxy: a URL, or a list of URLs", name)

    def part(key: str, check: Callable[[object], _T], *path: str) -> _T:
        try:
            return check(fields[key])
        except ConfigError as error:
            raise EntryError(str(error), name, *path) from None

    return UpstreamSettings(
        name,
        part("proxy", values.proxies, *(("proxy",) if fields is value else ())),
        part("policy", policy, "policy") if "policy" in fields else "",
        part("via", via, "via") if "via" in fields else "",
        part("passwordFile", _file, "passwordFile") if "passwordFile" in fields else "",
    )


def _nameOf(given: object) -> str:
    text = str(given)
    step = text if values.WORD.fullmatch(text) else values.shown(text)
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        near = re.sub("[^a-z0-9-]+", "-", text.lower()).strip("-")
        hint = f"; did you mean {near}?" if step == text and _NAME.fullmatch(near) else ""
        raise EntryError(
            "must be named with lower-case letters, digits and dashes, a letter first and at most "
            f"32 in all{hint}",
            step,
        )
    if given in BUILT_IN:
        raise EntryError(f"must have another name, because {given} is built in", step)
    if given == PROXY:
        raise EntryError("must have another name: the setting proxy makes the upstream proxy", step)
    return given


def nearUpstream(names: Collection[str], text: str) -> str:
    """The name that was most likely meant; empty if there is none."""
    return "".join(difflib.get_close_matches(text.lower(), names, 1))


def noUpstream(names: Collection[str], text: str) -> str:
    """
    What is wrong with a name that no upstream has.

    @return: the rest of a sentence, which follows the place without a blank, as
        L{nanotun.config.settings.makeSettings} puts it.
    """
    shown = text if values.WORD.fullmatch(text) else values.shown(text)
    near = nearUpstream(names, text)
    if near:
        return f": there is no upstream {shown}; did you mean {near}?"
    return f": there is no upstream {shown}; there {_are(names)}"


def _are(names: Collection[str]) -> str:
    return f"{'are' if len(names) > 1 else 'is only'} {values.listed(names)}"
