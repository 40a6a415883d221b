"""
What follows from the upstreams that the settings name, taken together.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import TYPE_CHECKING

from nanotun.addresses import isAddress
from nanotun.config import values
from nanotun.config.upstreamentries import BUILT_IN, PROXY, noUpstream
from nanotun.errors import EntryError
from nanotun.interfaces import ProxyURL, UpstreamSettings
from nanotun.upstream.scheme import canChain, sendsNamesWith
from nanotun.upstream.url import fieldsOf, whyUnfilled

if TYPE_CHECKING:
    from nanotun.config.keys import Settings

ALL_PROXIES_LIMIT = 64  #: URLs of all together; each is checked, and may need a routing rule.


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
    steps = values.listed([first.replace(" ", " is dialled ", 1), *more])
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
        if not each.via or mayBeDirect(entries[each.via])
        for url in each.proxy
        if url.host
    )
    return tuple(dict.fromkeys(found))


def mayBeDirect(entry: UpstreamSettings) -> bool:
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
    return f"{values.listed(kinds)} {'carries' if len(kinds) == 1 else 'carry'} none"


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
