"""
Handshakes that end before a destination is needed: whether a proxy is there, and
takes our log-in.
"""

from __future__ import annotations

from zope.interface import implementer

from nanotun.flow import Endpoint
from nanotun.interfaces import IHandshake
from nanotun.upstream.socks5 import Socks5Handshake

#: What a request begins with (RFC 1928, section 4); a log-in begins with 1
#: (RFC 1929, section 2).
_REQUEST = b"\5"


@implementer(IHandshake)
class Socks5LogIn:
    """
    SOCKS5's greeting and log-in.

    @param proxy: the proxy's URL without its password, for errors.
    @param credentials: see L{Socks5Handshake}.
    """

    again = resumable = False

    __slots__ = ("_handshake", "done", "leftover")

    def __init__(self, proxy: str, credentials: tuple[bytes, bytes] | None = None) -> None:
        self._handshake = Socks5Handshake(Endpoint("0.0.0.0", 0), proxy, credentials)
        self.done = False
        self.leftover = b""

    def begin(self) -> bytes:
        """See L{IHandshake.begin}."""
        return self._handshake.begin()

    def receive(self, data: bytes) -> bytes:
        """See L{IHandshake.receive}."""
        answer = self._handshake.receive(data)
        if not answer.startswith(_REQUEST):
            return answer
        self.done = True
        return b""


@implementer(IHandshake)
class NoHandshake:
    """Nothing at all, for what is around it: that TLS stands is enough."""

    again = resumable = False
    leftover = b""

    def __init__(self) -> None:
        self.done = False

    def begin(self) -> bytes:
        """See L{IHandshake.begin}."""
        self.done = True
        return b""

    def receive(self, data: bytes) -> bytes:
        """See L{IHandshake.receive}; a proxy that speaks first is there too."""
        return b""
