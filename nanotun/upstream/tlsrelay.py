"""
Carries a connection whose other side speaks TLS.

The engine copies plain bytes between an app and a socket.  Here that socket is
one end of a pair; the bytes at the other end go through TLS to the proxy::

    engine -- (pair) -- AppSide -- TlsStream -- WireSide -- proxy

Rules::

    app      data            written to the wire
             ends            close_notify on the wire; the other way goes on
             is gone         close_notify, end of the wire
    wire     data            written to the app
             close_notify    the app hears the end; the other way goes on
             is gone, wrong  end of the app
    both     ended           end of both

Each side pauses the other while it cannot write (L{IPushProducer}).
"""

from __future__ import annotations

import select
import socket
import ssl
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import UpstreamError
from nanotun.flow import Connection
from nanotun.upstream.tls import TlsStream


def relayTls(stream: TlsStream, connection: Connection, reactor: Any) -> Connection:
    """
    Put a relay behind a connection.

    @param stream: past its handshake.
    @param connection: to the proxy; its fd is owned from here.
    @return: what the engine can join.
    @raise UpstreamError: there are no more descriptors.
    """
    with socket.socket(fileno=connection.fd) as wire:
        try:
            near, far = socket.socketpair()
        except OSError as error:
            raise UpstreamError(
                f"A relay for TLS cannot be made ({error.strerror}); raise the limit of "
                "descriptors (ulimit -n, LimitNOFILE)."
            ) from None
        with near:
            for each in (near, far):
                each.setblocking(False)
            appSide, wireSide = AppSide(stream), WireSide(stream)
            appSide.peer, wireSide.peer = wireSide, appSide
            try:
                # These duplicate the descriptors.
                reactor.adoptStreamConnection(wire.fileno(), wire.family, _Once(wireSide))
                reactor.adoptStreamConnection(near.fileno(), near.family, _Once(appSide))
            except OSError as error:
                far.close()
                # Neither side is to look for the other.
                appSide.ended = wireSide.ended = True
                wireSide.abort()
                raise UpstreamError(
                    f"A relay for TLS cannot be made ({error.strerror}); raise the limit of "
                    "descriptors (ulimit -n, LimitNOFILE)."
                ) from None
    wireSide.begin()
    appSide.begin()
    # It may have come with the last bytes of the handshake.
    wireSide.lookForEnd()
    return Connection(far.detach(), connection.leftover)


class _Once(Factory):
    """Hands out the one protocol."""

    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: object) -> Protocol:
        """See L{IProtocolFactory.buildProtocol}."""
        return self._protocol


class _Side(Protocol):
    """
    What both sides have.

    @ivar peer: the other side.
    @ivar ended: whether no more comes from this side.
    """

    transport: Any
    peer: _Side

    def __init__(self, stream: TlsStream) -> None:
        self.stream = stream
        self.ended = False

    def begin(self) -> None:
        """Both sides are connected."""
        self.transport.registerProducer(self.peer.transport, True)

    def noMore(self) -> None:
        """No more comes from this side."""
        if not self.ended:
            self.ended = True
            # A paused producer that ended must not be told to resume.
            self.peer.transport.unregisterProducer()
        if self.peer.ended:
            self.finish()
            self.peer.finish()

    def finish(self) -> None:
        """Close, once all is written."""
        if self.transport is not None:
            self.transport.loseConnection()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See L{IProtocol.connectionLost}."""
        if not self.ended:
            self.ended = True
            self.peer.transport.unregisterProducer()
        # Also a peer that has ended: it may still wait for what comes from here.
        self.peer.ended = True
        self.peer.finish()


@implementer(IHalfCloseableProtocol)
class AppSide(_Side):
    """The end of the pair that is ours."""

    def dataReceived(self, data: bytes) -> None:
        """See L{IProtocol.dataReceived}."""
        try:
            self.stream.write(data)
        except ssl.SSLError:
            self.peer.abort()
            return
        self.peer.transport.write(self.stream.outgoing())

    def readConnectionLost(self) -> None:
        """See L{IHalfCloseableProtocol.readConnectionLost}."""
        try:
            self.stream.close()
        except ssl.SSLError:
            self.peer.abort()
            return
        self.peer.transport.write(self.stream.outgoing())
        if _hungUp(self.transport):
            # Nobody is there to read what might still come.
            self.peer.ended = True
        self.noMore()

    def writeConnectionLost(self) -> None:
        """See L{IHalfCloseableProtocol.writeConnectionLost}."""


class WireSide(_Side):
    """The connection to the proxy."""

    def dataReceived(self, data: bytes) -> None:
        """See L{IProtocol.dataReceived}."""
        stream = self.stream
        stream.feed(data)
        try:
            plain = stream.read()
        except ssl.SSLError:
            self.abort()
            return
        answer = stream.outgoing()
        if answer:
            self.transport.write(answer)
        if plain:
            self.peer.transport.write(plain)
        self.lookForEnd()

    def lookForEnd(self) -> None:
        """Tell the app, once, if the proxy has said that no more comes."""
        if self.stream.ended and not self.ended:
            self.noMore()
            if not self.peer.ended:
                self.peer.transport.loseWriteConnection()


def _hungUp(transport: Any) -> bool:
    """Whether the other end is closed, rather than shut down for writing only."""
    poll = select.poll()
    poll.register(transport.fileno(), 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))
