"""
TLS without any I/O, for what speaks inside it to a proxy or to a DNS server.

Python's own ssl does it over memory BIOs, and checks the certificate and its names.
Twisted's TLS would need the connection before the handshake, keep it in a transport
that does not hand it over, and bring two more libraries.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from nanotun.errors import ConfigError

#: Bytes; more than a record holds (RFC 8446, section 5.1).
READ_SIZE = 1 << 16


def makeContext(
    ca: str,
    insecure: bool = False,
    protocols: Sequence[str] = ("http/1.1",),
    given: str = "ca in the proxy's URL",
) -> ssl.SSLContext:
    """
    Make the context that all connections to one proxy or DNS server share.

    @param ca: the path of a file with the certificates to trust; empty for the system's.
    @param insecure: whether to trust any certificate.
    @param protocols: what is spoken inside, as ALPN names it (RFC 7301); empty to say nothing.
    @param given: where the user has set C{ca}, for the error.
    @raise ConfigError: the file cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except OSError as error:
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(
            f"The certificates in {ca} cannot be read ({reason}); check {given}."
        ) from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # As Go does in the library, whatever Python this is: a chain may end at any certificate that is
    # trusted, and a home-made CA needs no key usage, on which Python 3.13 insists.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # With renegotiation a write might have to wait for a read.
    context.options |= ssl.OP_NO_RENEGOTIATION
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


class TlsStream:
    """
    The client's side of one TLS connection: bytes of the wire in and out, plain bytes
    out and in.

    @ivar ended: whether the peer has said that it sends no more.
    @param host: the name or address that the certificate has to be for; a name is also
        sent as SNI.
    @param session: that of an earlier connection with the same context to the same peer, which
        it may let us resume.
    """

    def __init__(
        self, context: ssl.SSLContext, host: str, session: ssl.SSLSession | None = None
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        if session is not None:
            self._tls.session = session
        self.ended = False
        self._broken: ssl.SSLError | None = None

    @property
    def session(self) -> ssl.SSLSession | None:
        """
        What a later connection can resume; L{None} if there is nothing yet.  With TLS 1.3 it
        comes after the handshake (RFC 8446, section 4.6.1).
        """
        session = self._tls.session
        return session if session is not None and (session.has_ticket or session.id) else None

    @property
    def resumed(self) -> bool:
        """Whether the peer has resumed the session, once the handshake is done."""
        return bool(self._tls.session_reused)

    @property
    def protocol(self) -> str | None:
        """What the peer has chosen of the protocols (ALPN); L{None} if it has not chosen."""
        return self._tls.selected_alpn_protocol()

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
