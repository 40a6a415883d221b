"""
Turns a socket that we made into a Twisted connection.  The reactor has no public method to
connect a socket that it did not make itself.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, ILoggingContext, IWriteDescriptor
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer


class GivenFactory(Factory):
    """Hands C{adoptStreamConnection} a protocol that already exists."""

    noisy = False

    def __init__(self, made: Protocol) -> None:
        self._made = made

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self._made


@implementer(IWriteDescriptor, ILoggingContext)
class ConnectWaiter:
    """
    Waits until a socket is connected.

    @param made: non-blocking; its C{connect} has begun.
    @param done: called once, with the connected socket, which it has to close, or with
        L{None}; not after L{cancel}.
    """

    def __init__(
        self,
        made: socket.socket,
        reactor: Any,
        done: Callable[[socket.socket | None], None],
    ) -> None:
        self._socket: socket.socket | None = made
        self._reactor = reactor
        self._done = done
        reactor.addWriter(self)

    def cancel(self) -> None:
        """Give up and close the socket.  May be called again."""
        if self._socket is not None:
            self._take().close()

    def fileno(self) -> int:
        """See L{IFileDescriptor.fileno}."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """See L{ILoggingContext.logPrefix}."""
        return "dns"

    def doWrite(self) -> None:
        """See L{IWriteDescriptor.doWrite}."""
        made = self._take()
        if made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            made.close()
            self._done(None)
        else:
            self._done(made)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor removed this descriptor: the server refused, or is unreachable."""
        if self._socket is not None:
            self._take().close()
            self._done(None)

    def _take(self) -> socket.socket:
        made = self._socket
        assert made is not None
        self._reactor.removeWriter(self)
        self._socket = None
        return made
