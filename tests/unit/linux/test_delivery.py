"""
Tests for L{nanotun.linux.delivery}.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux.delivery import LOOK, PATIENCE, Delivery, received, unsent


class Transport:
    """
    What is read of Twisted's.

    @ivar calls: the names of the methods that were called.
    """

    def __init__(self, own: socket.socket) -> None:
        self.connected = True
        self.dataBuffer = b""
        self.offset = 0
        self._tempDataLen = 0
        self.getHandle = lambda: own
        self.calls: list[str] = []

    def unregisterProducer(self) -> None:
        """See L{IConsumer}."""
        self.calls.append("unregisterProducer")

    def pauseProducing(self) -> None:
        """See L{IPushProducer}."""
        self.calls.append("pauseProducing")


class DeliveryTests(SynchronousTestCase):
    """Connections whose other end is slow."""

    def setUp(self) -> None:
        """Connect."""
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            self.own = socket.create_connection(listener.getsockname())
            self.other, _ = listener.accept()
        self.own.setblocking(False)
        self.addCleanup(self.own.close)
        self.addCleanup(self.other.close)
        self.transport = Transport(self.own)
        self.clock = Clock()
        self.ended: list[float] = []

    def fill(self) -> None:
        """Send what the kernel takes."""
        try:
            while True:
                self.own.send(bytes(65536))
        except BlockingIOError:
            pass

    def deliver(self) -> Delivery:
        """Wait for the delivery."""
        return Delivery(self.transport, self.clock, lambda: self.ended.append(self.clock.seconds()))

    def advance(self, seconds: float) -> None:
        """Let time pass, one look after another."""
        self.clock.pump([LOOK] * round(seconds / LOOK))

    def test_nothing(self) -> None:
        """Where nothing is left, that is told at once."""
        self.deliver()
        self.assertEqual(self.ended, [0.0])
        self.assertEqual(self.transport.calls, ["unregisterProducer", "pauseProducing"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_taken(self) -> None:
        """The other end may be as slow as it likes, as long as it takes something."""
        self.fill()
        self.deliver()
        for _ in range(5):
            self.advance(PATIENCE - 1)
            self.assertEqual(self.ended, [])
            before = unsent(self.transport)
            while unsent(self.transport) == before:
                self.other.recv(1 << 16)
        while unsent(self.transport):
            self.other.recv(1 << 20)
        self.advance(LOOK)
        self.assertEqual(len(self.ended), 1)

    def test_notTaken(self) -> None:
        """The other end that takes nothing is given up after a while."""
        self.fill()
        self.deliver()
        self.advance(PATIENCE - 1)
        self.assertEqual(self.ended, [])
        self.advance(1 + LOOK)
        self.assertEqual(len(self.ended), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_buffered(self) -> None:
        """What the transport has not given to the kernel is left, too."""
        self.transport.dataBuffer, self.transport.offset = b"12345", 2
        self.transport._tempDataLen = 4
        self.assertEqual(unsent(self.transport), 7)

    def test_gone(self) -> None:
        """The other end that resets is not waited for, nor one whose connection is closed."""
        self.fill()
        self.other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.other.close()
        self.deliver()
        self.transport.connected = False
        self.deliver()
        self.assertEqual(self.ended, [0.0, 0.0])

    def test_stop(self) -> None:
        """Nothing is told after a stop."""
        self.fill()
        delivery: Any = self.deliver()
        delivery.stop()
        delivery.stop()
        self.advance(PATIENCE + 1)
        self.assertEqual(self.ended, [])

    def test_received(self) -> None:
        """What came before a reset can be read after it, and where nothing came there is none."""
        self.assertEqual(received(self.transport), b"")
        self.other.sendall(b"before")
        self.other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.other.close()
        self.assertEqual(received(self.transport), b"before")
        self.assertEqual(received(self.transport), b"")
