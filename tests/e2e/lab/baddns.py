"""
DNS servers over TLS, HTTPS and TCP that misbehave, each in one manner.
"""

from __future__ import annotations

import random
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from h2.connection import H2Connection
from h2.errors import ErrorCodes

from tests.e2e.lab import tlsfront, toydns
from tests.e2e.lab.badsocks import HANG_SECONDS, Handler
from tests.e2e.lab.tlsdns import MEDIA, DohServer, DotServer, TlsServer, reply
from tests.e2e.lab.tlsfront import Certificate

NAME = "dns.lab"
"""The name in the certificates of all but one."""

MANY = 24
"""Useless messages for each query: more than a client should read."""

SLOW_SECONDS = 1.0
"""Less than the relay waits before it asks another server."""


class Manner(NamedTuple):
    """
    How a server misbehaves.

    @ivar scheme: C{tcp}, C{tls} or C{https}.
    @ivar handler: for each connection.
    @ivar words: a part of what has to be said about it; empty for nothing.
    @ivar answers: whether its answers are right and count all the same.
    @ivar hangs: whether it takes its time to fail.
    """

    name: str
    scheme: str
    handler: Handler
    words: str
    answers: bool = False
    hangs: bool = False


class Counted:
    """
    A handler that counts.

    @ivar opened: the connections so far.
    """

    def __init__(self, handler: Handler) -> None:
        self.opened = 0
        self._handler = handler

    def __call__(self, connection: socket.socket) -> object:
        """Serve a connection."""
        self.opened += 1
        return self._handler(connection)


class Certificates(NamedTuple):
    """What the servers show; the client trusts C{ca} alone."""

    ca: Certificate
    right: Certificate
    selfSigned: Certificate
    wrongName: Certificate
    expired: Certificate


def certificates(directory: Path) -> Certificates:
    """Make them."""
    names = (f"DNS:{NAME}",)
    ca = tlsfront.authority(directory)
    return Certificates(
        ca,
        tlsfront.certificate(directory, ca, names, "right"),
        tlsfront.certificate(directory, None, names),
        tlsfront.certificate(directory, ca, ("DNS:other.lab",), "wrong-name"),
        tlsfront.expired(directory, ca, names),
    )


def _hang(connection: socket.socket) -> None:
    """Read, and say nothing."""
    connection.settimeout(HANG_SECONDS)
    while connection.recv(4096):
        pass


def _says(data: bytes) -> Handler:
    """Says the same to whoever says something, and closes."""

    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(data)

    return serve


def _closes(connection: socket.socket) -> None:
    """Close after the first bytes."""
    connection.recv(4096)


