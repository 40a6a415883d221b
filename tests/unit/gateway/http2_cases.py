"""
Shared by the tests of DNS over HTTPS: the server's side of a connection, in memory.
"""

from __future__ import annotations

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.settings import SettingCodes, Settings

from nanotun.gateway.dns.http2 import FRAME_LIMIT, MEDIA
from tests.unit.gateway.gateway_cases import answer, ask

#: A query, and its answer.
WIRE = ask(ident=7)
ANSWER = answer(WIRE)


class HttpServer:
    """
    The server's side of a connection.

    @ivar requests: the headers of each stream.
    @ivar bodies: what came on each stream.
    @ivar ended: the streams whose request is complete.
    """

    def __init__(self, settings: dict[SettingCodes, int] | None = None) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.h2.local_settings = Settings(client=False, initial_values=settings or {})
        self.h2.initiate_connection()
        self.requests: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: list[int] = []

    def take(self, data: bytes, credit: bool = True) -> None:
        """
        Read what the client has sent.

        @param credit: whether it may send as much again.
        """
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                self.requests[event.stream_id] = dict(event.headers)
            elif isinstance(event, DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                if credit:
                    self.h2.acknowledge_received_data(len(event.data), event.stream_id)
            elif isinstance(event, StreamEnded):
                self.ended.append(event.stream_id)

    def begin(self, stream: int, *more: tuple[bytes, bytes], status: bytes = b"200") -> None:
        """Send an answer's headers."""
        kind = [] if any(name == b"content-type" for name, _ in more) else [MEDIA]
        headers = [(b":status", status), *((b"content-type", each) for each in kind), *more]
        self.h2.send_headers(stream, headers)

    def reply(
        self,
        stream: int,
        *more: tuple[bytes, bytes],
        status: bytes = b"200",
        body: bytes = ANSWER,
    ) -> None:
        """Send an answer whole."""
        self.begin(stream, *more, status=status)
        for place in range(0, len(body), FRAME_LIMIT):
            self.h2.send_data(stream, body[place : place + FRAME_LIMIT])
        self.h2.end_stream(stream)
