"""
A transport for the few bytes of a handshake, made to give its socket away.

L{twisted.internet.tcp.Client} costs about 150 microseconds per connection and
never gives its socket away.  This one does only what a handshake needs:
connect, write, read, and L{HandshakeTransport.detach}.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import socket
import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    ILoggingContext,
    IReadDescriptor,
    ITransport,
    IWriteDescriptor,
)
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import UnexpectedEvent
from nanotun.timer import Timer

#: Bytes per read.  A reply is a few dozen; anything after it is for the app and is
#: passed on as leftover.
READ_SIZE = 4096

#: Seconds between two attempts at a unix socket whose queue is full.  The kernel
#: does not tell when there is room again (connect(2), EAGAIN).
RETRY_INTERVAL = 0.01

#: struct linger: close with a reset, so that no TIME_WAIT is left.
_LINGER_RESET = struct.pack("ii", 1, 0)


# Also str, whose hash is not Python code: the table is read three times a dial.
class TransportState(enum.StrEnum):
    """The state of the connection."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    #: Connected, and closed as soon as all is written.
    CLOSING = "closing"
    CLOSED = "closed"


class TransportEvent(enum.StrEnum):
    """What happens to a connection."""

    CONNECT = "connect"
    #: The connect succeeded, or the socket was connected from the start.
    CONNECTED = "connected"
    #: The connect failed.
    FAILED = "failed"
    #: The protocol has no more to write, but the kernel has not taken all of it.
    FINISH = "finish"
    #: The other side ended the connection, or we did in order.
    ENDED = "ended"
    #: The socket was given away.
    DETACHED = "detached"
    ABORTED = "aborted"


#: The state that follows each event.  Any other event is a bug.
TRANSITIONS = {
    (TransportState.NEW, TransportEvent.CONNECT): TransportState.CONNECTING,
    (TransportState.NEW, TransportEvent.CONNECTED): TransportState.CONNECTED,
    (TransportState.NEW, TransportEvent.ABORTED): TransportState.CLOSED,
    (TransportState.CONNECTING, TransportEvent.CONNECTED): TransportState.CONNECTED,
    (TransportState.CONNECTING, TransportEvent.FAILED): TransportState.CLOSED,
    (TransportState.CONNECTING, TransportEvent.ABORTED): TransportState.CLOSED,
    (TransportState.CONNECTED, TransportEvent.FINISH): TransportState.CLOSING,
    (TransportState.CONNECTED, TransportEvent.ENDED): TransportState.CLOSED,
    (TransportState.CONNECTED, TransportEvent.DETACHED): TransportState.CLOSED,
    (TransportState.CONNECTED, TransportEvent.ABORTED): TransportState.CLOSED,
    (TransportState.CLOSING, TransportEvent.FINISH): TransportState.CLOSING,
    (TransportState.CLOSING, TransportEvent.ENDED): TransportState.CLOSED,
    (TransportState.CLOSING, TransportEvent.ABORTED): TransportState.CLOSED,
}


