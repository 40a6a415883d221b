"""
A DNS server that is asked through an upstream, and never past it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.config.dnsservers import through
from nanotun.config.settings import Settings
from nanotun.errors import ProxyError, UpstreamError, UpstreamProhibited
from nanotun.flow import Endpoint, LiteralEndpoint
from nanotun.gateway.dns.association import QueryAssociations
from nanotun.gateway.dns.backoff import Backoff
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.direct import makeIdent
from nanotun.gateway.dns.interfaces import IAttempt, INameServer
from nanotun.gateway.dns.message import PLAIN_SIZE, Query
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.gateway.dns.talks import FramedTalk
from nanotun.gateway.dns.tcp import ServerStream
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
    @param report: is given a sentence for the user when there is no way to the server, or when
        it does not speak as it should on a connection.
    @param mayFake: see L{couldFake}.
    @param tally: counts what comes of the queries; its server's C{via} is the upstream's name.
    @param ownVia: whether the server has a C{via} of its own, and C{dnsVia} is another.
    """

    def __init__(
        self,
        server: DnsServer,
        way: Callable[[], IUpstream],
        datagrams: QueryAssociations,
        reactor: Any,
        counters: Counters,
        report: Callable[[str], None],
        mayFake: bool,
        tally: ServerTally,
        ownVia: bool = False,
    ) -> None:
        self.tally = tally
        self.where = f" {through(tally.server.via)}"
        self._server = Endpoint(server.host, server.port)
        self._ownVia = ownVia
        self._way = way
        self._datagrams = datagrams
        self._counters = counters
        self._report = report
        self._mayFake = mayFake
        self._stream = ServerStream(
            self._open,
            partial(FramedTalk, makeIdent),
            reactor,
            counters,
            self._troubled,
            self._complain,
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

    def _complain(self, trouble: str) -> OSError:
        sentence = f"The DNS server {self._server}, asked through the proxy, {trouble}."
        self._report(sentence)
        return OSError(sentence)

    def _troubled(self, error: UpstreamError) -> UpstreamError:
        sentence = self._sentence(error)
        self._report(sentence)
        return UpstreamError(sentence)

    def _sentence(self, error: UpstreamError) -> str:
        reason = str(error).removesuffix(".")
        if isinstance(error, UpstreamProhibited):
            what = "dnsVia sends the DNS queries"
            if self._ownVia:
                what = f"via sends the queries for the DNS server {self._server}"
            return f"{reason}, and {what} through it; {self._cure()}."
        if isinstance(error, ProxyError):
            what = "DNS queries cannot be sent, because dnsVia sends them"
            if self._ownVia:
                what = f"The DNS server {self._server} cannot be asked, because its via leads"
            return f"{what}{self.where}: {reason}."
        if type(error) is UpstreamError:
            return f"A DNS query cannot be sent: {reason}."
        return (
            f"The DNS server {self._server} cannot be asked over TCP{self.where}: "
            f"{reason}; if the proxy lets no DNS out, {self._cure()}."
        )

    def _cure(self) -> str:
        cures = ["allow it there"]
        if self._mayFake:
            cures.append(
                "set dnsMode: fake-ip (--dns-mode fake-ip), so that the proxy looks names up"
            )
        if self._ownVia:
            change = "give that server via: direct"
        else:
            change = "set dnsVia: direct (--dns-via direct)"
        cures.append(f"{change}, which sends the queries past the proxy, in the clear")
        *first, last = cures
        return f"{', '.join(first)}{',' if len(first) > 1 else ''} or {last}"
