"""
Which names the servers may be asked about, to see whether they exist, and which servers:
under C{dnsMode: fake-ip} a name leaves the machine through the proxy only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from nanotun.config.askedservers import mayGoBare, viaOf
from nanotun.config.settings import Settings
from nanotun.config.upstreams import bareNames
from nanotun.interfaces import DnsServer
from nanotun.policy.dnsnames import NamePolicy

#: What tells no proxy a flow's name: its host is looked up by the same servers, or not at all.
UNPROXIED = frozenset(("direct", "reject", "drop"))


def proxiedServers(settings: Settings) -> tuple[DnsServer, ...]:
    """The servers of C{dns} that are asked through a proxy, whatever happens."""
    return tuple(each for each in settings.dns if not mayGoBare(settings, viaOf(settings, each)))


def mayAsk(
    settings: Settings, names: NamePolicy, servers: Collection[DnsServer]
) -> Callable[[str], bool]:
    """
    Make a test of names, in lower case and without the final dot.

    A name of one label has no meaning for a server, and one that flows take to another proxy
    may exist there only.

    @param names: says where flows to a name may leave, and which names are left alone.
    @param servers: from L{proxiedServers}.
    """
    ways = (viaOf(settings, each) for each in servers)
    allowed = UNPROXIED.union(ways, bareNames(settings))

    def test(name: str) -> bool:
        return "." in name and names.waysOf(name) <= allowed and not names.of(name).fake

    return test
