"""
A TLS server without any I/O, for the tests.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from tests import ROOT

CERTIFICATES = ROOT / "tests" / "certificates"
CA = str(CERTIFICATES / "ca.pem")


class TlsServer:
    """
    The proxy's or DNS server's side of TLS.

    @param protocols: those that it speaks (ALPN).
    @ivar context: for another server that knows the sessions of this one.
    @ivar heard: plain bytes that arrived.
    @ivar ended: whether the client has said that it sends no more.
    """

    def __init__(
        self,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
        context: ssl.SSLContext | None = None,
        protocols: Sequence[str] = (),
    ) -> None:
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(CERTIFICATES / "proxy.pem")
            context.maximum_version = version
            context.set_alpn_protocols(list(protocols))
        context.sni_callback = self._named
        self.context = context
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.name: str | None = None
        self.heard = b""
        self.ended = False

    def _named(self, tls: object, name: str | None, context: object) -> None:
        self.name = name

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the wire; returns bytes to put on it."""
        self._incoming.write(data)
        try:
            self.tls.do_handshake()
            while piece := self.tls.read(65536):
                self.heard += piece
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        return self._outgoing.read()

    def say(self, data: bytes) -> bytes:
        """Turn plain bytes into bytes of the wire."""
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
        return self._outgoing.read()

    def end(self) -> bytes:
        """The bytes of a close_notify."""
        try:
            self.tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return self._outgoing.read()
