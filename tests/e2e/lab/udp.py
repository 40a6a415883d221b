"""
Datagram servers for the world, each with a function that answers.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from tests.e2e.lab.namespace import Namespace

Address = tuple[str, int]

LARGEST = 65507
"""Bytes that a UDP datagram can carry over IPv4."""

_LOOK_SECONDS = 0.1
"""Seconds between two checks whether a server must stop."""


def familyOf(host: str) -> int:
    """The address family of an IP address."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class UDPServer:
    """
    Listens on one address and calls C{handler(server, payload, source)} in a thread for each
    datagram.

    @ivar sock: for the handler to answer with.
    @ivar port: chosen by the kernel by default.
    @ivar heard: payload and source of every datagram so far.
    """

    def __init__(
        self,
        namespace: Namespace,
        host: str,
        handler: Callable[[UDPServer, bytes, Address], object],
        port: int = 0,
    ) -> None:
        self.heard: list[tuple[bytes, Address]] = []
        self._handler = handler
        self._stopping = False
        self.sock = namespace.makeSocket(familyOf(host), socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        self.sock.bind((host, port))
        self.sock.settimeout(_LOOK_SECONDS)
        self.port: int = self.sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stopping:
            try:
                payload, source = self.sock.recvfrom(65536)
            except TimeoutError:
                continue
            except OSError:
                if self._stopping:
                    return
                continue  # An ICMP error about an earlier answer.
            self.heard.append((payload, source[:2]))
            try:
                self._handler(self, payload, source)
            except OSError:
                continue  # The client is gone, or the answer is too long.

    def sources(self) -> set[Address]:
        """The addresses that have sent something."""
        return {source for _, source in self.heard}

    def stop(self) -> None:
        """Stop listening; may be called twice."""
        self._stopping = True
        self._thread.join(5)
        self.sock.close()


def echo(server: UDPServer, payload: bytes, source: Address) -> None:
    """Send the same bytes back."""
    server.sock.sendto(payload, source)


def mirror(server: UDPServer, payload: bytes, source: Address) -> None:
    """Tell the client its own address and port, as a STUN server does."""
    server.sock.sendto(f"{source[0]} {source[1]}".encode(), source)


def sink(server: UDPServer, payload: bytes, source: Address) -> None:
    """Send nothing."""


def by(other: UDPServer) -> Callable[[UDPServer, bytes, Address], None]:
    """Have C{other} send the same bytes back, as an answer from a third party."""

    def handle(server: UDPServer, payload: bytes, source: Address) -> None:
        other.sock.sendto(payload, source)

    return handle
