"""
The DNS relay: passes apps' queries to the configured servers and the answers back,
unchanged.

The exceptions are the id; the client's subnet, which is taken out of queries unless it is
wanted (L{nanotun.gateway.dns.edns}); in an answer from the cache the TTLs, the AA bit and the
spelling of the question; and an answer that is too large for its client, which is cut, with TC
set (L{nanotun.gateway.dns.records}).

A message that is no question for a resolver (an update, a notification, the transfer of a
zone) is never sent to these servers, for whom it is not meant.

Queries that the cache has no answer for wait in L{nanotun.gateway.dns.exchanges}.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from zope.interface import implementer

from nanotun.gateway.dns import made
from nanotun.gateway.dns.answered import AnsweredNames
from nanotun.gateway.dns.ask import ServerQueries
from nanotun.gateway.dns.cache import AnswerCache
from nanotun.gateway.dns.choice import ServerChoice
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.edns import CLIENT_SUBNET, withoutOption
from nanotun.gateway.dns.exchange import Waiter
from nanotun.gateway.dns.exchanges import CLIENT_LIMIT, IN_FLIGHT_LIMIT, Exchanges, fitted
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.message import (
    FORMERR,
    HEADER_SIZE,
    LARGEST,
    NOERROR,
    NOTIMP,
    NXDOMAIN,
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
from nanotun.gateway.dns.privatezones import ZONES
from nanotun.gateway.dns.rebinding import RebindingGuard
from nanotun.gateway.dns.trace import Trace


@implementer(IAnswering)
class DnsRelay:
    """
    See the module.

    @param servers: whom to ask; L{None} for nobody, until L{configure} says more.
    @param cacheSize: how many answers to keep, or 0.
    @param cacheBytes: how much memory they may take.
    @param names: notes the answers given; L{None} where nobody needs the names.
    @ivar keepsSubnet: whether servers are told the client's network if a query names it (RFC
        7871).
    """

    def __init__(
        self,
        clock: Any,
        servers: ServerChoice | None,
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
        self._names = names
        self.keepsSubnet = False
        cache = AnswerCache(cacheSize, cacheBytes)
        self._exchanges = Exchanges(clock, counters, cache, names, inFlightLimit, clientLimit)

    @property
    def cache(self) -> AnswerCache:
        """The answers that are kept."""
        return self._exchanges.cache

    @property
    def inFlight(self) -> int:
        """Queries that wait for a server."""
        return self._exchanges.inFlight

    def query(
        self,
        wire: bytes,
        client: Hashable,
        reply: Callable[[bytes], None],
        overTCP: bool = False,
        largest: int = LARGEST,
        trace: Trace | None = None,
        servers: ServerQueries | None = None,
    ) -> bool:
        """
        See L{IAnswering.query}.

        @param servers: asked instead of those of the configuration; their answer is not kept.
        """
        counters = self.counters
        counters.queries += 1
        now = self._clock.seconds()
        cache = self._exchanges.cache
        answer = cache.hit(wire, now) if servers is None else None
        if answer is not None and len(answer) <= PLAIN_SIZE:
            counters.hits += 1
            if trace is not None:
                cache.fill(trace, wire, now)
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
        if query.edns >= 0 and not query.key and not self.keepsSubnet:
            wire = withoutOption(wire, query, CLIENT_SUBNET)
            query = readQuery(wire)
        limit = largest if overTCP else min(largest, query.limit)
        if answer is None and query.key and servers is None:
            answer = cache.find(wire, query, now)
        if answer is not None:
            counters.hits += 1
            if trace is not None:
                cache.fill(trace, wire, now)
            reply(fitted(answer, query, limit, counters))
            return True
        waiter = Waiter(client, wire[:2], overTCP, limit, reply, trace)
        choice = self._servers
        asked = choice.of(query) if servers is None and choice is not None else servers
        if asked is None:
            if trace is not None:
                trace.stage = "private"
            reply(errorReply(wire, query, SERVFAIL) if choice is None else self._deny(wire, query))
            return True
        if servers is None:
            counters.misses += 1
        return self._exchanges.ask(wire, query, waiter, asked, servers is not None)

    def give(
        self,
        wire: bytes,
        query: Query,
        answer: bytes,
        reply: Callable[[bytes], None],
        overTCP: bool,
        largest: int,
        noted: bool = True,
    ) -> None:
        """
        Give a client an answer that was made for it.

        @param query: what C{wire} says.
        @param noted: whether its name is remembered as that of the addresses in it.
        """
        if noted and self._names is not None:
            self._names.note(answer, query, self._clock.seconds(), always=True)
        limit = largest if overTCP else min(largest, query.limit)
        reply(fitted(answer, query, limit, self.counters))

    def guardBy(self, guard: RebindingGuard | None) -> None:
        """
        Drop answers by another guard from now on, or by none.  If there was none before, answers
        are forgotten that it has not seen, and the other way round.
        """
        if (guard is None) != (self._exchanges.guard is None):
            self.clearCache()
        self._exchanges.guard = guard

    def clearCache(self) -> None:
        """
        Forget every answer, and the names behind addresses.  Answers to the queries under
        way are not kept either.
        """
        self.cache.clear()
        if self._names is not None:
            self._names.clear()
        self._exchanges.keepNone()

    def networkMoved(self) -> None:
        """
        Forget every answer, and use no connection any more that was open: the machine is in
        another network.
        """
        self.clearCache()
        if self._servers is not None:
            self._servers.renew()

    def rechoose(self, servers: ServerChoice) -> None:
        """
        Choose anew from now on among the servers that are asked already, and forget their
        answers: a name may be asked of others than before.

        @param servers: has the same L{NameServers} as the previous choice.
        """
        self.clearCache()
        self._servers = servers

    def configure(
        self,
        servers: ServerChoice,
        cacheSize: int,
        cacheBytes: int,
        anew: bool = False,
        stale: float = 0.0,
    ) -> None:
        """
        Ask other servers from now on, and forget the answers of the previous ones.

        @param servers: whom to ask; stopped by this relay.
        @param cacheSize: how many answers to keep, or 0.
        @param cacheBytes: how much memory they may take.
        @param anew: whether nothing more may be sent to the previous servers: queries under
            way are sent to these.  Otherwise they go on as they were.
        @param stale: seconds after its time for which an answer is given if no server responds.
        """
        self.clearCache()
        self._exchanges.cache = AnswerCache(cacheSize, cacheBytes, stale, self.counters)
        # Queries to the servers before the previous ones have long been answered.
        if self._before is not None:
            self._before.stop()
        self._before, self._servers = self._servers, servers
        if anew and self._before is not None:
            self._before.stop()
            self._exchanges.askAnew(servers.of)

    def stop(self) -> None:
        """Give up all queries; no client hears anything more."""
        self._exchanges.stop()
        for each in (self._before, self._servers):
            if each is not None:
                each.stop()

    def _deny(self, wire: bytes, query: Query) -> bytes:
        """The answer about a name that is nobody else's business."""
        self.counters.private += 1
        isZone = query.question[:-5].lower() in ZONES
        return made.deny(wire, query, NOERROR if isZone else NXDOMAIN)

    def _malformed(self, wire: bytes, reply: Callable[[bytes], None]) -> bool:
        self.counters.malformed += 1
        # Answering an answer could start an endless loop.
        if len(wire) < HEADER_SIZE or wire[2] & 0x80:
            return False
        reply(errorReply(wire, None, FORMERR))
        return True


def _refusal(wire: bytes, query: Query, overTCP: bool) -> bytes:
    """The answer to a message that is no question for a resolver."""
    if query.flags & OPCODE:
        return errorReply(wire, query, NOTIMP)
    if overTCP:
        return errorReply(wire, query, REFUSED)
    # By TCP it reaches the server that is asked.
    answer = errorReply(wire, query, NOERROR)
    return answer[:2] + bytes((answer[2] | TC >> 8,)) + answer[3:]
