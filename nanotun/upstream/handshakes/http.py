"""
CONNECT by HTTP/1.1 without any I/O (RFC 9110, section 9.3.6; RFC 9112).

States::

    begin, proceed   request sent                    -> ANSWER
    ANSWER     1xx                                   -> ANSWER
               2xx                                   -> DONE; the rest is leftover
               407, connection stays open            -> BODY
               407, connection ends                  -> AGAIN: a new one, then begin
               408, connection had waited            -> AGAIN
    BODY       end of the 407's body                 -> ANSWER, request sent
               too long to be worth it, lost         -> AGAIN

Everything else is an error, after which nothing may be called.  h11 does the parsing;
it knows that a 2xx to CONNECT has no body, whatever its fields say.  L{goodWay} is the part of
it that the engine knows.
"""

from __future__ import annotations

import re

import h11
from zope.interface import implementer

from nanotun.errors import AuthenticationError, HandshakeError, UpstreamError
from nanotun.flow import Endpoint
from nanotun.interfaces import IHandshake, Step, Tail
from nanotun.upstream.handshakes.goodway import GoodWay
from nanotun.upstream.handshakes.httplogin import (
    Basic,
    Challenge,
    Digest,
    HttpLogin,
    parseChallenges,
)
from nanotun.upstream.handshakes.httpstatus import refusal

HEADER_LIMIT = 64 * 1024  #: Bytes of one answer's head; other clients allow 16 to 256 KiB.
HEADER_COUNT_LIMIT = 100  #: Fields of one answer; a proxy has about ten.
BODY_LIMIT = 64 * 1024  #: Bytes of a 407's body; beyond that a new connection is cheaper.
INTERIM_LIMIT = 10  #: 1xx answers to one request; there is no reason for even one.

#: Requests for one destination: the first, one with credentials, and two more in case
#: other connections have used up the nonce meanwhile.
ATTEMPT_LIMIT = 4

#: A host in a request's target: a name or IPv4 address, or an IPv6 address.
_HOST = re.compile(r"[A-Za-z0-9._~-]{1,255}|[0-9A-Fa-f:.]{2,45}")

#: What a TLS server's alert and handshake begin with (RFC 8446, section 5.1).
_TLS = (b"\x15", b"\x16")

#: What every answer begins with (RFC 9112, section 4).
_START = b"HTTP/"

_FRAMING = (b"content-length", b"transfer-encoding")

_ANSWER, _BODY, _AGAIN, _DONE = "ANSWER", "BODY", "AGAIN", "DONE"


def checkHost(host: str) -> None:
    """
    Check that a host can be part of a request.

    @raise UpstreamError: it cannot.
    """
    if not _HOST.fullmatch(host):
        raise UpstreamError(
            f"The name {host!r} is not 1 to 255 letters, digits, dots and hyphens "
            "and cannot be sent."
        )


def connectRequest(destination: Endpoint) -> bytes:
    """
    What depends on the destination: the beginning of all that is sent for it.

    @raise UpstreamError: it cannot be asked for.
    """
    checkHost(destination.host)
    return _beginning(str(destination).encode("ascii"))


def _beginning(target: bytes) -> bytes:
    return b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (target, target)


def _end(authorization: bytes) -> bytes:
    """
    The rest of a request.

    @param authorization: the value of C{Proxy-Authorization}; empty for none.
    """
    return b"Proxy-Authorization: %b\r\n\r\n" % authorization if authorization else b"\r\n"


def goodWay(login: HttpLogin | None = None) -> GoodWay | None:
    """
    How CONNECT goes where nothing is amiss.

    @param login: as for L{HttpHandshake}.
    @return: L{None} if it is not known yet how to log in, or if each request needs an answer
        to the proxy's challenge.
    """
    authorization = b""
    if login is not None:
        if not isinstance(login.method, Basic):
            return None
        authorization = login.method.last
    steps = Step(own=True), Step(_end(authorization), tail=Tail.HTTP_HEAD)
    return GoodWay(steps, steps, connectRequest)


