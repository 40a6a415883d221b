"""
Tests for L{nanotun.routing.follower} and L{nanotun.routing.monitor}.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from nanotun.errors import RoutingError
from nanotun.routing.follower import CHECK, FIGHT, PEACE, SETTLE, SLOWEST, Follower
from nanotun.routing.monitor import NetworkMonitor, openMonitor


class FollowerTests(SynchronousTestCase):
    """Tests for L{Follower}."""

    def setUp(self) -> None:
        """Make one."""
        self.clock = Clock()
        self.times: list[float] = []
        self.repaired = False
        self.error: Exception | None = None
        self.follower = Follower(self.clock, self.work)
        self.follower.start()

    def work(self) -> bool:
        """Note the time."""
        self.times.append(self.clock.seconds())
        if self.error is not None:
            raise self.error
        return self.repaired

    def test_settles(self) -> None:
        """A swarm of changes causes one check."""
        for _ in range(10):
            self.follower.notice()
            self.clock.advance(SETTLE / 20)
        self.assertEqual(self.times, [])
        self.clock.advance(SETTLE)
        self.assertEqual(len(self.times), 1)

    def test_checks(self) -> None:
        """The routes are checked even without a change."""
        self.clock.pump([CHECK] * 3)
        self.assertEqual(len(self.times), 3)

    def test_now(self) -> None:
        """What cannot wait is checked at once, in place of the check that was to come."""
        self.follower.notice()
        self.follower.now()
        self.assertEqual(self.times, [0.0])
        self.clock.advance(SETTLE)
        self.assertEqual(len(self.times), 1)
        self.follower.stop()
        self.follower.now()
        self.assertEqual(len(self.times), 1)

    def test_fight(self) -> None:
        """What is removed again and again is put back more and more slowly, within the promise."""
        self.repaired = True
        waits = []
        for _ in range(8):
            self.follower.notice()
            before, count = self.clock.seconds(), len(self.times)
            while len(self.times) == count:
                self.clock.advance(SETTLE / 5)
            waits.append(round(self.times[-1] - before, 3))
        self.assertLess(waits[1], waits[3])
        self.assertAlmostEqual(waits[0], SETTLE, delta=SETTLE / 4)
        self.assertAlmostEqual(waits[-1], SLOWEST, delta=SETTLE / 4)
        self.assertLess(SLOWEST, 3.0)
        self.repaired = False
        self.clock.pump([CHECK] * int(PEACE / CHECK + 2))
        self.follower.notice()
        self.clock.advance(SETTLE)
        self.assertEqual(self.times[-1], self.clock.seconds())
        self.assertGreater(FIGHT, 1)

    def test_mistake(self) -> None:
        """An internal error is logged, and the checks continue."""
        self.error = ValueError("a mistake")
        self.clock.pump([CHECK] * 2)
        self.assertEqual(len(self.times), 2)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_trouble(self) -> None:
        """A failure is logged once, and tried again more and more slowly."""
        said: list[LogEvent] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            said.append(event)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.error = RoutingError("It cannot be.")
        for _ in range(6):
            self.follower.notice()
            self.clock.advance(SLOWEST)
        self.assertEqual(len(said), 1)
        self.follower.notice()
        count = len(self.times)
        self.clock.advance(SLOWEST / 2)
        self.assertEqual(len(self.times), count)

    def test_stop(self) -> None:
        """After a stop nothing is called."""
        self.follower.notice()
        self.follower.stop()
        self.follower.notice()
        self.follower.stop()
        self.clock.advance(CHECK * 2)
        self.assertEqual(self.times, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FakeSocket:
    """A socket that the test fills."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []
        self.closed = False

    def recv(self, size: int) -> bytes:
        """The oldest message, or error."""
        if not self.waiting:
            raise BlockingIOError
        first = self.waiting.pop(0)
        if isinstance(first, int):
            raise OSError(first, "")
        return bytes(first)

    def fileno(self) -> int:
        """The number of no open file."""
        return 99

    def close(self) -> None:
        """Note it."""
        self.closed = True


class MonitorTests(SynchronousTestCase):
    """Tests for L{NetworkMonitor}."""

    def setUp(self) -> None:
        """Make one; this test is its reactor."""
        self.readers: list[Any] = []
        self.heard = 0
        self.socket = FakeSocket()
        self.monitor = NetworkMonitor(self, self.changed, lambda: self.socket)  # type: ignore[arg-type, return-value]

    def addReader(self, reader: Any) -> None:
        """See the reactor."""
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        """See the reactor."""
        self.readers.remove(reader)

    def changed(self) -> None:
        """Something has changed."""
        self.heard += 1

    def test_hears(self) -> None:
        """Many messages count as one change, as does an overflow."""
        verifyObject(IReadDescriptor, self.monitor)
        self.assertEqual((self.monitor.fileno(), self.monitor.isListening), (-1, False))
        self.monitor.start()
        self.assertTrue(self.monitor.isListening)
        self.assertEqual(self.readers, [self.monitor])
        self.socket.waiting = [b"x"] * 5
        self.monitor.doRead()
        self.assertEqual(self.heard, 1)
        self.monitor.doRead()
        self.assertEqual(self.heard, 1)
        self.socket.waiting = [errno.ENOBUFS]
        self.monitor.doRead()
        self.assertEqual(self.heard, 2)
        self.monitor.stop()
        self.monitor.stop()
        self.assertTrue(self.socket.closed)
        self.assertEqual(self.readers, [])

    def test_breaks(self) -> None:
        """A socket that fails is closed, so that the reactor does not spin."""
        self.monitor.start()
        self.socket.waiting = [errno.EIO]
        self.monitor.doRead()
        self.assertEqual(self.readers, [])
        self.assertFalse(self.monitor.isListening)
        self.monitor.connectionLost(Failure(OSError()))

    def test_none(self) -> None:
        """If the socket cannot be opened, the start fails with a sentence."""

        def refuse() -> socket.socket:
            raise OSError(errno.EMFILE, "Too many open files")

        monitor = NetworkMonitor(self, self.changed, refuse)
        self.assertIn("Too many", str(self.assertRaises(RoutingError, monitor.start)))

    def test_real(self) -> None:
        """Anyone may open the socket, and it does not block."""
        opened = openMonitor()
        self.addCleanup(opened.close)
        self.assertRaises(BlockingIOError, opened.recv, 100)
