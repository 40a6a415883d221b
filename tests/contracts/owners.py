"""
What L{IProcesses} and L{ISockets} promise, as mixins: tests/test_owners_testing.py runs
them against the fakes, tests/test_owners_real.py against the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.owners.interfaces import IProcesses, ISockets
from nanotun.owners.values import FlowSocket, OpenConnection, sameProgram

if TYPE_CHECKING:
    Base = SynchronousTestCase
else:
    Base = object


class ProcessesContract(Base):
    """
    What L{IProcesses} promises.

    @cvar program: the path of what L{spawn} starts and L{execute} does not.
    """

    program = ""

    def makeProcesses(self) -> IProcesses:
        """The processes to test."""
        raise NotImplementedError

    def spawn(self) -> tuple[int, int]:
        """Start a process that has a socket; returns its pid and the socket's inode."""
        raise NotImplementedError

    def execute(self, pid: int) -> None:
        """Make that process become another program."""
        raise NotImplementedError

    def settle(self, pid: int) -> None:
        """Wait until that process sleeps."""

    def end(self, pid: int) -> None:
        """Let that process end."""
        raise NotImplementedError

    def test_interface(self) -> None:
        """It provides the interface."""
        verifyObject(IProcesses, self.makeProcesses())

    def test_pids(self) -> None:
        """A process is listed above the pid before its own, but not above its own."""
        processes = self.makeProcesses()
        pid, _ = self.spawn()
        self.assertIn(pid, processes.pids())
        self.assertEqual(min(processes.pids(pid - 1)), pid)
        self.assertNotIn(pid, processes.pids(pid))
        self.assertEqual(processes.pids(pid - 1, pid), [pid])
        self.assertEqual(processes.pids(pid - 1, pid - 1), [])
        self.assertGreaterEqual(processes.newest(), pid)

    def test_glance(self) -> None:
        """The stat is of the same program until the process becomes another one."""
        processes = self.makeProcesses()
        pid, _ = self.spawn()
        first, second = processes.stat(pid), processes.stat(pid)
        assert first is not None and second is not None
        self.assertTrue(sameProgram(first, second))
        self.assertTrue(-0.1 < processes.age(first) < 60, processes.age(first))
        self.execute(pid)
        third = processes.stat(pid)
        assert third is not None
        self.assertFalse(sameProgram(first, third))
        self.assertEqual((third.started, third.parent), (first.started, first.parent))

    def test_process(self) -> None:
        """A process has its executable, name and users."""
        processes = self.makeProcesses()
        pid, _ = self.spawn()
        process = processes.process(pid)
        assert process is not None
        self.assertEqual(process.path, self.program)
        self.assertEqual(process.name, self.program.rpartition("/")[2])
        self.assertIn(process.name, process.names)
        self.assertEqual(len(process.uids), 3)
        stat = processes.stat(pid)
        assert stat is not None
        self.assertEqual(process.stat, stat)
        self.assertEqual(processes.details(pid, stat, processes.program(pid, stat)), process)

    def test_start(self) -> None:
        """A process's start is where its age begins, and stays when it becomes another one."""
        processes = self.makeProcesses()
        pid, _ = self.spawn()
        stat = processes.stat(pid)
        assert stat is not None
        start, age = processes.startOf(stat), processes.age(stat)
        self.execute(pid)
        stat = processes.stat(pid)
        assert stat is not None
        self.assertEqual(processes.startOf(stat), start)
        self.assertTrue(-0.01 < processes.age(stat) - age < 60)

    def test_arguments(self) -> None:
        """A process's command line is that of its program, and has no empty end."""
        processes = self.makeProcesses()
        pid, _ = self.spawn()
        first = processes.arguments(pid)
        self.assertTrue(all(first), first)
        self.execute(pid)
        self.assertEqual([each.rpartition("/")[2] for each in processes.arguments(pid)], ["cat"])

    def test_descriptors(self) -> None:
        """A process's sockets are found at one of its descriptors, which ascend."""
        processes = self.makeProcesses()
        pid, inode = self.spawn()
        descriptors = processes.descriptors(pid)
        self.assertEqual(descriptors, sorted(descriptors))
        self.assertIn(inode, [processes.socketAt(pid, each) for each in descriptors])
        self.assertEqual(processes.socketAt(pid, 2), 0)
        self.assertEqual(processes.socketAt(pid, 999), 0)

    def test_devices(self) -> None:
        """A process without a TUN device has none, and so has one that is not there."""
        processes = self.makeProcesses()
        pid, _ = self.spawn()
        self.assertEqual(processes.devicesAt(pid), frozenset())
        self.assertEqual(processes.devicesAt(1 << 22), frozenset())

    def test_turns(self) -> None:
        """A waiting process is asleep, and its turns change when it runs."""
        processes = self.makeProcesses()
        pid, _ = self.spawn()
        self.settle(pid)
        before = processes.turns(pid)
        self.assertTrue(processes.asleep(pid))
        self.assertEqual(processes.turns(pid), before)
        self.execute(pid)
        self.assertNotEqual(processes.turns(pid), before)

    def test_gone(self) -> None:
        """For a process that has ended the answers are empty, and nothing raises."""
        processes = self.makeProcesses()
        pid, _ = self.spawn()
        stat = processes.stat(pid)
        assert stat is not None
        program = processes.program(pid, stat)
        self.end(pid)
        self.assertIsNone(processes.details(pid, stat, program))
        self.assertIsNone(processes.stat(pid))
        self.assertIsNone(processes.process(pid))
        self.assertEqual(processes.descriptors(pid), [])
        self.assertEqual(processes.socketAt(pid, 0), 0)
        self.assertFalse(processes.asleep(pid))
        self.assertEqual(processes.turns(pid), b"")
        self.assertEqual(processes.arguments(pid), [])
        self.assertNotIn(pid, processes.pids())

    def test_addresses(self) -> None:
        """The loopback's address is this machine's."""
        self.assertIn("127.0.0.1", self.makeProcesses().ownAddresses())


