"""
What the settings of C{nanotun run} open past the proxy, in words, and the proxy that the
environment names.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from nanotun.config.askedservers import goesBare, serversOf
from nanotun.config.file import Given
from nanotun.config.settings import Settings
from nanotun.config.upstreamentries import PROXY
from nanotun.interfaces import DnsServer

#: Networks that are listed one by one; more would hide what else is open.
SHOWN_NETWORKS = 5

#: The variables that programs take their proxy from; the first that is not empty counts.
VARIABLES = ("ALL_PROXY", "all_proxy")

NO_PROXY = (
    "No proxy is set: give --proxy URL, --config FILE or the variable ALL_PROXY, which sudo drops "
    "unless it is called as 'sudo --preserve-env=ALL_PROXY nanotun run ...'."
)


def allProxy(environment: Mapping[str, str]) -> Given | None:
    """
    The proxy that the environment names, as a value of the setting C{proxy}.

    As other programs read it, C{host:port} is an HTTP proxy; GNOME writes C{socks://}.  A
    comma is part of the one URL.
    """
    for name in VARIABLES:
        text = environment.get(name, "")
        if text:
            scheme, colon, rest = text.partition("://")
            if not colon:
                text = f"http://{text}"
            elif scheme.lower() == "socks":
                text = f"socks5://{rest}"
            return Given([text], name)
    return None


def directOf(settings: Settings) -> Iterator[str]:
    """
    What would send something past the proxy, if it were allowed to: upstreams other than
    C{proxy}, rules, and what a file says of DNS servers.  C{default} and C{dnsVia} are not among
    them, because only their flags count.

    @return: beginnings of sentences.
    """
    yield from _flowsDirect(settings)
    for server in _ownWays(settings, settings.dns):
        yield f"dns asks {server} past the proxy"
    for number, rule in enumerate(settings.dnsRules, 1):
        for server in _ownWays(settings, rule.servers):
            yield f"dnsRules {number} ({rule.where}) asks {server} past the proxy"


def _flowsDirect(settings: Settings) -> Iterator[str]:
    for upstream in settings.upstreams:
        for scheme in {url.scheme.name for url in upstream.proxy if url.scheme.dialsDestination}:
            yield f"upstreams.{upstream.name} is {scheme}://, past every proxy"
    for number, rule in enumerate(settings.rules, 1):
        if rule.to == "direct":
            yield f"Rule {number} ({rule.where}) sends connections past the proxy"


def openings(settings: Settings, allowsDirect: bool = False) -> tuple[str, ...]:
    """
    What gets past the proxy, in words; nothing for what is closed.

    @param allowsDirect: whether the script may send flows past the proxy.
    """
    words = []
    bare = [url.scheme.name for url in settings.proxy if url.scheme.dialsDestination]
    if len(bare) == len(settings.proxy):
        words.append(f"everything ({bare[0]}:// is no proxy)")
    elif bare:
        words.append(f"whatever {bare[0]}:// in the list of proxies gets")
    if settings.default == "direct":
        words.append("whatever no rule is about (--default direct)")
    senders = ["the script"] if settings.script and allowsDirect else []
    senders += ["rules", "upstreams"] if any(_flowsDirect(settings)) else []
    if senders:
        *others, last = senders
        named = f"{', '.join(others)} and {last} send" if others else f"{last} sends"
        words.append(f"what {named} direct (--allow-direct)")
    if settings.lan == "direct":
        words.append("local networks (--lan direct)")
    if settings.excludedIPs:
        networks = [str(network) for network in settings.excludedIPs]
        shown = ", ".join(networks[:SHOWN_NETWORKS])
        more = len(networks) - SHOWN_NETWORKS
        words.append(f"{shown}{f' and {more} more' if more > 0 else ''} (--exclude-ip)")
    if settings.lanOnlyPorts:
        ports = sorted((protocol.name.lower(), port) for protocol, port in settings.lanOnlyPorts)
        shown = ", ".join(f"{protocol}:{port}" for protocol, port in ports)
        words.append(f"{shown} of local networks (--lan-only-ports)")
    asked = serversOf(settings)
    usual = [each for each in asked if not each.via and goesBare(settings, each)]
    for flag, servers in (
        (f"--dns-via {settings.dnsVia}", usual if settings.dnsVia != PROXY else ()),
        ("--allow-direct", _ownWays(settings, asked)),
    ):
        if servers:
            words.append(f"DNS queries to {', '.join(map(str, servers))} ({flag})")
    return tuple(words)


def _ownWays(settings: Settings, servers: Iterable[DnsServer]) -> list[DnsServer]:
    """Those of some servers whose own C{via} leads past the proxy."""
    return [each for each in servers if each.via not in ("", PROXY) and goesBare(settings, each)]


def openLine(opened: Iterable[str], ignored: Iterable[str], source: str) -> str:
    """
    The line about what is open.

    @param ignored: the settings that would have opened more, had a flag set them.
    @param source: where those were set.
    """
    line = f"open past the proxy: {', '.join(opened) or 'nothing'}"
    names = ", ".join(ignored)
    if names:
        line += f"; not taken from {source}, because only flags open more: {names}"
    return f"{line}."
