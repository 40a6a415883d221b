"""
DNS servers over TLS and HTTPS for single tests: handlers for L{tests.e2e.lab.servers.Peer} that
remember what they were asked.  C{ssl} and C{h2} speak for them.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded

from tests.e2e.lab import toydns
from tests.e2e.lab.tlsfront import Certificate

MEDIA = "application/dns-message"

Respond = Callable[[H2Connection, int, bytes], object]
"""Answers the query of one stream."""


class TlsServer:
    """
    A server by TLS.

    @ivar opened: the connections so far.
    @ivar resumed: for each handshake so far, whether it went on with an earlier session.
    """

    protocols: tuple[str, ...] = ()

    def __init__(self, shown: Certificate, idle: float = 30.0) -> None:
        """
        @param shown: its certificate.
        @param idle: seconds of silence after which it closes a connection.
        """
        self.opened = 0
        self.resumed: list[bool] = []
        self._idle = idle
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(shown.cert, shown.key)
        if self.protocols:
            self._context.set_alpn_protocols(self.protocols)

    def __call__(self, connection: socket.socket) -> None:
        """Serve a connection until either side ends it."""
        self.opened += 1
        with self._context.wrap_socket(connection, server_side=True) as tls:
            self.resumed.append(bool(tls.session_reused))
            tls.settimeout(self._idle)
            with contextlib.suppress(OSError):
                self.speak(tls)

    def speak(self, tls: ssl.SSLSocket) -> None:
        """Do what comes after the handshake."""
        raise NotImplementedError


class DotServer(TlsServer):
    """
    DNS over TLS (RFC 7858).

    @ivar queries: every query so far.
    """

    def __init__(
        self,
        shown: Certificate,
        answer: Callable[[bytes], bytes] = toydns.answer,
        idle: float = 30.0,
    ) -> None:
        """@param answer: makes what is sent back for a query."""
        super().__init__(shown, idle)
        self.queries: list[bytes] = []
        self._answer = answer

    def speak(self, tls: ssl.SSLSocket) -> None:
        """Answer each query."""
        while True:
            query = toydns.readFramed(tls)
            self.queries.append(query)
            tls.sendall(toydns.framed(self._answer(query)))


def honest(connection: H2Connection, stream: int, query: bytes) -> None:
    """Give the right answer."""
    reply(connection, stream, toydns.answer(query))


def reply(
    connection: H2Connection, stream: int, body: bytes, status: int = 200, kind: str = MEDIA
) -> None:
    """Send one response; C{body} has at most 16,384 bytes."""
    headers = [(":status", str(status)), ("content-type", kind), ("content-length", str(len(body)))]
    connection.send_headers(stream, headers)
    connection.send_data(stream, body, end_stream=True)


class DohServer(TlsServer):
    """
    DNS over HTTPS (RFC 8484), whatever the path is.

    @ivar queries: every query so far.
    """

    protocols = ("h2",)

    def __init__(self, shown: Certificate, respond: Respond = honest, idle: float = 30.0) -> None:
        super().__init__(shown, idle)
        self.queries: list[bytes] = []
        self._respond = respond

    def speak(self, tls: ssl.SSLSocket) -> None:
        """Respond to each request."""
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        bodies: dict[int, bytes] = {}
        tls.sendall(connection.data_to_send())
        while data := tls.recv(65536):
            for event in connection.receive_data(data):
                if isinstance(event, DataReceived) and event.stream_id is not None:
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + (event.data or b"")
                elif isinstance(event, StreamEnded) and event.stream_id is not None:
                    query = bodies.pop(event.stream_id, b"")
                    self.queries.append(query)
                    self._respond(connection, event.stream_id, query)
            tls.sendall(connection.data_to_send())
