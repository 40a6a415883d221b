"""
DNS servers for single tests: slow, silent, lying or flooding ones.  C{twisted.names.dns} makes
the messages.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial

from twisted.names import dns

from tests.e2e.lab.udp import Address, UDPServer

RIGHT = "10.1.2.3"
FORGED = "10.66.66.66"

Handler = Callable[[UDPServer, bytes, Address], object]


def answer(query: bytes, host: str = RIGHT, ttl: int = 300, name: str = "") -> bytes:
    """
    The answer to a query: one A record.

    @param name: the name in the answer, if not the one that was asked for.
    """
    message = dns.Message()
    message.fromStr(query)
    message.answer = 1
    message.recAv = 1
    if name:
        message.queries = [dns.Query(name.encode(), dns.A, dns.IN)]
    asked = message.queries[0].name.name
    message.answers = [dns.RRHeader(asked, dns.A, dns.IN, ttl, dns.Record_A(host, ttl))]
    message.additional = []
    return message.toStr()


def withID(message: bytes, number: int) -> bytes:
    """The same message with another ID, modulo 65,536."""
    return struct.pack("!H", number & 0xFFFF) + message[2:]


def idOf(message: bytes) -> int:
    """A message's ID."""
    return struct.unpack_from("!H", message)[0]


def honest(server: UDPServer, query: bytes, client: Address) -> None:
    """Answer at once."""
    server.sock.sendto(answer(query), client)


def late(seconds: float, name: str = "") -> Handler:
    """Answer queries for C{name}, or all, after a delay, and others at once."""

    def handle(server: UDPServer, query: bytes, client: Address) -> None:
        if name and dns.Name(name).name not in asked(query):
            honest(server, query, client)
            return
        _later(seconds, lambda: honest(server, query, client))

    return handle


def _later(seconds: float, send: Callable[[], object]) -> None:
    def sendIfOpen() -> None:
        with contextlib.suppress(OSError):  # The test may be over.
            send()

    timer = threading.Timer(seconds, sendIfOpen)
    timer.daemon = True
    timer.start()


def asked(query: bytes) -> list[bytes]:
    """The names that a query is about."""
    message = dns.Message()
    message.fromStr(query)
    return [question.name.name for question in message.queries]


def liesFirst(stranger: socket.socket) -> Handler:
    """
    Give an answer for every mistake that a client can notice, then the right one.

    @param stranger: a socket with another address or port.
    """

    def handle(server: UDPServer, query: bytes, client: Address) -> None:
        forged = answer(query, FORGED)
        number = idOf(query)
        for lie in (
            withID(forged, number + 1),
            withID(forged, number ^ 0x8000),
            answer(query, FORGED, name="other.lab"),
            query,  # QR is not set.
            forged[:11],
            b"",
            forged[:2],
        ):
            server.sock.sendto(lie, client)
        stranger.sendto(forged, client)
        server.sock.sendto(answer(query), client)

    return handle


class Forger:
    """
    An attacker that knows the DNS relay's port and the question, but not the ID: it floods
    forged answers with every ID but the right one, from the server's own address, then lets the
    server answer.

    @ivar sent: forged answers so far.
    """

    def __init__(self, count: int) -> None:
        """@param count: forged answers per query."""
        self.sent = 0
        self._count = count

    def __call__(self, server: UDPServer, query: bytes, client: Address) -> None:
        forged = answer(query, FORGED)
        number = idOf(query)
        for offset in range(self._count):
            # 1 to 65535, again and again, but never the right one.
            server.sock.sendto(withID(forged, number + 1 + offset % 0xFFFF), client)
            self.sent += 1
        honest(server, query, client)


def reflect(server: UDPServer, query: bytes, client: Address) -> None:
    """Send the query back as its own answer: QR set, everything else unchanged."""
    server.sock.sendto(query[:2] + bytes([query[2] | 0x80]) + query[3:], client)


def bare(rcode: int) -> Handler:
    """Answer with an error that does not repeat the question."""

    def handle(server: UDPServer, query: bytes, client: Address) -> None:
        server.sock.sendto(query[:2] + struct.pack("!5H", 0x8180 | rcode, 0, 0, 0, 0), client)

    return handle


#: Unusual additional records: an unassigned EDNS option (RFC 6891, section 6.1), and a record
#: of a private type and class.
#: section 6.1), and a record of a private type and a class of nobody's.
STRANGE = (
    b"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x08\xfd\xe9\x00\x04\xde\xad\xbe\xef",
    b"\x03xyz\x00\xff\x10\xff\x01\x00\x00\x00\x07\x00\x03\x01\x02\x03",
)


def query(name: str, number: int, extra: bytes = b"") -> bytes:
    """
    A question for an A record.

    @param number: the ID.
    @param extra: one additional record.
    """
    message = dns.Message(number, recDes=1)
    message.queries = [dns.Query(name.encode(), dns.A, dns.IN)]
    data = message.toStr()
    return data[:10] + struct.pack("!H", bool(extra)) + data[12:] + extra


def framed(message: bytes) -> bytes:
    """A message in its form for TCP (RFC 1035, section 4.2.2)."""
    return struct.pack("!H", len(message)) + message


def readFramed(connection: socket.socket) -> bytes:
    """The next message of a TCP connection."""

    def read(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = connection.recv(count - len(data))
            if not more:
                raise ConnectionError("the connection ended inside a message")
            data += more
        return data

    return read(struct.unpack("!H", read(2))[0])


def lateOverTCP(seconds: float, name: str) -> Callable[[socket.socket], None]:
    """L{late} for L{tests.e2e.lab.servers.Peer}: answers overtake each other."""

    def serve(connection: socket.socket) -> None:
        while True:
            try:
                message = readFramed(connection)
            except OSError:
                return
            slow = dns.Name(name).name in asked(message)
            reply = framed(answer(message))
            _later(seconds if slow else 0.0, partial(connection.sendall, reply))

    return serve
