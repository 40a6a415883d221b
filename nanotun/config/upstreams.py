"""
The upstreams that the settings name: their check, and what follows from them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import TYPE_CHECKING, TypeVar

from nanotun.addresses import isAddress
from nanotun.config import values
from nanotun.errors import ConfigError, EntryError
from nanotun.interfaces import ProxyURL, UpstreamSettings
from nanotun.upstream.scheme import canChain, sendsNamesWith
from nanotun.upstream.url import fieldsOf, whyUnfilled

if TYPE_CHECKING:
    from nanotun.config.keys import Settings

_T = TypeVar("_T")

#: The upstream that the setting C{proxy} makes, and the ones that are always there.
PROXY = "proxy"
BUILT_IN = ("direct", "reject", "drop")

UPSTREAM_LIMIT = 32  #: Names; nobody keeps more ways out in mind.
ALL_PROXIES_LIMIT = 64  #: URLs of all together; each is checked, and may need a routing rule.

_KEYS = ("proxy", "policy", "via", "passwordFile")
_NAME = re.compile("[a-z][a-z0-9-]{0,31}")
#: What errors repeat of a name that is wrong: anything else may be a URL with its password.
_SHOWN = re.compile("[A-Za-z0-9_-]{1,40}")
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
            raise _unknownKey(name, str(key))
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
    step = text if _SHOWN.fullmatch(text) else values.shown(text)
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


def _unknownKey(name: str, key: str) -> EntryError:
    near = difflib.get_close_matches(key, _KEYS, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {_listed(_KEYS)}"
    if not _SHOWN.fullmatch(key):
        return EntryError(f"must have no settings but {_listed(_KEYS)}", name)
    return EntryError(f": there is no such setting of an upstream; {hint}", name, key)


def _listed(names: Collection[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def upstreamsOf(settings: Settings) -> dict[str, UpstreamSettings]:
    """
    The upstreams by name, but for those that are built in.

    @return: C{proxy} first; with the policy that counts, and without a C{via} that is as
        good as none.
    """
    default = UpstreamSettings(
        PROXY, settings.proxy, settings.proxyPolicy, settings.proxyVia, settings.proxyPasswordFile
    )
    entries = {each.name: each for each in (default, *settings.upstreams)}
    return {
        name: each._replace(
            policy=each.policy or settings.proxyPolicy,
            via="" if _isDirect(entries, each.via) else each.via,
        )
        for name, each in entries.items()
    }


def _isDirect(entries: Mapping[str, UpstreamSettings], name: str) -> bool:
    return name == "direct" or (name in entries and _isBare(entries[name]))


def _isBare(entry: UpstreamSettings) -> bool:
    return all(url.scheme.dialsDestination for url in entry.proxy)


def upstreamNames(settings: Settings) -> tuple[str, ...]:
    """Every name that a rule, C{default} and a script may give."""
    return (*upstreamsOf(settings), *BUILT_IN)


def nearUpstream(names: Collection[str], text: str) -> str:
    """The name that was most likely meant; empty if there is none."""
    return "".join(difflib.get_close_matches(text.lower(), names, 1))


def noUpstream(names: Collection[str], text: str) -> str:
    """
    What is wrong with a name that no upstream has.

    @return: the rest of a sentence, which follows the place without a blank, as
        L{nanotun.config.settings.makeSettings} puts it.
    """
    shown = text if _SHOWN.fullmatch(text) else values.shown(text)
    near = nearUpstream(names, text)
    if near:
        return f": there is no upstream {shown}; did you mean {near}?"
    return f": there is no upstream {shown}; there {_are(names)}"


def _are(names: Collection[str]) -> str:
    return f"{'are' if len(names) > 1 else 'is only'} {_listed(names)}"


def allProxies(settings: Settings) -> tuple[ProxyURL, ...]:
    """The proxies of all upstreams."""
    return tuple(url for each in upstreamsOf(settings).values() for url in each.proxy)


def bareNames(settings: Settings) -> frozenset[str]:
    """The upstreams that are no proxy at all: flows leave by sockets to the destination."""
    return frozenset(name for name, each in upstreamsOf(settings).items() if _isBare(each))


def checkUpstreams(settings: Settings) -> None:
    """
    Check what no entry shows by itself.

    @raise EntryError: an upstream cannot be dialled through what it names, nothing fills a
        field of a user name, or there are too many.
    """
    entries = upstreamsOf(settings)
    total = sum(len(each.proxy) for each in entries.values())
    if total > ALL_PROXIES_LIMIT:
        raise EntryError(
            f"and proxy together must be at most {ALL_PROXIES_LIMIT} proxies, not {total}; each is "
            "checked, and may need a route of its own",
            key="upstreams",
        )
    chained = {PROXY: settings.proxyVia, **{each.name: each.via for each in settings.upstreams}}
    for name, through in chained.items():
        wrong = _wrongVia(entries, chained, name, through) if through else ""
        if wrong and name == PROXY:
            raise EntryError(wrong, key="proxyVia")
        if wrong:
            raise EntryError(wrong, name, "via", key="upstreams")
    # A script may fill any field.
    for each in () if settings.script else entries.values():
        for unfilled in filter(None, map(whyUnfilled, each.proxy)):
            if each.name == PROXY:
                raise EntryError(unfilled, key="proxy")
            raise EntryError(unfilled, each.name, key="upstreams")


def _wrongVia(
    entries: Mapping[str, UpstreamSettings], chained: Mapping[str, str], name: str, through: str
) -> str:
    """
    What is wrong with dialling one upstream through another.

    @param chained: the upstreams by name, and through which of them each is dialled.
    @return: the rest of a sentence; empty if nothing is wrong.
    """
    if _isDirect(entries, through):
        return ""
    if through not in (*entries, *BUILT_IN):
        return noUpstream(entries, through)
    if through not in entries or not any(_dials(url) for url in entries[through].proxy):
        return f"must not be {through}, because nothing can be dialled through it"
    found = _circle(chained, name)
    for url in entries[name].proxy:
        found = found or _wrongHop(url, entries[through].proxy)
    return found


def _dials(url: ProxyURL) -> bool:
    return bool(url.host) or bool(url.scheme.dialsDestination)


def _wrongHop(url: ProxyURL, before: Collection[ProxyURL]) -> str:
    """What is wrong with dialling a proxy through those before it; empty if nothing is."""
    if not url.host:
        return f"has no meaning for {url}, which dials no proxy; remove it"
    if url.socketPath:
        place = f"the unix socket {url.socketPath}"
        return f"has no meaning for {place}, which is on this machine; remove it"
    if not canChain(url.scheme):
        return (
            f"cannot be used with {url.scheme.name}://, whose package opens its own connections; "
            "remove it"
        )
    for first in before if not isAddress(url.host) else ():
        if first.host and not sendsNamesWith(first.scheme, True):
            return (
                f"leads through {first}, which takes no names; write the address of {url.host}, "
                "or use socks4a:// or socks5:// there"
            )
    return ""


def _circle(chained: Mapping[str, str], name: str) -> str:
    """The sentence about a circle that an upstream is a member of; empty if there is none."""
    path = [name]
    while (following := chained.get(path[-1], "")) and following not in path:
        path.append(following)
    if following != name:
        return ""  # There is none, or its own members are told of it.
    if len(path) == 1:
        return f"makes a circle: {name} is dialled through itself; remove it"
    first, *more = (
        f"{one} through {two}" for one, two in zip(path, [*path[1:], name], strict=True)
    )
    steps = _listed([first.replace(" ", " is dialled ", 1), *more])
    return f"makes a circle: {steps}; remove one via"


def inDialOrder(entries: Mapping[str, UpstreamSettings]) -> list[UpstreamSettings]:
    """
    Put the upstreams that others are dialled through before those.

    @param entries: by name, as from L{upstreamsOf}; without a circle.
    """
    found: dict[str, UpstreamSettings] = {}

    def add(each: UpstreamSettings) -> None:
        if each.name not in found:
            if each.via:
                add(entries[each.via])
            found[each.name] = each

    for each in entries.values():
        add(each)
    return list(found.values())


def firstHops(settings: Settings) -> tuple[ProxyURL, ...]:
    """
    The proxies that this machine's own sockets are connected to.

    @return: each once; unix sockets among them.
    """
    entries = upstreamsOf(settings)
    found = (
        url
        for each in entries.values()
        if not each.via or _mayBeDirect(entries[each.via])
        for url in each.proxy
        if url.host
    )
    return tuple(dict.fromkeys(found))


def _mayBeDirect(entry: UpstreamSettings) -> bool:
    """Whether some of what leaves by an upstream goes to its destination by itself."""
    return any(url.scheme.dialsDestination for url in entry.proxy)


def withFields(settings: Settings) -> dict[str, frozenset[str]]:
    """
    The upstreams with fields in a user name, which are filled for each program.

    @return: the fields by the upstream's name: its own, and those of what it is dialled
        through.
    """
    found: dict[str, frozenset[str]] = {}
    for each in inDialOrder(upstreamsOf(settings)):
        fields = found.get(each.via, frozenset()).union(*map(fieldsOf, each.proxy))
        if fields:
            found[each.name] = fields
    return found


def whyNoDatagrams(settings: Settings, name: str) -> str:
    """Why UDP never passes an upstream, as the end of a sentence; empty if it may pass."""
    each = upstreamsOf(settings).get(name)
    if each is None:
        return ""
    if each.via:
        return f"{name} is dialled through {each.via}, and a chain carries TCP only"
    if any(url.scheme.carriesDatagrams for url in each.proxy):
        return ""
    kinds = dict.fromkeys(f"{url.scheme.name}://" for url in each.proxy)
    return f"{_listed(kinds)} {'carries' if len(kinds) == 1 else 'carry'} none"


def wayOf(settings: Settings, name: str) -> Hashable:
    """
    The way that flows leave by an upstream: equal for two if it makes no difference to them.

    Names and passwords are no part of it, so that a new one ends nothing.
    """
    each = upstreamsOf(settings).get(name)
    if each is None:
        return name
    through = wayOf(settings, each.via) if each.via else ""
    return (tuple(map(str, each.proxy)), each.policy, through)
