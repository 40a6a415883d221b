"""
TLS without any I/O, and a proxy's handshake inside it.

By Python's own ssl over memory BIOs, which also checks the certificate and its
names.  Twisted's TLS would need the connection before the handshake, in a
transport that does not give it away, and two libraries more.
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
    What all connections to one proxy share.

    @param ca: a file with the certificates to trust; empty for the system's.
    @param insecure: trust any.
    @raise ConfigError: the file is no good.
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
    # A write would have to wait for reads.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


class TlsStream:
    """
    One TLS connection, the client's side: bytes of the wire in and out, plain
    bytes out and in.

    @ivar ended: whether the peer has said that it sends no more.
    @param host: the name or address that the certificate is to be for; a name
        goes out as SNI too.
    """

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.ended = False
        self._broken: ssl.SSLError | None = None

    def handshake(self) -> bool:
        """
        Go on with the handshake.

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
        """What is to go on the wire now."""
        return self._outgoing.read()

    def read(self) -> bytes:
        """
        All plain bytes that have come.

        @raise ssl.SSLError: the peer broke the protocol or gave up, and what came
            before was returned by an earlier call.
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
        Say that we send no more (close_notify).  The peer may go on.

        @raise ssl.SSLError: the connection is broken.
        """
        try:
            self._tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass


@implementer(IHandshake)
class TlsGreeting:
    """
    TLS by itself, before anything is said in it.

    Once L{done} it still takes what comes, because servers send tickets then (RFC
    8446, section 4.6.1); it fails at anything else.

    @ivar stream: what carries plain bytes once L{done}.
    @param proxy: the proxy's URL without its password, for errors.
    @param host: the proxy's name or address.
    """

    again = resumable = False
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
        """See L{IHandshake.proceed}.  Nothing comes before TLS."""
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
        """What went wrong, as a sentence."""
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
        """What is to carry the connection once L{done}."""
        return self._greeting.stream

    @property
    def done(self) -> bool:
        """See L{IHandshake}."""
        return bool(self._inner.done)

    @property
    def again(self) -> bool:
        """See L{IHandshake}."""
        # Until it is begun anew, the inner handshake still speaks of the last
        # connection.
        return self._stale or (self._greeting.done and bool(self._inner.again))

    @property
    def resumable(self) -> bool:
        """See L{IHandshake}."""
        return self._greeting.done and bool(self._inner.resumable)

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
