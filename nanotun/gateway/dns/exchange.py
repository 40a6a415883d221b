"""
One question that the servers are asked, on behalf of every client that waits for its
answer.

An exchange asks one server at a time, by UDP, and moves on to the next server when that
one is silent for L{ATTEMPT_TIMEOUT} seconds or cannot be reached.  It keeps listening to
the earlier servers.  A server that was asked on a connection, where nothing is lost, is not asked
a second time: its next turn means more time for the answer.  A truncated answer goes to the
clients that asked by UDP; if others are waiting, the servers are asked again by TCP, the one
that answered first.  L{_TABLE} has every state and event.

An answer that is an error is an answer: asking another server after a SERVFAIL would
undo the first server's DNSSEC validation.  An error without the question is none: it says no
more than that this server cannot be asked.  The servers that are left are asked at once, and
if none of them answers, the error is the answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime

from nanotun.errors import UnexpectedEvent
from nanotun.gateway.dns.ask import ServerQueries
from nanotun.gateway.dns.interfaces import IAttempt
from nanotun.gateway.dns.message import TC, Query, lacksQuestion, withQuestion
from nanotun.gateway.dns.servertally import ServerTally
from nanotun.gateway.dns.trace import Trace
from nanotun.gateway.dns.turns import Turns
from nanotun.interfaces import DnsServer
from nanotun.timer import Timer

#: Seconds until the next server is asked, and how many attempts there are: together less
#: than the five seconds that resolvers wait (resolv.conf(5)).  A server that is the only
#: one is asked as often, because datagrams get lost.
ATTEMPT_TIMEOUT = 1.5
ATTEMPTS = 3

#: States.
NEW, UDP, TCP, DONE = "new", "udp", "tcp", "done"


class Waiter(NamedTuple):
    """
    A client's query that waits for the answer.

    @ivar ident: the query's id, two bytes.
    @ivar overTCP: whether the query arrived by TCP.
    @ivar limit: the most bytes that its answer may have.
    @ivar reply: called once with the answer.
    @ivar trace: filled in before that.
    """

    client: object
    ident: bytes
    overTCP: bool
    limit: int
    reply: Callable[[bytes], None]
    trace: Trace | None = None


class Exchange:
    """
    See the module.

    @ivar wire: the first client's query; empty after C{done}.
    @ivar key: equal for queries that share an answer.
    @ivar waiters: the queries that wait; C{done} and C{truncated} take them out.
    @param done: called once with this exchange and the answer, or with L{None} where no
        server answered.
    @param truncated: called with this exchange and a truncated answer, which is for the
        waiters that asked by UDP.
    @param late: called once with this exchange when the first server has been silent for the
        time of an attempt; the exchange goes on.
    @ivar server: whose answer was taken, or is given to the waiters that asked by UDP.
    """

    __slots__ = (
        "_bare",
        "_deadlines",
        "_done",
        "_late",
        "_left",
        "_order",
        "_queries",
        "_state",
        "_truncated",
        "_turns",
        "key",
        "query",
        "server",
        "waiters",
        "wire",
    )

    def __init__(
        self,
        wire: bytes,
        query: Query,
        queries: ServerQueries,
        deadlines: Deadlines,
        done: Callable[[Exchange, bytes | None], None],
        truncated: Callable[[Exchange, bytes], None],
        key: bytes,
        late: Callable[[Exchange], object] | None = None,
    ) -> None:
        self.wire = wire
        self.key = key
        self.query = query
        self.waiters: list[Waiter] = []
        self._queries = queries
        self._deadlines = deadlines
        self._done = done
        self._truncated = truncated
        self._late = late
        self.server: DnsServer | None = None
        self._state = NEW
        self._turns = Turns(queries, deadlines.now)
        self._left = ATTEMPTS
        self._order: tuple[DnsServer, ...] = ()
        self._bare: bytes | None = None

    @property
    def ended(self) -> bool:
        """Whether the exchange is over, with or without an answer."""
        return self._state == DONE

    @property
    def tally(self) -> ServerTally | None:
        """That of C{server}."""
        return None if self.server is None else self._queries.tallyOf(self.server)

    def begin(self, overTCP: bool) -> None:
        """Ask the first server.  C{done} may be called before this returns."""
        self._step("begin by TCP" if overTCP else "begin")

    def cancel(self) -> None:
        """Give up; neither callback is called any more."""
        self._step("cancel")

    def answered(self, number: int, answer: bytes) -> None:
        """
        A server has answered an attempt.

        @param answer: matches the query, but for its id.
        """
        # An attempt by UDP says nothing once the servers are asked by TCP.
        if number < self._turns.first:
            return
        if lacksQuestion(answer, self.query):
            self._step("bare error", number, withQuestion(answer, self.query))
        else:
            truncated = answer[2] & TC >> 8
            self._step("truncated answer" if truncated else "answer", number, answer)

    def failed(self, number: int) -> None:
        """
        An attempt will have no answer, it seems; by UDP there may still be one.  If another
        server was asked since, or if the exchange is over, that changes nothing.
        """
        if self._turns.isLatest(number):
            self._step("refusal", number)

    def timedOut(self, number: int) -> None:
        """An attempt's time is over.  Called by L{Deadlines}."""
        if self._turns.isLatest(number):
            self._step("silence", number)

    def _step(self, event: str, *details: object) -> None:
        """
        Take the step that L{_TABLE} has for an event.

        @raise UnexpectedEvent: it has none for this state.
        """
        step = _TABLE.get((self._state, event))
        if step is None:
            raise UnexpectedEvent("A DNS exchange", self._state, event)
        self._state, action = step
        action(self, *details)

    # The actions of the table, called with the new state already set.

    def _askFirst(self) -> None:
        self._order = self._queries.order(self.query)
        self._askNext()

    def _askNext(self) -> None:
        turns = self._turns
        while self._left and self._order:
            self._left -= 1
            number = len(turns)
            before = number - turns.first
            if self._bare is not None and before >= len(self._order):
                break
            server = self._order[before % len(self._order)]
            if turns.prolong(server) or turns.begin(server, partial(self._ask, number)):
                self._deadlines.add(self, number)
                return
        self._step("no attempt left")

    def _ask(self, number: int, server: DnsServer) -> IAttempt:
        return self._queries.ask(
            server,
            self._state == TCP,
            self.wire,
            self.query,
            partial(self.answered, number),
            partial(self.failed, number),
        )

    def _noteSilence(self, number: int) -> None:
        late, self._late = self._late, None
        if late is not None:
            self._tell()
            late(self)
        self._turns.silent(number, ATTEMPT_TIMEOUT)
        # It may have failed because of that, so that another server was asked already.
        if self._turns.isLatest(number):
            self._askNext()

    def _noteRefusal(self, number: int) -> None:
        self._turns.failed(number)
        self._askNext()

    def _passOver(self, number: int, answer: bytes) -> None:
        """Ask the next server at once; if there is none, the error is the answer."""
        server = self._turns.answered(number, answer)
        if self._bare is None:
            self._bare, self.server = answer, server
        # If another server was asked since, that one has still to answer.
        if self._turns.isWithLatest(number):
            self._askNext()

    def _passOn(self, number: int, answer: bytes) -> None:
        self.server = self._turns.answered(number, answer)
        self._tell()
        self._truncated(self, answer)
        if self.waiters:
            self._step("clients by TCP wait", self.server)
        else:
            self._step("nobody waits")

    def _askByTCP(self, server: DnsServer) -> None:
        self._turns.restart()
        self._left = ATTEMPTS
        self._bare = None
        self._order = (server, *(each for each in self._order if each != server))
        self._askNext()

    def _take(self, number: int, answer: bytes) -> None:
        self.server = self._turns.answered(number, answer)
        self._end(answer)

    def _takeBare(self) -> None:
        self._end(self._bare)

    def _end(self, answer: bytes | None = None) -> None:
        if answer is None:
            self.server = None
        self._tell()
        self._giveUp()
        self._done(self, answer)
        # The deadlines keep this object for a while yet.
        self.wire = b""

    def _tell(self) -> None:
        """Fill in the traces of those who want to know."""
        for waiter in self.waiters:
            if waiter.trace is not None:
                self._turns.fill(waiter.trace, self.server)

    def _giveUp(self) -> None:
        # Attempts refer to this object: a cycle less for the garbage collector.
        self._turns.clear()

    def _ignore(self, *details: object) -> None:
        """Placeholder for an event that is too late to matter."""


