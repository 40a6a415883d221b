"""
Which servers a query is for.
"""

from __future__ import annotations

from typing import NamedTuple

from nanotun.gateway.dns.addresses import questionName
from nanotun.gateway.dns.ask import ServerQueries
from nanotun.gateway.dns.message import Query
from nanotun.gateway.dns.nameservers import NameServers
from nanotun.interfaces import DnsServer


class ServerChoice(NamedTuple):
    """
    See the module.

    @ivar servers: asks them.
    @ivar usual: for all queries.
    @ivar own: the proxies' own names, in lower case.  For them the servers are asked past the
        proxies, because no proxy can be dialled before its address is known.
    """

    servers: NameServers
    usual: tuple[DnsServer, ...]
    own: frozenset[str] = frozenset()

    def of(self, query: Query) -> ServerQueries | None:
        """The servers to ask for a query; L{None} if nobody may be asked."""
        direct = bool(self.own) and questionName(query) in self.own
        return self.servers.of(self.usual, direct)

    def renew(self) -> None:
        """Begin anew, as the machine is in another network."""
        self.servers.renew()

    def stop(self) -> None:
        """Close the connections that are kept open."""
        self.servers.stop()
