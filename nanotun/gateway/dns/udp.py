"""
One query by UDP: a socket of its own, used once (RFC 5452).

The kernel gives each a random source port, and only the server's datagrams
reach a connected socket; the id is random too.  What does not match is ignored
and waited on past, so that a forger who guesses wrong ends nothing.
L{twisted.internet.udp.Port} costs several times as much to make.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import ILoggingContext, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.flow import Endpoint
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.message import LARGEST, Query, matches

#: Datagrams per turn of the reactor: a flood of forgeries on one socket costs a
#: turn less than a tenth of a millisecond.
BUDGET = 64

#: ICMP messages that are listened past on one socket.  It sends one datagram, so the
#: second is a forgery or a copy already; each costs a turn of the reactor.
ERRORS_LIMIT = 8

#: Where a datagram is looked at before it is worth memory of its own.  Shared:
#: nothing stays in it past one L{QuerySocket.doRead}.
_buffer = bytearray(LARGEST)
_view = memoryview(_buffer)


class Asker(Protocol):
    """Who asks: L{nanotun.gateway.dns.exchange.Exchange}."""

    def answered(self, number: int, answer: bytes) -> None:
        """The answer to its attempt C{number}, with whatever id."""

    def failed(self, number: int) -> None:
        """There will be none, it seems; by UDP there may be one all the same."""


class Attempt(Protocol):
    """A query that was sent."""

    def cancel(self) -> None:
        """Nobody waits any more; the asker hears nothing.  May be called again."""


def familyOf(server: Endpoint) -> socket.AddressFamily:
    """The address family of a literal address."""
    return socket.AF_INET6 if ":" in server.host else socket.AF_INET


@implementer(IReadDescriptor, ILoggingContext)
class QuerySocket:
    """
    An attempt by UDP.

    @param makeSocket: family to a non-blocking datagram socket, marked.
    @param ident: two random bytes.
    @param number: the asker's number for this attempt.
    @raise OSError: it cannot be sent.
    @raise nanotun.errors.UpstreamError: as C{makeSocket} says.
    """

    __slots__ = (
        "_asker",
        "_counters",
        "_errors",
        "_ident",
        "_number",
        "_query",
        "_reactor",
        "_socket",
    )

    def __init__(
        self,
        makeSocket: Callable[[int], socket.socket],
        reactor: Any,
        counters: Counters,
        server: Endpoint,
        wire: bytes,
        query: Query,
        ident: bytes,
        asker: Asker,
        number: int,
    ) -> None:
        self._reactor = reactor
        self._counters = counters
        self._ident = ident
        self._query = query
        self._asker = asker
        self._number = number
        self._errors = 0
        self._socket: socket.socket | None = None
        made = makeSocket(familyOf(server))
        try:
            made.connect(server)
            made.send(ident + wire[2:])
        except BaseException:
            made.close()
            raise
        self._socket = made
        reactor.addReader(self)

    def cancel(self) -> None:
        """See L{Attempt.cancel}."""
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None

    # For the reactor.

    def fileno(self) -> int:
        """See L{IFileDescriptor.fileno}."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """See L{ILoggingContext.logPrefix}."""
        return "dns"

    def doRead(self) -> Failure | None:
        """See L{IReadDescriptor.doRead}."""
        ident = self._ident
        for _ in range(BUDGET):
            try:
                length = self._socket.recv_into(_buffer)  # type: ignore[union-attr]
            except BlockingIOError:
                return None
            except OSError:
                self._refused()
                return None
            if _buffer[:2] == ident:
                answer = bytes(_view[:length])
                if matches(answer, ident, self._query):
                    self.cancel()
                    self._asker.answered(self._number, answer)
                    return None
            self._counters.ignored += 1
        return None

    def connectionLost(self, reason: Failure) -> None:
        """The reactor removed this descriptor: an error, and nothing to read."""
        if self._socket is None:
            return
        if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._reactor.addReader(self)
            self._refused()
        else:
            self.cancel()
            self._asker.failed(self._number)

    def _refused(self) -> None:
        """
        Nobody listens there, an ICMP message says.  That can be forged as well, so the
        socket stays open for an answer; the asker goes on.
        """
        self._errors += 1
        if self._errors == ERRORS_LIMIT:
            self.cancel()
        self._asker.failed(self._number)
