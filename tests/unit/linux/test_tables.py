"""
Tests for L{nanotun.linux.tables}; what the kernel says is in the end-to-end tests.
"""

from __future__ import annotations

import socket
import struct

from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux.tables import DefaultRoute, Interrupted, defaultRoutes, readRoutes

DONE = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)


def attribute(kind: int, data: bytes) -> bytes:
    """A struct rtattr with what follows, padded (rtnetlink(7))."""
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def route(table: int = 28276, length: int = 0, interface: int = 7, flags: int = 2) -> bytes:
    """A message about a route."""
    body = struct.pack("=BBBBBBBBI", 2, length, 0, 0, table if table < 256 else 252, 110, 0, 1, 0)
    body += attribute(15, struct.pack("=I", table)) + attribute(1, b"\1\2\3")
    body += attribute(4, struct.pack("=I", interface))
    return struct.pack("=IHHII", 16 + len(body), 24, flags, 1, 0) + body


class ReadTests(SynchronousTestCase):
    """Tests for L{readRoutes}."""

    def test_whole(self) -> None:
        """Default routes of the table are found among others, over several reads."""
        found: list[DefaultRoute] = []
        data = route() + route(table=254) + route(length=24) + route(interface=8)
        self.assertTrue(readRoutes(data, 28276, found))
        self.assertFalse(readRoutes(route(interface=9) + DONE, 28276, found))
        self.assertEqual(found, [DefaultRoute(2, 110, number) for number in (7, 8, 9)])

    def test_noTable(self) -> None:
        """A table that does not exist is empty; any other error is one."""
        for error, raises in ((0, False), (2, False), (1, True)):
            for kind in (2, 3):
                message = struct.pack("=IHHIIi", 20, kind, 2, 1, 0, -error)
                if raises:
                    self.assertRaises(PermissionError, readRoutes, message, 28276, [])
                else:
                    self.assertFalse(readRoutes(message, 28276, []))

    def test_interrupted(self) -> None:
        """What changed meanwhile has to be asked for again."""
        self.assertRaises(Interrupted, readRoutes, route(flags=0x12), 28276, [])

    def test_garbage(self) -> None:
        """An attribute without a length ends the message."""
        body = struct.pack("=BBBBBBBBI", 2, 0, 0, 0, 252, 110, 0, 1, 0) + b"\0" * 8
        found: list[DefaultRoute] = []
        readRoutes(struct.pack("=IHHII", 16 + len(body), 24, 2, 1, 0) + body, 252, found)
        self.assertEqual(found, [DefaultRoute(2, 110, 0)])

    def test_kernel(self) -> None:
        """Anybody may ask the kernel."""
        for family in (socket.AF_INET, socket.AF_INET6):
            self.assertEqual(defaultRoutes(family, 0x7FFFFFF1), [])
