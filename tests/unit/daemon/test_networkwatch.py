"""Tests of L{nanotun.daemon.networkwatch}."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.daemon.networkwatch import NetworkWatch
from nanotun.errors import RoutingError
from nanotun.interfaces import IPart
from nanotun.routing.follower import CHECK, SETTLE


class FakeMonitor:
    """
    Tells of a change when a test says so.

    @ivar refuses: raised by L{start}, if set.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        self.running = False
        self.refuses: RoutingError | None = None

    def start(self) -> None:
        """Begin."""
        if self.refuses is not None:
            raise self.refuses
        self.running = True

    def stop(self) -> None:
        """End."""
        self.running = False


class FakeDevice:
    """Notes the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def start(self) -> None:
        """Note it."""
        self.calls.append("start")

    def stop(self) -> None:
        """Note it."""
        self.calls.append("stop")

    def look(self) -> None:
        """Note it."""
        self.calls.append("look")

    def lookClosely(self) -> None:
        """Note it."""
        self.calls.append("closely")


class NetworkWatchCase(SynchronousTestCase):
    """A watch that has not started."""

    monitor: FakeMonitor

    def setUp(self) -> None:
        self.clock = Clock()
        self.device = FakeDevice()
        self.watch = self.makeWatch()

    def makeWatch(self) -> NetworkWatch:
        """Make one."""

        def makeMonitor(changed: Callable[[], None]) -> FakeMonitor:
            self.monitor = FakeMonitor(changed)
            return self.monitor

        return NetworkWatch(self.clock, makeMonitor, self.device)  # type: ignore[arg-type]


class DeviceLookTests(NetworkWatchCase):
    """When the device is looked at."""

    def test_part(self) -> None:
        """It is a part of the daemon, and starts and stops the device's watch."""
        verifyObject(IPart, self.watch)
        self.watch.start()
        self.assertTrue(self.monitor.running)
        self.watch.stop()
        self.assertFalse(self.monitor.running)
        self.assertEqual(self.device.calls, ["start", "stop"])
        self.clock.advance(10 * CHECK)
        self.assertEqual(self.device.calls, ["start", "stop"])

    def test_message(self) -> None:
        """A message leads to a look at once, and to a close one when all has settled."""
        self.watch.start()
        for _ in range(3):
            self.monitor.changed()
        self.assertEqual(self.device.calls[1:], ["look"] * 3)
        self.clock.advance(SETTLE)
        self.assertEqual(self.device.calls[4:], ["closely"])

    def test_check(self) -> None:
        """Without a message there is a close look every few seconds."""
        self.watch.start()
        self.clock.pump([CHECK] * 3)
        self.assertEqual(self.device.calls[1:], ["closely"] * 3)

    def test_deaf(self) -> None:
        """A kernel that sends no messages does not keep the daemon from running."""
        self.monitor.refuses = RoutingError("There are no sockets left.")
        self.watch.start()
        self.clock.advance(CHECK)
        self.assertEqual(self.device.calls, ["start", "closely"])

    def test_bug(self) -> None:
        """An internal error in one look does not keep the next from being made."""

        def broken() -> None:
            raise ZeroDivisionError

        self.watch.start()
        self.device.lookClosely = broken  # type: ignore[method-assign]
        self.clock.advance(CHECK)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        del self.device.lookClosely
        self.clock.advance(CHECK)
        self.assertEqual(self.device.calls, ["start", "closely"])