def receive(stream: socket.socket) -> Any:
    """
    Read what has arrived, for a reader's C{doRead}.

    @param stream: non-blocking.
    @return: bytes, at least one; or what C{doRead} returns: L{None} if nothing has
        arrived, else how the connection ended.
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
    One connection attempt and its handshake; see L{TRANSITIONS}.

    @ivar protocol: as passed.
    @param stream: a non-blocking socket, for L{connect} or L{adopt}; owned from here.
    @param protocol: runs on the connection, and is not told of its end if that is
        L{detach} or L{abortConnection}; L{None} where the connected socket is enough.
    @param connected: called without arguments once connected, before the protocol.
    @param connectFailed: called with an errno, not before L{connect} has returned.
    @raise UnexpectedEvent: from any method, for an event that the state does not allow.
    """

    __slots__ = (
        "_connectFailed",
        "_connected",
        "_pending",
        "_reactor",
        "_reading",
        "_retry",
        "_socket",
        "_state",
        "_writing",
        "protocol",
    )

    def __init__(
        self,
        stream: socket.socket,
        reactor: Any,
        protocol: Protocol | None,
        connected: Callable[[], None],
        connectFailed: Callable[[int], None],
    ) -> None:
        self._state = TransportState.NEW
        self._socket: socket.socket | None = stream
        self._reactor = reactor
        self.protocol = protocol
        self._connected = connected
        self._connectFailed = connectFailed
        self._reading = self._writing = False
        self._pending = b""
        self._retry: Timer | None = None

    def connect(self, address: Any) -> None:
        """
        Begin to connect.

        @param address: as L{socket.socket.connect} takes it, a literal address.
        @raise OSError: it failed at once; the socket is closed.
        """
        self._to(TransportEvent.CONNECT)
        self._attempt(address)

    def adopt(self) -> None:
        """Use a socket that is connected already."""
        self._established()

    def _to(self, event: TransportEvent) -> None:
        try:
            self._state = TRANSITIONS[self._state, event]
        except KeyError:
            raise UnexpectedEvent("A transport", self._state, event) from None

    def _attempt(self, address: Any) -> None:
        stream = self._socket
        assert stream is not None
        error = stream.connect_ex(address)
        if error == errno.EAGAIN and stream.family == socket.AF_UNIX:
            self._retry = Timer(self._reactor, partial(self._attemptAgain, address))
            self._retry.start(RETRY_INTERVAL)
            return
        if error not in (0, errno.EINPROGRESS):
            self._close(TransportEvent.FAILED)
            raise OSError(error, "connect")
        # A connect on this machine is complete by now: save a turn of the reactor.
        if _hasPeer(stream):
            self._established()
        else:
            self._writing = True
            self._reactor.addWriter(self)

    def _attemptAgain(self, address: Any) -> None:
        try:
            self._attempt(address)
        except OSError as error:
            self._connectFailed(error.errno or 0)

    def _established(self) -> None:
        self._to(TransportEvent.CONNECTED)
        if self.protocol is not None:
            # Before the writer is removed, so that the fd stays registered.
            self._reading = True
            self._reactor.addReader(self)
        if self._writing:
            self._writing = False
            self._reactor.removeWriter(self)
        self._connected()
        if self.protocol is not None:
            self.protocol.makeConnection(self)

    def detach(self) -> int:
        """
        Give the connected socket away.

        @return: the fd, now the caller's.  Bytes that were read and not handled are
            the protocol's to pass on.
        """
        self._to(TransportEvent.DETACHED)
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
                # The reader sees the same error and reports it.
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
        if self._socket is None:
            return
        if self._pending:
            self._to(TransportEvent.FINISH)
        else:
            self._end(Failure(CONNECTION_DONE))

    def abortConnection(self) -> None:
        """Close with a reset, and without a word to the protocol.  Harmless once closed."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            self._close(TransportEvent.ABORTED)

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
            self.protocol.dataReceived(got)  # type: ignore[union-attr]
            return None
        return got  # type: ignore[no-any-return]

    def doWrite(self) -> Failure | None:
        """See L{IWriteDescriptor.doWrite}."""
        stream = self._socket
        assert stream is not None
        if self._state is TransportState.CONNECTING:
            error = stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._failed(error)
            elif _hasPeer(stream):
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
            if self._state is TransportState.CLOSING:
                self.loseConnection()
        return None

    def connectionLost(self, reason: Failure) -> None:
        """The reactor removed this descriptor."""
        stream = self._socket
        if stream is None:
            return
        if self._state is TransportState.CONNECTING:
            error = stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._failed(error or errno.ECONNABORTED)
        else:
            self._end(reason)

    def _failed(self, error: int) -> None:
        self._close(TransportEvent.FAILED)
        self._connectFailed(error)

    def _end(self, reason: Failure) -> None:
        self._close(TransportEvent.ENDED)
        if self.protocol is not None:
            self.protocol.connectionLost(reason)

    def _unregister(self) -> None:
        if self._reading:
            self._reading = False
            self._reactor.removeReader(self)
        if self._writing:
            self._writing = False
            self._reactor.removeWriter(self)

    def _close(self, event: TransportEvent) -> None:
        self._to(event)
        self._unregister()
        if self._retry is not None:
            self._retry.close()
        stream, self._socket = self._socket, None
        if stream is not None:
            stream.close()


def _hasPeer(stream: socket.socket) -> bool:
    """Whether the socket is connected."""
    try:
        stream.getpeername()
    except OSError:
        return False
    return True


def _addressOf(name: tuple[Any, ...]) -> IAddress:
    kind = IPv4Address if len(name) == 2 else IPv6Address
    return kind("TCP", name[0], name[1])
