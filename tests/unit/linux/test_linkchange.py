"""
Tests for L{nanotun.linux.linkchange}; with the kernel, C{tests.e2e.test_daemon}.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux import netlink
from nanotun.linux.linkchange import LinkChanges


class FakeKernel:
    """The other end of the socket: acknowledges what is sent, or refuses it."""

    def __init__(self, number: int = 0) -> None:
        self.sent: list[bytes] = []
        self.closed = False
        self._number = number

    def send(self, data: bytes) -> None:
        """Note a message."""
        self.sent.append(data)

    def recv(self, size: int) -> bytes:
        """An answer to somebody else, then ours."""
        sequence = netlink.HEADER.unpack_from(self.sent[-1])[3]
        foreign = netlink.pack(netlink.NLMSG_ERROR, 0, 77, struct.pack("=i", -errno.EPERM))
        return foreign + netlink.pack(
            netlink.NLMSG_ERROR, 0, sequence, struct.pack("=i", -self._number)
        )

    def close(self) -> None:
        """Note it."""
        self.closed = True


class LinkChangesTests(SynchronousTestCase):
    """Tests for L{LinkChanges}."""

    if sys.byteorder != "little":
        skip = "the expected bytes are those of a little-endian machine"

    def opened(self, number: int = 0) -> tuple[LinkChanges, FakeKernel]:
        """A socket to a kernel that refuses with an errno, or with 0 does as it is told."""
        kernel: Any = FakeKernel(number)
        self.patch(netlink, "openNetlink", lambda protocol, blocking: kernel)
        return LinkChanges(), kernel

    def test_link(self) -> None:
        """Each change names the interface, and nothing else of it is touched."""
        changes, kernel = self.opened()
        with changes:
            changes.resize(7, 1400, 4096)
            changes.setUp(7, True)
            changes.setUp(7, False)
            changes.rename(7, "nano0")
        header = "{} 1000 0500 {}000000 00000000"
        expected = (
            header.format("30000000", "01")
            + "0000 0000 07000000 00000000 00000000 08000400 78050000 08000d00 00100000",
            header.format("20000000", "02") + "0000 0000 07000000 01000000 01000000",
            header.format("20000000", "03") + "0000 0000 07000000 00000000 01000000",
            header.format("2c000000", "04")
            + "0000 0000 07000000 00000000 00000000 0a000300 6e616e6f30 00 0000",
        )
        self.assertEqual(kernel.sent, [bytes.fromhex(each) for each in expected])
        self.assertTrue(kernel.closed)

    def test_address(self) -> None:
        """An address is made, never replaced, and an IPv4 one is the interface's own."""
        changes, kernel = self.opened()
        with changes:
            changes.addAddress(7, "198.18.0.2", 30)
            changes.addAddress(7, "fdfe:dcba:9876::2", 126, flags=2)
        four = socket.inet_aton("198.18.0.2").hex()
        six = socket.inet_pton(socket.AF_INET6, "fdfe:dcba:9876::2").hex()
        expected = (
            "28000000 1400 0506 01000000 00000000 021e0000 07000000"
            f"08000100 {four} 08000200 {four}",
            f"34000000 1400 0506 02000000 00000000 0a7e0000 07000000 14000100 {six}"
            "08000800 02000000",
        )
        self.assertEqual(kernel.sent, [bytes.fromhex(each) for each in expected])

    def test_route(self) -> None:
        """A default route is one of the table main that is new."""
        changes, kernel = self.opened()
        with changes:
            changes.addDefaultRoute(7, "198.18.0.1")
        expected = (
            "2c000000 1800 0506 01000000 00000000 02000000 fe040001 00000000"
            f"08000500 {socket.inet_aton('198.18.0.1').hex()} 08000400 07000000"
        )
        self.assertEqual(kernel.sent, [bytes.fromhex(expected)])

    def test_refused(self) -> None:
        """The kernel's refusal is the errno's own exception, and the socket is closed."""
        changes, kernel = self.opened(errno.EEXIST)
        with self.assertRaises(FileExistsError), changes:
            changes.rename(7, "nano0")
        self.assertTrue(kernel.closed)
