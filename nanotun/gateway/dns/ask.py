"""
Sends queries to the DNS servers and tracks which of them answer.
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
from nanotun.gateway.dns.interfaces import IAttempt
from nanotun.gateway.dns.message import Query
from nanotun.gateway.dns.servers import Servers
from nanotun.gateway.dns.tcp import ServerStream
from nanotun.gateway.dns.udp import QuerySocket

#: Seconds between two log lines about sockets that cannot be made.
COMPLAINT_INTERVAL = 10.0

#: Two bytes that nobody can predict (RFC 5452, section 4.5).
_makeIdent = partial(secrets.token_bytes, 2)


class ServerQueries:
    """
    The configured DNS servers, as an exchange asks them.

    @param servers: literal addresses; with none, every exchange ends without an answer.
    @param makeDatagram: address family to a non-blocking UDP socket, marked.
    @param makeStream: address family to a non-blocking TCP socket, marked.
    @param makeIdent: gives two random bytes, the id of a query.
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
            server: ServerStream(makeStream, makeIdent, reactor, counters, server)
            for server in servers
        }

    def order(self) -> tuple[Endpoint, ...]:
        """All servers, the one to ask first at the front."""
        return self._servers.order(self._reactor.seconds())

    def ask(
        self,
        server: Endpoint,
        overTCP: bool,
        wire: bytes,
        query: Query,
        answered: Callable[[bytes], None],
        failed: Callable[[], None],
    ) -> IAttempt:
        """
        Send a query to one of the servers.

        @param wire: the query; it is sent with another id.
        @param query: what C{wire} says.
        @param answered: called once with an answer that matches but for its id.
        @param failed: called when there seems to be no answer; by UDP C{answered} may still
            be called afterwards, and this more than once.
        @raise OSError, UpstreamError: it cannot be sent.
        """
        if overTCP:
            self._counters.upstreamStreams += 1
            return self._streams[server].ask(wire, query, answered, failed)
        self._counters.upstream += 1
        return QuerySocket(
            self._makeDatagram,
            self._reactor,
            self._counters,
            server,
            wire,
            query,
            self._makeIdent(),
            answered,
            failed,
        )

    def answered(self, server: Endpoint) -> None:
        """A server has answered."""
        if self._servers.answered(server, self._reactor.seconds()):
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
            return
        # This machine is to blame, not the server.
        now = self._reactor.seconds()
        if not self._complained or now - self._complained >= COMPLAINT_INTERVAL:
            self._complained = now
            self._log.error("A DNS query cannot be sent: {error}", error=error)

    def stop(self) -> None:
        """Close the connections that are kept open."""
        for stream in self._streams.values():
            stream.stop()

    def _noteFailure(self, server: Endpoint, waited: float) -> None:
        now = self._reactor.seconds()
        if self._servers.failed(server, now, now - waited):
            self._log.warn(
                "The DNS server {server} does not answer; it is asked last for a while.",
                server=server,
            )
