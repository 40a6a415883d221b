"""
How soon an app gets its first byte when the proxy is far away:
C{python -m benchmarks.far}.

A forwarder between nanotun and dante adds the distance (L{benchmarks.delay}).  Three
moments are measured from the start of the app's connect: when it is connected, when the
server's greeting arrives, and when the app's first request is answered.  The server is
next to the proxy.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.e2e.case import missing
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import LabError
from tests.e2e.lab.proxies import PASSWORD, USER, Dante
from tests.e2e.lab.servers import Peer, Server
from tests.e2e.lab.topology import IPV4, Lab

ROUND_TRIP = 0.02
SAMPLES = 20

PAUSE_SECONDS = 0.15
"""Time between two connections, like those of a person or a page, not of a flood."""

FILL_SECONDS = 1.0
POOL = 8
BANNER = b"220 hello"


class Setup(NamedTuple):
    """
    One combination of engine and proxy.

    @ivar stackMode: the engine, or empty for an app that speaks SOCKS5 itself.
    @ivar auth: whether the proxy wants a password.
    @ivar options: the end of the proxy's URL.
    @ivar pool: the C{upstreamPool} setting.
    """

    name: str
    stackMode: str
    auth: bool
    options: str = ""
    pool: int = 0


SETUPS = tuple(
    Setup(f"{name}{', password' if auth else ''}", mode, auth, options, pool)
    for auth in (False, True)
    for name, mode, options, pool in (
        ("an app that speaks SOCKS5", "", "", 0),
        ("gvisor, socks5", "gvisor", "", 0),
        ("gvisor, ?pipeline=1", "gvisor", "?pipeline=1", 0),
        (f"gvisor, upstreamPool: {POOL}", "gvisor", "", POOL),
        (f"simple, upstreamPool: {POOL}", "simple", "", POOL),
    )
)


class Moments(NamedTuple):
    """Seconds since the app's connect."""

    connected: float
    firstByte: float
    answer: float


def serve(connection: socket.socket) -> None:
    """Greet, then echo."""
    connection.sendall(BANNER)
    while data := connection.recv(4096):
        connection.sendall(data)


def socksConnect(sock: socket.socket, proxyPort: int, port: int, auth: bool) -> None:
    """Connect like an app that speaks SOCKS5 itself (RFC 1928, RFC 1929)."""
    sock.connect((IPV4.proxy, proxyPort))
    sock.sendall(b"\5\1\2" if auth else b"\5\1\0")
    sock.recv(2, socket.MSG_WAITALL)
    if auth:
        user, password = USER.encode(), PASSWORD.encode()
        sock.sendall(b"\1%c%b%c%b" % (len(user), user, len(password), password))
        sock.recv(2, socket.MSG_WAITALL)
    sock.sendall(b"\5\1\0\1" + socket.inet_aton(IPV4.world) + port.to_bytes(2, "big"))
    if sock.recv(10, socket.MSG_WAITALL)[1:2] != b"\0":
        raise LabError("the proxy refused")


class Far:
    """The laboratory with a far proxy, with and without a password."""

    def __init__(self, stack: contextlib.ExitStack, roundTrip: float) -> None:
        self._directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="nanotun-far-"))
        )
        self._lab = lab = Lab()
        stack.callback(lab.remove)
        self._peer = Peer(lab.world, serve)
        stack.callback(self._peer.stop)
        self._ports: dict[bool, int] = {}
        for auth, port in ((False, 1080), (True, 1081)):
            dante = Dante(lab.proxy, self._directory, auth=auth, port=port, log=False)
            stack.callback(dante.stop)
            self._ports[auth] = port + 100
            argv = [sys.executable, "-m", "benchmarks.delay", IPV4.proxy]
            argv += [str(port + 100), str(port), str(roundTrip)]
            delay = Server(lab.proxy, argv, port + 100, self._directory / f"delay-{port}.log")
            stack.callback(delay.stop)
            if auth:
                self._credentials = dante.url().partition("://")[2].rpartition("@")[0] + "@"

    def measure(self, setup: Setup, samples: int) -> Moments:
        """
        Open a setup and measure in it.

        @return: medians.
        """
        daemon = self._daemon(setup) if setup.stackMode else None
        try:
            time.sleep(FILL_SECONDS)
            found = [self._once(setup) for _ in range(samples)]
        finally:
            if daemon is not None:
                daemon.stop()
        return Moments(*(statistics.median(each) for each in zip(*found, strict=True)))

    def _daemon(self, setup: Setup) -> Daemon:
        user = self._credentials if setup.auth else ""
        daemon = Daemon(
            self._lab.app,
            self._directory / setup.name.replace("/", " "),
            stackMode=setup.stackMode,
            proxy=f"socks5://{user}{IPV4.proxy}:{self._ports[setup.auth]}{setup.options}",
            upstreamPool=setup.pool,
            logLevel="warn",
        )
        self._lab.routeThroughTunnel()
        return daemon

    def _once(self, setup: Setup) -> Moments:
        time.sleep(PAUSE_SECONDS)
        with self._lab.app.makeSocket(socket.AF_INET) as sock:
            sock.settimeout(10)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            began = time.monotonic()
            if setup.stackMode:
                sock.connect((IPV4.world, self._peer.port))
            else:
                socksConnect(sock, self._ports[setup.auth], self._peer.port, setup.auth)
            connected = time.monotonic()
            sock.recv(len(BANNER), socket.MSG_WAITALL)
            firstByte = time.monotonic()
            sock.sendall(b"?")
            sock.recv(1)
            now = time.monotonic()
        return Moments(connected - began, firstByte - began, now - began)


def table(found: dict[str, Moments], roundTrip: float) -> str:
    """The figures, in milliseconds and round trips."""
    lines = [f"{'':40}{'connected':>18}{'first byte':>18}{'answer':>18}"]
    for name, moments in found.items():
        cells = (f"{m * 1000:.1f} ms {m / roundTrip:5.2f} rt" for m in moments)
        lines.append(f"{name:40}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """
    Measure and print.

    @return: 0, or 1 if something could not be measured.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.far")
    parser.add_argument("--round-trip", type=float, default=ROUND_TRIP * 1000, metavar="MS")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    given = parser.parse_args(argv)
    reason = missing()
    if reason:
        print(f"far: {reason}.", file=sys.stderr)
        return 1
    roundTrip = given.round_trip / 1000
    try:
        with contextlib.ExitStack() as stack:
            far = Far(stack, roundTrip)
            found = {setup.name: far.measure(setup, given.samples) for setup in SETUPS}
    except LabError as error:
        print(f"far: {error}", file=sys.stderr)
        return 1
    print(f"A proxy {given.round_trip:g} ms away (rt: round trips), medians of {given.samples}.\n")
    print(table(found, roundTrip))
    return 0


if __name__ == "__main__":
    sys.exit(main())
