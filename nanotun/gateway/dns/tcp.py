"""
Queries by TCP, on one connection to each server that is kept open for a while (RFC 7766).

Queries are sent at once, each with an id of its own, and the answers may arrive in any
order.  A server may close a connection that it has kept open whenever it likes.  Queries
that were under way on a connection that had worked are therefore sent once more, on a
fresh connection; if a fresh connection ends, they have failed.  A connection is closed
after L{IDLE} seconds without a query under way, or without an answer.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.protocols.basic import Int16StringReceiver
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import UnexpectedEvent, UpstreamError
from nanotun.flow import Endpoint
from nanotun.gateway.dns.connecting import ConnectWaiter, GivenFactory
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import IAttempt
from nanotun.gateway.dns.message import Query, matches
from nanotun.gateway.dns.udp import familyOf

#: Seconds (RFC 7766, section 6.2.3: "of the order of a few seconds").
IDLE = 10

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

    def cancel(self) -> None:
        """See L{IAttempt.cancel}."""
        self.stream.forget(self)


class ServerStream:
    """
    The TCP connection to one server, made when there is something to ask.

    @param makeSocket: address family to a non-blocking TCP socket, marked.
    @param makeIdent: gives two random bytes.
    """

    def __init__(
        self,
        makeSocket: Callable[[int], socket.socket],
        makeIdent: Callable[[], bytes],
        reactor: Any,
        counters: Counters,
        server: Endpoint,
    ) -> None:
        self._makeSocket = makeSocket
        self._makeIdent = makeIdent
        self._reactor = reactor
        self._counters = counters
        self._server = server
        self._pending: dict[bytes, StreamQuery] = {}
        self._state = CLOSED
        self._waiter: ConnectWaiter | None = None
        self._connection: _Pipeline | None = None

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
        @param failed: called if there is none.  Only one of the two is called, once.
        @raise OSError: there is no route to the server.
        @raise UpstreamError: as C{makeSocket} says.
        """
        asked = StreamQuery(self, wire, query, answered, failed)
        if self._state == CLOSED:
            self._connect()
        self._add(asked)
        return asked

    def forget(self, asked: StreamQuery) -> None:
        """Stop waiting for the answer to a query."""
        if self._pending.get(asked.ident) is asked:
            del self._pending[asked.ident]

    def stop(self) -> None:
        """Close the connection and call nobody back."""
        self._pending.clear()
        waiter, self._waiter = self._waiter, None
        connection, self._connection = self._connection, None
        self._step("stop")
        if waiter is not None:
            waiter.cancel()
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
        made = self._makeSocket(familyOf(self._server))
        try:
            error = made.connect_ex(self._server)
            if error not in (0, errno.EINPROGRESS):
                raise OSError(error, "connect")
        except BaseException:
            made.close()
            raise
        self._step("connect")
        self._waiter = ConnectWaiter(made, self._reactor, self._connected)

    def _connected(self, made: socket.socket | None) -> None:
        """
        Take over the connected socket.

        @param made: L{None} if it was not connected.
        """
        self._waiter = None
        if made is None:
            self._notConnected()
            return
        pipeline = _Pipeline(self._heard, self._ended, self._reactor)
        try:
            # The reactor adopts a duplicate, so our descriptor is closed.
            self._reactor.adoptStreamConnection(made.fileno(), made.family, GivenFactory(pipeline))
        except OSError:
            # The connection has ended already.
            self._notConnected()
            return
        finally:
            made.close()
        self._step("connected")
        self._connection = pipeline
        for ident, asked in self._pending.items():
            pipeline.send(ident + asked.wire[2:])

    def _notConnected(self) -> None:
        self._step("failed")
        self._fail(list(self._pending.values()))

    def _heard(self, answer: bytes) -> None:
        asked = self._pending.get(answer[:2])
        if asked is None or not matches(answer, asked.ident, asked.query):
            self._counters.ignored += 1
            return
        del self._pending[asked.ident]
        asked.answered(answer)

    def _ended(self, pipeline: _Pipeline) -> None:
        if self._connection is not pipeline:
            return
        self._connection = None
        self._step("ended")
        pending = list(self._pending.values())
        again = [each for each in pending if pipeline.worked and not each.retried]
        failed = [each for each in pending if not pipeline.worked or each.retried]
        if again:
            try:
                self._connect()
            except (OSError, UpstreamError):
                again, failed = [], pending
        for asked in again:
            asked.retried = True
        self._fail(failed)

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
            self.resetTimeout()
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
