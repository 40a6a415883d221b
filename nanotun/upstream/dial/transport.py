"""
A transport for the few bytes of a handshake, made to be let go of.

L{twisted.internet.tcp.Client} costs about 150 microseconds per connection and
never gives its socket away.  This one knows just what a handshake needs:
connect, write, read, and L{HandshakeTransport.detach}.

Rules::

    state        event                        next
    connecting   connected                    connected; makeConnection
    connecting   refused, unreachable, ...    closed; connectFailed(errno)
    connecting   a unix socket's queue full   connecting, anew in a moment
    connecting   adopt                        connected; makeConnection
    connected    bytes                        connected; dataReceived
    connected    end or error                 closed; connectionLost
    any          detach, abortConnection      closed; the protocol hears nothing
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    ILoggingContext,
    IReadDescriptor,
    ITransport,
    IWriteDescriptor,
)
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

#: Bytes per read.  A reply is a few dozen; what comes after it is the app's and
#: goes along as leftover.
READ_SIZE = 4096

#: Seconds between two attempts at a unix socket whose queue is full.  The kernel
#: does not tell when there is room again (connect(2), EAGAIN).
RETRY_INTERVAL = 0.01

#: struct linger: close with a reset, so that no TIME_WAIT is left.
_LINGER_RESET = struct.pack("ii", 1, 0)


def receive(stream: socket.socket) -> Any:
    """
    Read what there is, for a reader's C{doRead}.

    @param stream: non-blocking.
    @return: bytes, at least one; or what C{doRead} returns: L{None} if there is
        nothing now, else how the connection ended.
    """
    try:
        return stream.recv(READ_SIZE) or CONNECTION_DONE
    except BlockingIOError:
        return None
    except OSError as error:
        return error


@implementer(ITransport, IReadDescriptor, IWriteDescriptor, ILoggingContext)
class HandshakeTransport:
    """
    One connection attempt and its handshake.

    @ivar connected: whether the TCP connection stands.
    @param stream: a non-blocking socket, for L{connect} or L{adopt}; owned from here.
    @param protocol: hears of the connection; C{None} for who wants only the
        connected socket, which C{connected} then hears of.
    @param connected: called without arguments once connected, if there is no
        protocol.
    @param connectFailed: called with an errno.  Not before C{connect} returned.
    """

    __slots__ = (
        "_closing",
        "_connectFailed",
        "_connectedHook",
        "_pending",
        "_protocol",
        "_reactor",
        "_reading",
        "_retry",
        "_socket",
        "_writing",
        "connected",
    )

    def __init__(
        self,
        stream: socket.socket,
        reactor: Any,
        protocol: Protocol | None,
        connected: Callable[[], None],
        connectFailed: Callable[[int], None],
    ) -> None:
        self._socket: socket.socket | None = stream
        self._reactor = reactor
        self._protocol = protocol
        self._connectedHook = connected
        self._connectFailed = connectFailed
        self.connected = self._reading = self._writing = self._closing = False
        self._pending = b""
        self._retry: IDelayedCall | None = None

    def connect(self, address: Any) -> None:
        """
        Begin to connect.

        @param address: as L{socket.socket.connect} takes it, a literal address.
        @raise OSError: it failed at once; the socket is closed.
        """
        stream = self._socket
        assert stream is not None
        error = stream.connect_ex(address)
        if error == errno.EAGAIN and stream.family == socket.AF_UNIX:
            self._retry = self._reactor.callLater(RETRY_INTERVAL, self._connectAgain, address)
            return
        if error not in (0, errno.EINPROGRESS):
            self._close()
            raise OSError(error, "connect")
        # On one machine the handshake is over by now: no turn of the reactor.
        if self._hasPeer():
            self._established()
        else:
            self._writing = True
            self._reactor.addWriter(self)

    def _connectAgain(self, address: Any) -> None:
        self._retry = None
        try:
            self.connect(address)
        except OSError as error:
            self._connectFailed(error.errno or 0)

    def adopt(self) -> None:
        """The socket is connected already: go on from there."""
        self._established()

    def _hasPeer(self) -> bool:
        try:
            self._socket.getpeername()  # type: ignore[union-attr]
        except OSError:
            return False
        return True

    def _established(self) -> None:
        self.connected = True
        if self._protocol is not None:
            # Before the writer goes, so that the fd stays registered.
            self._reading = True
            self._reactor.addReader(self)
        if self._writing:
            self._writing = False
            self._reactor.removeWriter(self)
        if self._protocol is None:
            self._connectedHook()
        else:
            self._protocol.makeConnection(self)

    def detach(self) -> int:
        """
        Let go of the connection.

        @return: the fd, which is the caller's.  Bytes that were read and not
            handled are the protocol's to pass on.
        """
        stream = self._socket
        assert stream is not None
        self._unregister()
        self._socket = None
        return stream.detach()

    # ITransport

    def write(self, data: bytes) -> None:
        """See L{ITransport.write}."""
        if self._socket is None:
            return
        if not self._pending:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                # The reader will hear of it, and tells.
                return
            if sent == len(data):
                return
            data = data[sent:]
        self._pending += data
        if not self._writing:
            self._writing = True
            self._reactor.addWriter(self)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """See L{ITransport.writeSequence}."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """See L{ITransport.loseConnection}."""
        if self._pending:
            self._closing = True
        elif self._socket is not None:
            self._lose(Failure(CONNECTION_DONE))

    def abortConnection(self) -> None:
        """Close with a reset.  The protocol hears nothing."""
        if self._socket is not None:
            self._unregister()
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            except OSError:
                pass
            self._close()

    def getPeer(self) -> IAddress:
        """See L{ITransport.getPeer}."""
        return _addressOf(self._socket.getpeername())  # type: ignore[union-attr]

    def getHost(self) -> IAddress:
        """See L{ITransport.getHost}."""
        return _addressOf(self._socket.getsockname())  # type: ignore[union-attr]

    # For the reactor.

    def fileno(self) -> int:
        """See L{IFileDescriptor.fileno}."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """See L{ILoggingContext.logPrefix}."""
        return "upstream"

    def doRead(self) -> Failure | None:
        """See L{IReadDescriptor.doRead}."""
        assert self._socket is not None
        got = receive(self._socket)
        if isinstance(got, bytes):
            self._protocol.dataReceived(got)  # type: ignore[union-attr]
            return None
        return got  # type: ignore[no-any-return]

    def doWrite(self) -> Failure | None:
        """See L{IWriteDescriptor.doWrite}."""
        stream = self._socket
        assert stream is not None
        if not self.connected:
            error = stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._failed(error)
            elif self._hasPeer():
                self._established()
            return None
        try:
            self._pending = self._pending[stream.send(self._pending) :]
        except BlockingIOError:
            return None
        except OSError as error:
            return error  # type: ignore[return-value]
        if not self._pending:
            self._writing = False
            self._reactor.removeWriter(self)
            if self._closing:
                self.loseConnection()
        return None

    def connectionLost(self, reason: Failure) -> None:
        """The reactor removed this descriptor."""
        stream = self._socket
        if stream is None:
            return
        if self.connected:
            self._lose(reason)
            return
        error = stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._failed(error or errno.ECONNABORTED)

    def _failed(self, error: int) -> None:
        self._unregister()
        self._close()
        self._connectFailed(error)

    def _lose(self, reason: Failure) -> None:
        self._unregister()
        self._close()
        if self._protocol is not None:
            self._protocol.connectionLost(reason)

    def _unregister(self) -> None:
        if self._reading:
            self._reading = False
            self._reactor.removeReader(self)
        if self._writing:
            self._writing = False
            self._reactor.removeWriter(self)

    def _close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        stream, self._socket = self._socket, None
        if stream is not None:
            stream.close()


def _addressOf(name: tuple[Any, ...]) -> IAddress:
    kind = IPv4Address if len(name) == 2 else IPv6Address
    return kind("TCP", name[0], name[1])
