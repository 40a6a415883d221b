"""
A SOCKS server for systems whose release has no dante: SOCKS 5 with names, passwords and UDP
ASSOCIATE (RFC 1928 and 1929), and SOCKS 4 and 4a.  Its journal has the lines of dante's that
tests count.

As a program: C{python -m tests.e2e.lab.socks CONFIG}, with the settings of L{Settings} in JSON.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import selectors
import socket
import struct
import sys
import threading
from pathlib import Path
from typing import NamedTuple

from tests.e2e.lab.udp import Address, familyOf
from tests.e2e.lab.udprelay import ASSOCIATE, CONNECT, encodeAddress, receive, wrap

_CHUNK = 1 << 20
_TIMEOUT = 30
"""Seconds for a connect, and for what a client says first."""

_UNSUPPORTED, _ANYTHING = 7, 1
_CODES = {errno.ENETUNREACH: 3, errno.EHOSTUNREACH: 4, errno.ETIMEDOUT: 4, errno.ECONNREFUSED: 5}
_GRANTED4, _REFUSED4 = 90, 91


class Settings(NamedTuple):
    """
    How the server works.

    @ivar listen: its addresses.
    @ivar external: the addresses that others see, at most one of each IP version.
    @ivar journal: a file, or C{""}.
    @ivar user: who may use it, or C{""} for everybody.
    """

    listen: list[str]
    port: int
    external: list[str]
    journal: str
    user: str
    password: str


class Refused(Exception):
    """The client asked for something that it does not get."""


def _untilZero(sock: socket.socket) -> str:
    data = b""
    while not data.endswith(b"\0"):
        data += receive(sock, 1)
    return data[:-1].decode()


def _resolved(host: str, families: set[int]) -> str:
    """The first address of a name in a family that the server has, or the address itself."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise OSError(errno.EHOSTUNREACH, f"{host} is unknown") from None
    for family, *_, address in found:
        if family in families:
            return str(address[0])
    raise OSError(errno.ENETUNREACH, f"{host} has no address that can be reached")


def _pass(source: socket.socket, target: socket.socket) -> None:
    """Carry bytes one way, until the end or an error."""
    reads, writes = os.pipe()
    try:
        with contextlib.suppress(OSError):
            fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, _CHUNK)
        while size := os.splice(source.fileno(), writes, _CHUNK):
            while size:
                size -= os.splice(reads, target.fileno(), size)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for sock in (source, target):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
    finally:
        os.close(reads)
        os.close(writes)


