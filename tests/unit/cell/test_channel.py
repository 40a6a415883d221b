"""Tests of L{nanotun.cell.channel} and L{nanotun.cell.device}."""

from __future__ import annotations

import os
from typing import cast

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.cell.channel import Channel, ChannelClosed, makePair
from nanotun.cell.device import CellTun, CellTunOpener
from nanotun.errors import DeviceError
from nanotun.interfaces import ITunDevice, ITunOpener


class PairCase(SynchronousTestCase):
    """Provides both ends of a channel."""

    def setUp(self) -> None:
        """Make both ends."""
        self.ours, theirs = makePair()
        self.theirs = Channel(theirs)
        self.addCleanup(self.ours.close)
        self.addCleanup(self.theirs.close)

    def pipe(self) -> tuple[int, int]:
        """A pipe that is closed after the test, if it is still open."""
        ends = os.pipe()
        for end in ends:
            self.addCleanup(self._close, end)
        return ends

    def _close(self, fd: int) -> None:
        try:
            os.close(fd)
        except OSError:
            return


class ChannelTests(PairCase):
    """L{Channel}."""

    def test_messages(self) -> None:
        """Messages arrive one by one, as they were sent."""
        self.ours.send(open=["nano0", 1500, "auto"])
        self.ours.send(run=True)
        self.assertEqual(self.theirs.receive(), ({"open": ["nano0", 1500, "auto"]}, None))
        self.assertEqual(self.theirs.receive(), ({"run": True}, None))

    def test_fd(self) -> None:
        """A file descriptor arrives with its message; the command does not inherit it."""
        reader, writer = self.pipe()
        self.ours.send(reader, name="x")
        message, fd = self.theirs.receive()
        assert fd is not None
        self.addCleanup(os.close, fd)
        self.assertEqual(message, {"name": "x"})
        os.write(writer, b"hello")
        self.assertEqual(os.read(fd, 10), b"hello")
        self.assertFalse(os.get_inheritable(fd))

    def test_closed(self) -> None:
        """The peer's end is reported after its last messages."""
        self.theirs.send(ended=3)
        self.theirs.close()
        self.assertRaises(ChannelClosed, self.ours.send, run=True)
        self.assertEqual(self.ours.receive(), ({"ended": 3}, None))
        self.assertRaises(ChannelClosed, self.ours.receive)
        self.ours.close()
        self.assertRaises(ChannelClosed, self.ours.receive)

    def test_timeout(self) -> None:
        """Waiting for a message has a time limit."""
        self.assertRaises(TimeoutError, self.ours.receive, 0.0001)


class OpenerTests(PairCase):
    """L{CellTunOpener}."""

    def setUp(self) -> None:
        """Make an opener."""
        super().setUp()
        self.opener = CellTunOpener(self.ours)

    def answer(self, fd: int | None = None, **message: object) -> None:
        """Let the helper send a message."""
        self.theirs.send(fd, **message)

    def test_interfaces(self) -> None:
        """Opener and device provide their interfaces."""
        verifyObject(ITunOpener, self.opener)
        verifyObject(ITunDevice, CellTun(-1, "nano0", 1500, 10))

    def test_open(self) -> None:
        """The helper is asked for the device; closing the device closes its fd."""
        reader, _ = self.pipe()
        self.answer(reader, name="nano0", mtu=1400, vnetHeader=10, notes=[])
        device = self.opener.open("nano0", 1400, "auto")
        self.assertEqual(self.theirs.receive(), ({"open": ["nano0", 1400, "auto"]}, None))
        self.assertEqual((device.name, device.mtu, device.vnetHeader), ("nano0", 1400, 10))
        fd = device.fileno()
        os.fstat(fd)
        device.close()
        device.close()
        self.assertRaises(OSError, os.fstat, fd)

    def test_notes(self) -> None:
        """The helper's warnings are logged."""
        events: list[LogEvent] = []
        observer = cast(ILogObserver, events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        reader, _ = self.pipe()
        self.answer(reader, name="nano0", mtu=1500, vnetHeader=0, notes=["slow here."])
        self.opener.open("nano0", 1500, "auto").close()
        self.assertEqual([event.get("note") for event in events], ["slow here."])

    def test_failed(self) -> None:
        """If the helper cannot make a device, its reason is the error."""
        self.answer(failed="there is no /dev/net/tun.")
        error = self.assertRaises(DeviceError, self.opener.open, "nano0", 1500, "auto")
        self.assertEqual(str(error), "there is no /dev/net/tun.")

    def test_failedBefore(self) -> None:
        """The last message of a helper that could not be asked any more is still read."""
        self.answer(failed="no mounts here.")
        self.theirs.close()
        error = self.assertRaises(DeviceError, self.opener.open, "nano0", 1500, "auto")
        self.assertEqual(str(error), "no mounts here.")

    def test_gone(self) -> None:
        """The error for a helper that ended silently is one sentence."""
        self.theirs.close()
        error = self.assertRaises(DeviceError, self.opener.open, "nano0", 1500, "auto")
        self.assertIn("the process that makes the command's network ended", str(error))
