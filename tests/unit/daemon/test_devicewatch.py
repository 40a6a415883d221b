"""Tests of L{nanotun.daemon.devicewatch}."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from nanotun.daemon.device import TunnelDevice
from nanotun.daemon.devicewatch import PEACE, DeviceWatch, isDeleted
from nanotun.errors import DeviceError
from nanotun.testing import MemoryTunOpener
from tests.unit.daemon.test_device import SETTINGS

#: The addresses that the device has.
OWN = frozenset({"198.18.0.2", "fdfe:dcba:9876::2"})


def _osError(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class FakeMachine:
    """
    The kernel's side of the device.

    @ivar names: of interfaces, by index.
    @ivar refuses: raised by the next call, if set.
    @ivar mute: raised by L{nameOf}, if set.
    """

    def __init__(self) -> None:
        self.names = {7: "nano0"}
        self.addresses: set[str] = set(OWN)
        self.calls: list[str] = []
        self.refuses: OSError | None = None
        self.mute: OSError | None = None
        self.deleted = False

    def nameOf(self, index: int) -> str:
        """See C{if_indextoname}."""
        if self.mute is not None:
            raise self.mute
        if index not in self.names:
            raise _osError(errno.ENXIO)
        return self.names[index]

    def indexOf(self, name: str) -> int:
        """See C{if_nametoindex}."""
        for index, each in self.names.items():
            if each == name:
                return index
        raise _osError(errno.ENODEV)

    def rename(self, index: int, name: str) -> None:
        """See L{LinkKeeper.rename}."""
        self.calls.append(f"rename {self.names[index]} {name}")
        if self.refuses is not None:
            raise self.refuses
        self.names[index] = name

    def restore(self, index: int, name: str, present: Collection[str]) -> bool:
        """See L{LinkKeeper.restore}."""
        if self.refuses is not None:
            raise self.refuses
        lacking = OWN - set(present)
        self.addresses |= lacking
        return bool(lacking)


class DeviceWatchTests(SynchronousTestCase):
    """L{DeviceWatch}."""

    def setUp(self) -> None:
        self.lines: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            self.lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.clock = Clock()
        self.machine = machine = FakeMachine()
        self.lost: list[int] = []
        self.device = TunnelDevice(SETTINGS, MemoryTunOpener())
        self.device.open()
        self.watch = DeviceWatch(
            self.device,
            machine,
            self.lost.append,
            self.clock,
            machine.nameOf,
            machine.indexOf,
            lambda fd: machine.deleted,
            lambda name: machine.addresses,
        )

    def test_quiet(self) -> None:
        """A device that nobody has touched is left alone."""
        self.watch.look()
        self.watch.start()
        self.watch.lookClosely()
        self.assertEqual((self.machine.calls, self.lines, self.lost), ([], [], []))

    def test_goneAtOnce(self) -> None:
        """If it is gone before the watch starts, the start fails with a sentence."""
        self.machine.names.clear()
        error = self.assertRaises(DeviceError, self.watch.start)
        self.assertIn("nano0 was taken away", str(error))

    def test_renamed(self) -> None:
        """It gets its name back, which is logged once and then counted."""
        self.watch.start()
        for _ in range(3):
            self.machine.names[7] = "foo"
            self.watch.look()
            self.assertEqual(self.machine.names, {7: "nano0"})
            self.clock.advance(PEACE)
        self.assertEqual(
            self.lines,
            [
                "Somebody has renamed nano0 to foo; it has its name back. Use tunName for another "
                "one."
            ],
        )
        self.watch.stop()
        self.assertIn("(2 more)", self.lines[-1])

    def test_fight(self) -> None:
        """Whoever renames it each time at once does not keep the daemon busy."""
        self.watch.start()
        for _ in range(10):
            self.machine.names[7] = "foo"
            self.watch.look()
        self.assertEqual(len(self.machine.calls), 1)
        self.clock.advance(PEACE)
        self.watch.look()
        self.assertEqual(len(self.machine.calls), 2)

    def test_nameTaken(self) -> None:
        """If its name is taken, that is said once, and so is that it has it again."""
        self.watch.start()
        self.machine.names[7] = "foo"
        self.machine.refuses = _osError(errno.EEXIST)
        for _ in range(3):
            self.watch.lookClosely()
            self.clock.advance(PEACE)
        (line,) = self.lines
        self.assertIn("cannot have its name back (File exists)", line)
        self.assertIn("run 'ip link set foo name nano0' or restart nanotun.", line)
        self.machine.names[7] = "nano0"
        self.watch.look()
        self.assertEqual(self.lines[1:], ["nano0 has its name again."])

    def test_addresses(self) -> None:
        """It gets back the addresses that somebody takes away."""
        self.watch.start()
        self.machine.addresses.clear()
        self.watch.look()
        self.assertEqual(self.machine.addresses, set())
        self.watch.lookClosely()
        self.assertEqual(self.machine.addresses, OWN)
        self.assertEqual(self.lines, ["Somebody took addresses away from nano0; they are back."])

    def test_addressesRefused(self) -> None:
        """What the kernel refuses is logged, and tried again at the next look."""
        self.watch.start()
        self.machine.addresses.clear()
        self.machine.refuses = _osError(errno.EPERM)
        self.watch.lookClosely()
        self.assertIn("cannot have it back: Operation not permitted.", self.lines[0])
        self.machine.refuses = None
        self.watch.lookClosely()
        self.assertEqual(self.machine.addresses, OWN)

    def test_moved(self) -> None:
        """If it is in another namespace, that is told once."""
        self.watch.start()
        self.machine.names.clear()
        self.watch.lookClosely()
        self.watch.look()
        self.assertEqual(self.lost, [errno.ENODEV])

    def test_noDescriptor(self) -> None:
        """Without a descriptor to ask the kernel with, nothing is known, and nothing is lost."""
        self.watch.start()
        self.machine.mute = _osError(errno.EMFILE)
        self.watch.lookClosely()
        self.assertEqual(self.lost, [])
        self.machine.mute = None
        self.machine.names.clear()
        self.watch.look()
        self.assertEqual(self.lost, [errno.ENODEV])

    def test_deleted(self) -> None:
        """Of a device that is deleted its reader tells."""
        self.watch.start()
        self.machine.names.clear()
        self.machine.deleted = True
        self.watch.lookClosely()
        self.assertEqual(self.lost, [])

    def test_stopped(self) -> None:
        """After the stop nothing is looked at."""
        self.watch.start()
        self.watch.stop()
        self.machine.names.clear()
        self.watch.look()
        self.watch.lookClosely()
        self.assertEqual(self.lost, [])


class DeletedTests(SynchronousTestCase):
    """L{isDeleted}."""

    def test_error(self) -> None:
        """The kernel reports an error on the descriptor of a device that is deleted."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        self.assertFalse(isDeleted(writing))
        os.close(reading)
        self.assertTrue(isDeleted(writing))
