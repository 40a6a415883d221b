"""
DNS over HTTPS on one connection (RFC 8484), by HTTP/2 (RFC 9113), without I/O.

Queries are sent at once, the first ones together with the preface, before the server has said
anything, and are answered in any order.  Each has the id 0, so that a cache on the way could
share its answer; what tells them apart is the stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hpack import Encoder
from zope.interface import implementer

from nanotun.gateway.dns.interfaces import ITalk
from nanotun.gateway.dns.message import LARGEST
from nanotun.gateway.dns.talks import Heard, TalkError

#: Streams at a time: as many as most servers allow.  With each more h2 takes longer to open one.
STREAM_LIMIT = 100

#: Queries on one connection: as many as there are numbers for their streams (RFC 9113, section
#: 5.1.1).
QUERY_LIMIT = 1 << 30

#: Bytes that the server may send on all streams together before it hears from us again.
WINDOW = 1 << 24

#: The same on one stream: a byte more than the largest answer, so that a larger one shows itself
#: as such instead of being waited for.  No stream's window ever has to grow.
STREAM_WINDOW = LARGEST + 1

#: Bytes of one answer's headers.
HEADERS_LIMIT = 1 << 14

#: A frame begins with the length of its payload, three bytes, and its type (RFC 9113, section
#: 4.1).  The server's first one has its settings, and none is longer than it was told.
FRAME_HEADER = 9
FRAME_LIMIT = 1 << 14
SETTINGS, GOAWAY = 4, 7

MEDIA = b"application/dns-message"

#: Seconds; a longer age is none that any answer survives.
OLDEST = 1 << 31

#: What to do about a status, by its number or its first digit.
CURES = {
    3: "write the URL that it has moved to",
    5: "it has trouble of its own",
    401: "it does not serve this machine",
    403: "it does not serve this machine",
    404: "check the path in its URL",
    405: "it takes no DNS queries at that path",
    415: "it takes no DNS queries at that path",
    429: "it is asked too often",
}

NOT_HTTP2 = "does not speak HTTP/2, which DNS over HTTPS needs; check the URL"


class _Response:
    """
    An answer that arrives.

    @ivar status: 0 before its headers are there.
    """

    __slots__ = ("age", "body", "media", "status")

    def __init__(self) -> None:
        self.status = 0
        self.media = b""
        self.age = 0
        self.body = bytearray()


class SteadyEncoder(Encoder):
    """
    Encodes headers that stay the same once: as long as nothing is added to the table that both
    sides keep (RFC 7541), the same headers become the same bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[object, ...], bytes] = {}

    def encode(self, headers: Iterable[Any], huffman: bool = True) -> bytes:
        """See L{Encoder.encode}."""
        table = self.header_table
        wanted, resized = tuple(headers), table.resized
        block = None if resized else self._known.get(wanted)
        if block is None:
            before = tuple(table.dynamic_entries)
            block = super().encode(wanted, huffman)
            if resized or before != tuple(table.dynamic_entries):
                self._known.clear()
            else:
                self._known[wanted] = block
        return block


