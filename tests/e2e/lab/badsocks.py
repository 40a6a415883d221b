"""
SOCKS5 servers that misbehave, each a handler for L{tests.e2e.lab.servers.Peer}.  RFC 1928 and
RFC 1929 say what they should have done.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.udprelay import receive

Handler = Callable[[socket.socket], object]

HANG_SECONDS = 30.0
"""Seconds, longer than any deadline of the tests."""


def _greeting(connection: socket.socket) -> bytes:
    """Read the client's greeting; return the methods that it offers."""
    version, count = receive(connection, 2)
    assert version == 5, version
    return receive(connection, count)


def _request(connection: socket.socket) -> tuple[str, int]:
    """Read a CONNECT request; return host and port."""
    version, command, _, kind = receive(connection, 4)
    assert (version, command) == (5, 1), (version, command)
    if kind == 1:
        host = socket.inet_ntop(socket.AF_INET, receive(connection, 4))
    elif kind == 4:
        host = socket.inet_ntop(socket.AF_INET6, receive(connection, 16))
    else:
        host = receive(connection, receive(connection, 1)[0]).decode("ascii")
    return host, struct.unpack("!H", receive(connection, 2))[0]


def _waitForClose(connection: socket.socket) -> None:
    connection.settimeout(HANG_SECONDS)
    while connection.recv(4096):
        pass


def _oneByOne(connection: socket.socket, data: bytes) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number in range(len(data)):
        connection.sendall(data[number : number + 1])
        time.sleep(0.005)  # So that each byte is a segment of its own.


def oneByteAtATime(
    namespace: Namespace, reply: bytes = b"\x05\x00\x00\x03\x04name\x00\x00"
) -> Handler:
    """
    A server that works, but sends its replies one byte at a time, with a name as the bound
    address, which RFC 1928 allows.

    @param namespace: where it connects to the destination from.
    """

    def serve(connection: socket.socket) -> None:
        _greeting(connection)
        _oneByOne(connection, b"\x05\x00")
        with namespace.connect(_request(connection)) as outside:
            _oneByOne(connection, reply)
            relay(connection, outside)

    return serve


def replyGlued(namespace: Namespace, hello: bytes) -> Handler:
    """A server that works, but sends its reply in one piece with C{hello} from the destination."""

    def serve(connection: socket.socket) -> None:
        _greeting(connection)
        connection.sendall(b"\x05\x00")
        with namespace.connect(_request(connection)) as outside:
            connection.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00" + hello)
            relay(connection, outside)

    return serve


class LogIns:
    """
    A server that works, and wants a log-in, whichever that is.

    @ivar seen: the user names, one for each connection.
    @ivar waiting: how many connections with a log-in wait for their request, by user name.
    """

    def __init__(self, namespace: Namespace) -> None:
        """@param namespace: where it connects to destinations from."""
        self.seen: list[str] = []
        self.waiting: Counter[str] = Counter()
        self._namespace = namespace

    def serve(self, connection: socket.socket) -> None:
        """See L{Handler}."""
        _greeting(connection)
        connection.sendall(b"\x05\x02")
        _, length = receive(connection, 2)
        name = receive(connection, length).decode()
        receive(connection, receive(connection, 1)[0])
        self.seen.append(name)
        self.waiting[name] += 1
        connection.sendall(b"\x01\x00")
        try:
            destination = _request(connection)
        finally:
            self.waiting[name] -= 1
        with self._namespace.connect(destination) as outside:
            connection.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            relay(connection, outside)


def relay(one: socket.socket, other: socket.socket) -> None:
    """Copy both ways, including half-closes, until both directions have ended."""

    def copy(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    thread = threading.Thread(target=copy, args=(other, one), daemon=True)
    thread.start()
    copy(one, other)
    thread.join(HANG_SECONDS)


def wrongVersion(connection: socket.socket) -> None:
    """Answers the greeting as a SOCKS4 server would."""
    _greeting(connection)
    connection.sendall(b"\x04\x5b\x00\x00\x00\x00\x00\x00")
    _waitForClose(connection)


def notSocksAtAll(connection: socket.socket) -> None:
    """Answers like an HTTP server."""
    _greeting(connection)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")


def noMethod(connection: socket.socket) -> None:
    """Accepts none of the offered methods (0xff)."""
    _greeting(connection)
    connection.sendall(b"\x05\xff")
    _waitForClose(connection)


def methodNotOffered(connection: socket.socket) -> None:
    """Chooses GSSAPI, which was not offered."""
    _greeting(connection)
    connection.sendall(b"\x05\x01")
    _waitForClose(connection)


def wrongPassword(connection: socket.socket) -> None:
    """Requires a password and accepts none."""
    _greeting(connection)
    connection.sendall(b"\x05\x02")
    _, length = receive(connection, 2)
    receive(connection, length)
    receive(connection, receive(connection, 1)[0])
    connection.sendall(b"\x01\x01")
    _waitForClose(connection)


def closesAtOnce(connection: socket.socket) -> None:
    """Closes before it sends anything."""


def closesAfterGreeting(connection: socket.socket) -> None:
    """Closes once it has the request."""
    _greeting(connection)
    connection.sendall(b"\x05\x00")
    _request(connection)


def closesInsideReply(connection: socket.socket) -> None:
    """Closes in the middle of its reply."""
    _greeting(connection)
    connection.sendall(b"\x05\x00")
    _request(connection)
    connection.sendall(b"\x05\x00\x00\x01\x0a")


def hangsAtOnce(connection: socket.socket) -> None:
    """Never sends anything."""
    _waitForClose(connection)


def hangsAfterRequest(connection: socket.socket) -> None:
    """Reads the request and sends nothing more."""
    _greeting(connection)
    connection.sendall(b"\x05\x00")
    _request(connection)
    _waitForClose(connection)


def dripsForEver(connection: socket.socket) -> None:
    """Sends a byte every 0.3 s, so that an idle deadline alone would never end it."""
    _greeting(connection)
    connection.sendall(b"\x05\x00")
    _request(connection)
    for byte in b"\x05\x00\x00\x03\xff" + b"x" * 95:
        connection.sendall(bytes([byte]))
        time.sleep(0.3)


def replies(code: int) -> Handler:
    """Answers every request with this reply code (RFC 1928, section 6)."""

    def serve(connection: socket.socket) -> None:
        _greeting(connection)
        connection.sendall(b"\x05\x00")
        _request(connection)
        connection.sendall(bytes([5, code]) + b"\x00\x01" + bytes(6))
        _waitForClose(connection)

    return serve
