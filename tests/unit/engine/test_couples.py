"""Tests of L{nanotun.engine.couples}; the library itself is tried in Go and end to end."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from nanotun.engine.couples import NativeCouples


class FakeLibrary:
    """Notes what it is given, and closes it."""

    def __init__(self) -> None:
        self.result = 0
        self.keptAlive: list[bool] = []
        self.given: list[tuple[int, int]] = []

    def ns_couple(self, one: int, other: int) -> int:
        """Take two sockets."""
        self.given.append((one, other))
        for fd in (one, other):
            with socket.socket(fileno=os.dup(fd)) as sock:
                kept = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                self.keptAlive.append(bool(kept))
        os.close(one)
        os.close(other)
        return self.result

    def ns_couples(self) -> int:
        """How many there were."""
        return len(self.given)


class CouplesTests(SynchronousTestCase):
    """L{NativeCouples}."""

    def test_join(self) -> None:
        """Both sockets are the library's, which is loaded once, also if it refuses them."""
        library, loads = FakeLibrary(), []

        def load() -> Any:
            loads.append(1)
            return library

        couples = NativeCouples(cast(Any, load))
        self.assertEqual(couples.count(), 0)
        one, other = socket.socketpair()
        fds = one.fileno(), other.fileno()
        couples.join(one, other)
        self.assertEqual((library.given, couples.count(), loads), ([fds], 1, [1]))
        self.assertEqual((one.fileno(), other.fileno()), (-1, -1))
        library.result = -errno.EMFILE
        self.assertRaises(OSError, couples.join, *socket.socketpair())

    def test_vanished(self) -> None:
        """The kernel finds out whether the peers of both sockets are still there."""
        library = FakeLibrary()
        NativeCouples(cast(Any, lambda: library)).join(*socket.socketpair())
        self.assertEqual(library.keptAlive, [True, True])
