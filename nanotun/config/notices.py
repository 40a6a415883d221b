"""
Warnings about settings that are valid one by one, but do not do together what they promise.

Pure: L{Settings} in, sentences out.  Each has its cure after a semicolon.
"""

from __future__ import annotations

from ipaddress import ip_address

from nanotun.addresses import FAKE4, FAKE6, GATEWAY4
from nanotun.config.askedservers import allLocal, goesBare, hostsOf, through
from nanotun.config.settings import Settings
from nanotun.config.upstreamentries import PROXY
from nanotun.config.upstreams import bareNames, upstreamsOf
from nanotun.config.values import listed
from nanotun.interfaces import DnsServer
from nanotun.interfaces.nameserver import ENCRYPTED
from nanotun.upstream.scheme import sendsNamesWith

_IPV6 = {
    "block": "IPv6 is not blocked",
    "capture": "IPv6 takes the routes that are there",
}


def unmetNeeds(settings: Settings) -> tuple[str, ...]:
    """
    Sentences about settings that protect traffic, or say where it goes, and cannot do so
    because C{autoDefaultRoute} is off.
    """
    if settings.autoDefaultRoute:
        return ()
    found = []
    if settings.killSwitch:
        found.append(
            "killSwitch does nothing without autoDefaultRoute: nothing keeps traffic in when the "
            "daemon is gone; set autoDefaultRoute: true, or remove killSwitch."
        )
    if settings.onlyProcesses:
        found.append(
            "onlyProcesses does nothing without autoDefaultRoute: no route is changed, so nothing "
            "enters the tunnel by itself; set autoDefaultRoute: true, or remove onlyProcesses."
        )
    consequence = _IPV6.get(settings.ipv6)
    if consequence is not None:
        found.append(
            f"ipv6: {settings.ipv6} does nothing without autoDefaultRoute: {consequence}; set "
            "autoDefaultRoute: true, or remove ipv6."
        )
    if settings.dnsMode == "fake-ip":
        found.append(
            "dnsMode: fake-ip without autoDefaultRoute needs two things done by hand: routes for "
            f"{FAKE4} and {FAKE6} to {settings.tunName}, and programs that ask {GATEWAY4} for "
            "names; set autoDefaultRoute: true to have both done."
        )
    return tuple(found)


def serversExcluded(settings: Settings) -> tuple[str, ...]:
    """
    A sentence for those who exclude a server of C{dns}, which programs then ask past the relay.
    """
    if not (settings.autoDefaultRoute or settings.dnsOverride):
        return ()
    excluded = [
        host
        for server in settings.dns
        for host in hostsOf(server)
        if any(ip_address(host) in network for network in settings.excludedIPs)
    ]
    if not excluded:
        return ()
    hosts = " and ".join(dict.fromkeys(excluded))
    return (
        f"Programs that ask {hosts} themselves bypass the relay, with its cache and "
        "dnsMode: fake-ip, because excludedIPs holds for DNS servers, too; leave the servers of "
        "dns out of excludedIPs to have the relay answer.",
    )


def systemThroughProxy(settings: Settings) -> tuple[str, ...]:
    """
    A sentence for those who have this machine's own servers asked from the proxy's network.
    What has a C{via} of its own is meant so.
    """
    asked = DnsServer("system")
    places = ["dns"] if asked in settings.dns else []
    places += [
        f"dnsRules {number} ({rule.where})"
        for number, rule in enumerate(settings.dnsRules, start=1)
        if asked in rule.servers
    ]
    if not places or goesBare(settings, asked):
        return ()
    return (
        f"{listed(places)}: system asks this machine's own servers {through(settings.dnsVia)}, "
        "which may not reach them; write {server: system, via: direct} to ask them past it.",
    )


def fakesUnused(settings: Settings) -> tuple[str, ...]:
    """Sentences about entries of C{dnsRules} that are of use with fake-ip only."""
    if settings.dnsMode == "fake-ip":
        return ()
    return tuple(
        f"dnsRules {number} ({rule.where}) does nothing for its names, because answer: fake is for "
        "dnsMode: fake-ip; remove it, or set dnsMode: fake-ip."
        for number, rule in enumerate(settings.dnsRules, start=1)
        if rule.fake
    )


def unguarded(settings: Settings) -> tuple[str, ...]:
    """
    A sentence for those who protect themselves against addresses of their own network, and ask
    only servers that may give such addresses.
    """
    if not (settings.dnsRebindProtection and allLocal(settings)):
        return ()
    servers = ", ".join(map(str, settings.dns))
    return (
        f"dnsRebindProtection does nothing, because all servers of dns ({servers}) are in your own "
        "network and may give addresses of it; ask others there, and name local domains in "
        "dnsRules, with servers that know them.",
    )


def metricsShown(settings: Settings) -> tuple[str, ...]:
    """A sentence for those who have metrics where other machines can ask for them."""
    metrics = settings.metrics
    if metrics is None or ip_address(metrics.host).is_loopback:
        return ()
    return (
        f"Other machines may get at the metrics at {metrics}, where the token that keeps them "
        "away is sent in the clear; listen at 127.0.0.1 unless the network between is your own.",
    )


def webShown(settings: Settings) -> tuple[str, ...]:
    """A sentence for those who have the web page where other machines can open it."""
    web = settings.web
    if isinstance(web, str) or ip_address(web.host).is_loopback:
        return ()
    return (
        f"Other machines may get at the web page at {web}, where the token that keeps them away "
        "is sent in the clear, and whoever has it can close flows and read what is visited; "
        "listen at 127.0.0.1, and reach it from elsewhere with ssh -L.",
    )


def namesInClear(settings: Settings) -> tuple[str, ...]:
    """
    A sentence for who sends the whole machine's traffic, or some of it, through a proxy, but
    not the relay's queries to plain servers.  What has a C{via} of its own is meant so.
    """
    entries = upstreamsOf(settings)
    bare = bareNames(settings)
    asked = [
        each
        for each in settings.dns
        if each.scheme not in ENCRYPTED and not each.via and goesBare(settings, each)
    ]
    if not (settings.autoDefaultRoute and asked and len(bare) < len(entries)):
        return ()
    what = "Names are"
    schemes = [url.scheme for each in entries.values() for url in each.proxy]
    if settings.dnsMode == "fake-ip" and all(sendsNamesWith(scheme, True) for scheme in schemes):
        what = "What fake-ip does not answer itself is"
    servers = ", ".join(
        "this machine's own servers" if each.scheme == "system" else str(each) for each in asked
    )
    name = next(each for each in entries if each not in bare)
    it = "it" if name == PROXY else "that upstream"
    return (
        f"{what} looked up in the clear, outside the proxy, at {servers}; dnsVia: {name} sends "
        f"these queries through {it}.",
    )


def proxyNotices(settings: Settings) -> tuple[str, ...]:
    """Sentences about proxies whose URLs are valid and not safe."""
    urls = (url for each in upstreamsOf(settings).values() for url in each.proxy)
    return tuple(dict.fromkeys(notice for url in urls for notice in url.scheme.notices(url)))
