"""
SOCKS4 and HTTP proxies that misbehave, each a handler for L{tests.e2e.lab.servers.Peer};
behind stunnel they are HTTPS proxies.
"""

from __future__ import annotations

import random
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.e2e.lab.badsocks import HANG_SECONDS, Handler, relay
from tests.e2e.lab.namespace import Namespace

HEAD_LIMIT = 1 << 16


class Dialect(NamedTuple):
    """
    The protocol of a scheme's proxies.

    @ivar scheme: the URL's scheme.
    @ivar take: reads one request; returns the destination.
    @ivar grant: the answer that grants a request.
    """

    scheme: str
    take: Callable[[socket.socket], tuple[str, int]]
    grant: bytes


def _until(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        more = connection.recv(1)
        if not more or len(data) > HEAD_LIMIT:
            raise ConnectionError("the client closed early, or sends too much")
        data += more
    return data[: -len(end)]


def _takeSocks4(connection: socket.socket) -> tuple[str, int]:
    """SOCKS4 and 4A."""
    head = connection.recv(8, socket.MSG_WAITALL)
    version, command, port = struct.unpack_from("!BBH", head)
    assert (version, command) == (4, 1), head
    _until(connection, b"\0")
    if head[4:7] == bytes(3):
        return _until(connection, b"\0").decode(), port
    return socket.inet_ntop(socket.AF_INET, head[4:]), port


def takeConnect(connection: socket.socket) -> tuple[str, int]:
    """HTTP's CONNECT."""
    head = _until(connection, b"\r\n\r\n")
    found = re.match(rb"CONNECT \[?([^ \]]+)\]?:([0-9]+) HTTP/1\.1\r\n", head)
    assert found, head
    return found[1].decode(), int(found[2])


SOCKS4 = Dialect("socks4", _takeSocks4, b"\0\x5a" + bytes(6))
HTTP = Dialect("http", takeConnect, b"HTTP/1.1 200 Connection established\r\nVia: lab\r\n\r\n")


def _wait(connection: socket.socket) -> None:
    """Read until the client is gone."""
    connection.settimeout(HANG_SECONDS)
    while connection.recv(4096):
        pass


def _drip(connection: socket.socket, data: bytes, seconds: float) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number in range(len(data)):
        connection.sendall(data[number : number + 1])
        time.sleep(seconds)  # So that each byte is a segment of its own.


def works(
    dialect: Dialect, namespace: Namespace, answer: bytes, hello: bytes = b"", pause: float = 0.0
) -> Handler:
    """
    A proxy that works.

    @param answer: its answer to a granted request.
    @param hello: sent in one piece with the answer, as if by the destination.
    @param pause: if not 0, the seconds between two bytes of the answer.
    """

    def serve(connection: socket.socket) -> None:
        with namespace.connect(dialect.take(connection)) as outside:
            if pause:
                _drip(connection, answer, pause)
            else:
                connection.sendall(answer + hello)
            relay(connection, outside)

    return serve


def answers(dialect: Dialect, data: bytes, closes: bool = False) -> Handler:
    """Answers a request with C{data}, then closes or falls silent."""

    def serve(connection: socket.socket) -> None:
        dialect.take(connection)
        connection.sendall(data)
        if not closes:
            _wait(connection)

    return serve


def drips(dialect: Dialect, data: bytes) -> Handler:
    """Sends a byte every 0.3 s, so that an idle deadline alone would never end it."""

    def serve(connection: socket.socket) -> None:
        dialect.take(connection)
        _drip(connection, data, 0.3)

    return serve


def closesAtOnce(connection: socket.socket) -> None:
    """Closes before it sends anything."""


def hangs(connection: socket.socket) -> None:
    """Reads and never answers."""
    _wait(connection)


def mirror(connection: socket.socket) -> None:
    """Sends back what it gets, including credentials: an echo service on the proxy's port."""
    while data := connection.recv(4096):
        connection.sendall(data)


def sendsBackLogin(connection: socket.socket) -> None:
    """Sends the client's credentials back, as a challenge and as an answer."""
    login = b"none"
    for number in range(3):
        head = _until(connection, b"\r\n\r\n")
        found = re.search(rb"Proxy-Authorization: (\S+ )?(.*)", head)
        login = found[2].strip() if found else login
        if number == 2:
            connection.sendall(login + b"\r\n\r\n")
            return
        challenge = b"Basic" if login == b"none" else login + b", Digest nonce=n, stale=true"
        connection.sendall(
            b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n"
            b"Proxy-Authenticate: " + challenge + b"\r\n\r\n"
        )


def floods(dialect: Dialect, start: bytes, piece: bytes) -> Handler:
    """Sends C{start} and then C{piece} again and again, as long as the client reads."""

    def serve(connection: socket.socket) -> None:
        dialect.take(connection)
        connection.sendall(start)
        for _ in range(100_000):
            connection.sendall(piece)

    return serve


class Loops:
    """
    Answers every request with 407.

    @ivar requests: how many there were.
    @param challenges: those of each answer, with C{%d} for the number of the request.
    @param body: that of each answer; L{None} for an answer without a length, after which it
        closes.
    """

    def __init__(self, challenges: tuple[str, ...], body: bytes | None = b"no") -> None:
        self.requests = 0
        self._challenges = challenges
        self._body = body

    def __call__(self, connection: socket.socket) -> None:
        while True:
            takeConnect(connection)
            self.requests += 1
            fields = [
                f"Proxy-Authenticate: {each}".replace("%d", str(self.requests))
                for each in self._challenges
            ]
            if self._body is not None:
                fields.append(f"Content-Length: {len(self._body)}")
            head = "\r\n".join(["HTTP/1.1 407 Log in", *fields, "", ""])
            connection.sendall(head.encode() + (self._body or b"a page without an end"))
            if self._body is None:
                return


def cuts(namespace: Namespace, port: int, length: int) -> Handler:
    """Forwards to C{port} of its own host, but closes after C{length} bytes from there."""

    def serve(connection: socket.socket) -> None:
        with namespace.connect(("127.0.0.1", port)) as behind:
            connection.setblocking(False)
            behind.setblocking(False)
            left, end = length, time.monotonic() + HANG_SECONDS
            while left and time.monotonic() < end:
                for data in _some(connection):
                    behind.sendall(data)
                for data in _some(behind):
                    connection.sendall(data[:left])
                    left -= len(data[:left])
                time.sleep(0.001)

    return serve


def _some(source: socket.socket) -> Iterator[bytes]:
    """Read what has arrived.  Raises ConnectionError at the end."""
    try:
        data = source.recv(65536)
    except BlockingIOError:
        return
    if not data:
        raise ConnectionError("the end")
    yield data


def mutated(data: bytes, chance: random.Random) -> bytes:
    """C{data} with a few bytes changed, removed, doubled or inserted."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(found) + 1)
        kind = chance.randrange(5)
        if kind == 0:
            found[place:place] = chance.randbytes(chance.randint(1, 20))
        elif kind == 1:
            del found[place : place + chance.randint(1, 8)]
        elif kind == 2:
            found[place:place] = found[place : place + 12]
        elif kind == 3:
            found[place:] = b""
        elif place < len(found):
            found[place] = chance.randrange(256)
    return bytes(found)
