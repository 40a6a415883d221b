"""
What follows from the DNS servers that the settings name, taken together: which there are, and how
each is asked.
"""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from nanotun.addresses import DNS_PORT, LINK_LOCAL6, LOCAL_NETWORKS
from nanotun.config.upstreamentries import PROXY, noUpstream
from nanotun.config.upstreams import bareNames, mayBeDirect, upstreamsOf
from nanotun.errors import EntryError
from nanotun.flow import Endpoint
from nanotun.interfaces import DnsServer
from nanotun.interfaces.nameserver import ENCRYPTED

if TYPE_CHECKING:
    from nanotun.config.keys import Settings

#: Where servers are that may know names of this machine's own network: there, or on it.
_LOCAL = [
    ip_network(network)
    for network in (*LOCAL_NETWORKS[4], *LOCAL_NETWORKS[6], LINK_LOCAL6, "127.0.0.0/8", "::1")
]


def serversOf(settings: Settings) -> tuple[DnsServer, ...]:
    """All servers that C{dns} and C{dnsRules} name, each once."""
    ruled = (server for rule in settings.dnsRules for server in rule.servers)
    return tuple(dict.fromkeys((*settings.dns, *ruled)))


def viaOf(settings: Settings, server: DnsServer) -> str:
    """The upstream that a server is asked through, or C{direct}."""
    return server.via or settings.dnsVia


def goesBare(settings: Settings, server: DnsServer) -> bool:
    """Whether a server is asked past every proxy."""
    return viaOf(settings, server) in ("direct", *bareNames(settings))


def isLocal(server: DnsServer) -> bool:
    """
    Whether a server is known to be on this machine, or in a network of its own: all of its
    addresses are.
    """
    hosts = [ip_address(host) for host in hostsOf(server)]
    return bool(hosts) and all(any(host in network for network in _LOCAL) for host in hosts)


def allLocal(settings: Settings) -> bool:
    """
    Whether all servers of C{dns} are local and asked past every proxy, so that they may know
    names of this machine's own network, and answer with addresses there.
    """
    return all(isLocal(each) and goesBare(settings, each) for each in settings.dns)


def bootstrapsOf(
    servers: Collection[DnsServer], server: DnsServer, others: Collection[DnsServer]
) -> tuple[DnsServer, ...]:
    """
    The servers that can be asked for the name of one: those that can be found without asking.

    @param servers: the list that it is in.
    @param others: those of C{dns}, which are asked where the list has none.
    """
    if server.literal or server.addresses or server.scheme == "system":
        return ()
    for known in (servers, others):
        found = tuple(each for each in known if _isFound(each))
        if found:
            return found
    return ()


def _isFound(server: DnsServer) -> bool:
    return server.literal or bool(server.addresses) or server.scheme == "system"


def checkServers(settings: Settings) -> None:
    """
    Check what no server shows by itself.

    @raise EntryError: queries are to leave by an upstream that there is not, or a server's name
        cannot be looked up.
    """
    ways = ("direct", *upstreamsOf(settings))
    if settings.dnsVia not in ways:
        raise EntryError(noUpstream(ways, settings.dnsVia), key="dnsVia")
    checkList(settings, settings.dns, key="dns")
    for number, rule in enumerate(settings.dnsRules):
        checkList(settings, rule.servers, number, "servers", key="dnsRules")


def checkList(
    settings: Settings, servers: Collection[DnsServer], *path: str | int, key: str
) -> None:
    """
    As L{checkServers}, for one list.

    @param path: leads to the list in the value of C{key}.
    """
    ways = ("direct", *upstreamsOf(settings))
    for number, server in enumerate(servers):
        if server.via and server.via not in ways:
            raise EntryError(noUpstream(ways, server.via), *path, number, "via", key=key)
        place = (*path, number) if len(servers) > 1 else path
        if not _isFound(server) and not bootstrapsOf(servers, server, settings.dns):
            raise EntryError(
                f"needs an address, because no other server can be asked for {server.host}: "
                f"write {{server: '{server}', address: 192.0.2.53}}, or add a server that is an "
                "address",
                *place,
                key=key,
            )


def literalHosts(settings: Settings) -> tuple[str, ...]:
    """The addresses of all servers whose addresses are written in the settings, each once."""
    return tuple(dict.fromkeys(host for each in serversOf(settings) for host in hostsOf(each)))


def hostsOf(server: DnsServer) -> tuple[str, ...]:
    """The addresses of a server that are written in the settings."""
    return (server.host,) if server.literal else server.addresses


def directEndpoints(settings: Settings) -> frozenset[Endpoint]:
    """The plain servers, as the relay's own sockets are connected to them."""
    return frozenset(
        Endpoint(host, each.port)
        for each in serversOf(settings)
        if each.scheme not in ENCRYPTED and mayGoBare(settings, viaOf(settings, each))
        for host in hostsOf(each)
    )


def mayGoBare(settings: Settings, name: str) -> bool:
    """Whether something that is sent by an upstream, or C{direct}, may pass every proxy."""
    return name == "direct" or mayBeDirect(upstreamsOf(settings)[name])


def probeEndpoints(settings: Settings) -> tuple[Endpoint, ...]:
    """
    Where a query of no consequence is sent over UDP, to see whether one passes: the servers of
    C{dns}, on the port of plain DNS if they are not asked over UDP.
    """
    found = (
        Endpoint(hostsOf(each)[0], each.port if each.scheme == "udp" else DNS_PORT)
        for each in settings.dns
        if hostsOf(each)
    )
    return tuple(dict.fromkeys(found))


def through(name: str) -> str:
    """How a query travels by an upstream, or C{direct}, in words that follow a verb."""
    if name == "direct":
        return "past the proxy"
    return f"through {'the proxy' if name == PROXY else name}"


def shownWays(settings: Settings) -> str:
    """The servers of C{dns} and how each is asked, in words."""
    ways = [through(viaOf(settings, each)) for each in settings.dns]
    if len(set(ways)) == 1:
        return f"{', '.join(map(str, settings.dns))}, asked {ways[0]}"
    return ", ".join(f"{each} {way}" for each, way in zip(settings.dns, ways, strict=True))
