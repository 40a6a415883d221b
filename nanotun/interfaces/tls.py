"""
TLS that the native library speaks with proxies.
"""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import Interface


class ITls(Interface):
    """
    Speaks TLS on connections, and lends a socket for what is inside: the engine takes the
    connection back, with TLS, if it is given that socket.
    """

    def number(authorities: bytes, insecure: bool, host: str, protocols: Sequence[str]) -> int:
        """
        The number of a configuration, more than 0, always the same for the same one.

        @param authorities: PEM with the certificates to trust; empty for the system's.
        @param insecure: whether to trust any certificate.
        @param host: the name or address that the certificate has to be for.
        @param protocols: to offer, as ALPN names them (RFC 7301).
        @raise OSError: there is no certificate in C{authorities}.
        """

    def secure(fd: int, number: int, early: bytes) -> int:
        """
        Begin TLS.

        @param fd: a connected stream socket, perhaps itself a lent one; owned from here.
        @param number: of the configuration.
        @param early: what was received on it already.
        @return: the lent socket, owned by the caller.  The first to be read from it is what has
            become of the TLS handshake: netstack.h, C{ns_secure}.
        @raise OSError: there are no more descriptors.
        """

    def socketOf(fd: int) -> int:
        """
        A duplicate of the socket that a lent one leads to, owned by the caller.

        @raise OSError: the connection has ended.
        """
