"""
One connection to a proxy that waits for its destination.
"""

from __future__ import annotations

import contextlib
import enum
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import ILoggingContext, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import UnexpectedEvent, UpstreamError
from nanotun.interfaces import IHandshake
from nanotun.upstream.dial.resolver import SocketAddress
from nanotun.upstream.dial.secure import Secure
from nanotun.upstream.dial.sockets import STALL_TIME, limitStall

#: Bytes per read.  There is nothing to read but a few TLS session tickets.
READ_SIZE = 4096


# Also str, whose hash is not Python code: the table is read for each flow.
class WarmState(enum.StrEnum):
    """The state of a waiting connection."""

    #: It waits, and is watched for its end.
    WAITING = "waiting"
    #: A request is on its way.
    LENT = "lent"
    #: It did its work, or was closed.
    GONE = "gone"


class WarmEvent(enum.StrEnum):
    """What happens to a connection."""

    LENT = "lent"
    #: It is no longer wanted.
    CLOSED = "closed"
    #: The proxy ended it while it waited.
    ENDED = "ended"
    #: The request on it was answered, even if the answer was no.
    WORKED = "worked"
    #: The request on it was not answered: the proxy had ended it before.
    LOST = "lost"


#: The state that follows each event.  Any other event is a bug.  A request that was
#: given up leaves its connection lent.
TRANSITIONS = {
    (WarmState.WAITING, WarmEvent.LENT): WarmState.LENT,
    (WarmState.WAITING, WarmEvent.CLOSED): WarmState.GONE,
    (WarmState.WAITING, WarmEvent.ENDED): WarmState.GONE,
    (WarmState.LENT, WarmEvent.WORKED): WarmState.GONE,
    (WarmState.LENT, WarmEvent.LOST): WarmState.GONE,
}


@implementer(IReadDescriptor, ILoggingContext)
class WarmConnection:
    """
    A connection that waits; see L{TRANSITIONS}.  Anything that the proxy sends meanwhile
    is passed to the greeting; if the greeting does not expect it, the connection ends.

    @ivar stream: connected, non-blocking.
    @ivar address: the proxy's.
    @ivar greeting: the handshake that the connection has behind it, or L{None}.
    @ivar since: when it was ready.
    @ivar until: when it is too old.
    @param fd: owned from here.
    @param happened: called with the connection and each event that says how the proxy
        treats waiting connections: C{ENDED}, C{WORKED} or C{LOST}.
    @param life: seconds until it is too old.
    @param unheard: seconds in which the proxy's kernel has to acknowledge a request.
    @param secure: TLS, if the connection is inside.
    @raise OSError: it has ended already, and is closed.
    """

    __slots__ = (
        "_happened",
        "_reactor",
        "_secure",
        "_state",
        "address",
        "greeting",
        "since",
        "stream",
        "until",
    )

    def __init__(
        self,
        fd: int,
        greeting: IHandshake | None,
        happened: Callable[[WarmConnection, WarmEvent], None],
        reactor: Any,
        life: float,
        unheard: float,
        secure: Secure | None = None,
    ) -> None:
        self._state = WarmState.WAITING
        self.stream = stream = socket.socket(fileno=fd)
        self.greeting = greeting
        self._happened = happened
        self._reactor = reactor
        self._secure = secure
        self.since = reactor.seconds()
        self.until = self.since + life
        try:
            with self._below() as below:
                self.address = SocketAddress(below.family, below.getpeername())
            self._limitStall(unheard)
        except OSError:
            stream.close()
            raise
        reactor.addReader(self)

    def _to(self, event: WarmEvent) -> None:
        try:
            self._state = TRANSITIONS[self._state, event]
        except KeyError:
            raise UnexpectedEvent("A waiting connection", self._state, event) from None

    def _below(self) -> contextlib.AbstractContextManager[socket.socket]:
        """The socket to the proxy."""
        if self._secure is None:
            return contextlib.nullcontext(self.stream)
        return self._secure.below(self.stream)

    def _limitStall(self, seconds: float) -> None:
        with self._below() as below:
            if below.family != socket.AF_UNIX:
                limitStall(below, seconds)

    def lend(self) -> None:
        """Stop watching: the caller owns L{stream} now and sends a request on it."""
        self._to(WarmEvent.LENT)
        self._reactor.removeReader(self)

    def close(self) -> None:
        """Close it while it waits."""
        self._to(WarmEvent.CLOSED)
        self._reactor.removeReader(self)
        self.stream.close()

    def worked(self) -> None:
        """The request was answered; from now on this is a connection like any other."""
        self._to(WarmEvent.WORKED)
        # If it has ended meanwhile, its readers will find out.
        with contextlib.suppress(OSError):
            self._limitStall(STALL_TIME)
        self._happened(self, WarmEvent.WORKED)

    def lost(self) -> None:
        """The request was not answered."""
        self._to(WarmEvent.LOST)
        self._happened(self, WarmEvent.LOST)

    # For the reactor.

    def fileno(self) -> int:
        """See L{IFileDescriptor.fileno}."""
        return self.stream.fileno()

    def logPrefix(self) -> str:
        """See L{ILoggingContext.logPrefix}."""
        return "warm"

    def doRead(self) -> Failure | None:
        """See L{IReadDescriptor.doRead}."""
        try:
            data = self.stream.recv(READ_SIZE)
            if data and self.greeting is not None:
                answer = self.greeting.receive(data)
                if not answer or self.stream.send(answer) == len(answer):
                    return None
        except BlockingIOError:
            return None
        except (OSError, UpstreamError):
            pass
        return CONNECTION_DONE  # type: ignore[return-value]

    def connectionLost(self, reason: Failure) -> None:
        """The reactor removed this descriptor."""
        self._to(WarmEvent.ENDED)
        self.stream.close()
        self._happened(self, WarmEvent.ENDED)
