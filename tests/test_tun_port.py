"""
Tests for L{nanotun.tun.port}.
"""

from __future__ import annotations

import errno

from twisted.internet.interfaces import ILoggingContext, IReadDescriptor
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from nanotun.testing import FAKE_FD, MemoryEngine, MemoryTunOpener
from nanotun.tun.port import BUDGET, DOWN_INTERVAL, TunPort


class TunPortTests(SynchronousTestCase):
    """
    Tests for L{TunPort}.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        self.reactor = MemoryReactorClock()
        self.engine = MemoryEngine()
        self.lost: list[int] = []
        device = MemoryTunOpener().open("nano0", 1500, "off")
        self.port = TunPort(device, self.engine, self.reactor, self.lost.append)

    def test_interfaces(self) -> None:
        """
        It is a descriptor that the reactor can read and log about.
        """
        verifyClass(IReadDescriptor, TunPort)
        verifyObject(IReadDescriptor, self.port)
        verifyObject(ILoggingContext, self.port)
        self.assertEqual((self.port.fileno(), self.port.logPrefix()), (FAKE_FD, "tun"))

    def test_startStop(self) -> None:
        """
        It reads between start and stop; each may be repeated.
        """
        for _ in range(2):
            self.port.startReading()
            self.assertEqual(self.reactor.getReaders(), [self.port])
        for _ in range(2):
            self.port.stopReading()
            self.assertEqual(self.reactor.getReaders(), [])

    def test_budget(self) -> None:
        """
        One turn takes a bounded number of packets.
        """
        self.engine.packets = BUDGET + 1
        self.assertIsNone(self.port.doRead())
        self.assertEqual(self.engine.packets, 1)

    def test_down(self) -> None:
        """
        A link that is down is looked at again, quietly.
        """
        self.port.startReading()
        self.engine.pumpError = OSError(errno.EIO, "down")
        self.assertIsNone(self.port.doRead())
        self.assertEqual(self.reactor.getReaders(), [])
        self.reactor.advance(DOWN_INTERVAL)
        self.assertEqual(self.reactor.getReaders(), [self.port])
        self.assertEqual(self.lost, [])

    def test_stopWhileDown(self) -> None:
        """
        Stopping ends that too.
        """
        self.port.startReading()
        self.engine.pumpError = OSError(errno.EIO, "down")
        self.port.doRead()
        self.port.stopReading()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_lost(self) -> None:
        """
        An error for good ends the reading and is told once.
        """
        self.port.startReading()
        self.engine.pumpError = OSError(errno.EBADFD, "gone")
        why = self.port.doRead()
        assert why is not None
        # What the reactor does with it.
        self.port.connectionLost(Failure(why))
        self.port.connectionLost(Failure(why))
        self.assertEqual(self.lost, [errno.EBADFD])
        self.port.startReading()
        self.assertEqual(self.reactor.getReaders(), [])

    def test_pollError(self) -> None:
        """
        The kernel may say it by an error on the fd alone.
        """
        self.port.startReading()
        self.port.connectionLost(Failure(CONNECTION_LOST))
        self.assertEqual(self.lost, [errno.EBADFD])
