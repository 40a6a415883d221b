"""
Tests of L{nanotun.routing.alone}.
"""

from __future__ import annotations

from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.errors import RoutingError
from nanotun.interfaces import IPart
from nanotun.linux.network import Address
from nanotun.routing.alone import Alone
from nanotun.routing.values import Interface, Route
from nanotun.testing import MemoryRoutes


class AloneTests(SynchronousTestCase):
    """L{Alone}."""

    def setUp(self) -> None:
        """Make a machine on which no daemon runs."""
        self.kernel = MemoryRoutes(Interface("nano0"), Interface("nano1"))
        self.addresses = [Address("up0", "192.168.1.2", ip_network("192.168.1.2/32"))]

    def start(self, catches: bool, device: str = "nano1") -> str:
        """Start the part; returns the error, or an empty string."""
        part = Alone(self.kernel, device, catches, lambda: self.addresses)
        verifyObject(IPart, part)
        try:
            part.start()
        except RoutingError as error:
            return str(error)
        finally:
            self.assertTrue(self.kernel.closed)
        part.stop()
        return ""

    def daemon(self, device: str) -> None:
        """Another daemon has made its device."""
        self.addresses.append(Address(device, "198.18.0.2", ip_network("198.18.0.2/32")))

    def test_alone(self) -> None:
        """Where no other daemon runs, nothing happens; a device of our own name is no other."""
        self.assertEqual((self.start(True), self.start(False)), ("", ""))
        self.daemon("nano1")
        self.kernel.addRoute(Route(4, "nano1"))
        self.assertEqual((self.start(True), self.start(False)), ("", ""))

    def test_catching(self) -> None:
        """Beside a daemon that sends the machine's traffic into its device there is no other."""
        self.daemon("nano0")
        self.kernel.addRoute(Route(6, "nano0"))
        for catches in (True, False):
            said = self.start(catches)
            self.assertIn("sends this machine's traffic into its device nano0", said)
            self.assertIn("'nanotun run' works beside it", said)

    def test_beside(self) -> None:
        """Two that leave the routes alone run beside each other; one that does not is refused."""
        self.daemon("nano0")
        self.assertEqual(self.start(False), "")
        said = self.start(True)
        self.assertIn("has the device nano0, which would get no packets any more", said)
        self.assertIn("--no-auto-route", said)

    def test_noAnswer(self) -> None:
        """If the kernel does not answer, the error is one sentence."""

        def refuse() -> list[Address]:
            raise OSError(1, "Operation not permitted")

        part = Alone(self.kernel, "nano1", True, refuse)
        error = self.assertRaises(RoutingError, part.start)
        self.assertIn("Operation not permitted", str(error))
