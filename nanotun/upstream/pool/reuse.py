"""
Opens a leg on a connection that waited for its destination.

The proxy may have ended that connection just before the request, and only the request
finds out.  As long as the proxy has answered nothing, the app has not seen anything of
it either, so the same request is made on a new connection, before the same deadline.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

from twisted.internet.defer import Deferred

from nanotun.errors import ProxyClosedError, UpstreamError
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, IHandshake
from nanotun.upstream.dial.connector import (
    TRANSITIONS,
    Connector,
    Dial,
    DialEvent,
    DialState,
    Transitions,
)
from nanotun.upstream.dial.protocol import UpstreamProtocol
from nanotun.upstream.dial.resolver import HostAddresses
from nanotun.upstream.dial.transport import HandshakeTransport
from nanotun.upstream.pool.warm import WarmConnection


def reuse(
    connector: Connector,
    addresses: HostAddresses,
    handshake: IHandshake,
    warm: WarmConnection,
    destination: Endpoint | None = None,
) -> Deferred[Connection]:
    """
    Open one leg.

    @param addresses: for a new connection, should one be needed.
    @param handshake: one that has not begun.
    @param warm: owned from here, and told what became of it.
    @param destination: as for L{Connector.open}.
    @return: as L{Connector.open}.
    """
    dial = ReuseDial(connector, addresses, handshake, destination)
    dial.reuse(warm)
    return dial.deferred


class ReuseProtocol(UpstreamProtocol):
    """
    See L{UpstreamProtocol}.

    @param greeting: the handshake that the connection has behind it, or L{None}.
    """

    __slots__ = ("_greeting",)

    def __init__(self, greeting: IHandshake | None, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._greeting = greeting

    def connectionMade(self) -> None:
        """See L{IProtocol.connectionMade}."""
        assert self.transport is not None
        self.transport.write(self.handshake.proceed(self._greeting))


class ReuseDial(Dial):
    """A dial that begins on a connection that waited."""

    __slots__ = ("_warm",)

    transitions: ClassVar[Transitions] = {
        **TRANSITIONS,
        (DialState.NEW, DialEvent.CONNECTED): DialState.REUSING,
        # On a new connection: from there on it is a dial like any other.
        (DialState.REUSING, DialEvent.LOOKUP): DialState.RESOLVING,
        (DialState.REUSING, DialEvent.FOUND): DialState.CONNECTING,
        (DialState.REUSING, DialEvent.SUCCEEDED): DialState.DONE,
        (DialState.REUSING, DialEvent.FAILED): DialState.FAILED,
        (DialState.REUSING, DialEvent.CANCELLED): DialState.CANCELLED,
    }

    def reuse(self, warm: WarmConnection) -> None:
        """In place of L{start}."""
        connector, handshake = self._connector, self._handshake
        assert handshake is not None and connector.factory is not None
        self._timer.start(connector.timeout)
        self._current = warm.address
        self._warm = warm
        protocol = connector.factory.buildHandshake(
            handshake,
            self._succeeded,
            self._refused,
            self._again,
            partial(ReuseProtocol, warm.greeting),
        )
        self._transport = HandshakeTransport(
            warm.stream, connector.reactor, protocol, self._connected, self._connectFailed
        )
        self._transport.adopt()

    def _succeeded(self, leftover: bytes) -> None:
        if self.state is DialState.REUSING:
            self._warm.worked()
        super()._succeeded(leftover)

    def _refused(self, error: UpstreamError) -> None:
        """
        The handshake on the connection that waited failed.  Unless the proxy closed it,
        this is the proxy's answer, so the connection did work.
        """
        if not isinstance(error, ProxyClosedError):
            self._warm.worked()
        self._fail(error)

    def _again(self) -> None:
        if self.state is not DialState.REUSING:
            super()._again()
            return
        assert self._handshake is not None
        if self._handshake.resumable:
            self._warm.lost()
        self._abort()
        self.start()
