"""
Tests for L{nanotun.tun.port}.
"""

from __future__ import annotations

import errno

from twisted.internet.interfaces import ILoggingContext, IReadDescriptor
from twisted.internet.main import CONNECTION_LOST
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from nanotun.log.trouble import TroubleLog
from nanotun.router.router import FlowRouter
from nanotun.testing import (
    FAKE_FD,
    FakeGateway,
    FakeJudge,
    FakeNames,
    FakeUpstream,
    FakeUpstreams,
    MemoryEngine,
    MemoryTunOpener,
)
from nanotun.tun.port import BUDGET, BUSY_GAP, BUSY_READS, DOWN_INTERVAL, TunPort


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
        router = FlowRouter(
            FakeJudge(),
            FakeUpstreams(FakeUpstream(), FakeUpstream()),
            self.engine,
            FakeGateway(),
            self.reactor,
            False,
            FakeNames(),
            TroubleLog(self.reactor, Logger()),
        )
        self.engine.start(device, router)
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
        One turn reads a bounded number of packets.
        """
        self.engine.packets = BUDGET + 1
        self.assertIsNone(self.port.doRead())
        self.assertEqual(self.engine.packets, 1)

    def test_down(self) -> None:
        """
        A link that is down is tried again, without a warning.
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
        After a stop a link that is down is not tried again.
        """
        self.port.startReading()
        self.engine.pumpError = OSError(errno.EIO, "down")
        self.port.doRead()
        self.port.stopReading()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_lost(self) -> None:
        """
        A permanent error ends the reading and is reported once.
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
        An error on the fd alone counts as a lost device.
        """
        self.port.startReading()
        self.port.connectionLost(Failure(CONNECTION_LOST))
        self.assertEqual(self.lost, [errno.EBADFD])

    def readOften(self, gap: float = BUSY_GAP / 2) -> None:
        """The device is readable again and again."""
        for _ in range(BUSY_READS + 1):
            self.reactor.advance(gap)
            self.port.doRead()

    def test_busy(self) -> None:
        """
        A busy device is lent to the engine, and read again once it is returned.
        """
        self.port.startReading()
        self.readOften()
        self.assertEqual(self.reactor.getReaders(), [])
        self.engine.giveBack()
        self.assertEqual(self.reactor.getReaders(), [self.port])

    def test_flooded(self) -> None:
        """
        A device that has more packets than a turn takes is lent at once.
        """
        self.port.startReading()
        self.engine.packets = BUDGET + 1
        self.port.doRead()
        self.assertEqual(self.reactor.getReaders(), [])

    def test_notBusy(self) -> None:
        """
        A device with reads that are far apart is not lent.
        """
        self.port.startReading()
        self.readOften(BUSY_GAP * 2)
        self.assertEqual(self.reactor.getReaders(), [self.port])

    def test_stopWhileLent(self) -> None:
        """
        A port that was stopped in the meantime does not read a returned device.
        """
        self.port.startReading()
        self.readOften()
        self.port.stopReading()
        self.engine.giveBack()
        self.assertEqual(self.reactor.getReaders(), [])

    def test_startWhileLent(self) -> None:
        """
        Nor does it read before the device is returned.
        """
        self.port.startReading()
        self.readOften()
        self.port.stopReading()
        self.port.startReading()
        self.assertEqual(self.reactor.getReaders(), [])
        self.engine.giveBack()
        self.assertEqual(self.reactor.getReaders(), [self.port])
