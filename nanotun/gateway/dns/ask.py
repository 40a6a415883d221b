"""
Sends queries to the DNS servers and tracks which of them answer.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import IAttempt, INameServer
from nanotun.gateway.dns.message import Query
from nanotun.gateway.dns.servers import Servers


class ServerQueries:
    """
    DNS servers, as an exchange asks them.

    @param servers: in the order of the configuration, by literal addresses; with none, every
        exchange ends without an answer.
    @param ofScript: whether the script has named them, and not the configuration.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        servers: Mapping[Endpoint, INameServer],
        counters: Counters,
        ofScript: bool = False,
    ) -> None:
        self._clock = clock
        self._byEndpoint = dict(servers)
        self._servers = Servers(tuple(servers), random.random)
        self._counters = counters
        self._ofScript = ofScript

    def order(self) -> tuple[Endpoint, ...]:
        """All servers, the one to ask first at the front."""
        return self._servers.order(self._clock.seconds())

    def ask(
        self,
        server: Endpoint,
        overTCP: bool,
        wire: bytes,
        query: Query,
        answered: Callable[[bytes], None],
        failed: Callable[[], None],
    ) -> IAttempt:
        """Send a query to one of the servers; see L{INameServer.ask}."""
        return self._byEndpoint[server].ask(wire, query, overTCP, answered, failed)

    def answered(self, server: Endpoint) -> None:
        """A server has answered."""
        if self._servers.answered(server, self._clock.seconds()):
            self._log.info("The DNS server {server} answers again.", server=server)

    def timedOut(self, server: Endpoint, waited: float) -> None:
        """
        A server was silent.

        @param waited: seconds since it was asked.
        """
        self._counters.timeouts += 1
        self._noteFailure(server, waited)

    def failed(self, server: Endpoint, error: OSError | UpstreamError | None) -> None:
        """
        A server refused the query, or could not be asked.

        @param error: why it could not be asked; L{None} if it refused.
        """
        self._counters.failures += 1
        if not isinstance(error, UpstreamError):
            self._noteFailure(server, 0)

    def renew(self) -> None:
        """
        Begin anew, as the machine is in another network: which servers were silent says
        nothing about this one.
        """
        self._servers = Servers(tuple(self._byEndpoint), random.random)
        for server in self._byEndpoint.values():
            server.renew()

    def stop(self) -> None:
        """Close the connections that are kept open."""
        for server in self._byEndpoint.values():
            server.stop()

    def _noteFailure(self, server: Endpoint, waited: float) -> None:
        now = self._clock.seconds()
        if not self._servers.failed(server, now, now - waited):
            return
        where = self._byEndpoint[server].where
        if self._ofScript:
            self._log.error(
                "The DNS server {server}, which the script names, does not answer{where}, so the "
                "queries that are sent there fail.",
                server=server,
                where=where,
            )
        elif self._servers.noneAnswers:
            self._log.error(
                "No server of dns answers{where} ({servers}), so DNS queries go unanswered; set "
                "dns to one that does.",
                where=where,
                servers=", ".join(map(str, self._byEndpoint)),
            )
        else:
            self._log.warn(
                "The DNS server {server} does not answer{where}; it is asked last for a while.",
                server=server,
                where=where,
            )
