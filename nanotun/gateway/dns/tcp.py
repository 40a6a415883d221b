"""
Queries by TCP: one connection to each server, kept for a while (RFC 7766).

Rules: queries go out at once, each with an id of its own, and answers may come
in any order.  A server may close a connection that it has kept whenever it likes,
so what was under way on one that had worked is asked once more on a fresh one; on
a fresh connection the end is a failure.  A connection with nothing to do, or
without an answer, for L{IDLE} seconds is closed.
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

from nanotun.errors import UpstreamError
from nanotun.flow import Endpoint
from nanotun.gateway.dns.connecting import ConnectWaiter, GivenFactory
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.message import Query, matches
from nanotun.gateway.dns.udp import Asker, familyOf

#: Seconds (RFC 7766, section 6.2.3: "of the order of a few seconds").
IDLE = 10


class StreamQuery:
    """
    An attempt by TCP.

    @ivar ident: on the present connection.
    @ivar retried: whether it is on its second connection.
    """

    __slots__ = ("asker", "ident", "number", "owner", "query", "retried", "wire")

    def __init__(
        self, owner: StreamUpstream, wire: bytes, query: Query, asker: Asker, number: int
    ) -> None:
        self.owner = owner
        self.wire = wire
        self.query = query
        self.asker = asker
        self.number = number
        self.ident = b""
        self.retried = False

    def cancel(self) -> None:
        """See L{nanotun.gateway.dns.udp.Attempt.cancel}."""
        self.owner.forget(self)


class StreamUpstream:
    """
    One server, asked by TCP.

    @param makeSocket: family to a non-blocking stream socket, marked.
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
        self._waiter: ConnectWaiter | None = None
        self._connection: _Pipeline | None = None

    def ask(self, wire: bytes, query: Query, asker: Asker, number: int) -> StreamQuery:
        """
        Send a query, now or once connected.

        @raise OSError: there is no way to the server.
        @raise UpstreamError: as C{makeSocket} says.
        """
        asked = StreamQuery(self, wire, query, asker, number)
        if self._connection is None and self._waiter is None:
            self._connect()
        self._add(asked)
        return asked

    def forget(self, asked: StreamQuery) -> None:
        """Nobody waits for this one any more."""
        if self._pending.get(asked.ident) is asked:
            del self._pending[asked.ident]

    def stop(self) -> None:
        """Close the connection; nobody hears anything."""
        self._pending.clear()
        if self._waiter is not None:
            self._waiter.cancel()
            self._waiter = None
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.end()

    def _add(self, asked: StreamQuery) -> None:
        ident = self._makeIdent()
        # The relay's limit keeps far more ids free than taken.
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
        self._waiter = ConnectWaiter(made, self._reactor, self._connected)

    def _connected(self, made: socket.socket | None) -> None:
        """The connection stands, or not."""
        self._waiter = None
        if made is None:
            self._fail(list(self._pending.values()))
            return
        pipeline = _Pipeline(self._heard, self._ended, self._reactor)
        try:
            # Of a duplicate: ours is closed.
            self._reactor.adoptStreamConnection(made.fileno(), made.family, GivenFactory(pipeline))
        except OSError:
            # It has ended already.
            self._fail(list(self._pending.values()))
            return
        finally:
            made.close()
        self._connection = pipeline
        for ident, asked in self._pending.items():
            pipeline.send(ident + asked.wire[2:])

    def _heard(self, answer: bytes) -> None:
        asked = self._pending.get(answer[:2])
        if asked is None or not matches(answer, asked.ident, asked.query):
            self._counters.ignored += 1
            return
        del self._pending[asked.ident]
        asked.asker.answered(asked.number, answer)

    def _ended(self, pipeline: _Pipeline) -> None:
        if self._connection is not pipeline:
            return
        self._connection = None
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
            asked.asker.failed(asked.number)


class _Pipeline(Int16StringReceiver, TimeoutMixin):
    """
    One connection to a server.

    @ivar worked: whether an answer came by it.
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

        @param first: whether nothing else is under way: silence counts from now.
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
        """Close it."""
        self.setTimeout(None)
        self.transport.abortConnection()  # type: ignore[union-attr]
