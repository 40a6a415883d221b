"""Tests of L{nanotun.linux.markedroute}."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from nanotun.interfaces import IPart
from nanotun.linux.markedroute import LIMIT, MAX_AGE, MarkedRoute
from nanotun.linux.netlink import HEADER
from tests.unit.linux.rtnetlink_cases import routeAnswer


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
        sequence = HEADER.unpack_from(self.asked[-1])[3]
        return routeAnswer(self.index, sequence), (0, 0)

    def close(self) -> None:
        """Count it."""
        self.closed += 1


class MarkedRouteTests(SynchronousTestCase):
    """L{MarkedRoute}, with a kernel of memory; C{lo} is the device."""

    def setUp(self) -> None:
        """Make what the tests use."""
        self.clock = Clock()
        self.kernel = FakeKernel(socket.if_nametoindex("lo"))
        self.route = self.makeRoute("lo")

    def makeRoute(self, device: str) -> MarkedRoute:
        """The look-up of routes into a device."""
        self.made = 0

        def makeSocket() -> FakeKernel:
            self.made += 1
            return self.kernel

        made = MarkedRoute(device, self.clock.seconds, makeSocket=makeSocket)
        self.warnings: list[Any] = []
        made._log = Logger(observer=self.warnings.append)  # type: ignore[arg-type, misc]
        return made

    def test_interface(self) -> None:
        """It is a part, which closes its socket once."""
        verifyClass(IPart, MarkedRoute)
        verifyObject(IPart, self.route)
        self.route.start()
        self.assertTrue(self.route.leadsIn("192.0.2.1"))
        self.route.stop()
        self.route.stop()
        self.assertEqual((self.kernel.closed, self.made), (1, 1))

    def test_noSocket(self) -> None:
        """If the socket cannot be opened at the start, it is opened when it is needed."""

        def refuse() -> None:
            raise OSError(24, "Too many open files")

        self.route._makeSocket = refuse
        self.route.start()
        self.assertFalse(self.route.leadsIn("192.0.2.1"))
        self.route._makeSocket = lambda: self.kernel
        self.assertTrue(self.route.leadsIn("192.0.2.1"))

    def test_answer(self) -> None:
        """A route leads in if its interface is the device."""
        self.assertTrue(self.route.leadsIn("192.0.2.1"))
        self.kernel.index += 1
        self.assertFalse(self.route.leadsIn("2001:db8::1"))

    def test_remembered(self) -> None:
        """An answer is used for a limited time."""
        for _ in range(3):
            self.route.leadsIn("192.0.2.1")
        self.assertEqual(len(self.kernel.asked), 1)
        self.clock.advance(MAX_AGE)
        self.route.leadsIn("192.0.2.1")
        self.assertEqual(len(self.kernel.asked), 2)

    def test_bounded(self) -> None:
        """The number of remembered addresses is bounded."""
        for number in range(LIMIT + 10):
            self.route.leadsIn(f"10.0.{number >> 8}.{number & 255}")
        self.assertLessEqual(len(self.route._known), LIMIT)

    def test_noDevice(self) -> None:
        """While there is no device no route leads into it, and the kernel is not asked."""
        self.assertFalse(self.makeRoute("nosuch0").leadsIn("192.0.2.1"))
        self.assertEqual(self.kernel.asked, [])

    def test_broken(self) -> None:
        """A kernel that cannot be asked is logged once, and no answer is remembered."""
        self.kernel.broken = OSError(12, "no memory")
        for _ in range(3):
            self.assertFalse(self.route.leadsIn("192.0.2.1"))
        self.assertEqual((self.route.failures, len(self.warnings)), (3, 1))
        self.kernel.broken = None
        self.assertTrue(self.route.leadsIn("192.0.2.1"))

    def test_noise(self) -> None:
        """Answers to another question, or from another sender than the kernel, are ignored."""
        self.kernel.noise = [(routeAnswer(99, 77), (0, 0)), (routeAnswer(99, 1), (4711, 0))]
        self.assertTrue(self.route.leadsIn("192.0.2.1"))

    def test_short(self) -> None:
        """An answer that is cut off counts as a failure."""
        self.kernel.noise = [(b"abc", (0, 0))]
        self.assertFalse(self.route.leadsIn("192.0.2.1"))
        self.assertEqual(self.route.failures, 1)


class KernelTests(SynchronousTestCase):
    """The same with this machine's kernel."""

    def test_loopback(self) -> None:
        """The machine's own addresses are reached by the loopback."""
        found = MarkedRoute("lo", Clock().seconds)
        self.addCleanup(found.stop)
        self.assertTrue(found.leadsIn("127.0.0.1"))
        if socket.has_ipv6:
            found.leadsIn("::1")
        self.assertEqual(found.failures, 0)
