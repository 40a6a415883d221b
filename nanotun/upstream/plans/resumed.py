"""
Goes on with a dial that the engine has begun.

The engine knows nothing but the good way.  Whatever else came is given to the handshake's own
class, from the first byte on, so that everything ends as if the dial had been made here.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from nanotun.errors import UpstreamError
from nanotun.interfaces import Connection, DialEnd, DialEndKind, IHandshake
from nanotun.upstream.dial.connector import Connector, DialEvent, DialState
from nanotun.upstream.dial.protocol import UpstreamProtocol
from nanotun.upstream.dial.resolver import HostAddresses
from nanotun.upstream.dial.sockets import noSocket
from nanotun.upstream.dial.transport import HandshakeTransport
from nanotun.upstream.plans.begun import Begun
from nanotun.upstream.pool.reuse import ReuseDial

_ANSWERING = (DialState.HANDSHAKING, DialState.REUSING)


def resume(
    connector: Connector,
    addresses: HostAddresses,
    handshake: IHandshake | None,
    begun: Begun,
    end: DialEnd,
) -> Deferred[Connection]:
    """
    Open the leg that the engine could not.

    @param addresses: for a new connection, should one be needed.
    @param handshake: one that has not begun; L{None} if a connected socket is enough.
    @param end: its fd is owned from here.
    @return: as L{Connector.open}.
    """
    dial = ResumedDial(connector, addresses, handshake, begun.destination)
    dial.resume(begun, end)
    return dial.deferred


class ResumedProtocol(UpstreamProtocol):
    """See L{UpstreamProtocol}."""

    __slots__ = ("_begun", "_end")

    def __init__(self, begun: Begun, end: DialEnd, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._begun = begun
        self._end = end

    def connectionMade(self) -> None:
        """See L{IProtocol.connectionMade}."""
        try:
            rest = self._begun.replay(self.handshake, self._end)
        except UpstreamError as error:
            self._failed(error)
            return
        if rest:
            self.dataReceived(rest)


class _Gone:
    """The transport of a connection that has ended."""

    def write(self, data: bytes) -> None:
        """Nobody reads it."""


class ResumedDial(ReuseDial):
    """A dial that the engine has begun."""

    __slots__ = ()

    def resume(self, begun: Begun, end: DialEnd) -> None:
        """In place of L{start}."""
        self._deadline -= end.seconds
        if end.kind is DialEndKind.GENERAL:
            self.start()
            return
        if begun.warm is None:
            self._to(DialEvent.FOUND)
            self._current = begun.addresses[end.address]
        else:
            self._warm = begun.warm
            self._current = begun.warm.address
        if end.kind is DialEndKind.HANDED:
            self._adopt(begun, end)
            return
        if end.step >= 0 or begun.warm is not None:
            self._connected()
        match end.kind:
            case DialEndKind.FAILED:
                self._connectFailed(end.error)
            case DialEndKind.NO_SOCKET:
                self._fail(noSocket(end.error))
            case _ if end.step < 0:
                self._addresses.doubt()
                self._fail(self._silence())
            case _:
                self._finish(begun, end)

    def _adopt(self, begun: Begun, end: DialEnd) -> None:
        """Go on with the same connection."""
        stream = socket.socket(fileno=end.fd)
        if begun.warm is not None:
            begun.warm.stream = stream
        self._timer.start(self._left())
        protocol = None if self._handshake is None else self._protocolOf(begun, end)
        self._transport = HandshakeTransport(
            stream, self._connector.reactor, protocol, self._connected, self._connectFailed
        )
        self._transport.adopt()

    def _finish(self, begun: Begun, end: DialEnd) -> None:
        """The connection has ended, or the time has, during the handshake."""
        protocol = self._protocolOf(begun, end)
        protocol.makeConnection(_Gone())  # type: ignore[arg-type]
        if self._transport is not None or self.state not in _ANSWERING:
            # It is over, or on another connection.
            return
        if end.kind is DialEndKind.EXPIRED:
            self._fail(self._silence())
        else:
            protocol.connectionLost(Failure(CONNECTION_LOST if end.error else CONNECTION_DONE))

    def _succeeded(self, leftover: bytes) -> None:
        # Not on a connection that has ended.
        if self._transport is not None:
            super()._succeeded(leftover)

    def _protocolOf(self, begun: Begun, end: DialEnd) -> UpstreamProtocol:
        factory, handshake = self._connector.factory, self._handshake
        assert factory is not None and handshake is not None
        failed = self._fail if begun.warm is None else self._refused
        kind = partial(ResumedProtocol, begun, end)
        return factory.buildHandshake(handshake, self._succeeded, failed, self._again, kind)
