"""
Carries a connection whose other side speaks TLS.

The engine copies plain bytes between an app and a socket.  Here that socket is
one end of a pair; the bytes at the other end go through TLS to the proxy::

    engine -- (pair) -- AppSide -- TlsStream -- WireSide -- proxy

Rules::

    app      data            is written to the wire
             end             close_notify on the wire; the other direction goes on
             reset           reset of the wire, without close_notify
    wire     data            is written to the app
             close_notify    end for the app; the other direction goes on
             end without it  end for the app: many servers leave close_notify out; if
                             the app says anything afterwards, reset for the app
             reset, wrong    reset for the app
    both     ended           both connections are closed

A reset for the app comes after all that was there before it, see L{Delivery}.

The pair is TCP on the loopback interface: a unix pair has no reset, and a transfer that
was cut off would look complete.

Each side pauses the other while it cannot write.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import UpstreamError
from nanotun.interfaces import Connection
from nanotun.linux.delivery import Delivery, received
from nanotun.upstream.tlsstream import TlsStream

#: Seconds of silence before the kernel probes whether the proxy is still there, seconds
#: between two probes, and how many may stay unanswered.  The engine sets the same on the
#: sockets that it joins, but here it joins the pair's.
KEEPALIVE = (("TCP_KEEPIDLE", 300), ("TCP_KEEPINTVL", 75), ("TCP_KEEPCNT", 4))

#: Bytes of each of the pair's four buffers; the kernel doubles them.
BUFFER = 1 << 17

#: Seconds to make the pair.  It takes microseconds, unless a filter drops packets on the
#: loopback interface.
PAIR_TIME = 0.5


def carryTls(stream: TlsStream, connection: Connection, reactor: Any) -> Connection:
    """
    Put TLS between the engine and a connection.

    @param stream: its handshake is done.
    @param connection: to the proxy; its fd is owned from here.
    @return: a connection of plain bytes, for the engine to join.
    @raise UpstreamError: there are no more descriptors, or the proxy is gone.
    """
    with socket.socket(fileno=connection.fd) as wire:
        try:
            near, far = makePair()
        except OSError as error:
            raise _failed(error) from None
        with near:
            appSide, wireSide = AppSide(stream, reactor), WireSide(stream)
            appSide.peer, wireSide.peer = wireSide, appSide
            try:
                _keepAlive(wire)
                # These duplicate the descriptors.
                reactor.adoptStreamConnection(wire.fileno(), wire.family, _Once(wireSide))
                reactor.adoptStreamConnection(near.fileno(), near.family, _Once(appSide))
            except OSError as error:
                far.close()
                # Neither side may look for the other.
                appSide.ended = wireSide.ended = True
                wireSide.abort()
                raise _failed(error) from None
    wireSide.begin()
    appSide.begin()
    # The end may have arrived with the last bytes of the handshake.
    wireSide.lookForEnd()
    return Connection(far.detach(), connection.leftover)


def makePair() -> tuple[socket.socket, socket.socket]:
    """
    Make both ends of a TCP connection, non-blocking, with small buffers: each flow of an
    app that reads slowly fills them.

    @raise OSError: there are no more descriptors, or no loopback interface.
    """
    with socket.socket() as listener, contextlib.ExitStack() as undo:
        far = undo.enter_context(socket.socket())
        for each in (listener, far):
            # Before connect and accept: they fix the window's scale.
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            each.settimeout(PAIR_TIME)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        far.connect(listener.getsockname())
        near, peer = listener.accept()
        while peer != far.getsockname():
            # Any program of this machine can connect.
            near.close()
            near, peer = listener.accept()
        undo.enter_context(near)
        for each in (near, far):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            each.setblocking(False)
        undo.pop_all()
    return near, far


def _keepAlive(wire: socket.socket) -> None:
    if wire.family == socket.AF_UNIX:
        # To a proxy on this machine, through which the one that speaks TLS was dialled.
        return
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        if hasattr(socket, name):
            wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _failed(error: OSError) -> UpstreamError:
    if error.errno in (errno.EMFILE, errno.ENFILE):
        advice = "raise the limit of descriptors (ulimit -n, LimitNOFILE)"
    elif error.errno == errno.ENOTCONN:
        return UpstreamError(
            "The proxy reset the connection at the end of its handshake; look at its log."
        )
    else:
        advice = "check that the loopback interface is up and not filtered"
    return UpstreamError(
        f"TLS to the proxy cannot be carried ({error.strerror or error}); {advice}."
    )


class _Once(Factory):
    """Hands out one protocol."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Protocol:
        """See L{IProtocolFactory.buildProtocol}."""
        return self._protocol


