"""
One query by UDP, on a socket of its own that is used once (RFC 5452).

The kernel gives each socket a random source port, and only the server's datagrams reach a
connected socket; the id is random too.  A datagram that does not match is ignored and the
socket keeps waiting, so a forger who guesses wrong ends nothing.
L{twisted.internet.udp.Port} costs several times as much to make.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import ILoggingContext, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.flow import Endpoint
from nanotun.gateway.dns.counters import Counters
from nanotun.gateway.dns.interfaces import IAttempt
from nanotun.gateway.dns.message import LARGEST, Query, matches

#: Datagrams per turn of the reactor: a flood of forgeries on one socket takes less than a
#: tenth of a millisecond of a turn.
BUDGET = 64

#: ICMP errors that one socket survives.  It sends one datagram, so the second error is
#: already a forgery or a copy; each costs a turn of the reactor.
ERRORS_LIMIT = 8

#: Where a datagram is read before it is worth memory of its own.  Shared, because nothing
#: in it outlasts one L{QuerySocket.doRead}.
_buffer = bytearray(LARGEST)
_view = memoryview(_buffer)


def familyOf(server: Endpoint) -> socket.AddressFamily:
    """The address family of a literal address."""
    return socket.AF_INET6 if ":" in server.host else socket.AF_INET


@implementer(IAttempt, IReadDescriptor, ILoggingContext)
class QuerySocket:
    """
    An attempt by UDP.

    @param makeSocket: address family to a non-blocking UDP socket, marked.
    @param wire: the query; it is sent with C{ident} as its id.
    @param query: what C{wire} says.
    @param ident: two random bytes.
    @param answered: called once with the answer.
    @param failed: called for each sign that there will be no answer; one may still arrive.
    @raise OSError: the query cannot be sent.
    @raise nanotun.errors.UpstreamError: as C{makeSocket} says.
    """

    __slots__ = (
        "_answered",
        "_counters",
        "_errors",
        "_failed",
        "_ident",
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
        answered: Callable[[bytes], None],
        failed: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._counters = counters
        self._ident = ident
        self._query = query
        self._answered = answered
        self._failed = failed
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

    def doubt(self) -> bool:
        """See L{IAttempt.doubt}."""
        return True

    def cancel(self) -> None:
        """See L{IAttempt.cancel}."""
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
                    self._answered(answer)
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
            self._failed()

    def _refused(self) -> None:
        """
        An ICMP message says that the server does not listen.  It may be forged, so the
        socket stays open for an answer while the next server is asked.
        """
        self._errors += 1
        if self._errors == ERRORS_LIMIT:
            self.cancel()
        self._failed()
