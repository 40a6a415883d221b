"""
Which servers a query is for.
"""

from __future__ import annotations

from nanotun.addresses import isAddress
from nanotun.config.askedservers import goesBare, isLocal
from nanotun.config.settings import Settings
from nanotun.gateway.dns.addresses import nameShown
from nanotun.gateway.dns.ask import ServerQueries
from nanotun.gateway.dns.message import Query
from nanotun.gateway.dns.nameservers import NameServers
from nanotun.gateway.dns.privatezones import privateZone
from nanotun.interfaces import DnsServer
from nanotun.policy.dnsnames import NamePolicy


class ServerChoice:
    """
    See the module.

    @param servers: asks them.
    @param usual: for all queries that nothing else is said about.
    @param names: says which names have servers of their own.
    @param own: the proxies' own names, in lower case.  For them the servers are asked past the
        proxies, because no proxy can be dialled before its address is known.
    @param bare: those of C{usual} that are asked past the proxies.  For names behind private
        addresses only they are asked, and only those in the user's own networks.
    @ivar servers: as above.
    """

    def __init__(
        self,
        servers: NameServers,
        usual: tuple[DnsServer, ...],
        names: NamePolicy,
        own: frozenset[str] = frozenset(),
        bare: tuple[DnsServer, ...] = (),
    ) -> None:
        self.servers = servers
        self._usual = usual
        self._names = names
        self._own = own
        self._bare = bare
        self._readsNames = names.hasServers or bool(own)
        self._ofAll: ServerQueries | None = None

    def of(self, query: Query) -> ServerQueries | None:
        """The servers to ask for a query; L{None} if nobody may be asked."""
        # The root, the type and the class are left out.
        labels = query.question[:-5].lower()
        name = nameShown(labels) if self._readsNames else ""
        if not privateZone(labels):
            if self._readsNames:
                servers = self._names.serversFor(name) or self._usual
                return self.servers.of(servers, name in self._own)
            if self._ofAll is None:
                self._ofAll = self.servers.of(self._usual)
            return self._ofAll
        # A rule for all names is not meant for these.
        servers = self._names.ownServersFor(name)
        if servers:
            return self.servers.of(servers)
        local = self.servers.of(self._bare, keep=isLocal)
        return local if local.order(query) else None

    def sameAs(self, other: ServerChoice) -> bool:
        """Whether each name has the servers that another choice of the same has for it."""
        return self._names.sameServers(other._names) and self._own == other._own

    def renew(self) -> None:
        """Begin anew, as the machine is in another network."""
        self.servers.renew()

    def stop(self) -> None:
        """Close the connections that are kept open."""
        self.servers.stop()


def makeChoice(
    settings: Settings,
    servers: NameServers,
    names: NamePolicy,
    bootstraps: bool,
    realNames: tuple[str, ...],
) -> ServerChoice:
    """
    The choice that some settings make.

    @param servers: those of these settings.
    @param names: what they say about names.
    @param bootstraps: whether nanotun's own look-ups of its proxies' names arrive at the relay.
    @param realNames: the names of the proxies that are dialled from this machine.
    """
    bare = tuple(each for each in settings.dns if goesBare(settings, each))
    own: frozenset[str] = frozenset()
    if bootstraps and (len(bare) < len(settings.dns) or names.hasServers):
        # Exact names only: with all names below them, whoever can have one looked up could
        # send something in the clear.
        own = frozenset(name for name in realNames if not isAddress(name))
    return ServerChoice(servers, settings.dns, names, own, bare)
