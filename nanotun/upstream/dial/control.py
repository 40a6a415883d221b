"""
The TCP connection on which a proxy was asked for an association.  It is kept open as
long as the proxy's UDP relay is used, because that relay ends with it (RFC 1928, section 7).
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import ILoggingContext, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.interfaces import ILegControl
from nanotun.timer import Timer
from nanotun.upstream.dial.transport import receive

#: Seconds of silence before the kernel probes whether the proxy is still there,
#: seconds between two probes, and how many may stay unanswered.  Nothing else is sent
#: on this connection, and a proxy that was switched off does not close it.
KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))

#: Seconds during which the kernel probes every second, if there is a doubt.  A proxy that has
#: forgotten the connection answers the first probe with a reset.
DOUBT_TIME = 3.0


@implementer(ILegControl, IReadDescriptor, ILoggingContext)
class ControlConnection:
    """
    See L{ILegControl}.

    @param fd: a connected, non-blocking stream socket; owned from here.
    @param proxy: the proxy's URL without its password, for errors.
    """

    def __init__(self, fd: int, reactor: Any, proxy: str) -> None:
        self._socket: socket.socket | None = socket.socket(fileno=fd)
        self._reactor = reactor
        self._proxy = proxy
        self._lost: Callable[[str], None] | None = None
        self._doubted = Timer(reactor, self._trust)

    def peer(self) -> tuple[Any, ...]:
        """
        The proxy's own address, as L{socket.socket.getpeername} gives it.

        @raise OSError: the connection has ended already.
        """
        assert self._socket is not None
        return tuple(self._socket.getpeername())

    def watch(self, lost: Callable[[str], None]) -> None:
        """See L{ILegControl.watch}."""
        stream = self._socket
        assert stream is not None and self._lost is None
        self._lost = lost
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE:
            if hasattr(socket, name):
                stream.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        # If it has ended already, it is readable.
        self._reactor.addReader(self)

    def doubt(self) -> None:
        """See L{ILegControl.doubt}."""
        if self._socket is not None and not self._doubted.active:
            self._probeAfter(1)
            self._doubted.start(DOUBT_TIME)

    def _trust(self) -> None:
        self._probeAfter(dict(KEEPALIVE)["TCP_KEEPIDLE"])

    def _probeAfter(self, seconds: int) -> None:
        assert self._socket is not None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)

    def close(self) -> None:
        """See L{ILegControl.close}."""
        stream, self._socket = self._socket, None
        self._doubted.close()
        if stream is not None:
            if self._lost is not None:
                self._reactor.removeReader(self)
            stream.close()

    # For the reactor.

    def fileno(self) -> int:
        """See L{IFileDescriptor.fileno}."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """See L{ILoggingContext.logPrefix}."""
        return "control"

    def doRead(self) -> Failure | None:
        """See L{IReadDescriptor.doRead}."""
        assert self._socket is not None
        got = receive(self._socket)
        # A proxy has nothing to send here: ignore it.
        return None if isinstance(got, bytes) else got

    def connectionLost(self, reason: Failure) -> None:
        """The reactor removed this descriptor."""
        lost = self._lost
        if self._socket is None or lost is None:
            return
        self.close()
        how = "closed" if reason.check(type(CONNECTION_DONE)) else "broke"
        lost(f"The proxy {self._proxy} {how} the connection that its UDP relay depends on.")
