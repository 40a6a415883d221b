"""
Opens a leg on a connection that waited for its destination.

To the table of L{nanotun.upstream.dial.connector} this adds::

    start     -> HANDSHAKE   on the connection that waited
    HANDSHAKE done           -> done
              again          -> LOOKUP or CONNECT: from there on like any leg

The proxy may have ended the connection just before the request, and nobody can
know that it did.  As long as it has answered nothing, nothing of it was seen by
the app either, and the same is asked on a new connection, before the same
deadline.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from nanotun.errors import ProxyClosedError, UpstreamError
from nanotun.interfaces import Connection, IHandshake
from nanotun.upstream.dial.connector import HANDSHAKE, LOOKUP, Connector, Leg
from nanotun.upstream.dial.protocol import UpstreamProtocol
from nanotun.upstream.dial.resolver import HostAddresses
from nanotun.upstream.dial.transport import HandshakeTransport
from nanotun.upstream.pool.warm import WarmConnection


def proceed(
    connector: Connector, addresses: HostAddresses, handshake: IHandshake, warm: WarmConnection
) -> Deferred[Connection]:
    """
    Open one leg.

    @param addresses: for a new connection.
    @param handshake: not begun.
    @param warm: owned from here, and told what became of it.
    @return: as L{Connector.open}.
    """
    leg = ProceedingLeg(connector, addresses, handshake)
    leg.proceed(warm)
    return leg.deferred


class ProceedingProtocol(UpstreamProtocol):
    """
    See L{UpstreamProtocol}.

    @param greeting: what was done on the connection already.
    """

    __slots__ = ("_greeting",)

    def __init__(self, greeting: IHandshake | None, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._greeting = greeting

    def connectionMade(self) -> None:
        """See L{IProtocol.connectionMade}."""
        assert self.transport is not None
        self.transport.write(self.handshake.proceed(self._greeting))


class ProceedingLeg(Leg):
    """One leg; see the table above."""

    __slots__ = ("_warm",)

    def proceed(self, warm: WarmConnection) -> None:
        """In place of L{start}."""
        connector, handshake = self._connector, self._handshake
        assert handshake is not None
        reactor = connector.reactor
        self._deadline = reactor.seconds() + connector.timeout
        self._timer = reactor.callLater(connector.timeout, self._expired)
        self._step = HANDSHAKE
        self._current = warm.address
        self._warm: WarmConnection | None = warm
        assert connector.factory is not None
        protocol = connector.factory.buildHandshake(
            handshake,
            self._succeeded,
            self._refused,
            self._dialAgain,
            partial(ProceedingProtocol, warm.greeting),
        )
        self._transport = HandshakeTransport(
            warm.stream, reactor, protocol, self._connected, self._connectFailed
        )
        self._transport.adopt()

    def _succeeded(self, leftover: bytes) -> None:
        warm, self._warm = self._warm, None
        if warm is not None:
            warm.worked()
        super()._succeeded(leftover)

    def _refused(self, error: UpstreamError) -> None:
        """It failed on the connection that waited, which works if that is the proxy's word."""
        warm, self._warm = self._warm, None
        assert warm is not None
        if not isinstance(error, ProxyClosedError):
            warm.worked()
        self._fail(error)

    def _dialAgain(self) -> None:
        warm, self._warm = self._warm, None
        if warm is None:
            super()._dialAgain()
            return
        assert self._transport is not None and self._handshake is not None
        if self._handshake.resumable:
            warm.lost()
        self._transport.abortConnection()
        self._transport = None
        self._settle()
        self._step = LOOKUP
        self._lookUp()