@implementer(IHandshake)
class HttpHandshake:
    """
    One CONNECT.

    @param destination: an address or a name.
    @param proxy: the proxy's URL without its password, for errors.
    @param login: the proxy's, or L{None} if we have no credentials.
    @raise UpstreamError: this destination cannot be asked for.
    """

    __slots__ = (
        "_attempts",
        "_bodyLength",
        "_challenges",
        "_chosen",
        "_connection",
        "_destination",
        "_first",
        "_interim",
        "_login",
        "_proxy",
        "_state",
        "_target",
        "_used",
        "_waited",
        "done",
        "leftover",
        "resumable",
    )

    def __init__(self, destination: Endpoint, proxy: str, login: HttpLogin | None = None) -> None:
        checkHost(destination.host)
        self._destination = destination
        self._target = str(destination).encode("ascii")
        self._proxy = proxy
        self._login = login
        self._state = ""
        self._attempts = 0
        #: What authorized the last request, and whether it answered a 407 to this
        #: handshake.
        self._used: Basic | Digest | None = None
        self._chosen = False
        self.done = self.resumable = False
        self.leftover = b""

    @property
    def again(self) -> bool:
        """See L{IHandshake}."""
        return self._state == _AGAIN

    @property
    def requested(self) -> bool:
        """See L{IHandshake}."""
        return self._state == _ANSWER and not self._first

    def begin(self) -> bytes:
        """See L{IHandshake.begin}."""
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEADER_LIMIT)
        self.resumable = self._waited = False
        return self._request()

    def proceed(self, greeting: IHandshake | None) -> bytes:
        """See L{IHandshake.proceed}."""
        request = self.begin()
        self.resumable = self._waited = True
        return request

    def _request(self) -> bytes:
        self._state = _ANSWER
        self._first = b""
        self._attempts += 1
        self._interim = self._bodyLength = 0
        target, authorization = self._target, b""
        if self._login is not None:
            if not self._chosen:
                self._used = self._login.method
            if self._used is not None:
                authorization = self._used.authorize(b"CONNECT", target)
        connection = self._connection
        # Only to have h11 know what is answered.
        connection.send(h11.Request(method=b"CONNECT", target=target, headers=[(b"Host", target)]))
        connection.send(h11.EndOfMessage())
        return _beginning(target) + _end(authorization)

    def receive(self, data: bytes) -> bytes:
        """See L{IHandshake.receive}."""
        if self._state not in (_ANSWER, _BODY):
            raise HandshakeError(
                f"The proxy {self._proxy} sent bytes in the state {self._state!r}."
            )
        connection = self._connection
        self._first = first = (self._first + data)[:16]
        # h11 would wait for a line to end, of bytes that are no line.
        if not first.startswith(_START[: len(first)]):
            raise self._nonsense()
        try:
            connection.receive_data(data)
            while True:
                event = connection.next_event()
                if event in (h11.NEED_DATA, h11.PAUSED):
                    # A proxy may close after a 407 without saying so.
                    self.resumable = self._state == _BODY
                    return b""
                answer = self._handle(event)
                if answer or self._state in (_AGAIN, _DONE):
                    self.resumable = bool(answer)
                    return answer
        except h11.ProtocolError:
            raise self._nonsense() from None

    def _handle(self, event: object) -> bytes:
        if isinstance(event, h11.Response):
            self._head(event)
        elif isinstance(event, h11.InformationalResponse):
            self._interim += 1
            if self._interim > INTERIM_LIMIT:
                raise HandshakeError(
                    f"The proxy {self._proxy} sent more than {INTERIM_LIMIT} interim answers; "
                    "look at its log."
                )
        elif isinstance(event, h11.Data):
            self._bodyLength += len(event.data)
            if self._bodyLength > BODY_LIMIT:
                self._state = _AGAIN
        elif isinstance(event, h11.EndOfMessage):
            self._connection.start_next_cycle()
            return self._request()
        return b""

    def _head(self, response: h11.Response) -> None:
        status = response.status_code
        if len(response.headers) > HEADER_COUNT_LIMIT:
            raise HandshakeError(
                f"The proxy {self._proxy} sent more than {HEADER_COUNT_LIMIT} header fields; "
                "check that it is an HTTP proxy."
            )
        if 200 <= status < 300:
            self._state = _DONE
            self.leftover = self._connection.trailing_data[0]
            self.done = True
            return
        if status == 408 and self._waited:
            # The proxy sent it before the request arrived, because that took too long
            # (RFC 9110, section 15.5.9).
            self._state = _AGAIN
            return
        if status == 401 and self._used is not None:
            # tinyproxy answers a wrong password like this.
            raise self._wrongPassword(status)
        if status != 407:
            raise self._refusal(response)
        self._chooseLogin(
            parseChallenges(
                value for name, value in response.headers if name == b"proxy-authenticate"
            )
        )
        # Without a length, the body ends with the connection.
        framed = any(name in _FRAMING for name, _ in response.headers)
        stays = framed and self._connection.our_state is not h11.MUST_CLOSE
        self._state = _BODY if stays else _AGAIN

    def _refusal(self, response: h11.Response) -> UpstreamError:
        login = self._login
        return refusal(
            self._proxy,
            self._destination,
            response.status_code,
            response.headers,
            response.reason,
            (lambda text: False) if login is None else login.reveals,
        )

    def _chooseLogin(self, challenges: list[Challenge]) -> None:
        login, before = self._login, self._used
        if login is None:
            raise AuthenticationError(
                f"The proxy {self._proxy} wants a user name and password; "
                "put them in its URL, as in http://user:password@host:port."
            )
        method = login.choose(challenges)
        if method is None:
            offered = b", ".join(each.scheme for each in challenges)[:100].decode("ascii")
            raise AuthenticationError(
                f"The proxy {self._proxy} wants a log-in by {offered or 'no scheme at all'}; "
                "nanotun knows Basic and Digest."
            )
        # The credentials are wrong if they answered a challenge as new as this one.  A
        # remembered nonce may be from before the proxy was restarted.
        wrong = before is method or (self._chosen and not method.stale)
        if wrong or self._attempts >= ATTEMPT_LIMIT:
            raise self._wrongPassword(407)
        self._used = method
        self._chosen = True

    def _wrongPassword(self, status: int) -> AuthenticationError:
        assert self._login is not None
        self._login.forget()
        return AuthenticationError(
            f"The proxy {self._proxy} does not accept this user name and password "
            f"(status {status}); correct them in the proxy's URL."
        )

    def _nonsense(self) -> HandshakeError:
        if self._first[:1] in _TLS:
            return HandshakeError(
                f"The proxy {self._proxy} answered with TLS; write https:// in its URL."
            )
        # Its bytes may repeat what was sent to the proxy, the password included.
        how = "" if self._login is not None else f": its answer begins with {self._first!r}"
        return HandshakeError(
            f"The proxy {self._proxy} does not speak HTTP as it should{how}; check the proxy's "
            "scheme and port."
        )
