"""Tests of L{nanotun.linux.departed}."""

from __future__ import annotations

import errno
import os
import socket

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from nanotun.linux.departed import GONE_FOR, MEMORY, Departed, hasRoute, ownAddresses
from nanotun.linux.marked import MarkedSocket

STAYS, LEAVES = "192.0.2.7", "192.0.2.8"


def connection(local: str, remote: str = "198.51.100.1") -> MarkedSocket:
    """One of nanotun's."""
    return MarkedSocket(socket.AF_INET, local, remote, b"")


class DepartedTests(SynchronousTestCase):
    """L{Departed}."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.own = {STAYS, LEAVES}
        self.sockets = [connection(STAYS), connection(LEAVES), connection(LEAVES)]
        self.dumps = 0
        self.routes = {"198.51.100.1"}
        self.refuses: OSError | None = None
        self.lines: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            self.lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.departed = Departed(
            self.clock.seconds,
            lambda: self.own,
            self.listed,
            self.destroy,
            lambda host: host in self.routes,
        )
        self.departed.look()

    def listed(self) -> list[MarkedSocket]:
        """The connections there are."""
        self.dumps += 1
        return list(self.sockets)

    def destroy(self, ended: MarkedSocket) -> None:
        """End one."""
        if self.refuses is not None:
            raise self.refuses
        self.sockets.remove(ended)

    def leave(self) -> None:
        """The address leaves."""
        self.own = {STAYS}
        self.departed.look()

    def pause(self) -> None:
        """Look again after a while."""
        self.clock.advance(GONE_FOR)
        self.departed.look()

    def test_ended(self) -> None:
        """Connections from an address that has left end, and no others; with one line."""
        self.leave()
        self.assertTrue(self.departed.waits)
        self.assertEqual(len(self.sockets), 3)
        self.pause()
        self.assertEqual(self.sockets, [connection(STAYS)])
        self.assertFalse(self.departed.waits)
        self.assertEqual(
            self.lines,
            [f"2 connections ended, because their address {LEAVES} has left this machine."],
        )

    def test_neverListed(self) -> None:
        """While no address has left, connections are not listed."""
        for _ in range(3):
            self.pause()
        self.assertEqual(self.dumps, 0)
        self.leave()
        self.pause()
        self.pause()
        self.assertEqual(self.dumps, 1)

    def test_back(self) -> None:
        """An address that is back in time, as after a renewal, ends nothing."""
        self.leave()
        self.own = {STAYS, LEAVES}
        self.pause()
        self.pause()
        self.assertEqual(len(self.sockets), 3)

    def test_offline(self) -> None:
        """While there is no way to the peer nothing ends: the address may come back."""
        self.routes.clear()
        self.leave()
        for _ in range(5):
            self.pause()
        self.assertEqual(len(self.sockets), 3)
        self.routes = {"198.51.100.1"}
        self.pause()
        self.assertEqual(self.sockets, [connection(STAYS)])

    def test_forgotten(self) -> None:
        """An address that does not come back is forgotten, as TCP gives up as well."""
        self.routes.clear()
        self.leave()
        self.clock.advance(MEMORY + 1)
        self.departed.look()
        before = self.dumps
        self.pause()
        self.assertEqual(self.dumps, before)

    def test_unable(self) -> None:
        """A kernel that cannot end connections is asked once."""
        self.refuses = OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        self.leave()
        self.pause()
        self.pause()
        self.assertEqual(self.dumps, 1)
        self.assertIn("cannot be ended: Operation not supported", self.lines[0])

    def test_silent(self) -> None:
        """What else goes wrong is told, and tried again."""
        self.refuses = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        self.leave()
        self.clock.advance(GONE_FOR)
        self.assertRaises(OSError, self.departed.look)
        self.refuses = None
        self.departed.look()
        self.assertEqual(self.sockets, [connection(STAYS)])


class KernelTests(SynchronousTestCase):
    """What this machine says."""

    def test_own(self) -> None:
        """The loopback has an address, and there is a way to it."""
        self.assertIn("127.0.0.1", ownAddresses())
        self.assertTrue(hasRoute("127.0.0.1"))
