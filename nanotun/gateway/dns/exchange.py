"""
One question under way to the servers, for all who wait for its answer.

Rules::

    stage    event                          next
    udp      answer                         done
    udp      truncated answer               UDP askers have it; udp -> tcp for the
                                            others, the same server first; else done
    udp      ATTEMPT_TIMEOUT, or refused    the next server, the earlier ones still
                                            listened to
    tcp      answer                         done
    tcp      ATTEMPT_TIMEOUT, or ended      the next server, likewise
    any      no server left                 done, without an answer

An answer that is an error is an answer: another server asked after a SERVFAIL
would undo the first one's DNSSEC validation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint
from nanotun.gateway.dns.message import TC, Query
from nanotun.gateway.dns.udp import Attempt

#: Seconds until the next server is asked, and how many are: together less than
#: the five seconds that resolvers wait (resolv.conf(5)).  One server alone is
#: asked as often, for datagrams get lost.
ATTEMPT_TIMEOUT = 1.5
ATTEMPTS = 3


class Waiter(NamedTuple):
    """
    Who waits for an answer.

    @ivar ident: the id of its query.
    @ivar limit: bytes that its answer may have.
    """

    client: object
    ident: bytes
    overTCP: bool
    limit: int
    reply: Callable[[bytes], None]


class Ways(Protocol):
    """How servers are asked: L{nanotun.gateway.dns.ask.ServerWays}."""

    def order(self) -> tuple[Endpoint, ...]:
        """The servers, the one to ask first at the front."""

    def ask(self, server: Endpoint, overTCP: bool, exchange: Exchange, number: int) -> Attempt:
        """
        Send the exchange's query.

        @raise OSError, UpstreamError: it cannot be sent.
        """

    def answered(self, server: Endpoint) -> None:
        """The server lives."""

    def timedOut(self, server: Endpoint) -> None:
        """The server was silent."""

    def failed(self, server: Endpoint, error: OSError | UpstreamError | None) -> None:
        """The server refused, or could not be asked because of C{error}."""


class Exchange:
    """
    See the module.

    @ivar wire: the query of who asked first; empty after C{done}.
    @ivar waiters: who waits; L{done} and L{truncated} take them.
    @param done: called once with this and the answer or L{None}.
    @param truncated: called with this and a truncated answer, which is for those
        who asked by UDP.
    """

    __slots__ = (
        "_attempts",
        "_deadlines",
        "_done",
        "_first",
        "_left",
        "_order",
        "_overTCP",
        "_truncated",
        "_ways",
        "ended",
        "query",
        "waiters",
        "wire",
    )

    def __init__(
        self,
        wire: bytes,
        query: Query,
        ways: Ways,
        deadlines: Deadlines,
        done: Callable[[Exchange, bytes | None], None],
        truncated: Callable[[Exchange, bytes], None],
    ) -> None:
        self.wire = wire
        self.query = query
        self.waiters: list[Waiter] = []
        self.ended = False
        self._ways = ways
        self._deadlines = deadlines
        self._done = done
        self._truncated = truncated
        self._attempts: list[tuple[Endpoint, Attempt | None]] = []
        self._first = 0
        self._left = ATTEMPTS
        self._order: tuple[Endpoint, ...] = ()
        self._overTCP = False

    def begin(self, overTCP: bool) -> None:
        """Ask the first server.  C{done} may be called before this returns."""
        self._overTCP = overTCP
        self._order = self._ways.order()
        self._next()

    def cancel(self) -> None:
        """Give up; nobody hears anything."""
        self.ended = True
        for _, attempt in self._attempts:
            if attempt is not None:
                attempt.cancel()
        # They know us: a circle less for the garbage collector.
        self._attempts.clear()

    def answered(self, number: int, answer: bytes) -> None:
        """See L{nanotun.gateway.dns.udp.Asker.answered}."""
        if self.ended or number < self._first:
            return
        server = self._attempts[number][0]
        self._ways.answered(server)
        if self._overTCP or not answer[2] & TC >> 8:
            self._end(answer)
            return
        self._truncated(self, answer)
        if not self.waiters:
            self._end(None)
            return
        for _, attempt in self._attempts:
            if attempt is not None:
                attempt.cancel()
        self._first = len(self._attempts)
        self._left = ATTEMPTS
        self._order = (server, *(each for each in self._order if each != server))
        self._overTCP = True
        self._next()

    def failed(self, number: int) -> None:
        """See L{nanotun.gateway.dns.udp.Asker.failed}."""
        if not self.ended and number == len(self._attempts) - 1:
            self._ways.failed(self._attempts[number][0], None)
            self._next()

    def timedOut(self, number: int) -> None:
        """The attempt has had its time.  Called by L{Deadlines}."""
        if not self.ended and number == len(self._attempts) - 1:
            self._ways.timedOut(self._attempts[number][0])
            self._next()

    def _next(self) -> None:
        while self._left:
            self._left -= 1
            number = len(self._attempts)
            server = self._order[(number - self._first) % len(self._order)]
            try:
                attempt = self._ways.ask(server, self._overTCP, self, number)
            except (OSError, UpstreamError) as error:
                self._attempts.append((server, None))
                self._ways.failed(server, error)
                continue
            self._attempts.append((server, attempt))
            self._deadlines.add(self, number)
            return
        self._end(None)

    def _end(self, answer: bytes | None) -> None:
        self.cancel()
        self._done(self, answer)
        # The deadlines keep this for a while yet.
        self.wire = b""


class Deadlines:
    """
    When attempts have had their time.  All have the same, so the first begun is
    the first to end, and one delayed call does for all.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._queue: deque[tuple[float, Exchange, int]] = deque()
        self._call: Any = None

    def add(self, exchange: Exchange, number: int) -> None:
        """Call C{exchange.timedOut(number)} in L{ATTEMPT_TIMEOUT} seconds, if it goes on."""
        self._queue.append((self._clock.seconds() + ATTEMPT_TIMEOUT, exchange, number))
        if self._call is None:
            self._call = self._clock.callLater(ATTEMPT_TIMEOUT, self._look)

    def stop(self) -> None:
        """Forget all."""
        self._queue.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        self._call = None
        now = self._clock.seconds()
        queue = self._queue
        over = []
        while queue and (queue[0][1].ended or queue[0][0] <= now):
            over.append(queue.popleft())
        if queue:
            self._call = self._clock.callLater(queue[0][0] - now, self._look)
        for _, exchange, number in over:
            exchange.timedOut(number)
