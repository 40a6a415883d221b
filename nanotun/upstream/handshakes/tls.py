"""
A proxy's handshake inside TLS.

The native library speaks TLS.  What it lends is a socket for the plain bytes, on which it tells
first what has become of the TLS handshake (netstack.h, C{ns_secure}); that is a handshake for
us like any other.
"""

from __future__ import annotations

from zope.interface import implementer

from nanotun.errors import HandshakeError, ProxyClosedError, ProxyError
from nanotun.interfaces import IHandshake, Step
from nanotun.upstream.handshakes.goodway import GoodWay

#: The first byte: the TLS handshake is done.
READY = b"\0"

#: Other first bytes (netstack.h, NS_FLAW_...); a length and the reason follow.
UNTRUSTED, NO_TLS, ENDED = 1, 2, 3

_READY = Step(mask=b"\xff", value=READY)


def goodWayInTls(way: GoodWay | None) -> GoodWay | None:
    """The good way of a handshake, inside TLS."""
    return None if way is None else way._replace(steps=(_READY, *way.steps))


@implementer(IHandshake)
class TlsGreeting:
    """
    The TLS handshake alone, before anything is sent inside it.

    Once L{done} it fails if the proxy sends anything.

    @param proxy: the proxy's URL without its password, for errors.
    """

    again = requested = resumable = False
    leftover = b""

    __slots__ = ("_proxy", "_received", "done")

    def __init__(self, proxy: str) -> None:
        self._proxy = proxy
        self._received = b""
        self.done = False

    def begin(self) -> bytes:
        """See L{IHandshake.begin}."""
        self._received = b""
        self.done = False
        return b""

    def proceed(self, greeting: IHandshake | None) -> bytes:
        """See L{IHandshake.proceed}.  There is nothing to do before TLS."""
        return self.begin()

    def receive(self, data: bytes) -> bytes:
        """See L{IHandshake.receive}."""
        if self.take(data):
            raise ProxyError(
                f"The proxy {self._proxy} ended the connection, or spoke on it before it "
                "was asked; look at the proxy's log."
            )
        return b""

    def take(self, data: bytes) -> bytes:
        """
        Take what was received.

        @return: the part that came after TLS was ready.
        @raise nanotun.errors.UpstreamError: there is no TLS.
        """
        if self.done:
            return data
        received = self._received = self._received + data
        if received[:1] == READY:
            self.done = True
            return received[1:]
        if len(received) > 1 and len(received) >= 2 + received[1]:
            reason = received[2 : 2 + received[1]].decode("ascii", "replace")
            raise self._failed(received[0], reason)
        return b""

    def _failed(self, flaw: int, reason: str) -> ProxyError:
        """The error that says what went wrong."""
        if flaw == UNTRUSTED:
            return HandshakeError(
                f"The proxy {self._proxy} has a certificate that is not trusted ({reason}); if it "
                "is the right one, write ?ca=FILE behind the URL."
            )
        if flaw == NO_TLS:
            return HandshakeError(
                f"The proxy {self._proxy} does not speak TLS with us ({reason}); check the "
                "proxy's scheme and port."
            )
        how = "broke" if reason else "closed"
        return ProxyClosedError(
            f"The proxy {self._proxy} {how} the connection before its answer was whole; "
            "look at the proxy's log."
        )


@implementer(IHandshake)
class TlsHandshake:
    """
    A handshake inside TLS.

    @param inner: the proxy's own handshake.
    @param proxy: the proxy's URL without its password, for errors.
    """

    __slots__ = ("_greeting", "_inner")

    def __init__(self, inner: IHandshake, proxy: str) -> None:
        self._inner = inner
        self._greeting = TlsGreeting(proxy)

    # Until TLS is ready again, the inner handshake's state is about the last connection.

    @property
    def done(self) -> bool:
        """See L{IHandshake}."""
        return bool(self._inner.done)

    @property
    def again(self) -> bool:
        """See L{IHandshake}."""
        return self._greeting.done and bool(self._inner.again)

    @property
    def resumable(self) -> bool:
        """See L{IHandshake}."""
        return self._greeting.done and bool(self._inner.resumable)

    @property
    def requested(self) -> bool:
        """See L{IHandshake}."""
        return self._greeting.done and bool(getattr(self._inner, "requested", False))

    @property
    def leftover(self) -> bytes:
        """See L{IHandshake}."""
        return bytes(self._inner.leftover)

    def begin(self) -> bytes:
        """See L{IHandshake.begin}."""
        return self._greeting.begin()

    def proceed(self, greeting: IHandshake | None) -> bytes:
        """See L{IHandshake.proceed}."""
        assert isinstance(greeting, TlsGreeting)
        self._greeting = greeting
        return bytes(self._inner.proceed(None))

    def receive(self, data: bytes) -> bytes:
        """See L{IHandshake.receive}."""
        greeting, sends = self._greeting, b""
        if not greeting.done:
            data = greeting.take(data)
            if greeting.done:
                sends = self._inner.begin()
        if data:
            sends += self._inner.receive(data)
        return sends
