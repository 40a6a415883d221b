"""
SOCKS5's CONNECT and UDP ASSOCIATE without any I/O (RFC 1928), with a user name and
password if the URL has one (RFC 1929).

States::

    begin        greeting sent                      -> METHOD
    METHOD       05 00                              -> REPLY, request sent
                 05 02                              -> PASSWORD, credentials sent
    PASSWORD     xx 00                              -> REPLY, request sent
    REPLY        05 00 ... address                  -> DONE; the rest is leftover
    proceed      request sent                       -> REPLY

With C{pipeline} everything is sent at the beginning; the states are the same and send
nothing.  Without a destination the handshake is done where it would send the request.

Everything else is an error, after which nothing may be called.  L{goodWay} is the part of it
that the engine knows.
"""

from __future__ import annotations

import struct
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from zope.interface import implementer

from nanotun.errors import (
    AuthenticationError,
    DatagramsUnsupported,
    HandshakeError,
    ProxyError,
    UpstreamError,
    UpstreamForbids,
    UpstreamHostUnreachable,
    UpstreamNetUnreachable,
    UpstreamRefused,
)
from nanotun.flow import Endpoint
from nanotun.interfaces import IAssociateHandshake, IHandshake, Step, Tail
from nanotun.upstream.handshakes.goodway import GoodWay
from nanotun.upstream.handshakes.socks5relay import relayEndpoint

VERSION = 5

#: Commands (RFC 1928, section 4).
CONNECT = 1
UDP_ASSOCIATE = 3

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

#: Replies to CONNECT (RFC 1928, section 6): the predicate of the error's sentence, and
#: the error that the app sees.  Many servers report a refused connection as a general
#: failure, and several report a timeout as "TTL expired".
REPLIES: dict[int, tuple[str, type[UpstreamError]]] = {
    1: ("reports a general failure to reach {}", UpstreamRefused),
    2: ("does not allow connections to {}", UpstreamForbids),
    3: ("cannot reach the network of {}", UpstreamNetUnreachable),
    4: ("cannot reach the host of {}", UpstreamHostUnreachable),
    5: ("was refused by {}", UpstreamRefused),
    6: ("cannot reach {} in time (TTL expired)", UpstreamHostUnreachable),
    7: ("does not know the CONNECT command, asked for {}", ProxyError),
    8: ("does not know the type of the address {}", ProxyError),
}

#: The same for UDP ASSOCIATE, which concerns no destination yet.  A proxy that does not
#: allow or know it now will not do so in a minute either.
RELAY_REPLIES: dict[int, tuple[str, type[UpstreamError]]] = {
    1: ("reports a general failure to open a UDP relay", ProxyError),
    2: ("does not allow UDP, so that apps do without it", DatagramsUnsupported),
    7: ("does not carry UDP, so that apps do without it", DatagramsUnsupported),
}

#: Replies to CONNECT that tell the user more than the app sees.
_NEWS = (1, 2, 6)

_METHOD, _PASSWORD, _REPLY, _DONE = "METHOD", "PASSWORD", "REPLY", "DONE"

_PORT = struct.Struct("!H")

#: The answer to a log-in, by mask and value: its version byte is ignored, as some servers
#: repeat that of SOCKS there (RFC 1929, section 2).
_WELCOME = b"\0\xff", b"\0\0"

#: A reply that grants the request, up to the type of its address.
_GRANTED = b"\xff\xff\0\0", b"\5\0\0\0"


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
    except (OSError, ValueError):
        # A name; with a zero in it, Python calls that a wrong value.
        pass
    name = host.encode("utf-8")
    if not host.isascii() or not 0 < len(name) <= LENGTH_LIMIT:
        raise UpstreamError(f"The name {host!r} is not 1 to 255 ASCII bytes and cannot be sent.")
    return b"\3" + bytes([len(name)]) + name + _PORT.pack(port)


def connectRequest(destination: Endpoint, command: int = CONNECT) -> bytes:
    """
    A request (RFC 1928, section 4).

    @raise UpstreamError: a name that does not fit.
    """
    return b"\5%c\0" % command + encodeAddress(destination)


def _greeting(credentials: tuple[bytes, bytes] | None, pipeline: bool) -> bytes:
    """What is sent first; with C{pipeline} the log-in is part of it."""
    if credentials is None:
        return b"\5\1\0"
    return b"\5\1\2" + _logIn(credentials) if pipeline else b"\5\2\0\2"


def _logIn(credentials: tuple[bytes, bytes]) -> bytes:
    username, password = credentials
    return b"".join((b"\1", bytes([len(username)]), username, bytes([len(password)]), password))


def goodWay(credentials: tuple[bytes, bytes] | None = None, pipeline: bool = False) -> GoodWay:
    """
    How CONNECT goes where nothing is amiss; see L{Socks5Handshake} for the parameters.  A proxy
    that wants no password, although there is one, is not on it.
    """
    method = NO_AUTHENTICATION if credentials is None else PASSWORD
    chosen = b"\xff\xff", bytes((VERSION, method))
    ask = Step(b"", True, *_GRANTED, Tail.SOCKS_ADDRESS)
    steps = [Step(_greeting(credentials, pipeline), pipeline, *chosen)]
    if credentials is not None:
        steps.append(Step(b"" if pipeline else _logIn(credentials), False, *_WELCOME))
    steps.append(ask._replace(own=not pipeline))
    return GoodWay(tuple(steps), (ask,), connectRequest)


