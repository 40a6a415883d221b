"""
A talk inside TLS, without I/O.

Queries wait inside until the handshake is done, and go out in the flight that ends it: a first
query takes no round trip of its own.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Hashable
from typing import NamedTuple

from zope.interface import implementer

from nanotun.gateway.dns.interfaces import ITalk
from nanotun.gateway.dns.talks import Heard, TalkError
from nanotun.upstream.tlsstream import TlsStream

#: OpenSSL's codes for what is wrong about a certificate (x509_vfy.h).
_NOT_YET, _EXPIRED, _NAMES = 9, 10, (62, 63, 64)

#: What OpenSSL's reasons have in them if the server has given them (sslerr.h, from 1000).
_ALERTS = ("alert", "unrecognized name")


class Sessions:
    """
    What the next connection to a server may resume: the session of the latest one that has had
    an answer.

    It is not asked for before it is needed: each time Python copies the session, with the
    server's certificate, and that costs more than all else about a query.
    """

    def __init__(self) -> None:
        self._stream: TlsStream | None = None

    @property
    def last(self) -> ssl.SSLSession | None:
        """The session; L{None} for none."""
        return None if self._stream is None else self._stream.session

    def keep(self, stream: TlsStream) -> None:
        """This is the latest connection."""
        self._stream = stream

    def forget(self) -> None:
        """A session that was resumed in another network would tie the two together (RFC 9076)."""
        self._stream = None


class Tls(NamedTuple):
    """
    How a server is spoken with in TLS.

    @ivar context: says which certificates are trusted, and offers the protocols.
    @ivar name: the name or address that the certificate has to be for.
    @ivar sessions: the server's.
    @ivar protocol: what has to be agreed on (ALPN); empty if nothing needs to be.
    @ivar unspoken: what a server does that does not agree on it, as in L{TalkError}.
    @ivar port: the server's, for errors.
    @ivar today: gives the date by this machine's clock, for errors.
    """

    context: ssl.SSLContext
    name: str
    sessions: Sessions
    protocol: str
    unspoken: str
    port: int
    today: Callable[[], str]


@implementer(ITalk)
class TlsTalk:
    """
    See the module.

    @param inner: what is spoken inside.
    @param tls: how TLS is.
    """

    def __init__(self, inner: ITalk, tls: Tls) -> None:
        self._inner = inner
        self._tls = tls
        self._stream = TlsStream(tls.context, tls.name, tls.sessions.last)
        self._done = self._answered = False
        self._asked: set[Hashable] = set()
        #: What is wrong about TLS since the handshake; set, nothing more is read or written.
        self._broken = ""

    @property
    def greeted(self) -> bool:
        """See L{ITalk}."""
        return self._done and bool(self._inner.greeted)

    @property
    def lacking(self) -> str:
        """See L{ITalk}."""
        return str(self._inner.lacking) if self._done else "finish the TLS handshake"

    @property
    def final(self) -> bool:
        """See L{ITalk}."""
        return bool(self._inner.final)

    @property
    def over(self) -> bool:
        """See L{ITalk}."""
        return bool(self._broken or self._stream.ended or self._inner.over)

    @property
    def room(self) -> int:
        """See L{ITalk}."""
        return int(self._inner.room)

    @property
    def resumed(self) -> bool:
        """Whether the server goes on with the session of an earlier connection."""
        return self._stream.resumed

    def begin(self) -> None:
        """See L{ITalk.begin}."""
        self._inner.begin()
        self._stream.handshake()

    def send(self, wire: bytes) -> Hashable:
        """See L{ITalk.send}."""
        key = self._inner.send(wire)
        self._asked.add(key)
        return key

    def forget(self, key: Hashable) -> None:
        """See L{ITalk.forget}."""
        self._asked.discard(key)
        self._inner.forget(key)

    def receive(self, data: bytes) -> list[Heard]:
        """See L{ITalk.receive}."""
        stream = self._stream
        stream.feed(data)
        found: list[Heard] = []
        try:
            if not self._done and not self._shake():
                return found
            while plain := stream.read():
                found += self._inner.receive(plain)
        except ssl.SSLError as error:
            sentence = self._sentence(error)
            if not found:
                raise TalkError(sentence) from None
            self._broken = sentence
        if found and not self._answered:
            # Only once, so that what was forgotten since then stays forgotten.
            self._answered = True
            self._tls.sessions.keep(stream)
        self._asked.difference_update(heard.key for heard in found)
        if self._broken or stream.ended:
            # No more can come.
            found += [Heard(key, again=True) for key in self._asked]
            self._asked.clear()
        return found

    def ended(self) -> str:
        """See L{ITalk.ended}."""
        if not self._done:
            return "closed the connection during the TLS handshake; check the port"
        return self._broken or str(self._inner.ended())

    def outgoing(self) -> bytes:
        """See L{ITalk.outgoing}."""
        if self._done and not self._broken and (plain := self._inner.outgoing()):
            self._stream.write(plain)
        return self._stream.outgoing()

    def _shake(self) -> bool:
        """
        Go on with the handshake.

        @return: whether it is done.
        @raise TalkError: the server does not speak what is spoken inside.
        @raise ssl.SSLError: the handshake failed.
        """
        self._done = self._stream.handshake()
        wanted = self._tls.protocol
        if self._done and wanted and self._stream.protocol != wanted:
            raise TalkError(self._tls.unspoken)
        return self._done

    def _sentence(self, error: ssl.SSLError) -> str:
        """What the server does wrong, as in L{TalkError}."""
        reason = (error.reason or "no reason given").lower().replace("_", " ")
        if self._done:
            return f"breaks TLS ({reason})"
        if not isinstance(error, ssl.SSLCertVerificationError):
            if any(word in reason for word in _ALERTS):
                return f"refuses the TLS handshake ({reason}); check the name and the port"
            return f"does not speak TLS on port {self._tls.port} ({reason}); check the port"
        message = error.verify_message.rstrip(".")
        clock = f"and this machine's clock says {self._tls.today()}"
        if error.verify_code == _NOT_YET:
            return f"has a certificate that is not valid yet, {clock}; set the clock"
        if error.verify_code == _EXPIRED:
            return (
                f"has a certificate that has expired, {clock}; tell the server's owner, or set "
                "the clock"
            )
        if error.verify_code in _NAMES:
            return (
                f"has a certificate for another name ({message}); write the right name behind #, "
                "as in tls://1.1.1.1#one.one.one.one"
            )
        return (
            f"has a certificate that is not trusted ({message}); if it is the right server, give "
            "its authority's certificate as ca: FILE"
        )
