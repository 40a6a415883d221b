"""
Tests for L{nanotun.owners.processes} and L{nanotun.owners.sockets} on this machine's own
kernel, with processes and loopback sockets of the tests.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time

from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import SOCKET_MARK
from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.owners.processes import ProcProcesses
from nanotun.owners.sockets import KernelSockets
from tests.contracts.owners import ProcessesContract, SocketsContract


class ProcProcessesTests(ProcessesContract, SynchronousTestCase):
    """
    Tests for L{ProcProcesses}.
    """

    program = os.path.realpath(shutil.which("sh") or "")

    def makeProcesses(self) -> ProcProcesses:
        """On /proc."""
        return ProcProcesses()

    def spawn(self) -> tuple[int, int]:
        """A shell that waits for a line and then becomes cat."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        with theirs:
            self.child = subprocess.Popen(
                ["/bin/sh", "-c", "echo here; read line; exec cat"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
            )
            inode = os.fstat(theirs.fileno()).st_ino
        self.addCleanup(self.end, self.child.pid)
        # Popen returns while the kernel is still at execve(2).
        self.assertEqual(ours.recv(5, socket.MSG_WAITALL), b"here\n")
        self.ours = ours
        return self.child.pid, inode

    def execute(self, pid: int) -> None:
        """Wait for an answer, which only cat gives."""
        self.ours.sendall(b"line\n")
        self.ours.sendall(b"line\n")
        self.assertEqual(self.ours.recv(5, socket.MSG_WAITALL), b"line\n")

    def settle(self, pid: int) -> None:
        """Wait until it reaches its read(2)."""
        deadline = time.monotonic() + 10
        while not self.makeProcesses().asleep(pid) and time.monotonic() < deadline:
            os.sched_yield()

    def end(self, pid: int) -> None:
        """Kill it and wait."""
        self.child.kill()
        self.child.wait()

    def test_seek(self) -> None:
        """Listing from a pid on gives the same pids as listing all."""
        processes = self.makeProcesses()
        pid, _ = self.spawn()
        processes._seeks = False
        listed = processes.pids(pid - 1)
        processes._seeks = None
        self.assertEqual(processes.pids(pid - 1)[0], listed[0])
        self.assertTrue(processes._seeks)

    def test_notWaitedFor(self) -> None:
        """A process that has ended is gone, also before its parent asks how."""
        processes = self.makeProcesses()
        pid, _ = self.spawn()
        self.child.kill()
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        self.assertTrue(os.path.exists(f"/proc/{pid}"))
        self.assertIsNone(processes.stat(pid))
        self.assertIsNone(processes.process(pid))

    def test_users(self) -> None:
        """A process's users and control group are those that it has."""
        process = self.makeProcesses().process(os.getpid())
        assert process is not None
        self.assertEqual(process.uids, os.getresuid())
        with open("/proc/self/cgroup") as groups:
            found = [line.strip()[3:] for line in groups if line.startswith("0::")]
        self.assertEqual(process.cgroup, "".join(found))

    def test_noProc(self) -> None:
        """Without /proc the newest pid raises OSError."""
        processes = ProcProcesses("/nonexistent")
        self.assertRaises(OSError, processes.newest)
        self.assertRaises(OSError, processes.pids)
        self.assertIsNone(processes.stat(1))
        self.assertFalse(processes._canSeek())


class KernelSocketsTests(SocketsContract, SynchronousTestCase):
    """
    Tests for L{KernelSockets}.
    """

    def makeSockets(self) -> KernelSockets:
        """A netlink socket of its own."""
        sockets = KernelSockets("nonexistent0")
        sockets.start()
        self.addCleanup(sockets.close)
        return sockets

    def opened(self, family: int, kind: int) -> socket.socket:
        """A socket that ends with the test."""
        made = socket.socket(family, kind)
        self.addCleanup(made.close)
        return made

    def connect(self, protocol: Protocol, host: str, mapped: bool = False) -> tuple[Flow, int]:
        """To a socket of the test's own; a TCP connection is not accepted yet."""
        kind = socket.SOCK_STREAM if protocol is Protocol.TCP else socket.SOCK_DGRAM
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        there = self.opened(family, kind)
        there.bind((host, 0))
        if protocol is Protocol.TCP:
            there.listen()
        here = self.opened(socket.AF_INET6 if mapped else family, kind)
        port = there.getsockname()[1]
        here.connect((f"::ffff:{host}" if mapped else host, port))
        source = Endpoint(host, here.getsockname()[1])
        return Flow(1, protocol, source, Endpoint(host, port)), os.fstat(here.fileno()).st_ino

    def bind(self, host: str, port: int = 0, share: bool = False) -> tuple[Endpoint, int]:
        """A socket of the test's own."""
        made = self.opened(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        if share:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
        return Endpoint(*made.getsockname()[:2]), os.fstat(made.fileno()).st_ino

    def listen(self, host: str) -> tuple[Endpoint, int]:
        """A socket of the test's own."""
        made = self.opened(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        made.bind((host, 0))
        made.listen()
        return Endpoint(*made.getsockname()[:2]), os.fstat(made.fileno()).st_ino

    def test_owner(self) -> None:
        """The kernel tells the socket's user and, to root, its mark."""
        there, _ = self.listen("127.0.0.1")
        here = self.opened(socket.AF_INET, socket.SOCK_STREAM)
        if os.geteuid() == 0:
            here.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, SOCKET_MARK)
        here.connect(tuple(there))
        found = self.found(Flow(1, Protocol.TCP, Endpoint(*here.getsockname()), there))
        self.assertEqual(found.uid, os.geteuid())
        self.assertEqual(found.mark, SOCKET_MARK if os.geteuid() == 0 else 0)

    def test_connecting(self) -> None:
        """A socket whose connection is not answered yet is found."""
        there = self.opened(socket.AF_INET, socket.SOCK_STREAM)
        there.bind(("127.0.0.1", 0))
        there.listen(0)
        full = []
        for _ in range(3):
            full.append(self.opened(socket.AF_INET, socket.SOCK_STREAM))
            full[-1].setblocking(False)
            full[-1].connect_ex(there.getsockname())
        flow = Flow(
            1,
            Protocol.TCP,
            Endpoint(*full[-1].getsockname()),
            Endpoint(*there.getsockname()),
        )
        self.assertEqual(self.found(flow).inode, os.fstat(full[-1].fileno()).st_ino)

    def test_stale(self) -> None:
        """A late answer is not taken for the answer to the next question."""
        sockets = self.makeSockets()
        flow, inode = self.connect(Protocol.TCP, "127.0.0.1")
        other, _ = self.connect(Protocol.TCP, "127.0.0.1")
        netlink = sockets._socket
        assert netlink is not None
        sender = netlink.send

        class Deaf:
            """Sends, and hears nothing once."""

            def send(self, message: bytes) -> int:
                """Send."""
                return sender(message)

            def recv(self, size: int) -> bytes:
                """Hear nothing."""
                raise BlockingIOError

        sockets._socket = Deaf()  # type: ignore[assignment]
        self.assertIsNone(sockets.find(other))
        sockets._socket = netlink
        found = sockets.find(flow)
        assert found is not None
        self.assertEqual(found.inode, inode)

    def test_unix(self) -> None:
        """Sockets that listen at a unix path are found, even with spaces in it."""
        directory = self.mktemp()
        os.mkdir(directory)
        path = os.path.join(os.path.relpath(directory), "the socket")
        made = self.opened(socket.AF_UNIX, socket.SOCK_STREAM)
        made.bind(path)
        sockets = self.makeSockets()
        self.assertEqual(sockets.listeningAt(path), [])
        made.listen()
        self.assertEqual(sockets.listeningAt(path), [os.fstat(made.fileno()).st_ino])
        self.assertEqual(sockets.listeningAt(f"{path}2"), [])

    def test_refused(self) -> None:
        """If the kernel refuses, the start raises OSError, and the socket is closed."""

        def refuse() -> socket.socket:
            raise PermissionError(1, "Operation not permitted")

        self.assertRaises(PermissionError, KernelSockets("nano0", refuse).start)
