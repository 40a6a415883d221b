"""
Opens legs: lookup, connect and handshake, all under one deadline.

L{TRANSITIONS} is a dial's whole life.  Each address is tried for its share of the time
that is left; if it does not answer in that time, the next one is tried.
A handshake that fails ends the dial, because the proxy has answered.  However a dial
ends, it leaves no socket behind but the one that it hands over.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from nanotun.errors import DestinationSilent, UnexpectedEvent, UpstreamError, UpstreamTimeout
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, IHandshake, Via
from nanotun.timer import Timer
from nanotun.upstream.dial.protocol import UpstreamFactory, UpstreamProtocol
from nanotun.upstream.dial.resolver import HostAddresses, SocketAddress
from nanotun.upstream.dial.secure import Secure
from nanotun.upstream.dial.sockets import openStream
from nanotun.upstream.dial.through import openThrough
from nanotun.upstream.dial.transport import HandshakeTransport

#: Seconds for a handshake at least, on a connection that another upstream took all the time
#: to open.
LEAST = 0.1


# Also str, whose hash is not Python code: the table is read three times a dial.
class DialState(enum.StrEnum):
    """The state of a dial."""

    NEW = "new"
    RESOLVING = "resolving"
    CONNECTING = "connecting"
    HANDSHAKING = "handshaking"
    #: On a connection that waited; see L{nanotun.upstream.pool.reuse}.
    REUSING = "reusing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DialEvent(enum.StrEnum):
    """What happens to a dial."""

    #: The addresses are not known yet.
    LOOKUP = "lookup"
    #: The addresses are known.
    FOUND = "found"
    #: This address failed or took too long, and another one is left.
    NEXT = "next"
    #: The socket is connected, and a handshake follows.
    CONNECTED = "connected"
    #: The handshake wants to continue on another connection to the same address.
    AGAIN = "again"
    #: The leg is ready.
    SUCCEEDED = "succeeded"
    #: An error that ends the dial, or the deadline.
    FAILED = "failed"
    CANCELLED = "cancelled"


Transitions = Mapping[tuple[DialState, DialEvent], DialState]

#: The state that follows each event.  Any other event is a bug.
TRANSITIONS: Transitions = {
    (DialState.NEW, DialEvent.LOOKUP): DialState.RESOLVING,
    (DialState.NEW, DialEvent.FOUND): DialState.CONNECTING,
    (DialState.RESOLVING, DialEvent.FOUND): DialState.CONNECTING,
    (DialState.RESOLVING, DialEvent.FAILED): DialState.FAILED,
    (DialState.RESOLVING, DialEvent.CANCELLED): DialState.CANCELLED,
    (DialState.CONNECTING, DialEvent.NEXT): DialState.CONNECTING,
    (DialState.CONNECTING, DialEvent.CONNECTED): DialState.HANDSHAKING,
    (DialState.CONNECTING, DialEvent.SUCCEEDED): DialState.DONE,
    (DialState.CONNECTING, DialEvent.FAILED): DialState.FAILED,
    (DialState.CONNECTING, DialEvent.CANCELLED): DialState.CANCELLED,
    (DialState.HANDSHAKING, DialEvent.AGAIN): DialState.CONNECTING,
    (DialState.HANDSHAKING, DialEvent.SUCCEEDED): DialState.DONE,
    (DialState.HANDSHAKING, DialEvent.FAILED): DialState.FAILED,
    (DialState.HANDSHAKING, DialEvent.CANCELLED): DialState.CANCELLED,
}

#: What the error of a dial that ran out of time says it was doing.
DOING = {
    DialState.RESOLVING: "looking up its name",
    DialState.CONNECTING: "connecting",
    DialState.HANDSHAKING: "waiting for its answer",
    DialState.REUSING: "waiting for its answer",
}


class Connector:
    """
    What all dials of one upstream share.

    @param name: the upstream in an error: C{"The proxy socks5://host:1080"}.
    @param timeout: seconds for lookup, connect and handshake together.
    @param errorFor: turns the errno of a failed connect, and the address, into the
        error to raise.
    @param factory: makes the protocols that run handshakes; L{None} for an upstream
        that has none.
    @param makeStream: makes a socket of the family it is given.
    @param via: opens the connections in place of such a socket, if there is one.
    @param secure: TLS for all handshakes, if there is one.
    """

    def __init__(
        self,
        reactor: Any,
        name: str,
        timeout: float,
        errorFor: Callable[[int, SocketAddress], UpstreamError],
        factory: UpstreamFactory | None = None,
        makeStream: Callable[[int], Any] = openStream,
        via: Via | None = None,
        secure: Secure | None = None,
    ) -> None:
        self.reactor = reactor
        self.name = name
        self.timeout = timeout
        self.errorFor = errorFor
        self.factory = factory
        self.makeStream = makeStream
        self.via = via
        self.secure = secure

    def open(
        self,
        addresses: HostAddresses,
        handshake: IHandshake | None = None,
        destination: Endpoint | None = None,
    ) -> Deferred[Connection]:
        """
        Open one leg.

        @param handshake: one that has not begun, or L{None} if a connected socket is
            enough.
        @param destination: where the leg is to lead, for an error; L{None} if only the
            proxy is asked.
        @return: see L{nanotun.interfaces.IUpstream.connect}.
        """
        dial = Dial(self, addresses, handshake, destination)
        dial.start()
        return dial.deferred


def silence(
    connector: Connector,
    state: DialState,
    handshake: IHandshake | None,
    destination: Endpoint | None,
) -> UpstreamTimeout:
    """
    The error at the deadline, which names whoever most likely did not answer.

    @param handshake: as for L{Connector.open}, like C{destination}.
    """
    name, timeout = connector.name, connector.timeout
    if destination is not None:
        if handshake is None and state is DialState.CONNECTING:
            return DestinationSilent(
                f"{name} {destination} did not answer within {timeout:g} s.", news=True
            )
        # A plugin's handshake may lack it.
        if getattr(handshake, "requested", False):
            return DestinationSilent(
                f"No answer about {destination} came within {timeout:g} s from the "
                f"{name.removeprefix('The ')}; most likely the destination is filtered or "
                "down.",
                news=True,
            )
    return UpstreamTimeout(f"{name} did not answer within {timeout:g} s (while {DOING[state]}).")


class Dial:
    """
    One attempt to open a leg; see L{TRANSITIONS}.

    @ivar state: what it is doing now.
    @ivar deferred: fires with the leg, or fails with an L{UpstreamError}; cancelling it
        cancels the dial.
    @raise UnexpectedEvent: from any method, for an event that the state does not allow.
    """

    __slots__ = (
        "_addresses",
        "_connector",
        "_current",
        "_deadline",
        "_destination",
        "_early",
        "_handshake",
        "_lookup",
        "_timer",
        "_transport",
        "_under",
        "_untried",
        "deferred",
        "state",
    )

    transitions: ClassVar[Transitions] = TRANSITIONS

    def __init__(
        self,
        connector: Connector,
        addresses: HostAddresses,
        handshake: IHandshake | None,
        destination: Endpoint | None = None,
    ) -> None:
        self.state = DialState.NEW
        self._connector = connector
        self._addresses = addresses
        self._handshake = handshake
        self._destination = destination
        self._deadline = connector.reactor.seconds() + connector.timeout
        self._timer = Timer(connector.reactor, self._expired)
        self._untried: list[SocketAddress] = []
        self._current: SocketAddress | None = None
        self._transport: HandshakeTransport | None = None
        self._lookup: Deferred[list[SocketAddress]] | None = None
        self._under: Deferred[Connection] | None = None
        # What came with a connection that another upstream has opened.
        self._early = b""
        self.deferred: Deferred[Connection] = Deferred(self._cancelled)

    def start(self) -> None:
        """
        Begin with the lookup, or with the first address if that is known; through another
        upstream, with its dial.
        """
        if self._connector.via is not None:
            self._to(DialEvent.FOUND)
            self._askVia(self._connector.via)
            return
        known = self._addresses.known()
        if known is not None:
            self._found(known)
            return
        self._to(DialEvent.LOOKUP)
        self._timer.start(self._left())
        self._lookup = self._addresses.get()
        self._lookup.addCallbacks(self._found, self._notFound)

    def _to(self, event: DialEvent) -> None:
        try:
            self.state = self.transitions[self.state, event]
        except KeyError:
            raise UnexpectedEvent("A dial", self.state, event) from None

    def _left(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self._deadline - self._connector.reactor.seconds())

    def _found(self, addresses: list[SocketAddress]) -> None:
        self._lookup = None
        self._to(DialEvent.FOUND)
        self._untried = addresses.copy()
        self._tryFirst()

    def _notFound(self, reason: Failure) -> None:
        if reason.check(CancelledError) is None:
            self._lookup = None
            error = reason.value
            assert isinstance(error, UpstreamError)
            self._fail(error)

    def _askVia(self, via: Via) -> None:
        """
        Have another upstream connect to the proxy.  It has the same time, and what it says at
        the end of it names the one at fault, so a dial that has just begun has no timer yet.
        """
        self._under = openThrough(via, self._addresses.endpoint, self._connector.name)
        self._under.addCallbacks(self._viaOpened, self._viaFailed)

    def _viaOpened(self, connection: Connection) -> None:
        self._under = None
        self._timer.start(max(self._left(), LEAST))
        if self._connector.secure is not None:
            self._begin(connection.fd, connection.leftover)
            return
        self._early = connection.leftover
        transport = self._over(socket.socket(fileno=connection.fd))
        transport.adopt()
        if self._early and transport.protocol and self.state is DialState.HANDSHAKING:
            transport.protocol.dataReceived(self._early)

    def _viaFailed(self, reason: Failure) -> None:
        if self._under is not None:
            self._under = None
            self._fail(reason.value)  # type: ignore[arg-type]

    def _tryFirst(self) -> None:
        """Try the first of the untried addresses, for its share of the time that is left."""
        connector = self._connector
        self._timer.start(self._left() / len(self._untried))
        self._current = address = self._untried.pop(0)
        try:
            stream = connector.makeStream(address.family)
        except UpstreamError as error:
            # This machine may lack only this family.
            self._nextOr(error)
            return
        transport = self._over(stream, secured=False)
        try:
            transport.connect(address.address)
        except OSError as error:
            self._connectFailed(error.errno or 0)

    def _over(self, stream: socket.socket, secured: bool = True) -> HandshakeTransport:
        # Secured: TLS, if there is to be any, has begun on this socket.
        ready = secured or self._connector.secure is None
        self._transport = transport = HandshakeTransport(
            stream,
            self._connector.reactor,
            self._protocol() if ready else None,
            self._connected if ready else self._begin,
            self._connectFailed,
        )
        return transport

    def _begin(self, fd: int = -1, early: bytes = b"") -> None:
        """Begin with TLS, on the socket that was connected or on another one."""
        transport, secure = self._transport, self._connector.secure
        assert secure is not None
        if transport is not None:
            self._transport, fd = None, transport.detach()
        try:
            stream = secure.begin(fd, early)
        except UpstreamError as error:
            self._fail(error)
        else:
            self._over(stream).adopt()

    def _protocol(self) -> UpstreamProtocol | None:
        if self._handshake is None:
            return None
        factory = self._connector.factory
        assert factory is not None
        return factory.buildHandshake(self._handshake, self._succeeded, self._fail, self._again)

    def _connectFailed(self, error: int) -> None:
        self._transport = None
        assert self._current is not None
        if not self._untried:
            self._addresses.doubt()
        self._nextOr(self._connector.errorFor(error, self._current))

    def _nextOr(self, error: UpstreamError) -> None:
        """Try the next address; where there is none, fail with this error."""
        if self._untried:
            self._to(DialEvent.NEXT)
            self._tryFirst()
        else:
            self._fail(error)

    def _connected(self) -> None:
        if self._handshake is None:
            self._succeeded(self._early)
        else:
            self._to(DialEvent.CONNECTED)

    def _succeeded(self, leftover: bytes) -> None:
        self._to(DialEvent.SUCCEEDED)
        assert self._transport is not None
        fd = self._transport.detach()
        self._transport = None
        if self._current is not None:
            self._addresses.prefer(self._current)
        self._timer.close()
        self.deferred.callback(Connection(fd, leftover))

    def _again(self) -> None:
        """The handshake continues on another connection to the same proxy."""
        self._to(DialEvent.AGAIN)
        self._abort()
        if self._connector.via is not None:
            # The timer goes on: the other upstream begins anew, and this dial does not.
            self._askVia(self._connector.via)
            return
        assert self._current is not None
        self._untried = [self._current]
        self._tryFirst()

    def _expired(self) -> None:
        """An address's share of the time is over, or all of the time."""
        connecting = self.state is DialState.CONNECTING
        if not self._left():
            if connecting:
                self._addresses.doubt()
            self._fail(self._silence())
        elif connecting and self._untried:
            self._to(DialEvent.NEXT)
            self._abort()
            self._tryFirst()
        else:
            self._timer.start(self._left())

    def _silence(self) -> UpstreamTimeout:
        return silence(self._connector, self.state, self._handshake, self._destination)

    def _cancelled(self, deferred: Deferred[Connection]) -> None:
        self._to(DialEvent.CANCELLED)
        # Deferred.cancel itself fails it with CancelledError.
        self._abandon()

    def _fail(self, error: UpstreamError) -> None:
        self._to(DialEvent.FAILED)
        self._abandon()
        self.deferred.errback(error)

    def _abandon(self) -> None:
        self._timer.close()
        self._abort()
        under, self._under = self._under, None
        lookup, self._lookup = self._lookup, None
        for each in (under, lookup):
            if each is not None:
                each.cancel()

    def _abort(self) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abortConnection()
