"""
One connection to a proxy that waits for its destination.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any, Protocol

from twisted.internet.interfaces import ILoggingContext, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import UpstreamError
from nanotun.interfaces import IHandshake
from nanotun.upstream.dial.resolver import SocketAddress
from nanotun.upstream.dial.sockets import STALL_TIME, limitStall

#: Bytes per read.  There is nothing to read but a few tickets of TLS.
READ_SIZE = 4096


class Owner(Protocol):
    """Whom a connection tells what becomes of it: the pool."""

    def ended(self, warm: WarmConnection) -> None:
        """The proxy ended it while it waited; it is closed."""

    def worked(self, warm: WarmConnection) -> None:
        """A request on it got an answer, be it a no."""

    def lost(self, warm: WarmConnection) -> None:
        """A request on it got no answer: it had ended before."""


@implementer(IReadDescriptor, ILoggingContext)
class WarmConnection:
    """
    Watches for the end.  Whatever is read is the greeting's, and an error if it
    does not want it.

    @ivar stream: connected, non-blocking.
    @ivar address: the proxy's.
    @ivar greeting: what was done on it, or L{None} if that is nothing.
    @ivar since: when it was ready.
    @ivar until: when it is too old.
    @param fd: owned from here.
    @param life: seconds until it is too old.
    @param unheard: seconds in which the proxy's kernel has to acknowledge a request.
    @raise OSError: it has ended already, and is closed.
    """

    __slots__ = ("_owner", "_reactor", "address", "greeting", "since", "stream", "until")

    def __init__(
        self,
        fd: int,
        greeting: IHandshake | None,
        owner: Owner,
        reactor: Any,
        life: float,
        unheard: float,
    ) -> None:
        self.stream = stream = socket.socket(fileno=fd)
        self.greeting = greeting
        self._owner = owner
        self._reactor = reactor
        self.since = reactor.seconds()
        self.until = self.since + life
        try:
            self.address = SocketAddress(stream.family, stream.getpeername())
            self._limitStall(unheard)
        except OSError:
            stream.close()
            raise
        reactor.addReader(self)

    def _limitStall(self, seconds: float) -> None:
        if self.stream.family != socket.AF_UNIX:
            limitStall(self.stream, seconds)

    def lend(self) -> None:
        """Watch no more: a request is about to go out on L{stream}, whose owner that is."""
        self._reactor.removeReader(self)

    def close(self) -> None:
        """Close one that waits."""
        self._reactor.removeReader(self)
        self.stream.close()

    def worked(self) -> None:
        """The request got its answer; the connection is from now on like any other."""
        # An end that has come meanwhile is for those to find who read.
        with contextlib.suppress(OSError):
            self._limitStall(STALL_TIME)
        self._owner.worked(self)

    def lost(self) -> None:
        """The request got no answer."""
        self._owner.lost(self)

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
        self.stream.close()
        self._owner.ended(self)
