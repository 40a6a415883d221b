"""
The HTTP server of the tests, as a program of its own:
C{python -m tests.e2e.lab.webserver PORT}.

  GET /bytes/N   the first N bytes of the pattern, by sendfile(2) from memory
  GET /peer      the client's address, as this server sees it
  PUT /upload    the SHA-256 of what was sent, in hex

It prints one line per connection, C{PEER}, and one per request, C{PEER METHOD PATH}; the
tests count them.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.e2e.lab import pattern

READ_SIZE = 1024 * 1024
IDLE_SECONDS = 120.0


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    def setup(self) -> None:
        """Print the peer."""
        super().setup()
        self.peer = self.client_address[0].removeprefix("::ffff:")
        print(self.peer, flush=True)

    def do_GET(self) -> None:
        """Send the body that the path asks for."""
        self._tell()
        if self.path == "/peer":
            self._answer(self.peer.encode())
        elif self.path.startswith("/bytes/"):
            self._sendPattern(int(self.path.removeprefix("/bytes/")))
        else:
            self.send_error(404)

    def do_PUT(self) -> None:
        """Receive the body and send its hash."""
        self._tell()
        digest = hashlib.sha256()
        buffer = memoryview(bytearray(READ_SIZE))
        if self.headers["Transfer-Encoding"] == "chunked":
            while size := int(self.rfile.readline(), 16):
                digest.update(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        left = int(self.headers["Content-Length"] or 0)
        while left:
            count = self.rfile.readinto(buffer[: min(left, READ_SIZE)])  # type: ignore[attr-defined]
            if not count:
                raise ConnectionError(f"{left} bytes of the body are missing")
            digest.update(buffer[:count])
            left -= count
        self._answer(digest.hexdigest().encode())

    def _sendPattern(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.flush()
        while length:
            # Always from offset 0: the file is exactly one period long.
            sent, whole = 0, min(length, pattern.PERIOD)
            while sent < whole:
                sent += self._sendfile(sent, whole - sent)
            length -= whole

    def _sendfile(self, offset: int, count: int) -> int:
        return os.sendfile(self._blocking(), self.server.body, offset, count)  # type: ignore[attr-defined]

    def _blocking(self) -> int:
        # A Python timeout makes the socket non-blocking, but sendfile(2) must wait.
        if self.connection.gettimeout() is not None:
            self.connection.settimeout(None)
        return self.connection.fileno()

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _tell(self) -> None:
        print(self.peer, self.command, self.path, flush=True)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: L{_tell} prints what the tests need."""


class Server(ThreadingHTTPServer):
    """Listens on every address, IPv4 and IPv6."""

    address_family = socket.AF_INET6
    request_queue_size = 1024
    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.body = pattern.file(pattern.PERIOD)
        super().__init__(("::", port), Handler)

    def server_bind(self) -> None:
        """Accept IPv4 as well."""
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors: some tests have the client disconnect in the middle."""


if __name__ == "__main__":
    Server(int(sys.argv[1])).serve_forever()
