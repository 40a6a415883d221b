"""
Runs one sans-io handshake over one connection.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from nanotun.errors import ProxyClosedError, UpstreamError
from nanotun.interfaces import IHandshake


class UpstreamProtocol(Protocol):
    """
    Passes a handshake's bytes.  It makes exactly one of the three calls below, once,
    and then ignores the connection; unless that is lost already, the callee has to end
    it.

    @param proxy: the proxy's URL without its password, for errors.
    @param succeeded: called with the leftover.
    @param failed: called with the error.
    @param again: called when the handshake has to continue on another connection.
    """

    __slots__ = ("_again", "_failed", "_proxy", "_succeeded", "handshake")

    def __init__(
        self,
        handshake: IHandshake,
        proxy: str,
        succeeded: Callable[[bytes], None],
        failed: Callable[[UpstreamError], None],
        again: Callable[[], None],
    ) -> None:
        self._again = again
        self.handshake = handshake
        self._proxy = proxy
        self._succeeded = succeeded
        self._failed = failed

    def connectionMade(self) -> None:
        """See L{IProtocol.connectionMade}."""
        assert self.transport is not None
        self.transport.write(self.handshake.begin())

    def dataReceived(self, data: bytes) -> None:
        """See L{IProtocol.dataReceived}."""
        handshake = self.handshake
        try:
            answer = handshake.receive(data)
        except UpstreamError as error:
            self._failed(error)
            return
        if answer:
            assert self.transport is not None
            self.transport.write(answer)
        if handshake.done:
            self._succeeded(handshake.leftover)
        elif handshake.again:
            self._again()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """See L{IProtocol.connectionLost}."""
        if self.handshake.resumable:
            self._again()
            return
        how = "closed" if reason.check(type(connectionDone.value)) else "broke"
        self._failed(
            ProxyClosedError(
                f"The proxy {self._proxy} {how} the connection before its answer was whole; "
                "look at the proxy's log."
            )
        )


class UpstreamFactory(Factory):
    """
    Makes the protocols for one proxy's connections.

    @param proxy: its URL without the password.
    """

    noisy = False

    def __init__(self, proxy: str) -> None:
        self._proxy = proxy

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        """See L{IProtocolFactory.buildProtocol}."""
        # A protocol needs a handshake, which this call does not pass.
        return None

    def buildHandshake(
        self,
        handshake: IHandshake,
        succeeded: Callable[[bytes], None],
        failed: Callable[[UpstreamError], None],
        again: Callable[[], None],
        kind: Callable[..., UpstreamProtocol] = UpstreamProtocol,
    ) -> UpstreamProtocol:
        """
        Make the protocol for one connection.

        @param kind: L{UpstreamProtocol}, whose parameters the others are, or like it.
        """
        return kind(handshake, self._proxy, succeeded, failed, again)
