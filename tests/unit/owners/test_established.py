"""Tests of L{nanotun.owners.established}."""

from __future__ import annotations

import errno
import os

from twisted.logger import capturedLogs, formatEvent

from nanotun.addresses import SOCKET_MARK
from nanotun.flow import Endpoint, Protocol
from nanotun.owners.established import Established
from nanotun.testing import FakeSockets
from tests.unit.owners.search_cases import OWN, ProcessesCase

FAR = Endpoint("198.51.100.7", 443)
FAR6 = Endpoint("2001:db8::7", 443)


class EstablishedTests(ProcessesCase):
    """Tests for L{Established}."""

    def setUp(self) -> None:
        """An excluded process, another one, and a marker that notes."""
        super().setUp()
        self.sockets = FakeSockets()
        self.sockets.start()
        self.marked: list[tuple[int, int, int]] = []
        self.failures: dict[int, int] = {}
        self.established = self.other()
        self.processes.spawn(20, "/usr/bin/curl")
        self.processes.spawn(21, "/usr/bin/wget")
        self.scan()

    def mark(self, pid: int, descriptor: int, inode: int, mark: int) -> bool:
        """Note it, and do it, unless the test says otherwise."""
        if pid in self.failures:
            number = self.failures[pid]
            raise OSError(number, os.strerror(number))
        self.marked.append((pid, descriptor, inode))
        for place, each in enumerate(self.sockets.open):
            if each.found.inode == inode:
                found = each.found._replace(mark=mark)
                self.sockets.open[place] = each._replace(found=found)
        return True

    def marks(self) -> list[int]:
        """The marks of all sockets."""
        return [each.found.mark for each in self.sockets.open]

    def other(self) -> Established:
        """That of another configuration."""
        return Established(
            self.processes, self.sockets, self.search.excluded, self.mark, lambda: OWN
        )

    def socket(self, pid: int, local: str, protocol: Protocol = Protocol.TCP, mark: int = 0) -> int:
        """A connected socket of a process; returns its inode."""
        remote = FAR6 if ":" in local else FAR
        inode = self.sockets.add(protocol, Endpoint(local, 4000), remote, mark=mark)
        self.processes.open(pid, inode)
        return inode

    def keep(self) -> list[int]:
        """The inodes of the sockets that are marked, in order."""
        self.marked.clear()
        with capturedLogs() as events:
            self.established.keep()
        self.lines = [formatEvent(event) for event in events]
        return [inode for _, _, inode in self.marked]

    def test_which(self) -> None:
        """
        Sockets of excluded processes are marked that have an address of an uplink, and no
        mark.
        """
        wanted = [
            self.socket(20, "192.0.2.1"),
            self.socket(20, "2001:db8::1"),
            self.socket(20, "192.0.2.1", Protocol.UDP),
        ]
        wanted.append(self.sockets.add(Protocol.UDP, Endpoint("0.0.0.0", 4001)))
        self.processes.open(20, wanted[-1])
        for local, mark in (
            ("127.0.0.1", 0), ("::1", 0),
            # These run through the tunnel, with its addresses.
            ("198.18.0.2", 0), ("fdfe:dcba:9876::2", 0),
            ("192.0.2.1", SOCKET_MARK), ("192.0.2.1", 7),
        ):  # fmt: skip
            self.socket(20, local, mark=mark)
        listening = self.sockets.add(Protocol.TCP, Endpoint("0.0.0.0", 80), listens=True)
        self.processes.open(20, listening)
        self.socket(21, "192.0.2.1")
        self.assertEqual(self.keep(), wanted)
        self.assertEqual({pid for pid, _, _ in self.marked}, {20})

    def test_newcomers(self) -> None:
        """Processes count that were started since the last scan."""
        self.age(1)
        self.clock.advance(1)
        self.processes.spawn(30, "/usr/bin/curl")
        inode = self.socket(30, "192.0.2.1")
        self.assertEqual(self.keep(), [inode])

    def test_proxy(self) -> None:
        """A proxy on this machine counts."""
        listening = self.sockets.add(Protocol.TCP, Endpoint("127.0.0.1", 1080), listens=True)
        self.processes.open(21, listening)
        inode = self.socket(21, "192.0.2.1")
        self.scan(self.search._table, listening)
        self.assertEqual(self.keep(), [inode])

    def test_shared(self) -> None:
        """A socket that is open several times is marked once."""
        inode = self.socket(20, "192.0.2.1")
        self.processes.open(20, inode)
        self.processes.fork(20, 22)
        self.scan()
        self.assertEqual(self.keep(), [inode])
        self.assertEqual(len(self.lines), 1)
        self.assertIn("outside of the tunnel: 1", self.lines[0])

    def test_gone(self) -> None:
        """What has ended meanwhile is left out in silence, and so is nothing at all."""
        self.socket(20, "192.0.2.1")
        for number in (errno.ESRCH, errno.EBADF):
            self.failures[20] = number
            self.assertEqual(self.keep(), [])
            self.assertEqual(self.lines, [])

    def test_refused(self) -> None:
        """An error is one line, and the other processes have their sockets marked."""
        self.processes.spawn(19, "/usr/bin/curl")
        self.processes.spawn(22, "/usr/bin/curl")
        self.scan()
        for pid in (19, 20):
            self.socket(pid, "192.0.2.1")
            self.failures[pid] = errno.EPERM
        inode = self.socket(22, "192.0.2.1")
        self.assertEqual(self.keep(), [inode])
        self.assertEqual(len(self.lines), 2)
        self.assertIn("(Operation not permitted): keeping them takes Linux 5.6", self.lines[0])
        self.sockets.open = [each for each in self.sockets.open if each.found.inode != inode]
        self.keep()
        self.assertEqual(self.lines, [])

    def test_failure(self) -> None:
        """If the kernel cannot be asked, or /proc cannot be read, that is one line."""
        self.sockets.failure = OSError(errno.EPERM, "no")
        self.assertEqual(self.keep(), [])
        self.assertIn("(no)", "".join(self.lines))
        self.sockets.failure, self.processes.failure = None, OSError(errno.EIO, "broken")
        self.assertEqual(self.keep(), [])
        self.assertIn("(broken)", "".join(self.lines))

    def test_own(self) -> None:
        """The daemon's own sockets are left alone, even if it is excluded by its name."""
        self.processes.execute(OWN, "/usr/bin/curl")
        self.scan()
        self.socket(OWN, "192.0.2.1")
        self.assertEqual(self.keep(), [])

    def test_release(self) -> None:
        """
        At the end the marks are taken off again, so that none is left when the process is not
        excluded any more; also after a crash.
        """
        for _ in range(2):
            self.socket(20, "192.0.2.1")
        self.socket(20, "192.0.2.1", mark=7)
        self.keep()
        self.assertEqual(self.marks(), [SOCKET_MARK, SOCKET_MARK, 7])
        later = self.other()
        later.keep()
        later.release()
        self.assertEqual(self.marks(), [0, 0, 7])
        self.failures[20] = errno.ESRCH
        self.established.release()
        self.established.release()

    def test_reload(self) -> None:
        """
        After a reload a socket without a peer is like any other, unless its process is still
        excluded; connections go on.
        """
        self.processes.spawn(22, "/usr/bin/fetch")
        for pid in (20, 22):
            self.socket(pid, "192.0.2.1")
            self.processes.open(pid, self.sockets.add(Protocol.UDP, Endpoint("0.0.0.0", pid)))
        self.established = Established(
            self.processes, self.sockets, lambda: [20, 22], self.mark, lambda: OWN
        )
        self.established.keep()
        self.assertEqual(self.marks(), [SOCKET_MARK] * 4)
        later = self.other()
        self.established.handOver(later)
        self.assertEqual(self.marks(), [SOCKET_MARK, SOCKET_MARK, SOCKET_MARK, 0])
        later.handOver(None)
        self.assertEqual(self.marks(), [SOCKET_MARK, 0, SOCKET_MARK, 0])
        self.sockets.failure = OSError(errno.EPERM, "no")
        later.handOver(None)
