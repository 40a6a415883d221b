"""
A SOCKS5 server that supports UDP ASSOCIATE and nothing else (RFC 1928): one thread for
thousands of associations, where dante would start a process for every few.

Each association has one outside address (RFC 4787: endpoint-independent mapping and filtering).
L{Manners} defines how a misbehaving server differs.

As a program: C{python -m tests.e2e.lab.udprelay PORT}.
"""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Mapping

from tests.e2e.lab.udp import Address, familyOf

CONNECT, ASSOCIATE = 1, 3
COMMAND_NOT_SUPPORTED = 7

_TURNS = 64
"""Datagrams to read from one socket before the next one has its turn."""


def receive(connection: socket.socket, count: int) -> bytes:
    """
    Read exactly C{count} bytes.

    @raise ConnectionError: the other side has ended before.
    """
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionError("the client closed early")
        data += more
    return data


def encodeAddress(host: str, port: int) -> bytes:
    """Encode ATYP, address and port (RFC 1928, section 5)."""
    kind = b"\x04" if ":" in host else b"\x01"
    return kind + socket.inet_pton(familyOf(host), host) + struct.pack("!H", port)


def decodeAddress(data: bytes) -> tuple[Address, bytes]:
    """
    Decode what L{encodeAddress} makes.

    @return: the address, and the bytes after it.
    @raise ValueError: this is no address, or a name.
    """
    family, size = {1: (socket.AF_INET, 4), 4: (socket.AF_INET6, 16)}.get(data[0], (0, 0))
    if not size or len(data) < size + 3:
        raise ValueError("no address")
    host = socket.inet_ntop(family, data[1 : size + 1])
    (port,) = struct.unpack_from("!H", data, size + 1)
    return (host, port), data[size + 3 :]


def wrap(peer: Address, payload: bytes) -> bytes:
    """A datagram with its header (RFC 1928, section 7)."""
    return b"\x00\x00\x00" + encodeAddress(*peer) + payload


class Manners:
    """
    The behaviour of a correct server, which need not understand names.

    @cvar names: the names that it understands, with their addresses; empty if it drops
        datagrams to names.
    @cvar code: the reply to UDP ASSOCIATE; 0 is success, L{None} means no reply.
    @cvar hangsUp: whether it closes the connection right after the reply; the UDP relay exists
        until the client has closed it, too.
    """

    code: int | None = 0
    hangsUp = False
    names: Mapping[str, str] = {}

    def bound(self, name: Address) -> bytes:
        """BND.ADDR and BND.PORT with their ATYP, for a UDP relay that listens on C{name}."""
        return encodeAddress(*name)

    def peer(self, data: bytes) -> tuple[Address, bytes]:
        """
        Where a datagram of the client goes, and its payload.

        @param data: from ATYP on.
        @raise ValueError: it goes nowhere.
        """
        if data[0] != 3 or not self.names:
            return decodeAddress(data)
        end = 2 + data[1]
        name = data[2:end].decode()
        # An address is a name, too.
        host = self.names.get(name, name)
        try:
            socket.inet_pton(familyOf(host), host)
        except OSError:
            raise ValueError(f"{name} has no address") from None
        return (host, int.from_bytes(data[end : end + 2], "big")), data[end + 2 :]

    def replies(self, peer: Address, payload: bytes) -> Iterable[bytes]:
        """The datagrams for the client after C{peer} has sent C{payload}."""
        return [wrap(peer, payload)]


