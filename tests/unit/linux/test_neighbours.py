"""
Tests for L{nanotun.linux.neighbours}.
"""

from __future__ import annotations

import errno
import socket
import struct

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux import netlink
from nanotun.linux.neighbours import (
    MAX_AGE,
    Neighbour,
    Relatives,
    neighbourOf,
    neighbours,
    relativesIn,
)

MAC, OTHER = bytes.fromhex("0242ac110002"), bytes.fromhex("0242ac110003")
CONTAINER = (Neighbour("172.17.0.2", 4, MAC), Neighbour("fd17::2", 4, MAC))


def message(host: str, link: bytes | None, kind: int = 28) -> tuple[bytes, netlink.Message]:
    """What the kernel says of a neighbour."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    body = struct.pack("=BxxxiHBB", family, 4, 4, 0, 1)
    body += netlink.packAttribute(1, socket.inet_pton(family, host))
    body += b"" if link is None else netlink.packAttribute(2, link)
    data = netlink.pack(kind, 0, 1, body)
    return data, next(netlink.messages(data))


class NeighbourTests(SynchronousTestCase):
    """Tests of reading, and of what is concluded."""

    def test_read(self) -> None:
        """A neighbour is read if its link address is known."""
        for each in CONTAINER:
            self.assertEqual(neighbourOf(*message(each.host, MAC)), each)
            self.assertIsNone(neighbourOf(*message(each.host, None)))
            self.assertIsNone(neighbourOf(*message(each.host, bytes(6))))
            self.assertIsNone(neighbourOf(*message(each.host, MAC, kind=24)))

    def test_damaged(self) -> None:
        """Of a message that is cut off nothing is read."""
        data, whole = message("172.17.0.2", MAC)
        for end in range(whole.start, whole.end):
            neighbourOf(data[:end], whole._replace(end=end))

    def test_real(self) -> None:
        """The kernel lists its neighbours."""
        self.assertIsInstance(neighbours(), list)

    def test_relatives(self) -> None:
        """The other version's addresses of the same interface belong to a host, and no others."""
        table = [
            *CONTAINER,
            Neighbour("fd17::22", 4, MAC),
            Neighbour("fe80::2", 4, MAC),
            Neighbour("172.17.0.3", 4, OTHER),
            Neighbour("fd17::3", 4, OTHER),
            Neighbour("fd18::2", 5, MAC),
        ]
        self.assertEqual(relativesIn(table, {"172.17.0.2"}), {"fd17::2", "fd17::22"})
        self.assertEqual(relativesIn(table, {"fd17::3"}), {"172.17.0.3"})
        self.assertEqual(relativesIn(table, {"9.9.9.9"}), frozenset())
        self.assertEqual(relativesIn(table, ()), frozenset())

    def test_several(self) -> None:
        """An interface that stands for several machines says nothing about one of them."""
        table = [*CONTAINER, Neighbour("172.17.0.3", 4, MAC)]
        self.assertEqual(relativesIn(table, {"172.17.0.2"}), frozenset())

    def test_age(self) -> None:
        """The tables are read at most once a second; an error leaves what was known."""
        clock = Clock()
        asked: list[int] = []
        failure: list[OSError] = []

        def table() -> list[Neighbour]:
            asked.append(1)
            if failure:
                raise failure[0]
            return list(CONTAINER)

        relatives = Relatives(clock.seconds, table)
        for _ in range(3):
            self.assertEqual(relatives.of({"172.17.0.2"}), {"fd17::2"})
        self.assertEqual(len(asked), 1)
        clock.advance(MAX_AGE)
        failure.append(OSError(errno.EMFILE, "too many files"))
        self.assertEqual(relatives.of({"172.17.0.2"}), {"fd17::2"})
        self.assertEqual(len(asked), 2)
