"""
Which servers a query is for.
"""

from __future__ import annotations

from typing import NamedTuple

from nanotun.gateway.dns.addresses import questionName
from nanotun.gateway.dns.ask import ServerQueries
from nanotun.gateway.dns.message import Query


class ServerChoice(NamedTuple):
    """
    See the module.

    @ivar usual: for all queries but those for C{own}.
    @ivar direct: for those, past the proxy; L{None} where C{usual} does.
    @ivar own: the proxies' own names, in lower case.  They are asked directly, because no
        proxy can be dialled before its address is known.
    """

    usual: ServerQueries
    direct: ServerQueries | None = None
    own: frozenset[str] = frozenset()

    def of(self, query: Query) -> ServerQueries:
        """The servers to ask for a query."""
        if self.direct is not None and questionName(query) in self.own:
            return self.direct
        return self.usual

    def renew(self) -> None:
        """Begin anew, as the machine is in another network."""
        self.usual.renew()
        if self.direct is not None:
            self.direct.renew()

    def stop(self) -> None:
        """Close the connections that are kept open."""
        self.usual.stop()
        if self.direct is not None:
            self.direct.stop()