@implementer(ITalk)
class HttpTalk:
    """
    See the module.

    @param authority: the host as in the URL, with the port unless that is 443.
    @param path: the URL's path, with its query.
    @ivar greeted: whether the server has sent its settings.
    """

    final = True

    def __init__(self, authority: str, path: str) -> None:
        self.greeted = False
        self._incoming = bytearray()
        self._left = WINDOW
        self._sent = 0
        self._wentAway = False
        self._streams: dict[int, _Response] = {}
        self._unsent: dict[int, bytes] = {}
        # Nothing that tells who we are (RFC 8484, section 8.2), and nothing that changes: from
        # the second query on, HPACK sends ten bytes.
        self._headers = [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", authority.encode()),
            (b":path", path.encode()),
            (b"accept", MEDIA),
            (b"content-type", MEDIA),
        ]
        # Our own headers need no check; the server's are checked.
        config = H2Configuration(
            client_side=True,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self._h2 = H2Connection(config)
        self._h2.encoder = SteadyEncoder()
        self._h2.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                SettingCodes.MAX_HEADER_LIST_SIZE: HEADERS_LIMIT,
            },
        )

    @property
    def lacking(self) -> str:
        """See L{ITalk.lacking}."""
        return "" if self.greeted else "answer in HTTP/2"

    @property
    def over(self) -> bool:
        """See L{ITalk.over}."""
        return self._wentAway or (self._sent >= QUERY_LIMIT and not self._streams)

    @property
    def room(self) -> int:
        """See L{ITalk.room}."""
        if self._wentAway or self._sent >= QUERY_LIMIT:
            return 0
        # Before the server's settings are known, any number may be opened.
        allowed = min(STREAM_LIMIT, self._h2.remote_settings.max_concurrent_streams)
        return max(0, allowed - len(self._streams))

    def begin(self) -> None:
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW - LARGEST)

    def send(self, wire: bytes) -> int:
        stream = self._h2.get_next_available_stream_id()
        length = (b"content-length", b"%d" % len(wire))
        self._h2.send_headers(stream, [*self._headers, length])
        self._sent += 1
        self._streams[stream] = _Response()
        self._sendBody(stream, b"\0\0" + wire[2:])
        return stream

    def forget(self, key: object) -> None:
        assert isinstance(key, int)
        if self._streams.pop(key, None) is not None:
            self._unsent.pop(key, None)
            self._h2.reset_stream(key, ErrorCodes.CANCEL)

    def receive(self, data: bytes) -> list[Heard]:
        found: list[Heard] = []
        if self._wentAway:
            return found
        self._incoming += data
        end = self._wholeFrames()
        frames = bytes(self._incoming[:end])
        del self._incoming[:end]
        try:
            for event in self._h2.receive_data(frames):
                self._take(event, found)
            if self._left < WINDOW // 2 and not self._wentAway:
                self._h2.increment_flow_control_window(WINDOW - self._left)
                self._left = WINDOW
        except ProtocolError as error:
            self._goAway()
            raise TalkError(f"breaks HTTP/2 ({type(error).__name__})") from None
        return found

    def ended(self) -> str:
        begun = any(response.status for response in self._streams.values())
        return "closed the connection in the middle of an answer" if begun else ""

    def outgoing(self) -> bytes:
        return bytes(self._h2.data_to_send())

    def _wholeFrames(self) -> int:
        """
        How far the whole frames go that have come in, up to the server's GOAWAY.  h2 gets no
        others: it would wait for the end of a frame of any length, and what comes behind a
        GOAWAY is an error to it, for which the answers before it would be lost.

        @raise TalkError: the server speaks something else, or a frame is too long.
        """
        incoming = self._incoming
        size, place = len(incoming), 0
        if not self.greeted and size > 3 and incoming[3] != SETTINGS:
            raise TalkError(NOT_HTTP2)
        while place + FRAME_HEADER <= size:
            length = int.from_bytes(incoming[place : place + 3], "big")
            if length > FRAME_LIMIT:
                raise TalkError(f"breaks HTTP/2 (a frame of {length:,} bytes)")
            end = place + FRAME_HEADER + length
            if end > size:
                break
            isLast = incoming[place + 3] == GOAWAY
            place = end
            if isLast:
                break
        return place

    def _sendBody(self, stream: int, body: bytes) -> None:
        """Send what the server takes of a query; the rest goes when it takes more."""
        while body:
            size = min(
                len(body),
                self._h2.local_flow_control_window(stream),
                self._h2.max_outbound_frame_size,
            )
            if size <= 0:
                self._unsent[stream] = body
                return
            self._h2.send_data(stream, body[:size], end_stream=size == len(body))
            body = body[size:]

    def _sendMore(self) -> None:
        unsent, self._unsent = self._unsent, {}
        for stream, body in unsent.items():
            self._sendBody(stream, body)

    def _goAway(self) -> None:
        self._wentAway = True
        self._streams.clear()
        self._unsent.clear()
        self._incoming.clear()

    def _take(self, event: Event, found: list[Heard]) -> None:
        """
        Take what h2 has read.

        @param found: gets what has become of queries.
        """
        if isinstance(event, DataReceived):
            self._left -= event.flow_controlled_length
            response = self._streams.get(event.stream_id)
            if response is not None:
                response.body += event.data
                if len(response.body) > LARGEST:
                    self.forget(event.stream_id)
                    trouble = f"sends an answer of more than {LARGEST:,} bytes"
                    found.append(Heard(event.stream_id, trouble=trouble))
        elif isinstance(event, ResponseReceived):
            response = self._streams.get(event.stream_id)
            if response is not None:
                _readHeaders(event.headers, response)
        elif isinstance(event, StreamEnded):
            response = self._streams.get(event.stream_id)
            if response is not None:
                found.append(_heard(event.stream_id, response))
                if event.stream_id in self._unsent:
                    # The server has heard enough; to h2 the stream is open until it is reset.
                    self.forget(event.stream_id)
                self._streams.pop(event.stream_id, None)
        elif isinstance(event, StreamReset):
            self._unsent.pop(event.stream_id, None)
            if self._streams.pop(event.stream_id, None) is not None:
                again = event.error_code == ErrorCodes.REFUSED_STREAM
                trouble = "" if again else f"gives a query up (HTTP/2 error {event.error_code:d})"
                found.append(Heard(event.stream_id, trouble=trouble, again=again))
        elif isinstance(event, ConnectionTerminated):
            # Some servers do so after a thousand queries.  Those under way might still be
            # answered, but not by h2, and to ask twice does no harm.
            code = event.error_code
            trouble = f"ended the connection (HTTP/2 error {code:d})" if code else ""
            found += [Heard(stream, trouble=trouble, again=True) for stream in self._streams]
            self._goAway()
        elif isinstance(event, RemoteSettingsChanged):
            self.greeted = True
            self._sendMore()
        elif isinstance(event, WindowUpdated):
            self._sendMore()


def _readHeaders(headers: Iterable[tuple[bytes, bytes]], response: _Response) -> None:
    for name, value in headers:
        if name == b":status":
            response.status = _number(value)
        elif name == b"content-type":
            response.media = value.partition(b";")[0].strip().lower()
        elif name == b"age":
            response.age = min(_number(value), OLDEST)


def _number(value: bytes) -> int:
    """A header's number, or 0 if it is none."""
    return int(value) if value.isdigit() and len(value) < 20 else 0


def _heard(stream: int, response: _Response) -> Heard:
    """What an answer that is complete says."""
    trouble = ""
    if response.status != HTTPStatus.OK:
        trouble = statusTrouble(response.status)
    elif response.media != MEDIA:
        media = ascii(response.media.decode("latin-1")[:60])[1:-1] or "something"
        trouble = f"answers with {media} instead of a DNS message; check the path in its URL"
    elif not response.body:
        trouble = "sends an empty answer"
    if trouble:
        return Heard(stream, trouble=trouble)
    return Heard(stream, bytes(response.body), age=response.age)


def statusTrouble(status: int) -> str:
    """
    What is wrong about a server that answers with a status other than 200.

    @return: as in L{TalkError}.
    """
    try:
        phrase = f" ({HTTPStatus(status).phrase})"
    except ValueError:
        phrase = ""
    cure = CURES.get(status) or CURES.get(status // 100) or "look at that server"
    return f"answers with HTTP status {status}{phrase}; {cure}"