def _decodeAddress(data: bytes) -> Endpoint:
    """
    The inverse of L{encodeAddress}; a name's bytes become one character each.

    @param data: all of the address, of a known type.
    """
    kind, packed, (port,) = data[0], data[1:-2], _PORT.unpack(data[-2:])
    if kind == IPV4:
        return Endpoint(inet_ntop(AF_INET, packed), port)
    if kind == IPV6:
        return Endpoint(inet_ntop(AF_INET6, packed), port)
    return Endpoint(packed[1:].decode("latin-1"), port)


@implementer(IAssociateHandshake)
class Socks5Handshake:
    """
    One CONNECT or UDP ASSOCIATE.

    @ivar bound: see L{IAssociateHandshake}; L{None} for another command.
    @param destination: an address or a name; for L{UDP_ASSOCIATE} an unspecified
        address and port 0, because no app has sent anything yet; L{None} to log
        in only.
    @param proxy: the proxy's URL without its password, for errors.
    @param credentials: user name and password, each of 1 to 255 bytes, or
        C{None}.
    @param command: L{CONNECT} or L{UDP_ASSOCIATE}.
    @param pipeline: send everything at once.  Only one method is offered then, which
        leaves the proxy no choice to wait for.
    @raise UpstreamError: this destination cannot be asked for.
    """

    again = False

    __slots__ = (
        "_buffer",
        "_command",
        "_credentials",
        "_destination",
        "_pipeline",
        "_proxy",
        "_request",
        "_state",
        "bound",
        "done",
        "leftover",
        "resumable",
    )

    def __init__(
        self,
        destination: Endpoint | None,
        proxy: str,
        credentials: tuple[bytes, bytes] | None = None,
        command: int = CONNECT,
        pipeline: bool = False,
    ) -> None:
        self.done = self.resumable = False
        self.leftover = b""
        self.bound: Endpoint | None = None
        self._command = command
        self._request = b"" if destination is None else connectRequest(destination, command)
        self._pipeline = pipeline
        self._destination = destination
        self._proxy = proxy
        self._credentials = credentials
        self._state = ""
        self._buffer = b""

    def begin(self) -> bytes:
        """See L{IHandshake.begin}."""
        self._state = _METHOD
        self._buffer = b""
        self.resumable = False
        greeting = _greeting(self._credentials, self._pipeline)
        return greeting + self._request if self._pipeline else greeting

    def proceed(self, greeting: IHandshake | None) -> bytes:
        """See L{IHandshake.proceed}."""
        self._state = _REPLY
        self.resumable = True
        return self._request

    def receive(self, data: bytes) -> bytes:
        """See L{IHandshake.receive}."""
        buffer = self._buffer = self._buffer + data
        state = self._state
        if state == _REPLY:
            self.resumable = False
            self._receiveReply(buffer)
            return b""
        if state not in (_METHOD, _PASSWORD):
            raise HandshakeError(f"The proxy {self._proxy} sent bytes in the state {state!r}.")
        if state == _METHOD and buffer[:1] != b"\5":
            raise self._wrongVersion(buffer)
        if len(buffer) < 2:
            return b""
        if len(buffer) > 2 and not self._pipeline:
            raise HandshakeError(
                f"The proxy {self._proxy} sent {len(buffer) - 2} bytes more than SOCKS5 allows "
                "before the request; check that it is a SOCKS5 proxy."
            )
        self._buffer = b""
        answer = self._chosen(buffer[1]) if state == _METHOD else self._loggedIn(buffer[1])
        if not self._pipeline:
            return answer
        # C{begin} sent it.
        return self.receive(buffer[2:]) if len(buffer) > 2 else b""

    def _loggedIn(self, status: int) -> bytes:
        # RFC 1929, section 2.
        if status != 0:
            raise AuthenticationError(
                f"The proxy {self._proxy} does not accept this user name and password "
                f"(status {status}); correct them in the proxy's URL."
            )
        return self._ask()

    def _ask(self) -> bytes:
        if self._request:
            self._state = _REPLY
        else:
            self._state = _DONE
            self.done = True
        return self._request

    def _chosen(self, method: int) -> bytes:
        if method == NO_AUTHENTICATION and not (self._pipeline and self._credentials):
            return self._ask()
        if method == PASSWORD and self._credentials is not None:
            self._state = _PASSWORD
            return _logIn(self._credentials)
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

    def _receiveReply(self, buffer: bytes) -> None:
        if buffer[:1] != b"\5":
            raise self._wrongVersion(buffer)
        if len(buffer) < 2:
            return
        if buffer[1] != 0:
            # Not every server sends the rest of a refusal.
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
        if self._command == UDP_ASSOCIATE:
            self.bound = _decodeAddress(buffer[3:end])
        self._state = _DONE
        self._buffer = b""
        self.leftover = buffer[end:]
        self.done = True

    @property
    def requested(self) -> bool:
        """See L{IHandshake}."""
        return self._state == _REPLY and not self._buffer

    def relay(self, proxyHost: str) -> Endpoint:
        """See L{IAssociateHandshake.relay}."""
        assert self.bound is not None
        return relayEndpoint(self.bound, proxyHost, self._proxy)

    def _refusal(self, reply: int) -> UpstreamError:
        if self._command == UDP_ASSOCIATE:
            said, kind = RELAY_REPLIES.get(reply, ("opens no UDP relay", ProxyError))
        else:
            text, kind = REPLIES.get(reply, ("gave an unknown reply about {}", ProxyError))
            said = text.format(self._destination)
        news = reply in _NEWS and self._command == CONNECT
        return kind(f"The proxy {self._proxy} {said} (reply {reply}).", news)

    def _wrongVersion(self, buffer: bytes) -> HandshakeError:
        return HandshakeError(
            f"The proxy {self._proxy} does not speak SOCKS5: it answered with "
            f"{buffer[:8]!r}; check the proxy's scheme and port."
        )
