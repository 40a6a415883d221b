"""
SOCKS4's CONNECT without any I/O, or SOCKS4A's if the destination is a name.

Sources: "SOCKS: A protocol for TCP proxy across firewalls" (Ying-Da Lee) and
"SOCKS 4A: A Simple Extension to SOCKS 4 Protocol", both by NEC.

States::

    begin    request sent                       -> REPLY
    REPLY    00 5a ...                          -> DONE; the rest is leftover

Everything else is an error, after which nothing may be called.  L{goodWay} is the part of it
that the engine knows.
"""

from __future__ import annotations

import struct
from functools import partial
from socket import AF_INET, inet_pton

from zope.interface import implementer

from nanotun.errors import (
    AuthenticationError,
    FamilyUnsupported,
    HandshakeError,
    ProxyError,
    UpstreamError,
    UpstreamRefused,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import IHandshake, Step
from nanotun.upstream.handshakes.goodway import GoodWay

GRANTED = 90

#: Bytes of a reply: VN, CD, DSTPORT, DSTIP.
REPLY_LENGTH = 8

#: Bytes; a name in the DNS is not longer (RFC 1035, section 3.1).
NAME_LIMIT = 255

#: Replies: the predicate of the error's sentence, and the error that the app sees.  A
#: server has only 91 for whatever went wrong with the destination, so it means what
#: the general failure of SOCKS5 means.
REPLIES: dict[int, tuple[str, type[UpstreamError]]] = {
    91: ("rejected the request for {}, or failed to reach it", UpstreamRefused),
    92: (
        "did not open {}, because it cannot ask identd on this machine who the user is; "
        "run identd or have the proxy not ask",
        AuthenticationError,
    ),
    93: (
        "did not open {}, because identd on this machine names another user; "
        "correct the user in the proxy's URL",
        AuthenticationError,
    ),
}

#: DSTIP if a name follows: 0.0.0.x with an x that is not 0.
_NAME_FOLLOWS = b"\0\0\0\1"

_REQUEST = struct.Struct("!BBH")

#: What a reply may begin with: its version is 0, and some servers repeat the request's 4.
_VERSIONS = (0, 4)


def connectRequest(destination: Endpoint, user: bytes) -> bytes:
    """
    All that is sent.

    @param user: the user id, without zeros.
    @raise UpstreamError: this destination cannot be asked for.
    """
    address, name = _encodeHost(destination)
    return b"".join((_REQUEST.pack(4, 1, destination.port), address, user, b"\0", name))


def goodWay(user: bytes = b"") -> GoodWay:
    """How CONNECT goes where nothing is amiss; see L{Socks4Handshake} for the parameter."""
    # The address in the reply is of no use.
    unread = bytes(REPLY_LENGTH - 2)
    version = 0xFF ^ _VERSIONS[0] ^ _VERSIONS[1]
    ask = Step(
        own=True,
        mask=bytes((version, 0xFF)) + unread,
        value=bytes((_VERSIONS[0] & version, GRANTED)) + unread,
    )
    return GoodWay((ask,), (ask,), partial(connectRequest, user=user))


@implementer(IHandshake)
class Socks4Handshake:
    """
    One CONNECT.

    @param destination: an IPv4 address or a name.
    @param proxy: the proxy's URL, for errors.
    @param user: the user id, without zeros.
    @raise UpstreamError: this destination cannot be asked for.
    """

    again = False

    __slots__ = (
        "_buffer",
        "_destination",
        "_proxy",
        "_request",
        "done",
        "leftover",
        "requested",
        "resumable",
    )

    def __init__(self, destination: Endpoint, proxy: str, user: bytes = b"") -> None:
        self._destination = destination
        self._proxy = proxy
        self._request = connectRequest(destination, user)
        self._buffer = b""
        self.done = self.requested = self.resumable = False
        self.leftover = b""

    def begin(self) -> bytes:
        """See L{IHandshake.begin}."""
        self.resumable = False
        self.requested = True
        return self._request

    def proceed(self, greeting: IHandshake | None) -> bytes:
        """See L{IHandshake.proceed}."""
        self.requested = self.resumable = True
        return self._request

    def receive(self, data: bytes) -> bytes:
        """See L{IHandshake.receive}."""
        if self.done:
            raise HandshakeError(f"The proxy {self._proxy} sent bytes after its reply.")
        self.requested = self.resumable = False
        buffer = self._buffer = self._buffer + data
        if buffer and buffer[0] not in _VERSIONS:
            raise HandshakeError(
                f"The proxy {self._proxy} does not speak SOCKS4: it answered with "
                f"{buffer[:8]!r}; check the proxy's scheme and port."
            )
        if len(buffer) >= 2 and buffer[1] != GRANTED:
            # Not every server sends the rest of a refusal.
            raise self._refusal(buffer[1])
        if len(buffer) >= REPLY_LENGTH:
            self._buffer = b""
            self.leftover = buffer[REPLY_LENGTH:]
            self.done = True
        return b""

    def _refusal(self, reply: int) -> UpstreamError:
        text, kind = REPLIES.get(reply, ("gave an unknown reply about {}", ProxyError))
        said = text.format(self._destination)
        return kind(f"The proxy {self._proxy} {said} (reply {reply}).", news=True)


def _encodeHost(destination: Endpoint) -> tuple[bytes, bytes]:
    """DSTIP, and 4A's name with its zero or nothing."""
    host = destination.host
    if ":" in host:
        # The app tries IPv4 next, at once.
        raise FamilyUnsupported(
            f"SOCKS4 cannot carry the IPv6 destination {destination}; use a socks5:// proxy."
        )
    try:
        address = inet_pton(AF_INET, host)
    except (OSError, ValueError):
        # A name; with a zero in it, Python calls that a wrong value.
        pass
    else:
        if address.startswith(_NAME_FOLLOWS[:3]):
            raise FamilyUnsupported(
                f"SOCKS4 cannot carry the destination {destination}, whose address stands for a "
                "name there; use a socks5:// proxy."
            )
        return address, b""
    if not host.isascii() or "\0" in host or not 0 < len(host) <= NAME_LIMIT:
        raise UpstreamError(f"The name {host!r} is not 1 to 255 ASCII bytes and cannot be sent.")
    return _NAME_FOLLOWS, host.encode("ascii") + b"\0"
