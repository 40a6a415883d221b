"""
Queries on one connection to each server that is kept open for a while (RFC 7766): plain ones
over TCP, and those in TLS.

Queries are sent at once, as far as the server takes them, and the answers may arrive in any
order.  What is spoken is an L{ITalk}.  A server may close a connection that it has kept open
whenever it likes.  Queries that were under way on a connection that had worked are therefore
sent once more, on a fresh connection; if a fresh connection ends, they have failed.  A
connection is closed when it has been idle for a while, or after L{IDLE} seconds without an
answer.  A server that fails is left alone for a while.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import UnexpectedEvent, UpstreamError
from nanotun.gateway.dns.backoff import Backoff
from nanotun.gateway.dns.connecting import adopt
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import ITalk
from nanotun.gateway.dns.message import Query
from nanotun.gateway.dns.serverconnection import IDLE, IStream, ServerConnection, StreamQuery
from nanotun.gateway.dns.talks import Heard
from nanotun.interfaces import Connection

#: Connections in a row that the server ended after one answer: as many, and the log says so.
SINGLES = 3

#: States of the connection to a server.
CLOSED, CONNECTING, GREETING, OPEN = "closed", "connecting", "greeting", "open"

#: State and event to the next state.
_TABLE = {
    (CLOSED, "connect"): CONNECTING,
    (CONNECTING, "connected"): GREETING,
    (CONNECTING, "failed"): CLOSED,
    (GREETING, "greeted"): OPEN,
    (GREETING, "ended"): CLOSED,
    (OPEN, "ended"): CLOSED,
    (CLOSED, "stop"): CLOSED,
    (CONNECTING, "stop"): CLOSED,
    (GREETING, "stop"): CLOSED,
    (OPEN, "stop"): CLOSED,
}


@implementer(IStream)
class ServerStream:
    """
    The connection to one server, opened when there is something to ask.

    @param open: opens a leg to the server, as L{nanotun.interfaces.IUpstream.connect} does; may
        raise L{UpstreamError} as well.
    @param makeTalk: makes what is spoken on a new connection.
    @param troubled: called with the reason why a leg could not be opened, also when nobody
        waits for an answer any more; returns the error that L{ask} raises because of it.
    @param complain: the same for what the server does wrong, as in
        L{TalkError<nanotun.gateway.dns.talks.TalkError>}.
    @param backoff: how long queries fail at once after that, and nothing is opened.
    @param idle: seconds that a connection stays open without a query under way.
    """

    _log = Logger()

    def __init__(
        self,
        open: Callable[[], Deferred[Connection]],
        makeTalk: Callable[[], ITalk],
        reactor: Any,
        counters: Counters,
        troubled: Callable[[UpstreamError], OSError | UpstreamError],
        complain: Callable[[str], OSError],
        backoff: Backoff,
        idle: float = IDLE,
    ) -> None:
        self._open = open
        self._makeTalk = makeTalk
        self._reactor = reactor
        self._counters = counters
        self._troubled = troubled
        self._complain = complain
        self._backoff = backoff
        self.idle = idle
        self._queued: dict[StreamQuery, None] = {}
        self._state = CLOSED
        self._dial: Deferred[Connection] | None = None
        self._connection: ServerConnection | None = None
        self._error: OSError | UpstreamError | None = None
        self._singles = 0

    def ask(
        self,
        wire: bytes,
        query: Query,
        answered: Callable[[bytes, int], None],
        failed: Callable[[], None],
    ) -> StreamQuery:
        """
        Send a query, now or once connected.

        @param answered: called with the answer and its age in seconds.
        @param failed: called if there is none.  Only one of the two is called, once, and not
            before this returns.
        @raise OSError, UpstreamError: no leg can be opened, or the server is left alone; what
            C{troubled} or C{complain} returned.
        """
        asked = StreamQuery(self, wire, query, answered, failed)
        paused = self._backoff.isPaused(self._reactor.seconds())
        if self._state == CLOSED and not paused:
            self._connect()
        if self._state == CLOSED or paused:
            assert self._error is not None
            # A traceback that grows with each query is of no use.
            raise self._error.with_traceback(None)
        self._queued[asked] = None
        self.proceed()
        return asked

    def forget(self, asked: StreamQuery) -> None:
        """See L{IStream.forget}."""
        self._queued.pop(asked, None)
        if self._connection is not None:
            self._connection.forget(asked)

    def doubt(self, asked: StreamQuery) -> bool:
        """
        See L{IStream.doubt}.  A connection on which nothing at all is heard may be dead, as when
        a NAT has forgotten it: then it is soon given up, and the query goes on another one.
        """
        connection = self._connection
        if connection is None or connection.sent.get(asked.key) is not asked:
            return asked in self._queued
        connection.doubt(asked)
        return True

    def renew(self) -> None:
        """
        Give the connection up, as the machine is in another network.  Queries under way are
        sent again on another one, if they were not before.
        """
        self._backoff.worked()
        connection, dial = self._connection, self._dial
        if connection is not None:
            connection.worked = True
            connection.giveUp()
        elif dial is not None:
            self._dial = None
            dial.cancel()
            self._step("failed")
            if self._queued:
                self._connect()

    def stop(self) -> None:
        """Close the connection and call nobody back."""
        self._queued.clear()
        dial, self._dial = self._dial, None
        connection, self._connection = self._connection, None
        self._step("stop")
        if dial is not None:
            dial.cancel()
        if connection is not None:
            connection.take()
            connection.end()

    # What the connection calls.

    def hasLeft(self, connection: ServerConnection) -> bool:
        """See L{IStream.hasLeft}."""
        return connection is not self._connection

    def greeted(self, connection: ServerConnection) -> None:
        """See L{IStream.greeted}."""
        if connection is self._connection:
            self._step("greeted")

    def answered(self, asked: StreamQuery, heard: Heard) -> None:
        """See L{IStream.answered}."""
        self._backoff.worked()
        asked.answered(heard.answer, heard.age)

    def refused(self, asked: StreamQuery, heard: Heard) -> None:
        """See L{IStream.refused}."""
        if heard.trouble:
            self._leaveAlone(heard.trouble)
        if heard.again and not asked.retried:
            asked.retried = True
            self._queued[asked] = None
        else:
            asked.failed()

    def proceed(self) -> None:
        """See L{IStream.proceed}."""
        connection = self._connection
        if connection is None:
            return
        if connection.talk.over:
            # The talk tells what becomes of the queries on it.
            if not connection.sent:
                connection.endedByServer()
            return
        while self._queued and connection.talk.room > 0:
            asked = next(iter(self._queued))
            del self._queued[asked]
            connection.send(asked)

    def ended(self, connection: ServerConnection, trouble: str) -> None:
        """See L{IStream.ended}."""
        if connection is not self._connection:
            return
        self._connection = None
        self._step("ended")
        if trouble:
            self._leaveAlone(trouble)
        self._singles = self._singles + 1 if connection.single else 0
        if self._singles == SINGLES:
            self._complain("closes the connection after each query, so that each takes a new one")
        again: list[StreamQuery] = []
        failed: list[StreamQuery] = []
        for asked in connection.take():
            (again if connection.worked and not asked.retried else failed).append(asked)
        for asked in again:
            asked.retried = True
        self._queued = dict.fromkeys((*again, *self._queued))
        if self._backoff.isPaused(self._reactor.seconds()):
            self._fail()
        elif self._queued:
            self._connect()
        for asked in failed:
            asked.failed()

    def _step(self, event: str) -> None:
        """
        Go to the state that L{_TABLE} has for an event.

        @raise UnexpectedEvent: it has none for this state.
        """
        state = _TABLE.get((self._state, event))
        if state is None:
            raise UnexpectedEvent("A connection to a DNS server", self._state, event)
        self._state = state

    def _connect(self) -> None:
        self._step("connect")
        self._dial = dial = maybeDeferred(self._open)
        dial.addCallbacks(self._opened, self._notOpened)

    def _opened(self, connection: Connection) -> None:
        self._dial = None
        protocol = ServerConnection(self, self._makeTalk(), self._counters, self._reactor)
        try:
            adopt(self._reactor, connection.fd, protocol)
        except OSError as error:
            # The connection has ended already.
            self._error = error
            self._step("failed")
            self._fail()
            return
        self._connection = protocol
        self._step("connected")
        if protocol.talk.greeted:
            self._step("greeted")
        self.proceed()
        if connection.leftover:
            protocol.dataReceived(connection.leftover)

    def _notOpened(self, reason: Failure) -> None:
        if reason.check(CancelledError):
            return
        self._dial = None
        error = reason.value
        if not isinstance(error, UpstreamError):
            self._log.failure("Internal error in a connection to a DNS server", reason)
            error = UpstreamError("there was an internal error.")
        self._error = self._troubled(error)
        self._backoff.failed(self._reactor.seconds())
        self._step("failed")
        self._fail()

    def _leaveAlone(self, trouble: str) -> None:
        self._error = self._complain(trouble)
        self._backoff.failed(self._reactor.seconds())

    def _fail(self) -> None:
        queued, self._queued = self._queued, {}
        for asked in queued:
            asked.failed()
