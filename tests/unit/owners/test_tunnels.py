"""Tests of L{nanotun.owners.tunnels}."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Endpoint, Flow, Owner, Protocol
from nanotun.owners.tunnels import RESCAN, TunnelOwners
from nanotun.testing.owners import FakeProcesses, FakeSockets

HOST, SERVER = "198.18.0.2", Endpoint("45.45.45.2", 1194)


def flow(port: int, protocol: Protocol = Protocol.UDP) -> Flow:
    """A flow from a port of this machine."""
    return Flow(1, protocol, Endpoint(HOST, port), SERVER)


class TunnelOwnersTests(SynchronousTestCase):
    """L{TunnelOwners}: openvpn (7) has tunv open and sends from port 1194, curl (8) from 5."""

    def setUp(self) -> None:
        """Make what the tests use."""
        self.clock = Clock()
        self.processes = FakeProcesses()
        self.sockets = FakeSockets()
        self.scans: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        for pid, path in ((7, "/usr/sbin/openvpn"), (8, "/usr/bin/curl")):
            self.processes.spawn(pid, path)
        self.processes.devices[7] = frozenset({"tunv"})
        for pid, port in ((7, 1194), (8, 5)):
            self.hold(pid, port)
        self.owners = TunnelOwners(self.sockets, self.processes, self.inThread, self.clock.seconds)

    def hold(self, pid: int, port: int, remote: Endpoint | None = None) -> int:
        """Give a process a socket."""
        inode = self.sockets.add(Protocol.UDP, Endpoint("0.0.0.0", port), remote)
        self.processes.open(pid, inode)
        return inode

    def inThread(self, function: Callable[[], Any]) -> Deferred[Any]:
        """Call it later."""
        found: Deferred[Any] = Deferred()
        self.scans.append((found, function))
        return found

    def scan(self) -> None:
        """Let the threads work."""
        while self.scans:
            found, function = self.scans.pop(0)
            found.callback(function())

    def owner(self, asked: Flow) -> Owner | None:
        """The owner of a flow, however long it takes."""
        found = self.owners.ownerOf(asked, "tunv")
        self.scan()
        return self.successResultOf(found) if isinstance(found, Deferred) else found

    def test_found(self) -> None:
        """The flow of the process with the device is found, and nobody else's is."""
        found = self.owner(flow(1194))
        self.assertEqual(found, Owner(7, 1000, "openvpn", "/usr/sbin/openvpn", "/"))
        for port in (5, 6):
            self.assertIsNone(self.owner(flow(port)))
        self.assertIsNone(self.owner(flow(1194, Protocol.TCP)))

    def test_waits(self) -> None:
        """Flows wait for the search, and one search is enough for all; they may give up."""
        first, second, third = (self.owners.ownerOf(flow(1194), "tunv") for _ in range(3))
        assert isinstance(first, Deferred) and isinstance(second, Deferred)
        assert isinstance(third, Deferred)
        self.assertEqual(len(self.scans), 1)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.scan()
        for each in (first, third):
            self.assertEqual(self.successResultOf(each), self.owner(flow(1194)))

    def test_remembered(self) -> None:
        """While the process has the device open, nobody is searched for."""
        self.owner(flow(1194))
        self.clock.advance(1000)
        self.assertIsInstance(self.owners.ownerOf(flow(1194), "tunv"), Owner)
        self.assertEqual(self.scans, [])

    def test_restarted(self) -> None:
        """Another process with the device is found; without one, there is a search each second."""
        self.owner(flow(1194))
        self.processes.end(7)
        self.sockets.open.clear()
        self.clock.advance(RESCAN)
        self.assertIsNone(self.owner(flow(1194)))
        self.processes.spawn(9, "/usr/sbin/openvpn")
        self.processes.devices[9] = frozenset({"tunv"})
        self.hold(9, 1194)
        self.assertIsNone(self.owners.ownerOf(flow(1194), "tunv"))
        self.clock.advance(RESCAN)
        found = self.owner(flow(1194))
        assert found is not None
        self.assertEqual(found.pid, 9)

    def test_otherDevice(self) -> None:
        """Whoever has another device open carries no flow of this VPN's."""
        self.processes.devices[8] = frozenset({"tunw"})
        self.owner(flow(1194))
        found = self.owners.ownerOf(flow(5), "tunw")
        self.scan()
        assert isinstance(found, Deferred)
        owner = self.successResultOf(found)
        assert owner is not None
        self.assertEqual(owner.pid, 8)

    def test_shared(self) -> None:
        """A port that another process sends from as well is not the VPN's alone."""
        self.owner(flow(1194))
        self.hold(8, 1194)
        self.assertIsNone(self.owner(flow(1194)))
        # A connected socket of the VPN's is the only one that sends this flow.
        self.hold(7, 1194, SERVER)
        self.assertIsNotNone(self.owner(flow(1194)))

    def test_unknown(self) -> None:
        """If the kernel does not answer, or the search fails, the flow is nobody's."""
        self.sockets.failure = OSError(1, "not permitted")
        self.assertIsNone(self.owner(flow(1194)))
        self.sockets.failure = None
        self.clock.advance(RESCAN)
        found = self.owners.ownerOf(flow(1194), "tunw")
        assert isinstance(found, Deferred)
        self.scans.pop()[0].errback(OSError(2, "no /proc"))
        self.assertIsNone(self.successResultOf(found))
        self.assertEqual(len(self.flushLoggedErrors(OSError)), 1)

    def test_holders(self) -> None:
        """The processes that have the device open are listed, for a message."""
        found = self.owners.holders("tunv")
        self.scan()
        self.assertEqual([each.pid for each in self.successResultOf(found)], [7])
