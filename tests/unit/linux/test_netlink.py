"""
Tests for L{nanotun.linux.netlink}, with bytes as the kernel has them.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys

from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux import netlink
from nanotun.linux.netlink import (
    Interrupted,
    Message,
    attributes,
    attributeValues,
    dump,
    errorOf,
    findAttribute,
    messages,
    openNetlink,
    osError,
    pack,
    packAttribute,
    readDump,
)
from tests.unit.linux.rtnetlink_cases import DONE, attribute, message

#: The nft generation as Linux 6.18 tells it: generation 258, of process 7 named nft.
GENERATION = bytes.fromhex(
    "2c0000000f0a00000100000007000000"  # struct nlmsghdr
    "00000002"  # struct nfgenmsg
    "0800010000000102"
    "0800020000000007"
    "080003006e667400"
)

#: RTM_GETROUTE for all routes, and an attribute of four bytes.
REQUEST = bytes.fromhex("180000001a000103" + "05000000" + "00000000" + "08000f00746e0000")


class CodecTests(SynchronousTestCase):
    """Tests of packing and reading."""

    if sys.byteorder != "little":
        skip = "the expected bytes are those of a little-endian machine"

    def test_pack(self) -> None:
        """A header says how long the message is, and attributes are padded."""
        body = packAttribute(15, struct.pack("=I", 0x6E74))
        self.assertEqual(pack(26, 0x301, 5, body), REQUEST)
        self.assertEqual(packAttribute(1, b"abc"), b"\7\0\1\0abc\0")
        self.assertEqual(packAttribute(1, b""), b"\4\0\1\0")

    def test_messages(self) -> None:
        """Each message of several is found, with its body's place."""
        found = list(messages(GENERATION + REQUEST))
        self.assertEqual(found[0], Message(0x0A0F, 0, 1, 16, 44))
        self.assertEqual(found[1], Message(26, 0x301, 5, 60, 68))

    def test_cut(self) -> None:
        """A message that is cut off, or claims less than its header, ends the reading."""
        for length in range(len(REQUEST)):
            self.assertEqual(list(messages(REQUEST[:length])), [])
            self.assertEqual(len(list(messages(GENERATION + REQUEST[:length]))), 1)
        self.assertEqual(list(messages(struct.pack("=IHHII", 4, 26, 0, 5, 0))), [])

    def test_padding(self) -> None:
        """A message of any length is followed by one that begins at four bytes."""
        odd = struct.pack("=IHHII", 17, 26, 0, 5, 0) + b"x\0\0\0"
        self.assertEqual([each.start for each in messages(odd + REQUEST)], [16, 36])

    def test_attributes(self) -> None:
        """Attributes are found by type, without the flags in it."""
        values = attributeValues(GENERATION, 20, 44)
        self.assertEqual(values, {1: b"\0\0\1\2", 2: b"\0\0\0\7", 3: b"nft\0"})
        self.assertEqual(findAttribute(GENERATION, 20, 44, 3), 40)
        self.assertEqual(findAttribute(GENERATION, 20, 44, 4), 0)
        nested = attribute(0x8000 | 18, attribute(1, b"tun\0"))
        self.assertEqual(list(attributes(nested, 0, len(nested))), [(18, 4, 12)])

    def test_badAttribute(self) -> None:
        """An attribute that claims no length, or more than there is, ends the reading."""
        good = attribute(1, b"abcd")
        for bad in (b"\0" * 8, struct.pack("=HHI", 12, 2, 0), b"\4\0"):
            self.assertEqual(attributeValues(good + bad, 0, len(good + bad)), {1: b"abcd"})

    def test_error(self) -> None:
        """An error's number is positive; a cut one is none."""
        refused = struct.pack("=IHHIIi", 20, 2, 0, 5, 0, -errno.EPERM)
        (found,) = messages(refused)
        self.assertEqual(errorOf(refused, found), errno.EPERM)
        self.assertEqual(errorOf(refused, found._replace(end=18)), 0)
        self.assertIsInstance(osError(errno.EPERM), PermissionError)


class DumpTests(SynchronousTestCase):
    """Tests for L{readDump} and L{dump}."""

    def test_parts(self) -> None:
        """A dump may come in several parts; the last one says so."""
        found: list[tuple[bytes, Message]] = []
        one = message(24, b"abcd")
        self.assertTrue(readDump(one * 2, found))
        self.assertFalse(readDump(one + DONE, found))
        self.assertEqual(
            [data[each.start : each.end] for data, each in found], [b"abcd", b"abcd", b"abcd"]
        )

    def test_errors(self) -> None:
        """What does not exist is empty; any other error is raised."""
        for error, raises in ((0, False), (errno.ENOENT, False), (errno.EPERM, True)):
            for kind in (2, 3):
                data = message(kind, struct.pack("=i", -error))
                if raises:
                    self.assertRaises(PermissionError, readDump, data, [])
                else:
                    self.assertFalse(readDump(data, []))

    def test_interrupted(self) -> None:
        """A dump that a change ran into has to be asked for again."""
        self.assertRaises(Interrupted, readDump, message(24, b"", 0x12), [])

    def answered(self, *parts: list[bytes]) -> list[bytes]:
        """Let a kernel answer each L{dump} with the next list of parts; note requests."""
        asked: list[bytes] = []
        waiting = list(parts)

        class Kernel:
            """A netlink socket."""

            def __enter__(self) -> Kernel:
                return self

            def __exit__(self, *reason: object) -> None:
                """Closed."""

            def setsockopt(self, *option: int) -> None:
                """As a kernel before 4.20."""
                raise OSError(errno.ENOPROTOOPT, "Protocol not available")

            def send(self, data: bytes) -> None:
                """The request."""
                asked.append(data)
                self.parts = waiting.pop(0)

            def recv(self, limit: int) -> bytes:
                """The answer."""
                return self.parts.pop(0)

        self.patch(netlink, "openNetlink", lambda protocol, blocking: Kernel())
        return asked

    def test_again(self) -> None:
        """An interrupted dump is asked for again, and only the whole one counts."""
        asked = self.answered(
            [message(24, b"old!"), message(24, b"old!", 0x12)],
            [message(24, b"new!"), DONE],
        )
        (found,) = dump(netlink.ROUTE, 26, b"")
        self.assertEqual(found[0][16:20], b"new!")
        self.assertEqual(len(asked), 2)

    def test_never(self) -> None:
        """What never keeps still is an error after some tries."""
        asked = self.answered(*([message(24, b"", 0x12)] for _ in range(99)))
        error = self.assertRaises(OSError, dump, netlink.ROUTE, 26, b"")
        self.assertEqual(error.errno, errno.EINTR)
        self.assertLess(len(asked), 10)


class SocketTests(SynchronousTestCase):
    """Tests for L{openNetlink}, with this machine's kernel."""

    def test_blocking(self) -> None:
        """The socket does not block, unless it shall."""
        with openNetlink(netlink.ROUTE) as opened:
            self.assertFalse(opened.getblocking())
            self.assertRaises(BlockingIOError, opened.recvfrom, 10)
        with openNetlink(netlink.ROUTE, blocking=True) as opened:
            self.assertTrue(opened.getblocking())

    def test_groups(self) -> None:
        """A group that there is not is an error, and leaves no socket open."""
        made: list[socket.socket] = []
        real = socket.socket

        def make(*arguments: int) -> socket.socket:
            made.append(real(*arguments))
            return made[-1]

        self.patch(socket, "socket", make)
        self.assertRaises(OSError, openNetlink, netlink.ROUTE, groups=(4711,))
        self.assertEqual([each.fileno() for each in made], [-1])
