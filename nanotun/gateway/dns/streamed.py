"""
A DNS server that is asked on one connection: C{tcp}, C{tls} and C{https}.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, inlineCallbacks
from zope.interface import implementer

from nanotun.errors import ProxyError, UpstreamError, UpstreamProhibited
from nanotun.flow import LiteralEndpoint
from nanotun.gateway.dns.backoff import Backoff
from nanotun.gateway.dns.bootstrap import AddressError, ServerAddresses
from nanotun.gateway.dns.contexts import PROTOCOLS
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.direct import makeIdent
from nanotun.gateway.dns.framedtalk import FramedTalk
from nanotun.gateway.dns.interfaces import IAttempt, INameServer, ITalk
from nanotun.gateway.dns.message import Query
from nanotun.gateway.dns.padding import padded, unpadded
from nanotun.gateway.dns.proxied import UPSTREAM_IDLE
from nanotun.gateway.dns.records import aged
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.gateway.dns.tcp import ServerStream
from nanotun.gateway.dns.troubles import Troubles
from nanotun.interfaces import Connection, DnsServer, IUpstream
from nanotun.interfaces.nameserver import PORTS
from nanotun.timer import backOff

if TYPE_CHECKING:
    from ssl import SSLContext

    from nanotun.gateway.dns.tlstalk import Sessions

#: Seconds of the first pause after a server has failed, and of the longest.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0


@implementer(INameServer)
class StreamServer:
    """
    See the module.

    @param server: C{tcp}, C{tls} or C{https}; its C{via} is the upstream's name.
    @param way: gives the upstream.
    @param addresses: the server's.
    @param context: how TLS is spoken with it; L{None} for C{tcp}.
    @param troubles: its sentences.
    @param tally: counts what comes of the queries.
    @param today: gives the date by this machine's clock.
    """

    def __init__(
        self,
        server: DnsServer,
        way: Callable[[], IUpstream],
        addresses: ServerAddresses,
        context: SSLContext | None,
        reactor: Any,
        counters: Counters,
        troubles: Troubles,
        tally: ServerTally,
        today: Callable[[], str] = lambda: date.today().isoformat(),
    ) -> None:
        self.where = troubles.where
        self.tally = tally
        self._server = server
        self._way = way
        self._addresses = addresses
        self._counters = counters
        self._troubles = troubles
        self._sessions: Sessions | None = None
        self._encrypted = context is not None
        makeTalk: Callable[[], ITalk] = partial(FramedTalk, makeIdent)
        if context is not None:
            makeTalk = self._inTls(context, today)
        self._stream = ServerStream(
            self._open,
            makeTalk,
            reactor,
            counters,
            self._notOpened,
            troubles.complain,
            Backoff(backOff(FIRST_PAUSE, LONGEST_PAUSE, random.random)),
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
        self._counters.upstreamStreams += 1
        sent = padded(wire, query) if self._encrypted else wire
        return self._stream.ask(sent, query, partial(self._answered, query, answered), failed)

    def renew(self) -> None:
        """See L{INameServer.renew}."""
        if self._sessions is not None:
            self._sessions.forget()
        self._addresses.forget()
        self._stream.renew()

    def stop(self) -> None:
        """See L{INameServer.stop}."""
        self._stream.stop()

    def _answered(
        self, query: Query, answered: Callable[[bytes], None], answer: bytes, age: int
    ) -> None:
        if self._encrypted:
            answer = unpadded(answer, query)
        answered(aged(answer, query, age) if age else answer)

    @inlineCallbacks
    def _open(self) -> Generator[Deferred[Any], Any, Connection]:
        """Dial the server's addresses in turn."""
        addresses = yield self._addresses.get()
        error = UpstreamError("it has no address.")
        for host in addresses:
            try:
                leg = yield self._way().connect(LiteralEndpoint(host, self._server.port))
            except (UpstreamProhibited, ProxyError):
                # They would not let the next one through either.
                raise
            except UpstreamError as failed:
                error = failed
                continue
            self._addresses.reached(host)
            return leg
        self._addresses.noneReached()
        raise error

    def _notOpened(self, error: UpstreamError) -> OSError | UpstreamError:
        if isinstance(error, AddressError):
            return self._troubles.complain(str(error))
        return self._troubles.notReached(error)

    def _inTls(self, context: SSLContext, today: Callable[[], str]) -> Callable[[], ITalk]:
        """How to make what is spoken with an encrypted server."""
        # Only where it is needed: OpenSSL and h2 take tens of milliseconds to load.
        from nanotun.gateway.dns.tlstalk import Sessions, Tls, TlsTalk

        server = self._server
        self._sessions = Sessions()
        inner: Callable[[], ITalk] = partial(FramedTalk, makeIdent)
        unspoken = ""
        if server.scheme == "https":
            from nanotun.gateway.dns.http2 import NOT_HTTP2, HttpTalk

            inner = partial(HttpTalk, authorityOf(server), server.path)
            unspoken = NOT_HTTP2
        tls = Tls(
            context,
            server.certifiedName,
            self._sessions,
            PROTOCOLS[server.scheme],
            unspoken,
            server.port,
            today,
        )
        return lambda: TlsTalk(inner(), tls)


def authorityOf(server: DnsServer) -> str:
    """What a URL of the server has between C{https://} and the path."""
    name = server.certifiedName
    host = f"[{name}]" if ":" in name else name
    return host if server.port == PORTS["https"] else f"{host}:{server.port}"
