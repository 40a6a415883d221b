"""
Tests of L{nanotun.linux.marked}, with netlink messages of Python; the kernel's are in
tests/e2e/test_changes.py.
"""

from __future__ import annotations

import errno
import socket
import struct

from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux import netlink
from nanotun.linux.marked import MarkedSocket, destroy, markedSockets
from nanotun.linux.netlink import Message


def ident(family: int, local: str, remote: str) -> bytes:
    """A socket's id."""
    ends = [socket.inet_pton(family, host).ljust(16, b"\0") for host in (local, remote)]
    return struct.pack("!HH", 40000, 1080) + ends[0] + ends[1] + b"i" * 4 + b"cookie!!"


class MarkedSocketsTests(SynchronousTestCase):
    """L{markedSockets}."""

    def test_read(self) -> None:
        """Connections of both families are read; what is cut short is left out."""
        sockets = {
            socket.AF_INET: ident(socket.AF_INET, "192.0.2.7", "192.0.2.1"),
            socket.AF_INET6: ident(socket.AF_INET6, "2001:db8::7", "2001:db8::1"),
        }
        asked: list[bytes] = []

        def dump(protocol: int, kind: int, body: bytes) -> list[tuple[bytes, Message]]:
            self.assertEqual((protocol, kind), (netlink.SOCK_DIAG, 20))
            asked.append(body)
            family = body[0]
            data = bytes((family, 1, 0, 0)) + sockets[socket.AddressFamily(family)] + bytes(20)
            whole = data, Message(20, 0, 1, 0, len(data))
            return [whole, (data, Message(20, 0, 1, 0, 20)), (data, Message(3, 0, 1, 0, len(data)))]

        self.patch(netlink, "dump", dump)
        self.assertEqual(
            markedSockets(),
            [
                MarkedSocket(socket.AF_INET, "192.0.2.7", "192.0.2.1", sockets[socket.AF_INET]),
                MarkedSocket(
                    socket.AF_INET6, "2001:db8::7", "2001:db8::1", sockets[socket.AF_INET6]
                ),
            ],
        )
        # The kernel leaves all others out.
        for body in asked:
            self.assertTrue(body.endswith(struct.pack("=BBHII", 10, 12, 16, 0x6E74, 0xFFFFFFFF)))


class DestroyTests(SynchronousTestCase):
    """L{destroy}."""

    def answer(self, number: int) -> None:
        """The kernel answers with an errno; the question is kept."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(far.close)
        far.send(netlink.pack(netlink.NLMSG_ERROR, 0, 1, struct.pack("=i", -number) + bytes(16)))
        self.far = far
        self.patch(netlink, "openNetlink", lambda protocol, blocking: near)

    def test_ended(self) -> None:
        """The kernel is told which, by its id; one that has ended already is no error."""
        name = ident(socket.AF_INET, "192.0.2.7", "192.0.2.1")
        for number in (0, errno.ENOENT):
            self.answer(number)
            destroy(MarkedSocket(socket.AF_INET, "192.0.2.7", "192.0.2.1", name))
            question = self.far.recv(1000)
            self.assertEqual(question[4], 21)
            self.assertTrue(question.endswith(name))

    def test_refused(self) -> None:
        """A kernel that cannot do it says so."""
        self.answer(errno.EOPNOTSUPP)
        ended = MarkedSocket(socket.AF_INET, "", "", bytes(48))
        error = self.assertRaises(OSError, destroy, ended)
        self.assertEqual(error.errno, errno.EOPNOTSUPP)
