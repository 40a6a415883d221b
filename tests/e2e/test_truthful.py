"""
The truth about connections: the app sees what it would see without the tunnel, and never an
accepted connection that then dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import termios
import time
from functools import partial

from nanotun.flow import Endpoint
from tests.e2e.case import TunnelCase, enginesAndFamilies
from tests.e2e.lab.daemon import SHORT, SHORT_SECONDS
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.topology import MARK
from tests.e2e.schemes import SAID

REFUSED_PORT = 7000
HOST_PORT = 7001
NET_PORT = 7002
SILENT_PORT = 7003

RESET_SECONDS = 15.0
"""Seconds that a reset may take from one end to the other: what would end a connection without
it comes much later."""

LATE = 10.0
"""Seconds by which a busy machine may be late."""

UNREAD = 300_000
"""Bytes that the app's kernel does not take before the app reads, but the daemon does."""

PROMPT_SECONDS = 1.6
"""
Seconds for a refusal that needs no waiting.  With or without a tunnel, Linux notices an ICMP
error that arrives inside connect(2) only when the second SYN, a second later, causes another
one.
"""


def reset(sock: socket.socket) -> None:
    """Close with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def unacknowledged(sock: socket.socket) -> int:
    """How many bytes the other kernel has not acknowledged, a FIN included."""
    (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))
    return int(count)


class RefusalChecks(TunnelCase):
    """Connects that fail."""

    def _filters(self) -> None:
        self.lab.openDirectPath()
        self.lab.filter(
            HOST_PORT, "reject with icmp host-unreachable", "reject with icmpv6 addr-unreachable"
        )
        self.lab.filter(NET_PORT, "reject with icmp net-unreachable", "reject with icmpv6 no-route")
        self.lab.filter(SILENT_PORT, "drop", "drop")

    def _check(self) -> None:
        expected = {
            REFUSED_PORT: errno.ECONNREFUSED,
            HOST_PORT: errno.EHOSTUNREACH,
            NET_PORT: errno.ENETUNREACH,
        }
        for port, number in expected.items():
            kernel, _ = self.connectError(port, mark=MARK)
            self.assertEqual(
                kernel, number, "the path without the tunnel is not as this test thinks"
            )
            for _ in range(3):
                self.assertQuick(partial(self._isSeen, port, number), PROMPT_SECONDS, port)

    def _isSeen(self, port: int, number: int) -> None:
        seen, _ = self.connectError(port)
        self.assertEqual(os.strerror(seen), os.strerror(number), f"port {port}")

    def test_throughProxy(self) -> None:
        """Refused and unreachable destinations behind dante look as without a tunnel."""
        self._filters()
        self.tunnel()
        self._check()

    def test_direct(self) -> None:
        """The same with C{direct://}."""
        self._filters()
        self.daemon(proxy="direct://")
        self._check()

    def test_silence(self) -> None:
        """A silent destination ends as refused or timed out at the deadline, never as accepted."""
        self._filters()
        for proxy in (self.dante().url(), "direct://"):
            daemon = self.daemon(proxy=proxy, connectTimeout=SHORT)
            number, seconds = self.connectError(SILENT_PORT)
            self.assertIn(number, (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH), proxy)
            self.assertGreater(seconds, SHORT_SECONDS - 0.5)
            self.assertLess(seconds, SHORT_SECONDS + LATE)
            self.assertNotIn(" error [", daemon.log())
            (told,) = {line for line in daemon.log().splitlines() if SAID in line}
            self.assertIn(str(Endpoint(self.family.world, SILENT_PORT)), told)
            self.assertEndsWell(daemon)

    def test_giveUp(self) -> None:
        """An app that gives up before the answer leaves nothing behind in the daemon."""
        self._filters()
        daemon = self.tunnel(connectTimeout=SHORT)
        before = daemon.fds()
        for _ in range(20):
            sock = self.lab.app.makeSocket(self.family.af)
            sock.setblocking(False)
            sock.connect_ex((self.family.world, SILENT_PORT))
            time.sleep(0.01)  # The SYN has been sent; now the app loses interest.
            reset(sock)
        waitUntil(lambda: daemon.fds() <= before, PATIENCE, "nothing is left")


class ResetChecks(TunnelCase):
    """Connections that are reset in mid-stream."""

    orderly = False
    """Whether an orderly end is acceptable instead of a reset."""

    def _check(self) -> None:
        for size in (0, 1_000_000):
            self._serverResets(size)
            self._appResets(size)

    def _serverResets(self, size: int) -> None:
        moments: list[float] = []

        def serve(connection: socket.socket) -> None:
            connection.sendall(bytes(size))
            connection.recv(1)  # The app has all of it.
            moments.append(time.monotonic())
            reset(connection)

        app = self.connect(self.peer(serve).port)
        left = size
        while left:
            left -= len(app.recv(65536))
        app.sendall(b"x")
        self._assertBroken(app)
        self.assertLess(time.monotonic() - moments[0], RESET_SECONDS)

    def _appResets(self, size: int) -> None:
        moments: list[float] = []

        def serve(connection: socket.socket) -> None:
            left = size
            while left:
                left -= len(connection.recv(65536))
            connection.sendall(b"x")
            self._assertBroken(connection)
            moments.append(time.monotonic())

        peer = self.peer(serve)
        app = self.connect(peer.port)
        app.sendall(bytes(size))
        app.recv(1)
        started = time.monotonic()
        reset(app)
        peer.result()
        self.assertLess(moments[0] - started, RESET_SECONDS)

    def _resetsUnread(self, ends: bool) -> None:
        def serve(connection: socket.socket) -> None:
            connection.sendall(bytes(UNREAD))
            if ends:
                connection.shutdown(socket.SHUT_WR)
            waitUntil(lambda: unacknowledged(connection) == 0, PATIENCE, "the daemon has all of it")
            reset(connection)

        peer = self.peer(serve)
        app = self.connect(peer.port)
        peer.result()
        time.sleep(0.2)  # For the daemon to hear of it; a slower one passes, too.
        self.assertArrives(app, UNREAD)
        if ends:
            self.assertEqual(app.recv(1), b"")
        else:
            self._assertBroken(app)

    def _assertBroken(self, sock: socket.socket) -> None:
        try:
            data = sock.recv(1)
        except ConnectionResetError:
            return
        self.assertEqual(data, b"")
        self.assertTrue(self.orderly, "no reset, but an orderly end")

    def test_direct(self) -> None:
        """A reset from either side reaches the other, as a reset, within a second."""
        self.lab.openDirectPath()
        self.daemon(proxy="direct://")
        self._check()

    def test_unread(self) -> None:
        """A reset by the server takes nothing from an app that reads slowly, nor the end."""
        self.lab.openDirectPath()
        daemon = self.daemon(proxy="direct://")
        for ends in (False, True):
            self._resetsUnread(ends)
        self.assertEndsWell(daemon)

    def test_throughProxy(self) -> None:
        """Through dante, which turns resets into orderly ends, the end arrives within a second."""
        self.orderly = True
        self.tunnel()
        self._check()


enginesAndFamilies(globals(), RefusalChecks)
enginesAndFamilies(globals(), ResetChecks)
# Otherwise trial would run the base classes, too.
del RefusalChecks, ResetChecks
