"""
A proxy's handshake inside TLS.
"""

from __future__ import annotations

import ssl

from zope.interface import implementer

from nanotun.errors import HandshakeError, ProxyError
from nanotun.interfaces import IHandshake
from nanotun.upstream.tlsstream import TlsStream


@implementer(IHandshake)
class TlsGreeting:
    """
    The TLS handshake alone, before anything is sent inside it.

    Once L{done} it still takes bytes, because servers send tickets then (RFC 8446,
    section 4.6.1); it fails if the server sends anything else.

    @ivar stream: carries plain bytes once L{done}.
    @param proxy: the proxy's URL without its password, for errors.
    @param host: the proxy's name or address.
    """

    again = requested = resumable = False
    leftover = b""

    __slots__ = ("_context", "_host", "_proxy", "done", "stream")

    def __init__(self, proxy: str, context: ssl.SSLContext, host: str) -> None:
        self._proxy = proxy
        self._context = context
        self._host = host
        self.done = False

    def begin(self) -> bytes:
        """See L{IHandshake.begin}."""
        self.done = False
        self.stream = TlsStream(self._context, self._host)
        self.stream.handshake()
        return self.stream.outgoing()

    def proceed(self, greeting: IHandshake | None) -> bytes:
        """See L{IHandshake.proceed}.  There is nothing to do before TLS."""
        return self.begin()

    def receive(self, data: bytes) -> bytes:
        """See L{IHandshake.receive}."""
        stream = self.stream
        stream.feed(data)
        try:
            if not self.done:
                self.done = stream.handshake()
            if self.done and (stream.read() or stream.ended):
                raise ProxyError(
                    f"The proxy {self._proxy} ended the connection, or spoke on it before it "
                    "was asked; look at the proxy's log."
                )
        except ssl.SSLError as error:
            raise self.failed(error) from None
        return stream.outgoing()

    def failed(self, error: ssl.SSLError) -> HandshakeError:
        """The error that says what went wrong."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return HandshakeError(
                f"The proxy {self._proxy} has a certificate that is not trusted "
                f"({error.verify_message.rstrip('.')}); if it is the right one, write "
                "?ca=FILE behind the URL."
            )
        reason = (error.reason or "no reason given").lower().replace("_", " ")
        return HandshakeError(
            f"The proxy {self._proxy} does not speak TLS with us ({reason}); check the "
            "proxy's scheme and port."
        )


@implementer(IHandshake)
class TlsHandshake:
    """
    A handshake inside TLS.

    @param inner: the proxy's own handshake.
    @param proxy: the proxy's URL without its password, for errors.
    @param host: the proxy's name or address.
    """

    __slots__ = ("_greeting", "_inner", "_proxy", "_stale")

    def __init__(self, inner: IHandshake, proxy: str, context: ssl.SSLContext, host: str) -> None:
        self._inner = inner
        self._proxy = proxy
        self._greeting = TlsGreeting(proxy, context, host)
        self._stale = False

    @property
    def stream(self) -> TlsStream:
        """Carries plain bytes once L{done}."""
        return self._greeting.stream

    @property
    def done(self) -> bool:
        """See L{IHandshake}."""
        return bool(self._inner.done)

    @property
    def again(self) -> bool:
        """See L{IHandshake}."""
        # Until it begins again, the inner handshake's state is about the last connection.
        return self._stale or (self._greeting.done and bool(self._inner.again))

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
        self._stale = False
        return self._greeting.begin()

    def proceed(self, greeting: IHandshake | None) -> bytes:
        """See L{IHandshake.proceed}."""
        assert isinstance(greeting, TlsGreeting)
        self._greeting = greeting
        self.stream.write(self._inner.proceed(None))
        return self.stream.outgoing()

    def receive(self, data: bytes) -> bytes:
        """See L{IHandshake.receive}."""
        greeting, stream = self._greeting, self.stream
        if not greeting.done:
            answer = greeting.receive(data)
            if greeting.done:
                stream.write(self._inner.begin())
            return answer + stream.outgoing()
        stream.feed(data)
        try:
            while plain := stream.read():
                stream.write(self._inner.receive(plain))
        except ssl.SSLError as error:
            if self.again:
                return b""
            if not self.resumable:
                raise greeting.failed(error) from None
            self._stale = True
            return b""
        if stream.ended and not (self.done or self.again):
            if not self.resumable:
                raise ProxyError(
                    f"The proxy {self._proxy} closed the connection before its answer was whole; "
                    "look at the proxy's log."
                )
            self._stale = True
        return stream.outgoing()