#: Addresses to connect from and to, and to listen on.
LOOPBACKS = ("127.0.0.1", "::1")


class SocketsContract(Base):
    """What L{ISockets} promises."""

    def makeSockets(self) -> ISockets:
        """The sockets to test, started."""
        raise NotImplementedError

    def connect(self, protocol: Protocol, host: str, mapped: bool = False) -> tuple[Flow, int]:
        """
        Open a socket that is connected to a port of C{host}.

        @param mapped: by an IPv6 socket, to an IPv4 address.
        @return: the flow from it, and its inode.
        """
        raise NotImplementedError

    def bind(self, host: str, port: int = 0, share: bool = False) -> tuple[Endpoint, int]:
        """
        Open a UDP socket that has no peer.

        @param share: whether others may have the same port.
        @return: where it is bound to, and its inode.
        """
        raise NotImplementedError

    def listen(self, host: str) -> tuple[Endpoint, int]:
        """Open a TCP socket that listens; returns where, and its inode."""
        raise NotImplementedError

    def found(self, flow: Flow) -> FlowSocket:
        """Find a flow's socket, which must exist."""
        found = self.makeSockets().find(flow)
        assert found is not None, f"no socket of {flow}"
        return found

    def test_interface(self) -> None:
        """It provides the interface."""
        verifyObject(ISockets, self.makeSockets())

    def test_connected(self) -> None:
        """A connected socket is found by its flow: TCP, UDP, IPv4, IPv6, and IPv4 over IPv6."""
        for protocol in Protocol:
            for host, mapped in (("127.0.0.1", False), ("127.0.0.1", True), ("::1", False)):
                flow, inode = self.connect(protocol, host, mapped)
                found = self.found(flow)
                self.assertEqual((found.inode, found.connected), (inode, True), flow)

    def test_bound(self) -> None:
        """A UDP socket without a peer is found, whichever own address it is bound to."""
        for host, own in (("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("127.0.0.1", "127.0.0.1")):
            bound, inode = self.bind(host)
            remote = Endpoint("2001:db8::7" if ":" in host else "192.0.2.7", 53)
            flow = Flow(1, Protocol.UDP, Endpoint(own, bound.port), remote)
            found = self.found(flow)
            self.assertEqual((found.inode, found.connected), (inode, False), flow)
            self.assertEqual([each.inode for each in self.makeSockets().sharing(flow)], [inode])

    def test_nobody(self) -> None:
        """A flow without a socket has none, even if a socket listens on its port."""
        for host in LOOPBACKS:
            listening, _ = self.listen(host)
            remote = Endpoint(host, 9)
            for protocol in Protocol:
                flow = Flow(1, protocol, listening, remote)
                self.assertIsNone(self.makeSockets().find(flow), flow)

    def test_sharing(self) -> None:
        """All sockets that share a UDP port are found."""
        first, one = self.bind("127.0.0.1", share=True)
        _, two = self.bind("127.0.0.1", first.port, share=True)
        flow = Flow(1, Protocol.UDP, first, Endpoint("192.0.2.7", 53))
        found = [each.inode for each in self.makeSockets().sharing(flow)]
        self.assertEqual(sorted(found), sorted([one, two]))
        self.assertIn(self.found(flow).inode, (one, two))

    def test_listening(self) -> None:
        """Listening sockets are found that are bound to the address, or to any address."""
        for bound, host in (
            ("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1"), ("::", "::1"),
        ):  # fmt: skip
            place, inode = self.listen(bound)
            sockets = self.makeSockets()
            there = Endpoint(host, place.port)
            self.assertEqual(sockets.listening(there), [inode], bound)
            listener = sockets.listener(there)
            assert listener is not None
            self.assertEqual(listener.inode, inode, bound)
        self.assertEqual(sockets.listening(Endpoint("127.0.0.1", 1)), [])
        self.assertIsNone(sockets.listener(Endpoint("127.0.0.1", 1)))

    def test_elsewhere(self) -> None:
        """Sockets that listen at another address are not found."""
        place, _ = self.listen("127.0.0.1")
        sockets = self.makeSockets()
        for host in ("127.0.0.2", "::1"):
            self.assertEqual(sockets.listening(Endpoint(host, place.port)), [])
            self.assertIsNone(sockets.listener(Endpoint(host, place.port)))

    def test_outward(self) -> None:
        """
        A UDP socket without an address talks to other machines; connections on the loopback
        and sockets that listen do not.
        """
        wanted = {self.bind(host)[1] for host in ("0.0.0.0", "::")}
        others = {self.connect(protocol, host)[1] for protocol in Protocol for host in LOOPBACKS}
        others |= {self.listen(host)[1] for host in ("127.0.0.1", "0.0.0.0", "::")}
        found = {each.inode for each in self.makeSockets().outward()}
        self.assertEqual(found & (wanted | others), wanted)

    def test_connections(self) -> None:
        """
        Every TCP connection is listed with both ends, IPv4's with IPv4 addresses also if its
        socket is an IPv6 one; listening sockets and those of UDP are not listed.
        """
        for protocol, host, mapped in (
            (Protocol.TCP, "127.0.0.1", False),
            (Protocol.TCP, "::1", False),
            (Protocol.TCP, "127.0.0.1", True),
            (Protocol.UDP, "127.0.0.1", False),
        ):
            flow, inode = self.connect(protocol, host, mapped)
            _, listening = self.listen(host)
            found = {each.inode: each for each in self.makeSockets().connections()}
            self.assertNotIn(listening, found)
            if protocol is Protocol.TCP:
                self.assertEqual(found[inode], OpenConnection(inode, flow.source, flow.destination))
            else:
                self.assertNotIn(inode, found)

    def test_close(self) -> None:
        """After a close nothing is found, and a second close is harmless."""
        flow, _ = self.connect(Protocol.TCP, "127.0.0.1")
        sockets = self.makeSockets()
        sockets.close()
        sockets.close()
        self.assertIsNone(sockets.find(flow))