@implementer(IPushProducer)
class _Side(Protocol):
    """
    What both sides have in common.

    @ivar peer: the other side.
    @ivar ended: whether this side has sent everything.
    """

    transport: Any
    peer: _Side

    def __init__(self, stream: TlsStream) -> None:
        self.stream = stream
        self.ended = False

    def begin(self) -> None:
        """Begin to carry; both sides are connected."""
        self.transport.registerProducer(self.peer, True)

    def pauseProducing(self) -> None:
        """The other side cannot write.  See L{IPushProducer}."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """The other side can write again.  See L{IPushProducer}."""
        if not self.ended:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The other side's connection has ended, and is closed next.  See L{IPushProducer}."""

    def finish(self) -> None:
        """Close once everything is written."""
        # One that is paused would have to be resumed first.
        self.transport.unregisterProducer()
        self.transport.loseConnection()


@implementer(IHalfCloseableProtocol)
class AppSide(_Side):
    """
    The near end of the pair, whose far end the engine joins.

    @param clock: the reactor.
    """

    peer: WireSide

    def __init__(self, stream: TlsStream, clock: Any) -> None:
        super().__init__(stream)
        self._clock = clock
        self._delivery: Delivery | None = None

    def dataReceived(self, data: bytes) -> None:
        """See L{IProtocol.dataReceived}."""
        if self.peer.isLost:
            # As a server's kernel does once the server has closed.
            self.reset()
            return
        try:
            self.stream.write(data)
        except ssl.SSLError:
            self.peer.abort()
            return
        self.peer.transport.write(self.stream.outgoing())

    def readConnectionLost(self) -> None:
        """See L{IHalfCloseableProtocol.readConnectionLost}."""
        self.ended = True
        if not self.peer.isLost:
            try:
                self.stream.close()
            except ssl.SSLError:
                self.peer.abort()
                return
            self.peer.transport.write(self.stream.outgoing())
        if self.peer.ended and self._delivery is None:
            self.finish()
            self.peer.finish()

    def writeConnectionLost(self) -> None:
        """See L{IHalfCloseableProtocol.writeConnectionLost}."""

    def stopProducing(self) -> None:
        """See L{IPushProducer}."""
        self.peer.readRest()

    def reset(self) -> None:
        """Close with a reset, but have the app take first what is there for it."""
        if self._delivery is None:
            self._delivery = Delivery(self.transport, self._clock, self.transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See L{IProtocol.connectionLost}."""
        self.ended = True
        if self._delivery is not None:
            self._delivery.stop()
        # The wire, too, has sent everything: nobody takes more.
        self.peer.ended = True
        if reason.check(ConnectionDone) is None:
            self.peer.reset()
        else:
            self.peer.finish()


class WireSide(_Side):
    """
    The connection to the proxy.

    @ivar isLost: whether it has ended both ways.
    """

    peer: AppSide

    def __init__(self, stream: TlsStream) -> None:
        super().__init__(stream)
        self.isLost = False
        self._aborted = False

    def dataReceived(self, data: bytes) -> None:
        """See L{IProtocol.dataReceived}."""
        stream = self.stream
        stream.feed(data)
        try:
            while plain := stream.read():
                self.peer.transport.write(plain)
        except ssl.SSLError:
            self.abort()
            return
        answer = stream.outgoing()
        if answer:
            self.transport.write(answer)
        self.lookForEnd()

    def readRest(self) -> None:
        """
        Read what is left: a connection that is reset still has what came before, and the next
        write fails at once.
        """
        rest = b"" if self._aborted else received(self.transport)
        if rest:
            self.dataReceived(rest)

    def lookForEnd(self) -> None:
        """Pass the proxy's close_notify on to the app, once."""
        if self.stream.ended:
            self._end()

    def _end(self) -> None:
        """Nothing more comes for the app."""
        if self.ended:
            return
        self.ended = True
        if self.peer.ended:
            self.finish()
            self.peer.finish()
        else:
            self.peer.transport.unregisterProducer()
            self.peer.transport.loseWriteConnection()

    def abort(self) -> None:
        """Close at once."""
        self._aborted = True
        if self.transport is not None:
            self.transport.abortConnection()

    def reset(self) -> None:
        """Write what can be written now, and close at once."""
        if self.transport.connected:
            self.transport.doWrite()
            self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See L{IProtocol.connectionLost}."""
        self.isLost = True
        if self.ended and self.peer.ended:
            return
        if reason.check(ConnectionDone) is None:
            self.ended = True
            self.peer.reset()
            return
        self._end()
        if not self.peer.ended:
            # For its end, or for what it says to nobody.
            self.peer.transport.resumeProducing()