class Client:
    """One connection of a client."""

    def __init__(self, settings: Settings, sock: socket.socket, peer: Address) -> None:
        self._settings = settings
        self._sock = sock
        self._peer = peer
        self._external = {familyOf(address): address for address in settings.external}

    def serve(self) -> None:
        """Do what the client asks, until it leaves."""
        with self._sock, contextlib.suppress(OSError, Refused, ValueError):
            self._sock.settimeout(_TIMEOUT)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive(self._sock, 1) == b"\x05":
                self._greet()
                self._request5()
            else:
                self._request4()

    def _greet(self) -> None:
        methods = receive(self._sock, receive(self._sock, 1)[0])
        method = 2 if self._settings.user else 0
        if method not in methods:
            self._sock.sendall(b"\x05\xff")
            raise Refused("no method in common")
        self._sock.sendall(bytes([5, method]))
        if method == 0:
            return
        receive(self._sock, 1)
        user, password = (receive(self._sock, receive(self._sock, 1)[0]) for _ in range(2))
        right = (user.decode(), password.decode()) == (self._settings.user, self._settings.password)
        self._sock.sendall(b"\x01\x00" if right else b"\x01\x01")
        if not right:
            raise Refused("a wrong password")

    def _request5(self) -> None:
        _, command, _ = receive(self._sock, 3)
        host, port = self._destination()
        if command == ASSOCIATE:
            self._note("udp/udpassociate", self._peer)
            self._associate()
            return
        if command != CONNECT:
            self._answer5(_UNSUPPORTED)
            raise Refused("no such command")
        try:
            server = self._connected(host, port)
        except OSError as error:
            self._answer5(_CODES.get(error.errno or 0, _ANYTHING))
            raise
        with server:
            self._answer5(0, server.getsockname()[:2])
            self._carry(server)

    def _request4(self) -> None:
        command, port, address = struct.unpack("!BH4s", receive(self._sock, 7))
        _untilZero(self._sock)
        named = address[:3] == b"\0\0\0" and address[3]
        host = _untilZero(self._sock) if named else socket.inet_ntoa(address)
        self._external.pop(socket.AF_INET6, None)
        try:
            if command != CONNECT or self._settings.user:
                raise OSError("only CONNECT, and nobody with a password")
            server = self._connected(host, port)
        except OSError:
            self._sock.sendall(struct.pack("!BBHI", 0, _REFUSED4, 0, 0))
            raise
        with server:
            self._sock.sendall(struct.pack("!BBHI", 0, _GRANTED4, 0, 0))
            self._carry(server)

    def _destination(self) -> Address:
        kind = receive(self._sock, 1)[0]
        if kind == 3:
            host = receive(self._sock, receive(self._sock, 1)[0]).decode()
        elif kind in (1, 4):
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, receive(self._sock, size))
        else:
            self._answer5(8)
            raise Refused("no such kind of address")
        return host, int.from_bytes(receive(self._sock, 2), "big")

    def _answer5(self, code: int, name: Address = ("0.0.0.0", 0)) -> None:
        self._sock.sendall(bytes([5, code, 0]) + encodeAddress(*name))

    def _note(self, what: str, there: Address) -> None:
        if self._settings.journal:
            line = f"pass(1): {what} [: {'.'.join(map(str, self._peer))} -> {there[0]}.{there[1]}\n"
            with open(self._settings.journal, "a") as journal:
                journal.write(line)

    def _outside(self, family: int, kind: int) -> socket.socket:
        if family not in self._external:
            raise OSError(errno.ENETUNREACH, "no address of this IP version")
        sock = socket.socket(family, kind)
        try:
            # So that thousands of connections can share the ports of one address.
            sock.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
            sock.bind((self._external[family], 0))
        except BaseException:
            sock.close()
            raise
        return sock

    def _connected(self, host: str, port: int) -> socket.socket:
        host = _resolved(host, set(self._external))
        server = self._outside(familyOf(host), socket.SOCK_STREAM)
        try:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.settimeout(_TIMEOUT)
            server.connect((host, port))
        except BaseException:
            server.close()
            raise
        self._note("tcp/connect", (host, port))
        return server

    def _carry(self, server: socket.socket) -> None:
        for sock in (self._sock, server):
            sock.settimeout(None)
        up = threading.Thread(target=_pass, args=(self._sock, server), daemon=True)
        up.start()
        _pass(server, self._sock)
        up.join()

    def _associate(self) -> None:
        host = self._sock.getsockname()[0]
        with contextlib.ExitStack() as stack:
            near = stack.enter_context(socket.socket(familyOf(host), socket.SOCK_DGRAM))
            near.bind((host, 0))
            far: dict[int, socket.socket] = {}
            for family in self._external:
                far[family] = stack.enter_context(self._outside(family, socket.SOCK_DGRAM))
            self._answer5(0, near.getsockname()[:2])
            client: Address | None = None
            waiting = stack.enter_context(selectors.DefaultSelector())
            for sock in (self._sock, near, *far.values()):
                waiting.register(sock, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in waiting.select()]
                if self._sock in ready and not self._sock.recv(4096):
                    return
                for sock in (near, *far.values()):
                    if sock not in ready:
                        continue
                    with contextlib.suppress(OSError, ValueError, LookupError):
                        if sock is near:
                            data, sender = near.recvfrom(65536)
                            client = sender[:2]
                            self._forward(data, far)
                        elif client is not None:
                            payload, there = sock.recvfrom(65536)
                            near.sendto(wrap(there[:2], payload), client)

    def _forward(self, data: bytes, far: dict[int, socket.socket]) -> None:
        """Send a client's datagram on, if it is whole and not a fragment."""
        if data[:3] != b"\x00\x00\x00":
            raise ValueError("a fragment")
        if data[3] == 3:
            end = 5 + data[4]
            host = data[5:end].decode()
        else:
            family, end = {1: (socket.AF_INET, 8), 4: (socket.AF_INET6, 20)}[data[3]]
            host = socket.inet_ntop(family, data[4:end])
        host = _resolved(host, set(far))
        port = int.from_bytes(data[end : end + 2], "big")
        far[familyOf(host)].sendto(data[end + 2 :], (host, port))


def _accept(settings: Settings, listener: socket.socket) -> None:
    while True:
        sock, peer = listener.accept()
        client = Client(settings, sock, peer[:2])
        threading.Thread(target=client.serve, daemon=True).start()


def main(config: str) -> None:
    """Serve until a signal."""
    settings = Settings(**json.loads(Path(config).read_text()))
    if settings.journal:
        Path(settings.journal).touch()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    threads = []
    for host in settings.listen:
        listener = socket.socket(familyOf(host), socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, settings.port))
        listener.listen(1024)
        threads.append(threading.Thread(target=_accept, args=(settings, listener), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1])
