"""
TLS without any I/O, and a proxy's handshake inside it.

Python's own ssl does it over memory BIOs, and checks the certificate and its names.
Twisted's TLS would need the connection before the handshake, keep it in a transport
that does not hand it over, and bring two more libraries.
"""

from __future__ import annotations

import ssl

from zope.interface import implementer

from nanotun.errors import ConfigError, HandshakeError, ProxyError
from nanotun.interfaces import IHandshake

#: Bytes; more than a record holds (RFC 8446, section 5.1).
READ_SIZE = 1 << 16


def makeContext(ca: str, insecure: bool) -> ssl.SSLContext:
    """
    Make the context that all connections to one proxy share.

    @param ca: the path of a file with the certificates to trust; empty for the system's.
    @param insecure: whether to trust any certificate.
    @raise ConfigError: the file cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(
            f"The certificates in {ca} cannot be read ({reason}); check ca in the proxy's URL."
        ) from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # With renegotiation a write might have to wait for a read.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


class TlsStream:
    """
    The client's side of one TLS connection: bytes of the wire in and out, plain bytes
    out and in.

    @ivar ended: whether the peer has said that it sends no more.
    @param host: the name or address that the certificate has to be for; a name is also
        sent as SNI.
    """

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.ended = False
        self._broken: ssl.SSLError | None = None

    def handshake(self) -> bool:
        """
        Continue the handshake.

        @return: whether it is done.
        @raise ssl.SSLError: it failed; L{outgoing} has the alert.
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def feed(self, data: bytes) -> None:
        """Take bytes of the wire."""
        self._incoming.write(data)

    def outgoing(self) -> bytes:
        """Take the bytes to put on the wire now."""
        return self._outgoing.read()

    def read(self) -> bytes:
        """
        All plain bytes that have arrived.

        @raise ssl.SSLError: the peer broke the protocol or gave up; an earlier call has
            returned everything before that.
        """
        if self._broken is not None:
            raise self._broken
        found = []
        try:
            while piece := self._tls.read(READ_SIZE):
                found.append(piece)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            self._broken = error
            if not found:
                raise
        return b"".join(found)

    def write(self, data: bytes) -> None:
        """
        Send plain bytes.

        @raise ssl.SSLError: the connection is broken.
        """
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]

    def close(self) -> None:
        """
        Say that no more is sent (close_notify).  The peer may go on sending.

        @raise ssl.SSLError: the connection is broken.
        """
        try:
            self._tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass


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