class Relay:
    """
    The server.

    @ivar port: the TCP port.
    @ivar total: associations so far.
    @ivar headers: those of the clients' datagrams that were sent on.
    @ivar live: associations now.
    """

    def __init__(
        self,
        makeSocket: Callable[[int, int], socket.socket],
        manners: Manners | None = None,
        port: int = 0,
    ) -> None:
        """@param makeSocket: makes a socket of a family and a type."""
        self.total = 0
        self.headers: list[bytes] = []
        self.live: set[Association] = set()
        self.manners = manners or Manners()
        self.makeSocket = makeSocket
        self.selector = selectors.DefaultSelector()
        self._stopping = False
        self._listener = makeSocket(socket.AF_INET6, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._listener.bind(("::", port))
        self._listener.listen(1024)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def run(self) -> None:
        """Serve until L{stop}."""
        while not self._stopping:
            for key, _ in self.selector.select(0.1):
                if key.fileobj.fileno() >= 0:  # type: ignore[union-attr]
                    key.data()
        for association in list(self.live):
            association.close()
        self._listener.close()
        self.selector.close()

    def start(self) -> Relay:
        """Serve in a thread."""
        self._thread = threading.Thread(target=self.run, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End the thread of L{start}."""
        self._stopping = True
        self._thread.join(5)

    def dropControls(self) -> None:
        """Close the control connection of every association, from another thread."""
        for association in list(self.live):
            with contextlib.suppress(OSError):
                association.control.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                control, _ = self._listener.accept()
                control.setblocking(False)
                Association(self, control)


class Association:
    """One control connection, and the sockets that exist as long as it does."""

    def __init__(self, relay: Relay, control: socket.socket) -> None:
        self.control = control
        self._relay = relay
        self._received = b""
        self._greeted = False
        self._near: socket.socket | None = None
        self._far: dict[int, socket.socket] = {}
        self._client: Address | None = None
        relay.selector.register(control, selectors.EVENT_READ, self._fromControl)

    def close(self) -> None:
        """Close everything."""
        for sock in filter(None, (self.control, self._near, *self._far.values())):
            self._relay.selector.unregister(sock)
            sock.close()
        self._relay.live.discard(self)

    def _fromControl(self) -> None:
        try:
            data = self.control.recv(4096)
            self._received += data
            if not data:
                self.close()
            elif not self._greeted:
                self._greet()
            elif self._near is None:
                self._request()
        except (OSError, ValueError):
            self.close()

    def _greet(self) -> None:
        if len(self._received) < 2 or len(self._received) < 2 + self._received[1]:
            return
        self._received = self._received[2 + self._received[1] :]
        self._greeted = True
        self.control.sendall(b"\x05\x00")
        if self._received:
            self._request()

    def _request(self) -> None:
        if len(self._received) < 10:
            return
        manners = self._relay.manners
        command = self._received[1]
        if command != ASSOCIATE:
            self.control.sendall(bytes([5, COMMAND_NOT_SUPPORTED, 0]) + encodeAddress("0.0.0.0", 0))
            return
        decodeAddress(self._received[3:])  # Ignored, because it is often wrong.
        host = self.control.getsockname()[0].removeprefix("::ffff:")
        self._near = self._open(familyOf(host), host, self._fromClient)
        self._relay.total += 1
        self._relay.live.add(self)
        if manners.code is not None:
            name = self._near.getsockname()[:2]
            self.control.sendall(bytes([5, manners.code, 0]) + manners.bound(name))
        if manners.hangsUp:
            self.control.shutdown(socket.SHUT_WR)

    def _open(self, family: int, host: str, callback: Callable[[], None]) -> socket.socket:
        sock = self._relay.makeSocket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind((host, 0))
        self._relay.selector.register(sock, selectors.EVENT_READ, callback)
        return sock

    def _fromClient(self) -> None:
        assert self._near is not None
        for _ in range(_TURNS):
            try:
                data, client = self._near.recvfrom(65536)
                self._client = client
                if data[:3] != b"\x00\x00\x00":
                    continue
                peer, payload = self._relay.manners.peer(data[3:])
                self._relay.headers.append(data[: len(data) - len(payload)])
                self._outside(familyOf(peer[0])).sendto(payload, peer)
            except BlockingIOError:
                return
            except (OSError, ValueError, IndexError):
                continue

    def _outside(self, family: int) -> socket.socket:
        if family not in self._far:
            anyHost = "::" if family == socket.AF_INET6 else "0.0.0.0"
            self._far[family] = self._open(family, anyHost, lambda: self._fromPeers(family))
        return self._far[family]

    def _fromPeers(self, family: int) -> None:
        assert self._near is not None and self._client is not None
        for _ in range(_TURNS):
            try:
                payload, peer = self._far[family].recvfrom(65536)
            except OSError:
                return
            for reply in self._relay.manners.replies(peer[:2], payload):
                with contextlib.suppress(OSError):
                    self._near.sendto(reply, self._client)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Relay(socket.socket, port=int(sys.argv[1])).run()
