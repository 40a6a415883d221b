"""
TLS with one proxy, which the native library speaks.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nanotun.errors import UpstreamError
from nanotun.interfaces import ITls
from nanotun.upstream.dial.sockets import noSocket
from nanotun.upstream.tlsstream import makeContext

#: What is spoken inside, as ALPN names it (RFC 7301).
PROTOCOLS = ("http/1.1",)


def readAuthorities(path: str) -> bytes:
    """
    Read the certificates to trust.

    @param path: empty for the system's.
    @return: PEM, empty for the system's.
    @raise ConfigError: the file cannot be read, or holds no certificate.
    """
    if not path:
        return b""
    makeContext(path)
    return Path(path).read_bytes()


class Secure:
    """
    Begins TLS on connections to one proxy.

    @param tls: speaks it; L{None} where nothing is ever dialled.
    @param authorities: the certificates to trust, from L{readAuthorities}.
    @param ca: the path of their file, for an error.
    @param insecure: whether to trust any certificate.
    @param host: the name or address that the certificate has to be for.
    """

    def __init__(
        self, tls: ITls | None, authorities: bytes, ca: str, insecure: bool, host: str
    ) -> None:
        self._tls = tls
        self._authorities = authorities
        self._ca = ca
        self._insecure = insecure
        self._host = host
        self._number = 0

    def number(self) -> int:
        """
        The number of the configuration.  It is asked for late: the native library must not be
        loaded before twistd becomes a daemon.

        @raise UpstreamError: the library can use none of the certificates.
        """
        if not self._number:
            assert self._tls is not None
            try:
                self._number = self._tls.number(
                    self._authorities, self._insecure, self._host, PROTOCOLS
                )
            except OSError:
                raise UpstreamError(
                    f"The certificates in {self._ca} are of no use for TLS; check ca in the "
                    "proxy's URL."
                ) from None
        return self._number

    def begin(self, fd: int, early: bytes = b"") -> socket.socket:
        """
        Begin TLS on a connection.

        @param fd: to the proxy; owned from here.
        @param early: what was received on it already.
        @return: for the plain bytes, non-blocking; see
            L{nanotun.upstream.handshakes.tls} for what is to be read first.
        @raise UpstreamError: there are no more descriptors, or see L{number}.
        """
        stream = socket.socket(fileno=fd)
        with stream:
            number = self.number()
            assert self._tls is not None
            try:
                lent = self._tls.secure(stream.detach(), number, early)
            except OSError as error:
                raise noSocket(error.errno or 0) from None
        return socket.socket(fileno=lent)

    @contextmanager
    def below(self, lent: socket.socket) -> Iterator[socket.socket]:
        """
        The socket to the proxy that one of L{begin}'s leads to.

        @raise OSError: the connection has ended.
        """
        assert self._tls is not None
        with socket.socket(fileno=self._tls.socketOf(lent.fileno())) as stream:
            yield stream