def _cutsOverTCP(connection: socket.socket) -> None:
    message = toydns.framed(toydns.answer(toydns.readFramed(connection)))
    connection.sendall(message[: len(message) // 2])


class _Cuts(TlsServer):
    """Sends half of the first answer."""

    def speak(self, tls: ssl.SSLSocket) -> None:
        _cutsOverTCP(tls)


class _Drivels(TlsServer):
    """Sends many messages for each query; C{make} makes them."""

    def __init__(self, shown: Certificate, make: Callable[[bytes, int], bytes]) -> None:
        super().__init__(shown)
        self._make = make

    def speak(self, tls: ssl.SSLSocket) -> None:
        while True:
            query = toydns.readFramed(tls)
            for number in range(MANY):
                tls.sendall(toydns.framed(self._make(query, number)))


def _noise(query: bytes, number: int) -> bytes:
    return random.Random(number).randbytes(40 + number)


def _strange(query: bytes, number: int) -> bytes:
    """The right answer with a wrong id."""
    return toydns.withID(toydns.answer(query), toydns.idOf(query) + 1 + number)


class _ClosesEach(TlsServer):
    """Gives one answer on each connection."""

    def speak(self, tls: ssl.SSLSocket) -> None:
        tls.sendall(toydns.framed(toydns.answer(toydns.readFramed(tls))))


def _slowly(query: bytes) -> bytes:
    time.sleep(SLOW_SECONDS)
    return toydns.answer(query)


class _SpeaksOldHttp(TlsServer):
    """An HTTP/1.1 server that does not say so in the handshake, or says that it is another."""

    def __init__(self, shown: Certificate, *protocols: str) -> None:
        self.protocols = protocols
        super().__init__(shown)

    def speak(self, tls: ssl.SSLSocket) -> None:
        tls.recv(4096)
        tls.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        _hang(tls)


def _status(number: int) -> Callable[[H2Connection, int, bytes], None]:
    def respond(connection: H2Connection, stream: int, query: bytes) -> None:
        reply(connection, stream, b"no", number, "text/plain")

    return respond


def _page(connection: H2Connection, stream: int, query: bytes) -> None:
    reply(connection, stream, b"<html>Please log in.</html>", 200, "text/html; charset=utf-8")


def _leaves(connection: H2Connection, stream: int, query: bytes) -> None:
    """GOAWAY, and no stream was looked at."""
    connection.close_connection(ErrorCodes.NO_ERROR, last_stream_id=0)


def _resets(connection: H2Connection, stream: int, query: bytes) -> None:
    connection.reset_stream(stream, ErrorCodes.INTERNAL_ERROR)


def _tooMuch(connection: H2Connection, stream: int, query: bytes) -> None:
    """Send a byte more than a message can have."""
    headers = [(":status", "200"), ("content-type", MEDIA)]
    connection.send_headers(stream, headers)
    for _ in range(4):
        connection.send_data(stream, bytes(16384))


class _Babbles(TlsServer):
    """Agrees on HTTP/2, and sends noise."""

    protocols = ("h2",)

    def speak(self, tls: ssl.SSLSocket) -> None:
        tls.recv(4096)
        tls.sendall(random.Random(7).randbytes(5000))
        _hang(tls)


def manners(shown: Certificates) -> list[Manner]:
    """All of them; each has served nobody yet."""
    right, refused = shown.right, b"HTTP/1.1 400 Bad Request\r\n\r\n"
    strange, old = "sends messages that answer no query", "does not speak HTTP/2"
    cut = "closed the connection in the middle of an answer"
    each = "closes the connection after each query"
    return [
        Manner("self-signed", "tls", DotServer(shown.selfSigned), "that is not trusted"),
        Manner("wrong name", "tls", DotServer(shown.wrongName), "for another name"),
        Manner("expired", "tls", DotServer(shown.expired), "that has expired"),
        Manner("self-signed, HTTPS", "https", DohServer(shown.selfSigned), "that is not trusted"),
        Manner("no TLS", "tls", _says(refused), "does not speak TLS"),
        Manner("closes early", "tls", _closes, "closed the connection during the TLS handshake"),
        Manner("silent", "tls", _hang, "did not finish the TLS handshake", hangs=True),
        Manner("cuts, TCP", "tcp", _cutsOverTCP, cut),
        Manner("cuts", "tls", _Cuts(right), cut),
        Manner("noise", "tls", _Drivels(right, _noise), strange),
        Manner("wrong ids", "tls", _Drivels(right, _strange), strange),
        Manner("closes each", "tls", _ClosesEach(right), each, answers=True),
        Manner("slow", "tls", DotServer(right, _slowly), "", answers=True),
        Manner("no HTTP/2", "https", _SpeaksOldHttp(right), old),
        Manner("HTTP/1.1 instead", "https", _SpeaksOldHttp(right, "h2"), old),
        Manner("noise, HTTPS", "https", _Babbles(right), old),
        Manner("404", "https", DohServer(right, _status(404)), "HTTP status 404 (Not Found)"),
        Manner("503", "https", DohServer(right, _status(503)), "HTTP status 503"),
        Manner("a page", "https", DohServer(right, _page), "answers with text/html"),
        Manner("goes away", "https", DohServer(right, _leaves), "without an answer"),
        Manner("resets", "https", DohServer(right, _resets), "gives a query up (HTTP/2 error 2)"),
        Manner("too much", "https", DohServer(right, _tooMuch), "more than 65,535 bytes"),
    ]
