"""
Queries by TCP, on one connection to each server that is kept open for a while (RFC 7766).

Queries are sent at once, each with an id of its own, and the answers may arrive in any
order.  A server may close a connection that it has kept open whenever it likes.  Queries
that were under way on a connection that had worked are therefore sent once more, on a
fresh connection; if a fresh connection ends, they have failed.  A connection is closed
when it has been idle for a while, or after L{IDLE} seconds without an answer.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.protocols.basic import Int16StringReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import UnexpectedEvent, UpstreamError
from nanotun.gateway.dns.connecting import GivenFactory
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import IAttempt
from nanotun.gateway.dns.message import Query, matches
from nanotun.interfaces import Connection

#: Seconds (RFC 7766, section 6.2.3: "of the order of a few seconds").
IDLE = 10.0

#: States of the connection to a server.
CLOSED, CONNECTING, OPEN = "closed", "connecting", "open"

#: State and event to the next state.
_TABLE = {
    (CLOSED, "connect"): CONNECTING,
    (CONNECTING, "connected"): OPEN,
    (CONNECTING, "failed"): CLOSED,
    (OPEN, "ended"): CLOSED,
    (CLOSED, "stop"): CLOSED,
    (CONNECTING, "stop"): CLOSED,
    (OPEN, "stop"): CLOSED,
}


@implementer(IAttempt)
class StreamQuery:
    """
    An attempt by TCP.

    @ivar ident: its id on the present connection, two bytes.
    @ivar retried: whether it was sent on a second connection.
    """

    __slots__ = ("answered", "failed", "ident", "query", "retried", "stream", "wire")

    def __init__(
        self,
        stream: ServerStream,
        wire: bytes,
        query: Query,
        answered: Callable[[bytes], None],
        failed: Callable[[], None],
    ) -> None:
        self.stream = stream
        self.wire = wire
        self.query = query
        self.answered = answered
        self.failed = failed
        self.ident = b""
        self.retried = False

    def doubt(self) -> bool:
        """See L{IAttempt.doubt}."""
        return True

    def cancel(self) -> None:
        """See L{IAttempt.cancel}."""
        self.stream.forget(self)


class ServerStream:
    """
    The TCP connection to one server, opened when there is something to ask.

    @param open: opens a leg to the server, as L{nanotun.interfaces.IUpstream.connect} does.
    @param makeIdent: gives two random bytes.
    @param troubled: called with the reason why a leg could not be opened, also when nobody
        waits for an answer any more; returns the error that L{ask} raises because of it.
    @param pause: seconds after that in which queries fail at once, and nothing is opened.
    @param idle: seconds that a connection stays open without a query under way.
    """

    _log = Logger()

    def __init__(
        self,
        open: Callable[[], Deferred[Connection]],
        makeIdent: Callable[[], bytes],
        reactor: Any,
        counters: Counters,
        troubled: Callable[[UpstreamError], OSError | UpstreamError],
        pause: float = 0.0,
        idle: float = IDLE,
    ) -> None:
        self._open = open
        self._makeIdent = makeIdent
        self._reactor = reactor
        self._counters = counters
        self._troubled = troubled
        self._pause = pause
        self._idle = idle
        self._pending: dict[bytes, StreamQuery] = {}
        self._state = CLOSED
        self._dial: Deferred[Connection] | None = None
        self._connection: _Pipeline | None = None
        self._error: OSError | UpstreamError | None = None
        self._pausedUntil = 0.0

    def ask(
        self,
        wire: bytes,
        query: Query,
        answered: Callable[[bytes], None],
        failed: Callable[[], None],
    ) -> StreamQuery:
        """
        Send a query, now or once connected.

        @param answered: called with the answer.
        @param failed: called if there is none.  Only one of the two is called, once, and not
            before this returns.
        @raise OSError, UpstreamError: no leg can be opened; what C{troubled} returned.
        """
        asked = StreamQuery(self, wire, query, answered, failed)
        if self._state == CLOSED and self._reactor.seconds() >= self._pausedUntil:
            self._connect()
        if self._state == CLOSED:
            assert self._error is not None
            # A traceback that grows with each query is of no use.
            raise self._error.with_traceback(None)
        self._add(asked)
        return asked

    def forget(self, asked: StreamQuery) -> None:
        """Stop waiting for the answer to a query."""
        if self._pending.get(asked.ident) is asked:
            del self._pending[asked.ident]

    def renew(self) -> None:
        """
        Give the connection up, as the machine is in another network.  Queries under way are
        sent again on another one, if they were not before.
        """
        self._pausedUntil = 0.0
        connection, dial = self._connection, self._dial
        if connection is not None:
            connection.end()
            self._ended(connection)
        elif dial is not None:
            self._dial = None
            dial.cancel()
            self._step("failed")
            if self._pending:
                self._connect()

    def stop(self) -> None:
        """Close the connection and call nobody back."""
        self._pending.clear()
        dial, self._dial = self._dial, None
        connection, self._connection = self._connection, None
        self._step("stop")
        if dial is not None:
            dial.cancel()
        if connection is not None:
            connection.end()

    def _step(self, event: str) -> None:
        """
        Go to the state that L{_TABLE} has for an event.

        @raise UnexpectedEvent: it has none for this state.
        """
        state = _TABLE.get((self._state, event))
        if state is None:
            raise UnexpectedEvent("A connection to a DNS server", self._state, event)
        self._state = state

    def _add(self, asked: StreamQuery) -> None:
        ident = self._makeIdent()
        # The relay's limit leaves far more ids free than taken.
        while ident in self._pending:
            ident = self._makeIdent()
        asked.ident = ident
        if self._connection is not None:
            self._connection.send(ident + asked.wire[2:], first=not self._pending)
        self._pending[ident] = asked

    def _connect(self) -> None:
        self._step("connect")
        self._dial = dial = self._open()
        dial.addCallbacks(self._opened, self._notOpened)

    def _opened(self, connection: Connection) -> None:
        self._dial = None
        # A proxy may be behind a unix socket, and of another family than the server.
        made = socket.socket(fileno=connection.fd)
        pipeline = _Pipeline(self._heard, self._ended, self._reactor)
        try:
            # The reactor adopts a duplicate, so our descriptor is closed.
            self._reactor.adoptStreamConnection(made.fileno(), made.family, GivenFactory(pipeline))
        except OSError as error:
            # The connection has ended already.
            self._error = error
            self._step("failed")
            self._fail(list(self._pending.values()))
            return
        finally:
            made.close()
        self._step("connected")
        self._connection = pipeline
        if connection.leftover:
            pipeline.dataReceived(connection.leftover)
        for ident, asked in self._pending.items():
            pipeline.send(ident + asked.wire[2:])

    def _notOpened(self, reason: Failure) -> None:
        if reason.check(CancelledError):
            return
        self._dial = None
        error = reason.value
        if not isinstance(error, UpstreamError):
            self._log.failure("Internal error in a connection to a DNS server", reason)
            error = UpstreamError("there was an internal error.")
        self._error = self._troubled(error)
        self._pausedUntil = self._reactor.seconds() + self._pause
        self._step("failed")
        self._fail(list(self._pending.values()))

    def _heard(self, answer: bytes) -> None:
        asked = self._pending.get(answer[:2])
        if asked is None or not matches(answer, asked.ident, asked.query):
            self._counters.ignored += 1
            return
        del self._pending[asked.ident]
        if not self._pending and self._connection is not None:
            self._connection.setTimeout(self._idle)
        asked.answered(answer)

    def _ended(self, pipeline: _Pipeline) -> None:
        if self._connection is not pipeline:
            return
        self._connection = None
        self._step("ended")
        failed = []
        for asked in self._pending.values():
            if pipeline.worked and not asked.retried:
                asked.retried = True
            else:
                failed.append(asked)
        for asked in failed:
            self.forget(asked)
        if self._pending:
            self._connect()
        for asked in failed:
            asked.failed()

    def _fail(self, failed: list[StreamQuery]) -> None:
        for asked in failed:
            self.forget(asked)
        for asked in failed:
            asked.failed()


class _Pipeline(Int16StringReceiver, TimeoutMixin):
    """
    One connection to a server.

    @param heard: called with each message from the server.
    @param ended: called with this when the connection ends; perhaps twice.
    @ivar worked: whether an answer has arrived on it.
    """

    MAX_LENGTH = 65535

    def __init__(
        self,
        heard: Callable[[bytes], None],
        ended: Callable[[_Pipeline], None],
        reactor: Any,
    ) -> None:
        self._heard = heard
        self._ended = ended
        self._reactor = reactor
        self.worked = False

    def callLater(self, period: float, func: Callable[[], None]) -> IDelayedCall:
        return self._reactor.callLater(period, func)

    def connectionMade(self) -> None:
        self.setTimeout(IDLE)

    def send(self, wire: bytes, first: bool = False) -> None:
        """
        Send a query.

        @param first: whether no other query is under way, so that silence counts from now.
        """
        if first:
            self.setTimeout(IDLE)
        self.sendString(wire)

    def stringReceived(self, string: bytes) -> None:
        self.worked = True
        self.resetTimeout()
        self._heard(string)

    def timeoutConnection(self) -> None:
        # Not loseConnection: a server that reads nothing would keep it open.
        self.end()
        self._ended(self)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.setTimeout(None)
        self._ended(self)

    def end(self) -> None:
        """Close the connection."""
        self.setTimeout(None)
        self.transport.abortConnection()  # type: ignore[union-attr]
