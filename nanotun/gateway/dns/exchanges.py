"""
The exchanges that are under way: who waits for which, and how many may be.

Queries with the same bytes but for the id share one exchange, whichever clients sent them:
servers learn nothing about our clients but those bytes, so the answer is the same.  It is
also safer: a forger gains nothing by having one question asked many times (RFC 5452,
section 5).  A query that its client repeats joins the one under way and gets one answer.

Over a limit the answer is SERVFAIL rather than silence: the app, on this machine, can try
another server or give up now, and does not add repetitions to the load.

If the first server is silent, or none answers, those who wait are given an answer whose time is
over, if the cache has one (RFC 8767).  A server's SERVFAIL is an answer.

An answer that L{nanotun.gateway.dns.rebinding} drops becomes one without data.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from twisted.logger import Logger

from nanotun.gateway.dns import made
from nanotun.gateway.dns.answered import AnsweredNames, Grant
from nanotun.gateway.dns.ask import ServerQueries
from nanotun.gateway.dns.cache import AnswerCache
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.exchange import Deadlines, Exchange, Waiter
from nanotun.gateway.dns.message import NOERROR, PLAIN_SIZE, SERVFAIL, Query, errorReply
from nanotun.gateway.dns.rebinding import RebindingGuard
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

#: Seconds without an answer whose time is over until the next one is worth a line again.
STALE_QUIET = 600.0

#: Why an answer is not the server's, in a trace.
_REBINDING = "dnsRebindProtection"


class Exchanges:
    """
    See the module.

    @param cache: keeps the answers.
    @param names: notes the answers given; L{None} where nobody needs the names.
    @ivar cache: may be replaced.
    @ivar guard: drops answers; L{None} if none are dropped.  May be replaced.
    @ivar inFlight: queries that wait for a server.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        counters: Counters,
        cache: AnswerCache,
        names: AnsweredNames | None = None,
        inFlightLimit: int = IN_FLIGHT_LIMIT,
        clientLimit: int = CLIENT_LIMIT,
    ) -> None:
        self._clock = clock
        self._counters = counters
        self.cache = cache
        self.guard: RebindingGuard | None = None
        self._names = names
        self._inFlightLimit = inFlightLimit
        self._clientLimit = clientLimit
        self._deadlines = Deadlines(clock)
        self._exchanges: dict[bytes, Exchange] = {}
        self._clients: dict[Hashable, int] = {}
        self._large = 0
        self._quietUntil = 0.0
        self.inFlight = 0

    def ask(
        self, wire: bytes, query: Query, waiter: Waiter, servers: ServerQueries, named: bool
    ) -> bool:
        """
        Have a client's query wait for the answer of servers, which are asked unless somebody
        waits for the same already.

        @param query: what C{wire} says.
        @param named: whether the script has named the servers; their answer is not kept.
        @return: see L{IAnswering.query<nanotun.gateway.dns.interfaces.IAnswering.query>}.
        """
        client = waiter.client
        key = servers.key + wire[2:]
        if named:
            query = query._replace(key=b"")
        exchange = self._exchanges.get(key)
        if exchange is not None:
            self._counters.joined += 1
            for other in exchange.waiters:
                if other.ident == waiter.ident and other.client == client:
                    return False
        host = _hostOf(client)
        ofClient = self._clients.get(host, 0)
        large = _largeSize(wire) if exchange is None else 0
        if (
            self.inFlight >= self._inFlightLimit
            # Some go on though nobody waits for them any more.
            or (exchange is None and len(self._exchanges) >= self._inFlightLimit)
            or ofClient >= self._clientLimit
            or self._large + large > LARGE_LIMIT
        ):
            self._counters.limited += 1
            if waiter.trace is not None:
                waiter.trace.stage = "limit"
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

    def keepNone(self) -> None:
        """Keep no answer to a query that is under way."""
        for exchange in self._exchanges.values():
            exchange.query = exchange.query._replace(key=b"")

    def askAnew(self, choose: Callable[[Query], ServerQueries | None]) -> None:
        """
        Give up what is under way, and ask other servers.

        @param choose: a query to those servers, or L{None}.
        """
        for exchange in list(self._exchanges.values()):
            exchange.cancel()
            wire, query = exchange.wire, exchange.query
            servers = choose(query)
            sameName = servers is not None and not servers.key and exchange.key == wire[2:]
            if servers is not None and sameName and exchange.waiters:
                self._begin(wire, query, exchange.waiters, servers)
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

    def _begin(
        self,
        wire: bytes,
        query: Query,
        waiters: list[Waiter],
        servers: ServerQueries,
    ) -> None:
        key = servers.key + wire[2:]
        exchange = Exchange(
            wire, query, servers, self._deadlines, self._done, self._truncated, key, self._late
        )
        exchange.waiters = waiters
        self._exchanges[key] = exchange
        # A query that is too large for UDP (RFC 1035, section 4.2.1) is sent by TCP, as it
        # arrived.
        exchange.begin(waiters[0].overTCP and len(wire) > PLAIN_SIZE)

    def _done(self, exchange: Exchange, answer: bytes | None) -> None:
        wire, query = exchange.wire, exchange.query
        del self._exchanges[exchange.key]
        self._large -= _largeSize(wire)
        if answer is not None:
            given, answer = answer, self._guarded(exchange, answer)
            rule = _REBINDING if answer is not given else ""
            grant, now = self._note(exchange, answer), self._clock.seconds()
            self.cache.store(wire, query, answer, now, grant, exchange.tally, rule)
        elif self._late(exchange):
            return
        else:
            self._counters.servfail += len(exchange.waiters)
            answer = errorReply(wire, query, SERVFAIL)
        self._give(exchange, exchange.waiters, answer)

    def _late(self, exchange: Exchange) -> bool:
        """
        No server has answered, so far or at all: give an answer whose time is over.

        @return: whether there is one.
        """
        waiters, wire, now = exchange.waiters, exchange.wire, self._clock.seconds()
        if not waiters:
            return False
        answer = self.cache.stale(wire, exchange.query, now, partial(self._note, exchange))
        if answer is None:
            return False
        if now >= self._quietUntil:
            self._log.warn(
                "No DNS server has answered in time, so answers are given whose time to live is "
                "over (dnsStale)."
            )
        self._quietUntil = now + STALE_QUIET
        self._counters.stale += len(waiters)
        for waiter in waiters:
            if waiter.trace is not None:
                self.cache.fill(waiter.trace, wire, now)
        exchange.waiters = []
        self._give(exchange, waiters, answer)
        return True

    def _note(self, exchange: Exchange, answer: bytes) -> Grant | None:
        """Note the names of an answer's addresses."""
        if self._names is None:
            return None
        always = exchange.key != exchange.wire[2:]
        return self._names.note(answer, exchange.query, self._clock.seconds(), always)

    def _guarded(self, exchange: Exchange, answer: bytes) -> bytes:
        """The answer, or what takes its place if it leads into local networks."""
        query = exchange.query
        if self.guard is None or not self.guard.drops(answer, query):
            return answer
        self._counters.rebound += len(exchange.waiters)
        for waiter in exchange.waiters:
            if waiter.trace is not None:
                waiter.trace.rule = _REBINDING
        return made.deny(exchange.wire, query, NOERROR)

    def _truncated(self, exchange: Exchange, answer: bytes) -> None:
        answer = self._guarded(exchange, answer)
        waiters = exchange.waiters
        exchange.waiters = [waiter for waiter in waiters if waiter.overTCP]
        self._give(exchange, [waiter for waiter in waiters if not waiter.overTCP], answer)

    def _give(self, exchange: Exchange, waiters: list[Waiter], answer: bytes) -> None:
        rest = answer[2:]
        for client, ident, _, limit, reply, _ in waiters:
            self.inFlight -= 1
            host = _hostOf(client)
            left = self._clients[host] - 1
            if left:
                self._clients[host] = left
            else:
                del self._clients[host]
            reply(fitted(ident + rest, exchange.query, limit, self._counters))


def fitted(answer: bytes, query: Query, limit: int, counters: Counters) -> bytes:
    """An answer, cut if it has more bytes than its client takes."""
    if len(answer) <= limit:
        return answer
    counters.truncated += 1
    return truncate(answer, query, limit)


def _hostOf(client: Any) -> Hashable:
    """The host that a client's queries are counted for, or the client if it has none."""
    host: Hashable = getattr(client, "host", client)
    return host


def _largeSize(wire: bytes) -> int:
    """The bytes that a query under way counts towards L{LARGE_LIMIT}."""
    return len(wire) if len(wire) > PLAIN_SIZE else 0
