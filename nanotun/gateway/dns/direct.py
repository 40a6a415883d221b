"""
A DNS server that is asked past the proxy.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint, LiteralEndpoint
from nanotun.gateway.dns.backoff import Backoff
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.framedtalk import FramedTalk
from nanotun.gateway.dns.interfaces import IAttempt, INameServer
from nanotun.gateway.dns.message import Query
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.gateway.dns.tcp import ServerStream
from nanotun.gateway.dns.troubles import Troubles
from nanotun.gateway.dns.udp import QuerySocket
from nanotun.interfaces import Connection, DnsServer, IUpstream

#: Two bytes that nobody can predict (RFC 5452, section 4.5).
makeIdent = partial(secrets.token_bytes, 2)


@implementer(INameServer)
class DirectServer:
    """
    See the module.

    @param server: its host is a literal address.
    @param way: gives the upstream without a proxy.
    @param makeDatagram: address family to a non-blocking UDP socket, marked.
    @param troubles: its sentences.
    @param tally: counts what comes of the queries.
    """

    where = ""

    def __init__(
        self,
        server: DnsServer,
        way: Callable[[], IUpstream],
        makeDatagram: Callable[[int], socket.socket],
        reactor: Any,
        counters: Counters,
        troubles: Troubles,
        tally: ServerTally,
    ) -> None:
        self.tally = tally
        self._server = Endpoint(server.host, server.port)
        self._way = way
        self._makeDatagram = makeDatagram
        self._reactor = reactor
        self._counters = counters
        self._troubles = troubles
        self._stream = ServerStream(
            self._open,
            partial(FramedTalk, makeIdent),
            reactor,
            counters,
            troubles.notReached,
            troubles.complain,
            Backoff(),
        )

    def ask(
        self,
        wire: bytes,
        query: Query,
        overTCP: bool,
        answered: Callable[[bytes], None],
        failed: Callable[[], None],
    ) -> IAttempt:
        """See L{INameServer.ask}."""
        if overTCP:
            self._counters.upstreamStreams += 1
            return self._stream.ask(wire, query, lambda answer, age: answered(answer), failed)
        self._counters.upstream += 1
        try:
            return QuerySocket(
                self._makeDatagram,
                self._reactor,
                self._counters,
                self._server,
                wire,
                query,
                makeIdent(),
                answered,
                failed,
            )
        except UpstreamError as error:
            self._troubles.notReached(error)
            raise

    def renew(self) -> None:
        """See L{INameServer.renew}."""
        self._stream.renew()

    def stop(self) -> None:
        """See L{INameServer.stop}."""
        self._stream.stop()

    def _open(self) -> Deferred[Connection]:
        return self._way().connect(LiteralEndpoint(*self._server))