#: State and event to the new state and the action that follows.
_TABLE: dict[tuple[str, str], tuple[str, Callable[..., None]]] = {
    (NEW, "begin"): (UDP, Exchange._askFirst),
    (NEW, "begin by TCP"): (TCP, Exchange._askFirst),
    (UDP, "answer"): (DONE, Exchange._take),
    (UDP, "truncated answer"): (UDP, Exchange._passOn),
    (UDP, "clients by TCP wait"): (TCP, Exchange._askByTCP),
    (UDP, "nobody waits"): (DONE, Exchange._end),
    (UDP, "bare error"): (UDP, Exchange._passOver),
    (UDP, "silence"): (UDP, Exchange._noteSilence),
    (UDP, "refusal"): (UDP, Exchange._noteRefusal),
    (UDP, "no attempt left"): (DONE, Exchange._takeBare),
    (UDP, "cancel"): (DONE, Exchange._giveUp),
    (TCP, "answer"): (DONE, Exchange._take),
    # There is no larger answer to ask this server for.
    (TCP, "truncated answer"): (DONE, Exchange._take),
    (TCP, "bare error"): (TCP, Exchange._passOver),
    (TCP, "silence"): (TCP, Exchange._noteSilence),
    (TCP, "refusal"): (TCP, Exchange._noteRefusal),
    (TCP, "no attempt left"): (DONE, Exchange._takeBare),
    (TCP, "cancel"): (DONE, Exchange._giveUp),
    (DONE, "answer"): (DONE, Exchange._ignore),
    (DONE, "bare error"): (DONE, Exchange._ignore),
    (DONE, "truncated answer"): (DONE, Exchange._ignore),
}


class Deadlines:
    """
    Ends the waiting for attempts.  All attempts have the same time, so the first to begin
    is the first to end, and one delayed call is enough for all.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._queue: deque[tuple[float, Exchange, int]] = deque()
        self._timer = Timer(clock, self._look)

    def now(self) -> float:
        """The time in seconds."""
        return self._clock.seconds()

    def add(self, exchange: Exchange, number: int) -> None:
        """
        Call C{exchange.timedOut(number)} in L{ATTEMPT_TIMEOUT} seconds, unless the exchange
        has ended by then.
        """
        self._queue.append((self._clock.seconds() + ATTEMPT_TIMEOUT, exchange, number))
        if not self._timer.active:
            self._timer.start(ATTEMPT_TIMEOUT)

    def stop(self) -> None:
        """Forget all attempts."""
        self._queue.clear()
        self._timer.cancel()

    def _look(self) -> None:
        now = self._clock.seconds()
        queue = self._queue
        over = []
        while queue and (queue[0][1].ended or queue[0][0] <= now):
            over.append(queue.popleft())
        if queue:
            self._timer.start(queue[0][0] - now)
        for _, exchange, number in over:
            exchange.timedOut(number)
