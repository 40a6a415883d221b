"""
How the servers are asked, and what becomes of each in the eyes of the relay.
"""

from __future__ import annotations

import random
import secrets
import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.logger import Logger

from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.exchange import ATTEMPT_TIMEOUT, Exchange
from nanotun.gateway.dns.servers import Servers
from nanotun.gateway.dns.tcp import StreamUpstream
from nanotun.gateway.dns.udp import Attempt, QuerySocket

#: Seconds between two log lines about sockets that cannot be made.
COMPLAINT_INTERVAL = 10.0

#: Two bytes that nobody can foretell (RFC 5452, section 4.5).
_makeIdent = partial(secrets.token_bytes, 2)


class ServerWays:
    """
    See L{nanotun.gateway.dns.exchange.Ways}.

    @param makeDatagram: address family to a non-blocking UDP socket, marked.
    @param makeStream: likewise TCP.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        servers: Sequence[Endpoint],
        makeDatagram: Callable[[int], socket.socket],
        makeStream: Callable[[int], socket.socket],
        counters: Counters,
        makeIdent: Callable[[], bytes] = _makeIdent,
    ) -> None:
        self._reactor = reactor
        self._servers = Servers(servers, random.random)
        self._makeDatagram = makeDatagram
        self._counters = counters
        self._makeIdent = makeIdent
        self._complained = 0.0
        self._streams = {
            server: StreamUpstream(makeStream, makeIdent, reactor, counters, server)
            for server in servers
        }

    def order(self) -> tuple[Endpoint, ...]:
        """See L{nanotun.gateway.dns.exchange.Ways.order}."""
        return self._servers.order(self._reactor.seconds())

    def ask(self, server: Endpoint, overTCP: bool, exchange: Exchange, number: int) -> Attempt:
        """See L{nanotun.gateway.dns.exchange.Ways.ask}."""
        wire, query = exchange.wire, exchange.query
        if overTCP:
            self._counters.upstreamStreams += 1
            return self._streams[server].ask(wire, query, exchange, number)
        self._counters.upstream += 1
        return QuerySocket(
            self._makeDatagram,
            self._reactor,
            self._counters,
            server,
            wire,
            query,
            self._makeIdent(),
            exchange,
            number,
        )

    def answered(self, server: Endpoint) -> None:
        """See L{nanotun.gateway.dns.exchange.Ways.answered}."""
        if self._servers.answered(server, self._reactor.seconds()):
            self._log.info("The DNS server {server} answers again.", server=server)

    def timedOut(self, server: Endpoint) -> None:
        """See L{nanotun.gateway.dns.exchange.Ways.timedOut}."""
        self._counters.timeouts += 1
        self._count(server, ATTEMPT_TIMEOUT)

    def failed(self, server: Endpoint, error: OSError | UpstreamError | None) -> None:
        """See L{nanotun.gateway.dns.exchange.Ways.failed}."""
        self._counters.failures += 1
        if not isinstance(error, UpstreamError):
            self._count(server, 0)
            return
        # The system's fault, not the server's.
        now = self._reactor.seconds()
        if not self._complained or now - self._complained >= COMPLAINT_INTERVAL:
            self._complained = now
            self._log.error("A DNS query cannot be sent: {error}", error=error)

    def stop(self) -> None:
        """Close what is kept."""
        for stream in self._streams.values():
            stream.stop()

    def _count(self, server: Endpoint, waited: float) -> None:
        now = self._reactor.seconds()
        if self._servers.failed(server, now, now - waited):
            self._log.warn(
                "The DNS server {server} does not answer; it is asked last for a while.",
                server=server,
            )
