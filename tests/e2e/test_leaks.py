"""
What flows leave behind: nothing.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab.daemon import SHORT, SHORT_SECONDS, Daemon
from tests.e2e.test_truthful import REFUSED_PORT, SILENT_PORT, reset

WARM = 100
FLOWS = 400
AT_ONCE = 16
SETTLE_SECONDS = 60.0
"""Seconds: the idle deadline of flows that were cut off, plus 10."""

THREADS_MORE = 4
"""Threads that Go's runtime may start for itself meanwhile."""

MEMORY_MORE = 16 * 1024 * 1024
"""Bytes of resident memory that a second round may add: heap that is not collected yet."""


class LeakChecks(TunnelCase):
    """Files, threads and memory after many flows of every kind."""

    def test_backToTheBaseline(self) -> None:
        """
        After hundreds of flows of every kind, the number of fds is unchanged, threads and
        memory nearly so.
        """
        peer = self.peer(lambda connection: connection.sendall(connection.recv(100)))
        self.lab.filter(SILENT_PORT, "drop", "drop")
        daemon = self.tunnel(connectTimeout=SHORT)
        self._flows(peer.port, WARM)
        self._settled(daemon, 0)
        fds, threads, memory = daemon.fds(), daemon.threads(), daemon.rss()
        for _ in range(2):
            self._flows(peer.port, FLOWS)
        self._settled(daemon, fds)
        self.assertLessEqual(daemon.fds(), fds, _files(daemon))
        self.assertLessEqual(daemon.threads(), threads + THREADS_MORE)
        self.assertLess(daemon.rss(), memory + MEMORY_MORE)

    def _flows(self, port: int, count: int) -> None:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda number: self._one(port, number), range(count)))

    def _one(self, port: int, number: int) -> None:
        kind = number % 8
        if kind == 7:
            self.connectError(REFUSED_PORT)
            return
        if kind == 6 and number % 80 == 6:
            # Only a few of these, because each waits for the deadline.
            self.connectError(SILENT_PORT)
            return
        sock = self.lab.app.connect((self.family.world, port))
        if kind == 0:
            reset(sock)
            return
        sock.sendall(b"hello")
        if kind == 1:
            reset(sock)
            return
        self.assertEqual(sock.recv(100), b"hello")
        sock.close()

    def _settled(self, daemon: Daemon, fds: int) -> None:
        end = time.monotonic() + (SETTLE_SECONDS if fds else SHORT_SECONDS + 2)
        while (not fds or daemon.fds() > fds) and time.monotonic() < end:
            time.sleep(0.2)


def _files(daemon: Daemon) -> str:
    """The daemon's open files, for the message of a failure."""
    names = []
    for name in os.listdir(f"/proc/{daemon.pid}/fd"):
        try:
            names.append(os.readlink(f"/proc/{daemon.pid}/fd/{name}"))
        except OSError:
            continue
    return "\n".join(sorted(names))


engines(globals(), LeakChecks)
# Otherwise trial would run the base class, too.
del LeakChecks
