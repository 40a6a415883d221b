"""
Tests for L{nanotun.linux.locality}.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux import locality
from nanotun.linux.locality import LIMIT, MAX_AGE, Locality, isOwnAddress


class OwnAddressTests(SynchronousTestCase):
    """Tests for L{isOwnAddress}."""

    def test_own(self) -> None:
        """The loopback addresses are this machine's."""
        self.assertTrue(isOwnAddress("127.0.0.1"))
        if socket.has_ipv6:
            self.assertTrue(isOwnAddress("::1"))

    def test_others(self) -> None:
        """Addresses of documentation, nonsense and names are not this machine's."""
        for host in ("192.0.2.1", "198.51.100.7", "2001:db8::1", "fe80::1", "", "999.1.1.1"):
            self.assertFalse(isOwnAddress(host), host)
        for host in ("0.0.0.0", "::", "255.255.255.255", "224.0.0.1", "ff02::1", "localhost"):
            self.assertFalse(isOwnAddress(host), host)

    def test_anythingBinds(self) -> None:
        """If any address can be bound, the source address of packets to it decides."""
        real = socket.socket

        class Binds(real):  # type: ignore[misc, valid-type]
            def bind(self, address: Any) -> None:
                """As with ip_nonlocal_bind."""

        self.patch(socket, "socket", Binds)
        self.assertTrue(isOwnAddress("127.0.0.1"))
        self.assertFalse(isOwnAddress("192.0.2.7"))

    def test_probes(self) -> None:
        """One socket serves any number of questions about others' addresses, and none leaks."""
        opened: list[socket.socket] = []
        real = socket.socket

        def counted(*arguments: Any) -> socket.socket:
            opened.append(real(*arguments))
            return opened[-1]

        self.patch(socket, "socket", counted)
        asked = Locality(Clock().seconds)
        for number in range(50):
            self.assertFalse(asked.isLocal(f"198.51.100.{number}"))
        (probe,) = opened
        self.assertTrue(asked.isLocal("127.0.0.1"))
        self.assertEqual(probe.fileno(), -1)
        self.assertFalse(asked.isLocal("198.51.100.77"))
        self.addCleanup(opened[-1].close)

    def test_noDescriptor(self) -> None:
        """Without file descriptors an OSError is raised."""

        def full(*arguments: Any) -> socket.socket:
            raise OSError(errno.EMFILE, "Too many open files")

        self.patch(socket, "socket", full)
        for host in ("127.0.0.1", "192.0.2.1", "::1"):
            self.assertRaises(OSError, isOwnAddress, host)

    def test_noFamily(self) -> None:
        """Without IPv6 none of its addresses is this machine's."""

        def none(*arguments: Any) -> socket.socket:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

        self.patch(socket, "socket", none)
        self.assertFalse(isOwnAddress("::1"))


class LocalityTests(SynchronousTestCase):
    """Tests for L{Locality}."""

    def setUp(self) -> None:
        """Count what the kernel is asked."""
        self.clock = Clock()
        self.asked: list[str] = []
        self.error: OSError | None = None
        self.patch(locality, "isOwnAddress", self.isOwn)
        self.locality = Locality(self.clock.seconds)

    def isOwn(self, host: str, probes: object) -> bool:
        """Instead of the kernel."""
        self.asked.append(host)
        if self.error is not None:
            raise self.error
        return host == "own"

    def test_device(self) -> None:
        """The kernel's addresses on the device are local in any namespace, unlike others."""

        def none(host: str, probes: object) -> bool:
            return False

        self.patch(locality, "isOwnAddress", none)
        asked = Locality(Clock().seconds)
        for host in ("198.18.0.2", "fdfe:dcba:9876::2"):
            self.assertTrue(asked.isLocal(host), host)
        for host in ("198.18.0.1", "198.18.0.3", "fdfe:dcba:9876::3"):
            self.assertFalse(asked.isLocal(host), host)

    def test_remembered(self) -> None:
        """The kernel is asked once in some seconds, whatever it answers."""
        for _ in range(3):
            self.assertTrue(self.locality.isLocal("own"))
            self.assertFalse(self.locality.isLocal("other"))
        self.assertEqual(self.asked, ["own", "other"])
        self.clock.advance(MAX_AGE)
        self.locality.isLocal("own")
        self.assertEqual(self.asked, ["own", "other", "own"])

    def test_forgotten(self) -> None:
        """Once addresses may have changed, the kernel is asked again."""
        for _ in range(3):
            self.locality.isLocal("own")
            self.locality.isLocal("other")
        self.locality.forget()
        for _ in range(3):
            self.locality.isLocal("own")
        self.assertEqual(self.asked, ["own", "other", "own"])

    def test_notKnown(self) -> None:
        """While the kernel cannot be asked, the last answer is used, and none is remembered."""
        self.locality.isLocal("own")
        self.error = OSError(errno.EMFILE, "Too many open files")
        for _ in range(3):
            self.clock.advance(MAX_AGE)
            self.assertTrue(self.locality.isLocal("own"))
        self.assertFalse(self.locality.isLocal("new own"))
        self.assertEqual(self.asked[1:], ["own"] * 3 + ["new own"])
        self.error = None
        self.locality.isLocal("own")
        self.locality.isLocal("new own")
        self.assertEqual(self.asked[5:], ["own", "new own"])

    def test_bounded(self) -> None:
        """The number of remembered addresses is bounded."""
        for number in range(3 * LIMIT):
            self.locality.isLocal(str(number))
            self.assertLessEqual(len(self.locality._known), LIMIT)
