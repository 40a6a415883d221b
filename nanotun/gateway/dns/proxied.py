"""
A DNS server that is asked through an upstream, and never past it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.config.settings import Settings
from nanotun.errors import ProxyError, UpstreamError, UpstreamProhibited
from nanotun.flow import Endpoint, LiteralEndpoint
from nanotun.gateway.dns.association import QueryAssociations
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.direct import makeIdent
from nanotun.gateway.dns.interfaces import IAttempt, INameServer
from nanotun.gateway.dns.message import PLAIN_SIZE, Query
from nanotun.gateway.dns.tcp import ServerStream
from nanotun.interfaces import Connection, IUpstream
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

    @param server: has a literal address.
    @param way: gives the upstream.
    @param datagrams: its associations; stopped by this.
    @param report: is given a sentence for the user when there is no way to the server.
    @param mayFake: see L{couldFake}.
    """

    where = " through the proxy"

    def __init__(
        self,
        server: Endpoint,
        way: Callable[[], IUpstream],
        datagrams: QueryAssociations,
        reactor: Any,
        counters: Counters,
        report: Callable[[str], None],
        mayFake: bool,
    ) -> None:
        self._server = server
        self._way = way
        self._datagrams = datagrams
        self._counters = counters
        self._report = report
        self._mayFake = mayFake
        self._stream = ServerStream(
            self._open, makeIdent, reactor, counters, self._troubled, PAUSE, UPSTREAM_IDLE
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
        self._datagrams.renew()
        self._stream.renew()

    def stop(self) -> None:
        """See L{INameServer.stop}."""
        self._datagrams.stop()
        self._stream.stop()

    def _askByTCP(
        self,
        wire: bytes,
        query: Query,
        answered: Callable[[bytes], None],
        failed: Callable[[], None],
    ) -> IAttempt:
        self._counters.upstreamStreams += 1
        return self._stream.ask(wire, query, answered, failed)

    def _open(self) -> Deferred[Connection]:
        return self._way().connect(LiteralEndpoint(*self._server))

    def _troubled(self, error: UpstreamError) -> UpstreamError:
        sentence = self._sentence(error)
        self._report(sentence)
        return UpstreamError(sentence)

    def _sentence(self, error: UpstreamError) -> str:
        reason = str(error).removesuffix(".")
        if isinstance(error, UpstreamProhibited):
            return f"{reason}, and dnsVia sends the DNS queries through it; {self._cure()}."
        if isinstance(error, ProxyError):
            return (
                "DNS queries cannot be sent, because dnsVia sends them through the proxy: "
                f"{reason}."
            )
        if type(error) is UpstreamError:
            return f"A DNS query cannot be sent: {reason}."
        return (
            f"The DNS server {self._server} cannot be asked over TCP through the proxy: "
            f"{reason}; if the proxy lets no DNS out, {self._cure()}."
        )

    def _cure(self) -> str:
        cures = ["allow it there"]
        if self._mayFake:
            cures.append(
                "set dnsMode: fake-ip (--dns-mode fake-ip), so that the proxy looks names up"
            )
        cures.append(
            "set dnsVia: direct (--dns-via direct), which sends the queries past the proxy, in the "
            "clear"
        )
        *first, last = cures
        return f"{', '.join(first)}{',' if len(first) > 1 else ''} or {last}"
