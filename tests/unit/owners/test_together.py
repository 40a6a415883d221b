"""Tests of L{nanotun.owners.together} against the kernel, and against sockets of its choice."""

from __future__ import annotations

import os
import socket
from socket import AF_INET, AF_INET6, SOCK_DGRAM, SOCK_STREAM

from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.owners.processes import ProcProcesses
from nanotun.owners.sockdiag import Answer, packAddress
from nanotun.owners.sockets import KernelSockets
from nanotun.owners.together import FlowProcess, FlowProcesses
from nanotun.owners.values import FlowSocket
from nanotun.testing.owners import FakeProcesses

SERVER = Endpoint("192.0.2.80", 443)


class TogetherKernelTests(SynchronousTestCase):
    """With real sockets of this process."""

    def setUp(self) -> None:
        sockets = KernelSockets("")
        sockets.start()
        self.addCleanup(sockets.close)
        self.processes = FlowProcesses(sockets, ProcProcesses())

    def open(self, family: int, kind: int, host: str = "") -> socket.socket:
        """A socket that is closed after the test, bound if C{host} is given."""
        made = socket.socket(family, kind)
        self.addCleanup(made.close)
        if host:
            made.bind((host, 0))
        return made

    def flow(self, made: socket.socket, local: str, remote: Endpoint) -> Flow:
        """The flow of a socket, seen with these addresses."""
        protocol = Protocol.TCP if made.type == SOCK_STREAM else Protocol.UDP
        return Flow(7, protocol, Endpoint(local, made.getsockname()[1]), remote)

    def assertMine(self, flow: Flow) -> None:
        """A flow is this process's."""
        found = self.processes.find([flow])
        self.assertEqual(found[7].pid, os.getpid())
        self.assertEqual(found[7].uid, os.geteuid())
        self.assertEqual(found[7].path, os.readlink("/proc/self/exe"))
        self.assertEqual(found[7].name, os.path.basename(found[7].path))

    def test_connections(self) -> None:
        """A TCP connection's process is found, by either IP version; not by another port."""
        for family, host, seen in (
            (AF_INET, "127.0.0.1", "127.0.0.1"),
            (AF_INET6, "::1", "::1"),
            (AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"),
        ):
            listener = self.open(family, SOCK_STREAM, host)
            listener.listen()
            app = self.open(family, SOCK_STREAM)
            app.connect(listener.getsockname()[:2])
            port = listener.getsockname()[1]
            self.assertMine(self.flow(app, seen, Endpoint(seen, port)))
            other = self.flow(app, seen, Endpoint(seen, port % 65535 + 1))
            self.assertEqual(self.processes.find([other]), {})

    def test_datagrams(self) -> None:
        """A UDP flow's process is found, whatever its socket is bound and connected to."""
        for family, host, seen in (
            (AF_INET, "127.0.0.1", "127.0.0.1"),
            (AF_INET, "0.0.0.0", "127.0.0.2"),
            (AF_INET6, "::", "127.0.0.2"),
            (AF_INET6, "::", "::1"),
        ):
            there = Endpoint("::1" if seen == "::1" else "127.0.0.9", 5353)
            self.assertMine(self.flow(self.open(family, SOCK_DGRAM, host), seen, there))
        connected = self.open(AF_INET, SOCK_DGRAM, "127.0.0.1")
        connected.connect(("127.0.0.9", 5353))
        self.assertMine(self.flow(connected, "127.0.0.1", Endpoint("127.0.0.9", 5353)))
        other = self.flow(connected, "127.0.0.1", Endpoint("127.0.0.9", 5354))
        self.assertEqual(self.processes.find([other]), {})

    def test_apart(self) -> None:
        """A process whose flows these cannot be is not looked at."""
        made = self.open(AF_INET, SOCK_DGRAM, "127.0.0.1")
        flow = self.flow(made, "127.0.0.1", SERVER)
        self.assertEqual(self.processes.find([flow], (os.getpid(),)), {})


class ChosenSockets(KernelSockets):
    """
    Sockets of the test's choice.

    @ivar answers: all of them.
    @ivar asked: the protocols that were asked for.
    """

    def __init__(self) -> None:
        super().__init__("")
        self.answers: list[tuple[Protocol, Answer]] = []
        self.asked: list[Protocol] = []

    def add(self, protocol: Protocol, port: int, inode: int, uid: int = 1000) -> Flow:
        """
        Add a socket.

        @return: its flow, which has the inode as its id.
        """
        family, local = packAddress("198.18.0.2")
        remote, remotePort = packAddress(SERVER.host)[1], SERVER.port
        if protocol is Protocol.UDP:
            remote, remotePort = bytes(16), 0
        made = FlowSocket(inode, uid, 0, 0, remotePort != 0)
        self.answers.append((protocol, Answer(family, local, port, remotePort, made, remote)))
        return Flow(inode, protocol, Endpoint("198.18.0.2", port), SERVER)

    def everything(self, protocol: Protocol) -> list[Answer]:
        """See L{KernelSockets.everything}."""
        self.asked.append(protocol)
        return [answer for which, answer in self.answers if which is protocol]


class TogetherChosenTests(SynchronousTestCase):
    """With sockets and processes of the test's choice."""

    def setUp(self) -> None:
        self.sockets, self.table = ChosenSockets(), FakeProcesses()
        self.processes = FlowProcesses(self.sockets, self.table)

    def test_described(self) -> None:
        """What is told of a process is its own, but for the user, who is the socket's."""
        flow = self.sockets.add(Protocol.TCP, 50001, 901, uid=33)
        self.table.spawn(
            20,
            "/usr/bin/python3.13",
            cgroup="/system.slice/feed.service/worker",
            arguments=("python3", "/srv/Feed"),
        )
        self.table.files[20][3] = 901
        names = frozenset({"python3.13", "feed"})
        expected = FlowProcess(20, 33, "python3.13", "/usr/bin/python3.13", "feed.service", names)
        self.assertEqual(self.processes.find([flow]), {901: expected})

    def test_once(self) -> None:
        """Each protocol's sockets are dumped once for all flows, and only if there is one of it."""
        flows = [self.sockets.add(Protocol.TCP, 50000 + each, 900 + each) for each in range(3)]
        self.processes.find(flows)
        self.assertEqual(self.sockets.asked, [Protocol.TCP])
        self.assertEqual(self.processes.find([]), {})
        self.assertEqual(self.sockets.asked, [Protocol.TCP])

    def test_inherited(self) -> None:
        """A connection that a child has inherited is its parent's, which has made it."""
        flow = self.sockets.add(Protocol.TCP, 50001, 901)
        self.table.spawn(20, "/usr/bin/app")
        self.table.files[20][3] = 901
        self.table.fork(20, 21)
        self.assertEqual(self.processes.find([flow])[901].pid, 20)

    def test_shared(self) -> None:
        """Where two programs receive at a port, neither is taken for the sender; one is."""
        flow = self.sockets.add(Protocol.UDP, 5353, 901)
        self.sockets.add(Protocol.UDP, 5353, 902)
        for pid, inode in ((20, 901), (21, 902)):
            self.table.spawn(pid, "/usr/bin/app")
            self.table.files[pid][3] = inode
        self.assertEqual(self.processes.find([flow]), {})
        self.table.files[20][4] = self.table.files[21].pop(3)
        self.assertEqual(self.processes.find([flow])[901].pid, 20)

    def test_ended(self) -> None:
        """The flow of a process that has just ended has none."""
        flow = self.sockets.add(Protocol.TCP, 50001, 901)
        self.assertEqual(self.processes.find([flow]), {})
        self.sockets.answers.clear()
        self.assertEqual(self.processes.find([flow]), {})
