"""Tests of L{nanotun.linux.markedroute}."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from nanotun.interfaces import IPart
from nanotun.linux.markedroute import (
    LIMIT,
    MAX_AGE,
    NLMSGHDR,
    RTA_OIF,
    RTM_NEWROUTE,
    RTMSG,
    MarkedRoute,
    openNetlink,
    routeInterface,
    routeRequest,
)


class FakeKernel:
    """
    A netlink socket whose kernel sends everything by one interface.

    @ivar asked: the questions.
    @ivar noise: what arrives before the next answer.
    """

    def __init__(self, index: int = 1) -> None:
        self.index = index
        self.asked: list[bytes] = []
        self.noise: list[tuple[bytes, tuple[int, int]]] = []
        self.closed = 0
        self.broken: OSError | None = None

    def sendto(self, data: bytes, address: tuple[int, int]) -> None:
        """A question."""
        if self.broken is not None:
            raise self.broken
        self.asked.append(data)

    def recvfrom(self, limit: int) -> tuple[bytes, tuple[int, int]]:
        """Its answer."""
        if self.noise:
            return self.noise.pop(0)
        sequence = NLMSGHDR.unpack_from(self.asked[-1])[3]
        return answer(self.index, sequence), (0, 0)

    def close(self) -> None:
        """Count it."""
        self.closed += 1


def answer(index: int, sequence: int, kind: int = RTM_NEWROUTE) -> bytes:
    """A kernel's answer: an attribute of three bytes, then the interface."""
    attributes = struct.pack("=HH3sx", 7, 15, b"abc") + struct.pack("=HHI", 8, RTA_OIF, index)
    body = RTMSG.pack(2, 32, 0, 0, 254, 0, 0, 1, 0) + attributes
    return NLMSGHDR.pack(NLMSGHDR.size + len(body), kind, 0, sequence, 0) + body


class WaysTests(SynchronousTestCase):
    """L{MarkedRoute}, with a kernel of memory; C{lo} is the device."""

    def setUp(self) -> None:
        """Make what the tests use."""
        self.clock = Clock()
        self.kernel = FakeKernel(socket.if_nametoindex("lo"))
        self.ways = self.makeWays("lo")

    def makeWays(self, device: str) -> MarkedRoute:
        """Ways into a device."""
        self.made = 0

        def makeSocket() -> FakeKernel:
            self.made += 1
            return self.kernel

        made = MarkedRoute(device, self.clock.seconds, makeSocket=makeSocket)
        self.warnings: list[Any] = []
        made._log = Logger(observer=self.warnings.append)  # type: ignore[arg-type, misc]
        return made

    def test_interface(self) -> None:
        """It is a part of the daemon, which closes its socket, once."""
        verifyClass(IPart, MarkedRoute)
        verifyObject(IPart, self.ways)
        self.ways.start()
        self.assertTrue(self.ways.leadsIn("192.0.2.1"))
        self.ways.stop()
        self.ways.stop()
        self.assertEqual((self.kernel.closed, self.made), (1, 1))

    def test_noSocket(self) -> None:
        """Where there is no socket to be had at the start it is made when it is needed."""

        def refuse() -> None:
            raise OSError(24, "Too many open files")

        self.ways._makeSocket = refuse
        self.ways.start()
        self.assertFalse(self.ways.leadsIn("192.0.2.1"))
        self.ways._makeSocket = lambda: self.kernel
        self.assertTrue(self.ways.leadsIn("192.0.2.1"))

    def test_answer(self) -> None:
        """It is the device's interface or it is not."""
        self.assertTrue(self.ways.leadsIn("192.0.2.1"))
        self.kernel.index += 1
        self.assertFalse(self.ways.leadsIn("2001:db8::1"))

    def test_remembered(self) -> None:
        """An answer is used for a while, and not longer."""
        for _ in range(3):
            self.ways.leadsIn("192.0.2.1")
        self.assertEqual(len(self.kernel.asked), 1)
        self.clock.advance(MAX_AGE)
        self.ways.leadsIn("192.0.2.1")
        self.assertEqual(len(self.kernel.asked), 2)

    def test_bounded(self) -> None:
        """There is a limit to what is remembered."""
        for number in range(LIMIT + 10):
            self.ways.leadsIn(f"10.0.{number >> 8}.{number & 255}")
        self.assertLessEqual(len(self.ways._known), LIMIT)

    def test_noDevice(self) -> None:
        """Where the device is not there no way leads into it, and nobody is asked."""
        self.assertFalse(self.makeWays("nosuch0").leadsIn("192.0.2.1"))
        self.assertEqual(self.kernel.asked, [])

    def test_broken(self) -> None:
        """A kernel that cannot be asked is told of once; nothing is remembered of it."""
        self.kernel.broken = OSError(12, "no memory")
        for _ in range(3):
            self.assertFalse(self.ways.leadsIn("192.0.2.1"))
        self.assertEqual((self.ways.failures, len(self.warnings)), (3, 1))
        self.kernel.broken = None
        self.assertTrue(self.ways.leadsIn("192.0.2.1"))

    def test_noise(self) -> None:
        """Answers to somebody else's question, or by somebody else, are passed over."""
        self.kernel.noise = [(answer(99, 77), (0, 0)), (answer(99, 1), (4711, 0))]
        self.assertTrue(self.ways.leadsIn("192.0.2.1"))

    def test_short(self) -> None:
        """An answer that is cut off is no answer."""
        self.kernel.noise = [(b"abc", (0, 0))]
        self.assertFalse(self.ways.leadsIn("192.0.2.1"))
        self.assertEqual(self.ways.failures, 1)

    def test_request(self) -> None:
        """The question as iproute2 asks it: C{ip route get 192.0.2.1 mark 0x6e74}."""
        expected = "0200000000000000 00000000 08000100c0000201 08001000746e0000"
        header = "2c0000001a000100" + "05000000" + "00000000"
        expected = expected.replace("0200", "0220", 1)
        request = routeRequest("192.0.2.1", 0x6E74, 5)
        if struct.pack("=H", 1) == b"\1\0":
            self.assertEqual(request.hex(), (header + expected).replace(" ", ""))
        self.assertEqual(len(routeRequest("2001:db8::1", 1, 1)), len(request) + 12)

    def test_noInterface(self) -> None:
        """No route, an error, or nonsense has no interface."""
        self.assertEqual(routeInterface(answer(3, 1)), 3)
        self.assertEqual(routeInterface(answer(3, 1, 2)), 0)
        self.assertEqual(routeInterface(answer(3, 1)[:30]), 0)
        zeros = NLMSGHDR.pack(99, RTM_NEWROUTE, 0, 1, 0) + bytes(83)
        self.assertEqual(routeInterface(zeros), 0)


class KernelTests(SynchronousTestCase):
    """The same with this machine's kernel."""

    def test_loopback(self) -> None:
        """Its own addresses are reached by the loopback."""
        found = MarkedRoute("lo", Clock().seconds)
        self.addCleanup(found.stop)
        self.assertTrue(found.leadsIn("127.0.0.1"))
        if socket.has_ipv6:
            found.leadsIn("::1")
        self.assertEqual(found.failures, 0)

    def test_socket(self) -> None:
        """The socket does not block."""
        with openNetlink() as opened:
            self.assertFalse(opened.getblocking())
            self.assertRaises(BlockingIOError, opened.recvfrom, 10)
