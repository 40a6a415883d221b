"""
The DNS relay: passes apps' queries to the configured servers and the answers back,
unchanged.

The exceptions are the id; in an answer from the cache the TTLs, the AA bit and the spelling
of the question; and an answer that is too large for its client, which is cut, with TC set
(L{nanotun.gateway.dns.records}).

Queries with the same bytes but for the id share one exchange, whichever clients sent them:
servers learn nothing about our clients but those bytes, so the answer is the same.  It is
also safer: a forger gains nothing by having one question asked many times (RFC 5452,
section 5).  A query that its client repeats joins the one under way and gets one answer.

A message that is no question for a resolver (an update, a notification, the transfer of a
zone) is never sent to these servers, for whom it is not meant.

Over a limit the answer is SERVFAIL rather than silence: the app, on this machine, can try
another server or give up now, and does not add repetitions to the load.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from zope.interface import implementer

from nanotun.gateway.dns.answered import AnsweredNames
from nanotun.gateway.dns.ask import ServerQueries
from nanotun.gateway.dns.cache import AnswerCache
from nanotun.gateway.dns.choice import ServerChoice
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.exchange import Deadlines, Exchange, Waiter
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.message import (
    FORMERR,
    HEADER_SIZE,
    LARGEST,
    NOERROR,
    NOTIMP,
    OPCODE,
    PLAIN_SIZE,
    REFUSED,
    SERVFAIL,
    TC,
    Query,
    WireError,
    errorReply,
    isTransfer,
    readQuery,
)
from nanotun.gateway.dns.records import truncate

#: Queries that wait for a server.  Each may hold three sockets when servers are silent, and
#: flows need file descriptors too.  With answers within 0.2 s the limit admits 10,000
#: queries a second.
IN_FLIGHT_LIMIT = 2000

#: Bytes of the queries under way that are larger than L{PLAIN_SIZE}.  Few are, so a client
#: that sends many of them takes nothing from the others.  Each is held twice.
LARGE_LIMIT = 1 << 20

#: Queries of one host that wait, from however many sockets; the rest is for this machine's
#: other addresses.  Programs with the same address are not told apart: each can use it up.
CLIENT_LIMIT = 1800


@implementer(IAnswering)
class DnsRelay:
    """
    See the module.

    @param servers: whom to ask.
    @param cacheSize: how many answers to keep, or 0.
    @param cacheBytes: how much memory they may take.
    @param names: notes the answers given; L{None} where nobody needs the names.
    @ivar inFlight: queries that wait for a server.
    """

    def __init__(
        self,
        clock: Any,
        servers: ServerChoice,
        counters: Counters,
        cacheSize: int,
        cacheBytes: int,
        inFlightLimit: int = IN_FLIGHT_LIMIT,
        clientLimit: int = CLIENT_LIMIT,
        names: AnsweredNames | None = None,
    ) -> None:
        self._clock = clock
        self._servers = servers
        self._before: ServerChoice | None = None
        self.counters = counters
        self.cache = AnswerCache(cacheSize, cacheBytes)
        self._inFlightLimit = inFlightLimit
        self._clientLimit = clientLimit
        self._names = names
        self._deadlines = Deadlines(clock)
        self._exchanges: dict[bytes, Exchange] = {}
        self._clients: dict[Hashable, int] = {}
        self._large = 0
        self.inFlight = 0

    def query(
        self,
        wire: bytes,
        client: Hashable,
        reply: Callable[[bytes], None],
        overTCP: bool = False,
        largest: int = LARGEST,
        servers: ServerQueries | None = None,
    ) -> bool:
        """
        See L{IAnswering.query}.

        @param servers: asked instead of those of the configuration; their answer is not kept.
        """
        counters = self.counters
        counters.queries += 1
        now = self._clock.seconds()
        answer = self.cache.hit(wire, now) if servers is None else None
        if answer is not None and len(answer) <= PLAIN_SIZE:
            counters.hits += 1
            reply(answer)
            return True
        try:
            query = readQuery(wire)
        except WireError:
            return self._malformed(wire, reply)
        if query.flags & OPCODE or isTransfer(query):
            counters.notQueries += 1
            reply(_refusal(wire, query, overTCP))
            return True
        limit = largest if overTCP else min(largest, query.limit)
        if answer is None and query.key and servers is None:
            answer = self.cache.find(wire, query, now)
        if answer is not None:
            counters.hits += 1
            reply(self._fit(answer, query, limit))
            return True
        return self._wait(wire, query, Waiter(client, wire[:2], overTCP, limit, reply), servers)

    def give(
        self,
        wire: bytes,
        query: Query,
        answer: bytes,
        reply: Callable[[bytes], None],
        overTCP: bool,
        largest: int,
    ) -> None:
        """
        Give a client an answer that was made for it.

        @param query: what C{wire} says.
        """
        if self._names is not None:
            self._names.note(answer, query, self._clock.seconds(), always=True)
        reply(self._fit(answer, query, largest if overTCP else min(largest, query.limit)))

    def clearCache(self) -> None:
        """
        Forget every answer, and the names behind addresses.  Answers to the queries under
        way are not kept either.
        """
        self.cache.clear()
        if self._names is not None:
            self._names.clear()
        for exchange in self._exchanges.values():
            exchange.query = exchange.query._replace(key=b"")

    def networkMoved(self) -> None:
        """
        Forget every answer, and use no connection any more that was open: the machine is in
        another network.
        """
        self.clearCache()
        self._servers.renew()

    def configure(
        self, servers: ServerChoice, cacheSize: int, cacheBytes: int, anew: bool = False
    ) -> None:
        """
        Ask other servers from now on, and forget the answers of the previous ones.

        @param servers: whom to ask; stopped by this relay.
        @param cacheSize: how many answers to keep, or 0.
        @param cacheBytes: how much memory they may take.
        @param anew: whether nothing more may be sent to the previous servers: queries under
            way are sent to these.  Otherwise they go on as they were.
        """
        self.clearCache()
        self.cache = AnswerCache(cacheSize, cacheBytes)
        # Queries to the servers before the previous ones have long been answered.
        if self._before is not None:
            self._before.stop()
        self._before, self._servers = self._servers, servers
        if anew:
            self._before.stop()
            for exchange in list(self._exchanges.values()):
                exchange.cancel()
                if exchange.key == exchange.wire[2:]:
                    self._begin(exchange.wire, exchange.query, exchange.waiters)
                else:
                    # Asked somewhere else, a name may have another meaning, or be a secret.
                    self._done(exchange, None)

    def stop(self) -> None:
        """Give up all queries; no client hears anything more."""
        exchanges = list(self._exchanges.values())
        self._exchanges.clear()
        self._clients.clear()
        self._large = 0
        self.inFlight = 0
        for exchange in exchanges:
            exchange.cancel()
        self._deadlines.stop()
        self._servers.stop()
        if self._before is not None:
            self._before.stop()

    def _malformed(self, wire: bytes, reply: Callable[[bytes], None]) -> bool:
        self.counters.malformed += 1
        # Answering an answer could start an endless loop.
        if len(wire) < HEADER_SIZE or wire[2] & 0x80:
            return False
        reply(errorReply(wire, None, FORMERR))
        return True

    def _fit(self, answer: bytes, query: Query, limit: int) -> bytes:
        if len(answer) <= limit:
            return answer
        self.counters.truncated += 1
        return truncate(answer, query, limit)

    def _wait(
        self, wire: bytes, query: Query, waiter: Waiter, servers: ServerQueries | None
    ) -> bool:
        client = waiter.client
        key = _keyOf(wire, servers)
        if servers is not None:
            query = query._replace(key=b"")
        exchange = self._exchanges.get(key)
        if exchange is not None:
            self.counters.joined += 1
            for other in exchange.waiters:
                if other.ident == waiter.ident and other.client == client:
                    return False
        host = _hostOf(client)
        ofClient = self._clients.get(host, 0)
        large = _largeSize(wire) if exchange is None else 0
        if (
            self.inFlight >= self._inFlightLimit
            or ofClient >= self._clientLimit
            or self._large + large > LARGE_LIMIT
        ):
            self.counters.limited += 1
            waiter.reply(errorReply(wire, query, SERVFAIL))
            return True
        self._large += large
        self._clients[host] = ofClient + 1
        self.inFlight += 1
        if exchange is not None:
            exchange.waiters.append(waiter)
            return True
        self._begin(wire, query, [waiter], servers)
        return True

    def _begin(
        self,
        wire: bytes,
        query: Query,
        waiters: list[Waiter],
        servers: ServerQueries | None = None,
    ) -> None:
        asked = servers or self._servers.of(query)
        key = _keyOf(wire, servers)
        exchange = Exchange(wire, query, asked, self._deadlines, self._done, self._truncated, key)
        exchange.waiters = waiters
        self._exchanges[key] = exchange
        # A query that is too large for UDP (RFC 1035, section 4.2.1) is sent by TCP, as it
        # arrived.
        exchange.begin(waiters[0].overTCP and len(wire) > PLAIN_SIZE)

    def _done(self, exchange: Exchange, answer: bytes | None) -> None:
        wire, query = exchange.wire, exchange.query
        del self._exchanges[exchange.key]
        self._large -= _largeSize(wire)
        if answer is None:
            self.counters.servfail += len(exchange.waiters)
            answer = errorReply(wire, query, SERVFAIL)
        else:
            now = self._clock.seconds()
            always = exchange.key != wire[2:]
            names = self._names
            grant = None if names is None else names.note(answer, query, now, always)
            self.cache.store(wire, query, answer, now, grant)
        self._give(exchange, exchange.waiters, answer)

    def _truncated(self, exchange: Exchange, answer: bytes) -> None:
        waiters = exchange.waiters
        exchange.waiters = [waiter for waiter in waiters if waiter.overTCP]
        self._give(exchange, [waiter for waiter in waiters if not waiter.overTCP], answer)

    def _give(self, exchange: Exchange, waiters: list[Waiter], answer: bytes) -> None:
        rest = answer[2:]
        for client, ident, _, limit, reply in waiters:
            self.inFlight -= 1
            host = _hostOf(client)
            left = self._clients[host] - 1
            if left:
                self._clients[host] = left
            else:
                del self._clients[host]
            reply(self._fit(ident + rest, exchange.query, limit))


def _keyOf(wire: bytes, servers: ServerQueries | None) -> bytes:
    """
    Equal for queries that share an answer.

    @param servers: from the script; alive as long as the exchange is.
    """
    return wire[2:] if servers is None else b"%b%d" % (wire[2:], id(servers))


def _refusal(wire: bytes, query: Query, overTCP: bool) -> bytes:
    """The answer to a message that is no question for a resolver."""
    if query.flags & OPCODE:
        return errorReply(wire, query, NOTIMP)
    if overTCP:
        return errorReply(wire, query, REFUSED)
    # By TCP it reaches the server that is asked.
    answer = errorReply(wire, query, NOERROR)
    return answer[:2] + bytes((answer[2] | TC >> 8,)) + answer[3:]


def _hostOf(client: Any) -> Hashable:
    """The host that a client's queries are counted for, or the client if it has none."""
    host: Hashable = getattr(client, "host", client)
    return host


def _largeSize(wire: bytes) -> int:
    """The bytes that a query under way counts towards L{LARGE_LIMIT}."""
    return len(wire) if len(wire) > PLAIN_SIZE else 0
