"""
SOCKS5's CONNECT without any I/O (RFC 1928), with a user name and password
where there is one (RFC 1929).

States::

    begin        greeting sent                      -> METHOD
    METHOD       05 00                              -> REPLY, request sent
                 05 02                              -> PASSWORD, credentials sent
    PASSWORD     xx 00                              -> REPLY, request sent
    REPLY        05 00 ... address                  -> DONE; the rest is leftover

Everything else is an error, and nothing may follow one.
"""

from __future__ import annotations

import struct
from socket import AF_INET, AF_INET6, inet_pton

from zope.interface import implementer

from nanotun.errors import (
    AuthenticationError,
    HandshakeError,
    ProxyError,
    UpstreamError,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamProhibited,
    UpstreamRefused,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import IHandshake

VERSION = 5
CONNECT = 1

#: Methods (RFC 1928, section 3).
NO_AUTHENTICATION = 0
PASSWORD = 2
NONE_ACCEPTABLE = 0xFF

#: Address types (RFC 1928, section 5).
IPV4 = 1
NAME = 3
IPV6 = 4

#: One byte holds the length of a name, a user name and a password.
LENGTH_LIMIT = 255

#: Replies (RFC 1928, section 6), what they say, and what the app is to see.
#: "General failure" is what many servers say of a refused connection, and
#: several say "TTL expired" of a connection that timed out.
REPLIES: dict[int, tuple[str, type[UpstreamError]]] = {
    1: ("reports a general failure to reach {}", UpstreamRefused),
    2: ("does not allow connections to {}", UpstreamProhibited),
    3: ("cannot reach the network of {}", UpstreamNetUnreachable),
    4: ("cannot reach the host of {}", UpstreamHostUnreachable),
    5: ("was refused by {}", UpstreamRefused),
    6: ("cannot reach {} in time (TTL expired)", UpstreamHostUnreachable),
    7: ("does not know the CONNECT command, asked for {}", ProxyError),
    8: ("does not know the type of the address {}", ProxyError),
}

_METHOD, _PASSWORD, _REPLY, _DONE = "METHOD", "PASSWORD", "REPLY", "DONE"

_PORT = struct.Struct("!H")


def encodeAddress(destination: Endpoint) -> bytes:
    """
    ATYP, address and port (RFC 1928, section 5).

    @raise UpstreamError: a name that does not fit.
    """
    host, port = destination
    if ":" in host:
        return b"\4" + inet_pton(AF_INET6, host) + _PORT.pack(port)
    try:
        return b"\1" + inet_pton(AF_INET, host) + _PORT.pack(port)
    except OSError:
        pass
    name = host.encode("utf-8")
    if not host.isascii() or not 0 < len(name) <= LENGTH_LIMIT:
        raise UpstreamError(f"The name {host!r} is not 1 to 255 ASCII bytes and cannot be sent.")
    return b"\3" + bytes([len(name)]) + name + _PORT.pack(port)


@implementer(IHandshake)
class Socks5Handshake:
    """
    One CONNECT.

    @param destination: an address or a name.
    @param proxy: the proxy's URL without its password, for errors.
    @param credentials: user name and password, each of 1 to 255 bytes, or
        C{None}.
    """

    again = resumable = False

    __slots__ = ("_buffer", "_credentials", "_destination", "_proxy", "_state", "done", "leftover")

    def __init__(
        self,
        destination: Endpoint,
        proxy: str,
        credentials: tuple[bytes, bytes] | None = None,
    ) -> None:
        self.done = False
        self.leftover = b""
        self._destination = destination
        self._proxy = proxy
        self._credentials = credentials
        self._state = ""
        self._buffer = b""

    def begin(self) -> bytes:
        """See L{IHandshake.begin}."""
        self._state = _METHOD
        return b"\5\1\0" if self._credentials is None else b"\5\2\0\2"

    def receive(self, data: bytes) -> bytes:
        """See L{IHandshake.receive}."""
        buffer = self._buffer = self._buffer + data
        state = self._state
        if state == _REPLY:
            self._receiveReply(buffer)
            return b""
        if state not in (_METHOD, _PASSWORD):
            raise HandshakeError(f"The proxy {self._proxy} sent bytes in the state {state!r}.")
        if state == _METHOD and buffer[:1] != b"\5":
            raise self._wrongVersion(buffer)
        if len(buffer) < 2:
            return b""
        if len(buffer) > 2:
            raise HandshakeError(
                f"The proxy {self._proxy} sent {len(buffer) - 2} bytes more than SOCKS5 allows "
                "before the request; check that it is a SOCKS5 proxy."
            )
        self._buffer = b""
        if state == _METHOD:
            return self._chooseMethod(buffer[1])
        # RFC 1929, section 2.  The version byte is not looked at: some servers
        # repeat SOCKS's own there.
        if buffer[1] != 0:
            raise AuthenticationError(
                f"The proxy {self._proxy} does not accept this user name and password "
                f"(status {buffer[1]}); correct them in the proxy's URL."
            )
        return self._request()

    def _chooseMethod(self, method: int) -> bytes:
        if method == NO_AUTHENTICATION:
            return self._request()
        if method == PASSWORD and self._credentials is not None:
            self._state = _PASSWORD
            username, password = self._credentials
            return b"".join(
                (b"\1", bytes([len(username)]), username, bytes([len(password)]), password)
            )
        if method != NONE_ACCEPTABLE:
            raise HandshakeError(
                f"The proxy {self._proxy} chose the method {method}, which was not offered; "
                "check that it is a SOCKS5 proxy."
            )
        if self._credentials is None:
            raise AuthenticationError(
                f"The proxy {self._proxy} wants a user name and password; "
                "put them in its URL, as in socks5://user:password@host:port."
            )
        raise AuthenticationError(
            f"The proxy {self._proxy} accepts neither a password nor a log-in without one; "
            "look at its configuration."
        )

    def _request(self) -> bytes:
        self._state = _REPLY
        return b"\5\1\0" + encodeAddress(self._destination)

    def _receiveReply(self, buffer: bytes) -> None:
        if buffer[:1] != b"\5":
            raise self._wrongVersion(buffer)
        if len(buffer) < 2:
            return
        if buffer[1] != 0:
            # Not every server sends the rest of an unhappy reply.
            raise self._refusal(buffer[1])
        if len(buffer) < 5:
            return
        kind = buffer[3]
        if kind == IPV4:
            end = 10
        elif kind == IPV6:
            end = 22
        elif kind == NAME:
            end = 7 + buffer[4]
        else:
            raise HandshakeError(
                f"The proxy {self._proxy} answered with an address of the unknown type {kind}; "
                "check that it is a SOCKS5 proxy."
            )
        if len(buffer) < end:
            return
        self._state = _DONE
        self._buffer = b""
        self.leftover = buffer[end:]
        self.done = True

    def _refusal(self, reply: int) -> UpstreamError:
        text, kind = REPLIES.get(reply, ("gave an unknown reply about {}", ProxyError))
        said = text.format(self._destination)
        return kind(f"The proxy {self._proxy} {said} (reply {reply}).")

    def _wrongVersion(self, buffer: bytes) -> HandshakeError:
        return HandshakeError(
            f"The proxy {self._proxy} does not speak SOCKS5: it answered with "
            f"{buffer[:8]!r}; check the proxy's scheme and port."
        )
