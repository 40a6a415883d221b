"""
A DNS server that is asked through an upstream, and never past it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.config.settings import Settings
from nanotun.flow import Endpoint, LiteralEndpoint
from nanotun.gateway.dns.association import QueryAssociations
from nanotun.gateway.dns.backoff import Backoff
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.direct import makeIdent
from nanotun.gateway.dns.framedtalk import FramedTalk
from nanotun.gateway.dns.interfaces import IAttempt, INameServer
from nanotun.gateway.dns.message import PLAIN_SIZE, Query
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.gateway.dns.tcp import ServerStream
from nanotun.gateway.dns.troubles import Troubles
from nanotun.interfaces import Connection, DnsServer, IUpstream
from nanotun.upstream.scheme import sendsNamesWith

#: Seconds that a connection stays open without a query under way.  A new one costs three
#: round trips or more.  The server may close it sooner (RFC 7766, section 6.2.3).
UPSTREAM_IDLE = 60.0

#: Seconds after a connection failed in which no other is opened: a proxy that forbids the
#: server is asked once, and not once for each query.
PAUSE = 2.0


def couldFake(settings: Settings) -> bool:
    """Whether C{dnsMode: fake-ip}, which is not set, would leave names to the proxies."""
    takeNames = all(sendsNamesWith(url.scheme, fakes=True) for url in settings.proxy)
    return takeNames and settings.dnsMode != "fake-ip"


@implementer(INameServer)
class UpstreamServer:
    """
    See the module.

    @param server: its host is a literal address.
    @param way: gives the upstream.
    @param datagrams: its associations, which other servers share.
    @param troubles: its sentences.
    @param tally: counts what comes of the queries.
    """

    def __init__(
        self,
        server: DnsServer,
        way: Callable[[], IUpstream],
        datagrams: QueryAssociations,
        reactor: Any,
        counters: Counters,
        troubles: Troubles,
        tally: ServerTally,
    ) -> None:
        self.tally = tally
        self.where = troubles.where
        self._server = Endpoint(server.host, server.port)
        self._way = way
        self._datagrams = datagrams
        self._counters = counters
        self._stream = ServerStream(
            self._open,
            partial(FramedTalk, makeIdent),
            reactor,
            counters,
            troubles.notReached,
            troubles.complain,
            Backoff(lambda failures: PAUSE),
            UPSTREAM_IDLE,
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
        if overTCP or len(wire) > PLAIN_SIZE or not self._datagrams.usable():
            return self._askByTCP(wire, query, answered, failed)
        self._counters.upstream += 1
        return self._datagrams.ask(self._server, wire, query, answered, failed, self._askByTCP)

    def renew(self) -> None:
        """See L{INameServer.renew}."""
        self._stream.renew()

    def stop(self) -> None:
        """See L{INameServer.stop}."""
        self._stream.stop()

    def _askByTCP(
        self,
        wire: bytes,
        query: Query,
        answered: Callable[[bytes], None],
        failed: Callable[[], None],
    ) -> IAttempt:
        self._counters.upstreamStreams += 1
        return self._stream.ask(wire, query, lambda answer, age: answered(answer), failed)

    def _open(self) -> Deferred[Connection]:
        return self._way().connect(LiteralEndpoint(*self._server))
