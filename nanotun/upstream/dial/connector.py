"""
Opens legs: lookup, connect, handshake, all under one deadline.

A leg's life::

    start     -> LOOKUP      the addresses are not known yet
              -> CONNECT     to the first address
    LOOKUP    addresses      -> CONNECT
              no addresses   -> failed
    CONNECT   connected      -> HANDSHAKE, or done where there is none
              refused, ...   -> CONNECT to the next address; failed after the last
              its share of the time passed -> the same
    HANDSHAKE done           -> done
              again          -> CONNECT to the same address
              error, end     -> failed
    any       deadline       -> failed
              cancel         -> failed; no socket is left
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from nanotun.errors import UpstreamError, UpstreamTimeout
from nanotun.interfaces import Connection, IHandshake
from nanotun.upstream.dial.protocol import UpstreamFactory
from nanotun.upstream.dial.resolver import HostAddresses, SocketAddress
from nanotun.upstream.dial.sockets import openStream
from nanotun.upstream.dial.transport import HandshakeTransport

LOOKUP = "looking up its name"
CONNECT = "connecting"
HANDSHAKE = "waiting for its answer"


class Connector:
    """
    What all legs of one upstream share.

    @param name: the upstream in an error: C{"The proxy socks5://host:1080"}.
    @param timeout: seconds for lookup, connect and handshake together.
    @param errorFor: what a failed connect means: errno and address to error.
    @param makeStream: makes a socket of the family it is given.
    """

    def __init__(
        self,
        reactor: Any,
        name: str,
        timeout: float,
        errorFor: Callable[[int, SocketAddress], UpstreamError],
        factory: UpstreamFactory | None = None,
        makeStream: Callable[[int], Any] = openStream,
    ) -> None:
        self.reactor = reactor
        self.name = name
        self.timeout = timeout
        self.errorFor = errorFor
        self.factory = factory
        self.makeStream = makeStream

    def open(
        self, addresses: HostAddresses, handshake: IHandshake | None = None
    ) -> Deferred[Connection]:
        """
        Open one leg.

        @param handshake: not begun; L{None} if a connected socket is all.
        @return: see L{nanotun.interfaces.IUpstream.connect}.
        """
        leg = Leg(self, addresses, handshake)
        leg.start()
        return leg.deferred


class Leg:
    """One leg; see the table above."""

    __slots__ = (
        "_addresses",
        "_connector",
        "_current",
        "_deadline",
        "_handshake",
        "_lookup",
        "_step",
        "_timer",
        "_transport",
        "_untried",
        "deferred",
    )

    def __init__(
        self, connector: Connector, addresses: HostAddresses, handshake: IHandshake | None
    ) -> None:
        self._connector = connector
        self._addresses = addresses
        self._handshake = handshake
        self._step = LOOKUP
        self._untried: list[SocketAddress] = []
        self._current: SocketAddress | None = None
        self._transport: HandshakeTransport | None = None
        self._lookup: Deferred[list[SocketAddress]] | None = None
        self._timer: IDelayedCall | None = None
        self.deferred: Deferred[Connection] = Deferred(self._cancelled)

    def start(self) -> None:
        connector = self._connector
        self._deadline = connector.reactor.seconds() + connector.timeout
        self._lookUp()

    def _lookUp(self) -> None:
        known = self._addresses.known()
        if known is None:
            reactor = self._connector.reactor
            left = max(0.0, self._deadline - reactor.seconds())
            self._timer = reactor.callLater(left, self._expired)
            self._lookup = self._addresses.get()
            self._lookup.addCallbacks(self._found, self._notFound)
        else:
            self._found(known)

    def _found(self, addresses: list[SocketAddress]) -> None:
        self._lookup = None
        self._untried = addresses.copy()
        self._tryNext()

    def _notFound(self, reason: Failure) -> None:
        if reason.check(CancelledError) is None:
            self._lookup = None
            error = reason.value
            assert isinstance(error, UpstreamError)
            self._fail(error)

    def _tryNext(self) -> None:
        """Try the next address, for its share of the time that is left."""
        connector = self._connector
        reactor = connector.reactor
        if self._timer is not None:
            self._timer.cancel()
        left = max(0.0, self._deadline - reactor.seconds())
        self._timer = reactor.callLater(left / len(self._untried), self._expired)
        self._step = CONNECT
        self._current = address = self._untried.pop(0)
        try:
            stream = connector.makeStream(address.family)
        except UpstreamError as error:
            # Perhaps this machine lacks the family only.
            if self._untried:
                self._tryNext()
            else:
                self._fail(error)
            return
        protocol = None
        if self._handshake is not None:
            assert connector.factory is not None
            protocol = connector.factory.buildHandshake(
                self._handshake, self._succeeded, self._fail, self._dialAgain
            )
        self._transport = transport = HandshakeTransport(
            stream, reactor, protocol, self._connected, self._connectFailed
        )
        try:
            transport.connect(address.address)
        except OSError as error:
            self._connectFailed(error.errno or 0)

    def _connectFailed(self, error: int) -> None:
        self._transport = None
        if self._untried:
            self._tryNext()
        else:
            assert self._current is not None
            self._addresses.doubt()
            self._fail(self._connector.errorFor(error, self._current))

    def _connected(self) -> None:
        self._succeeded(b"")

    def _succeeded(self, leftover: bytes) -> None:
        assert self._transport is not None and self._current is not None
        fd = self._transport.detach()
        self._transport = None
        self._addresses.prefer(self._current)
        self._settle()
        self.deferred.callback(Connection(fd, leftover))

    def _dialAgain(self) -> None:
        """The handshake goes on on another connection to the same address."""
        assert self._transport is not None and self._current is not None
        self._transport.abortConnection()
        self._transport = None
        self._untried = [self._current]
        self._tryNext()

    def _expired(self) -> None:
        """The timer: an address's share of the time passed, or all of it."""
        self._timer = None
        reactor = self._connector.reactor
        if reactor.seconds() >= self._deadline:
            if self._stepNow() == CONNECT:
                self._addresses.doubt()
            self._fail(
                UpstreamTimeout(
                    f"{self._connector.name} did not answer within "
                    f"{self._connector.timeout:g} s (while {self._stepNow()})."
                )
            )
        elif self._stepNow() == CONNECT and self._untried:
            assert self._transport is not None
            self._transport.abortConnection()
            self._tryNext()
        else:
            self._timer = reactor.callLater(self._deadline - reactor.seconds(), self._expired)

    def _stepNow(self) -> str:
        if self._step == CONNECT and self._transport is not None and self._transport.connected:
            return HANDSHAKE
        return self._step

    def _cancelled(self, deferred: Deferred[Connection]) -> None:
        # Deferred.cancel fails it with CancelledError itself.
        self._abandon()

    def _fail(self, error: UpstreamError) -> None:
        self._abandon()
        self.deferred.errback(error)

    def _abandon(self) -> None:
        self._settle()
        if self._transport is not None:
            self._transport.abortConnection()
            self._transport = None
        if self._lookup is not None:
            lookup, self._lookup = self._lookup, None
            lookup.cancel()

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
