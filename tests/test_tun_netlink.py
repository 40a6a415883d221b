"""
Tests for L{nanotun.tun.netlink}, with a socket of Python; the kernel's is in
tests/contracts_real.py.
"""

from __future__ import annotations

import errno
import struct
import sys

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun.tun.netlink import RouteSocket


class FakeSocket:
    """
    Answers as the kernel does.

    @ivar error: the errno of the next answer.
    @ivar answer: the next answer itself, if set.
    """

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.error = 0
        self.answer: bytes | None = None
        self.closed = False

    def send(self, data: bytes) -> None:
        """Note it."""
        self.sent.append(data)

    def recv(self, limit: int) -> bytes:
        """An answer to what was sent last: its header, and all of it again."""
        if self.answer is not None:
            return self.answer
        sequence = self.sent[-1][8:12]
        body = struct.pack("=i", -self.error) + self.sent[-1]
        return struct.pack("=IHH", 16 + len(body), 2, 0) + sequence + bytes(4) + body

    def close(self) -> None:
        """Note it."""
        self.closed = True


class RouteSocketTests(SynchronousTestCase):
    """
    Tests for L{RouteSocket}.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        self.socket = FakeSocket()
        self.route = RouteSocket(lambda: self.socket)

    def test_bytes(self) -> None:
        """
        The requests are what strace(1) shows of ip(8), but for the sequence number
        and the interface's.
        """
        if sys.byteorder != "little":
            raise SkipTest("written down on a little-endian machine")
        self.route.setSizes(7, 1400, 4096)
        self.route.setUp(7)
        self.route.addAddress(7, "198.18.0.2/30")
        self.route.addAddress(7, "fdfe:dcba:9876::2/126", 2)
        address6 = "fdfedcba987600000000000000000002"
        self.assertEqual(
            [each.hex() for each in self.socket.sent],
            [
                # ip link set dev nano0 mtu 1400 txqueuelen 4096
                "3000000010000500" "01000000" "00000000" "0000000007000000" "0000000000000000"
                "0800040078050000" "08000d0000100000",
                # ip link set dev nano0 up
                "2000000010000500" "02000000" "00000000" "0000000007000000" "0100000001000000",
                # ip address add 198.18.0.2/30 dev nano0
                "2800000014000506" "03000000" "00000000" "021e000007000000"
                "08000200c6120002" "08000100c6120002",
                # ip address add fdfe:dcba:9876::2/126 dev nano0 nodad
                "4000000014000506" "04000000" "00000000" "0a7e020007000000"
                f"14000200{address6}" f"14000100{address6}",
            ],
        )  # fmt: skip

    def test_refused(self) -> None:
        """
        What the kernel refuses is an L{OSError}, and the next request works.
        """
        self.socket.error = errno.EEXIST
        error = self.assertRaises(OSError, self.route.addAddress, 7, "198.18.0.2/30")
        self.assertEqual(error.errno, errno.EEXIST)
        self.socket.error = 0
        self.route.setUp(7)

    def test_nonsense(self) -> None:
        """
        An answer that is none, or not to this request, is an L{OSError}.
        """
        good = struct.pack("=IHHIIi", 20, 2, 0, 1, 0, 0)
        for answer in (b"", good[:-1], struct.pack("=IHHIIi", 20, 3, 0, 2, 0, 0), good):
            self.route._sequence = 1
            self.socket.answer = answer
            error = self.assertRaises(OSError, self.route.setUp, 7)
            self.assertEqual(error.errno, errno.EPROTO)

    def test_closed(self) -> None:
        """
        The socket is closed in the end.
        """
        with self.route as route:
            self.assertGreater(route.indexOf("lo"), 0)
            self.assertRaises(OSError, route.indexOf, "nantest9")
            self.assertFalse(self.socket.closed)
        self.assertTrue(self.socket.closed)
