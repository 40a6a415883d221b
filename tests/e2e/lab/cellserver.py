"""
A server that a command of C{nanotun run} is: C{cellserver.py HOST PORT} greets each connection with
C{+}, and answers it, once the other side has said all, with the address that it comes from, a
blank, and the SHA-256 of what was sent.  It prints C{up} once it listens, and stops to listen when
a line comes.
"""

from __future__ import annotations

import hashlib
import socket
import sys
import threading


def serve(connection: socket.socket, host: str) -> None:
    """Answer one connection."""
    with connection:
        connection.sendall(b"+")
        digest = hashlib.sha256()
        while data := connection.recv(1 << 16):
            digest.update(data)
        connection.sendall(f"{host} {digest.hexdigest()}".encode())


def accept(listener: socket.socket) -> None:
    """Answer all connections until nobody listens any more."""
    while True:
        try:
            connection, address = listener.accept()
        except OSError:
            return
        host = address[0]
        threading.Thread(target=serve, args=(connection, host), daemon=True).start()


def main() -> None:
    """Serve until a line comes, and end at the next."""
    host, port = sys.argv[1], int(sys.argv[2])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=1024) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        print("up", flush=True)
        sys.stdin.readline()
        listener.shutdown(socket.SHUT_RDWR)
    print("down", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
