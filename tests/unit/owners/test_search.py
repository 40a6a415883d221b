"""Tests for L{nanotun.owners.descriptors} and L{nanotun.owners.search}."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

from nanotun.owners.descriptors import PROCESS_LIMIT, STEP, OutOfTime
from nanotun.owners.search import ANSWER_LIMIT
from nanotun.owners.values import Excluded
from nanotun.policy.rules import LOCAL_PROXY
from tests.unit.owners.search_cases import ProcessesCase


class DescriptorTests(ProcessesCase):
    """Tests for L{Descriptors}."""

    def setUp(self) -> None:
        """A process with many sockets, and a list of the descriptors that are read."""
        super().setUp()
        self.processes.spawn(60, "/usr/bin/proxy")
        for inode in range(1000, 1100):
            self.processes.open(60, inode)
        self.read: list[int] = []
        real = self.processes.socketAt

        def socketAt(pid: int, descriptor: int) -> int:
            self.read.append(descriptor)
            return real(pid, descriptor)

        self.patch(self.processes, "socketAt", socketAt)

    def look(self, inode: int) -> int | None:
        """Search without a time limit."""
        self.read.clear()
        return self.descriptors.search(60, (inode,), 1.0)

    def test_all(self) -> None:
        """Every socket is found, at its descriptor, and no other is."""
        self.assertEqual(self.look(1050), 53)
        self.assertIsNone(self.look(4711))
        # The first is where one was found before.
        self.assertEqual(len(self.read), 104)

    def test_newest(self) -> None:
        """A socket at a number that was free at the last search is found at once."""
        self.look(4711)
        self.processes.open(60, 2000)
        self.assertEqual(self.look(2000), 103)
        self.assertEqual(self.read, [103])
        del self.processes.files[60][40]
        self.look(4711)
        self.processes.open(60, 2001)
        self.assertEqual(self.look(2001), 40)
        self.assertEqual(self.read, [103, 40])

    def test_reused(self) -> None:
        """A socket at a number that another socket had is found as well."""
        self.look(4711)
        self.processes.files[60][90] = 2000
        self.processes.ran[60] += 1
        self.assertEqual(self.look(2000), 90)

    def test_asleep(self) -> None:
        """A process that has not run since it was searched is not searched again."""
        self.look(4711)
        self.assertEqual((self.look(1050), self.look(4712)), (53, None))
        self.assertEqual(self.read, [])
        self.processes.ran[60] += 1
        self.look(4712)
        self.assertEqual(len(self.read), 103)

    def test_running(self) -> None:
        """A process that runs while it is searched is searched again."""
        self.processes.busy.add(60)
        self.look(4711)
        self.processes.files[60][90] = 2000
        self.assertEqual(self.look(2000), 90)

    def test_cut(self) -> None:
        """When the deadline passes, the search raises OutOfTime."""
        self.clock.advance(2)
        self.assertRaises(OutOfTime, self.look, 4711)
        self.assertEqual(len(self.read), STEP)

    def test_limit(self) -> None:
        """What is remembered is bounded."""
        for pid in range(1000, 1000 + 2 * PROCESS_LIMIT):
            self.descriptors.search(pid, (1,), 1.0)
        self.assertLessEqual(len(self.descriptors._known), PROCESS_LIMIT)


class SearchTests(ProcessesCase):
    """Tests for L{Search}."""

    def opened(self, pid: int, inode: int, path: str = "/usr/bin/curl", **what: str | int) -> None:
        """Start a process that has a socket."""
        self.processes.spawn(pid, path, **what)  # type: ignore[arg-type]
        self.processes.open(pid, inode)

    def counted(self) -> Callable[[], list[int]]:
        """Begin to count; returns a function for the pids whose files were listed."""
        listed: list[int] = []
        real = self.processes.descriptors

        def descriptors(pid: int) -> list[int]:
            listed.append(pid)
            return real(pid)

        self.patch(self.processes, "descriptors", descriptors)
        return lambda: listed

    def test_found(self) -> None:
        """The process that has the socket is found; a socket of no excluded process is not."""
        self.opened(60, 700)
        self.opened(61, 701, "/usr/bin/wget")
        self.scan()
        self.assertEqual((self.find(700), self.find(701)), (60, 0))

    def test_users(self) -> None:
        """Only processes of the socket's user are searched, and root's, which may be any user's."""
        for pid, uid in ((60, 1000), (61, 1001), (62, 0)):
            self.opened(pid, pid + 640, uid=uid)
        self.age(100)
        self.scan()
        listed = self.counted()
        self.assertEqual((self.find(700), self.find(702), self.find(701)), (60, 62, 0))
        self.assertNotIn(61, listed())

    def test_cgroups(self) -> None:
        """Only processes of the socket's cgroup are searched, and new ones."""
        for pid, cgroup in ((60, "/a"), (61, "/b")):
            self.opened(pid, pid + 640, cgroup=cgroup)
        self.age(100)
        self.opened(62, 702, cgroup="/b")
        self.scan()
        listed = self.counted()
        self.assertEqual((self.find(700, "/a"), self.find(702, "/a")), (60, 62))
        self.assertEqual(self.find(701, "/a"), 0)
        self.assertNotIn(61, listed())
        self.assertEqual(self.find(701, ""), 61)

    def test_sole(self) -> None:
        """In a cgroup with excluded processes only, no files are read."""
        self.opened(60, 700, cgroup="/a")
        self.age(100)
        self.scan()
        listed = self.counted()
        self.cgroups.processes["/a"] = [60]
        self.assertEqual(self.find(4711, "/a"), 60)
        self.assertEqual(listed(), [])
        self.cgroups.processes["/a"] = [60, 61]
        self.assertEqual(self.find(4711, "/a"), 0)
        self.cgroups.processes["/"] = [60]
        self.assertEqual(self.find(4711, "/"), 0)

    def test_remembered(self) -> None:
        """A socket of many flows is searched for once, as long as its process keeps it."""
        self.opened(60, 700)
        self.opened(61, 701, "/usr/bin/wget")
        self.scan()
        self.find(700), self.find(701, connected=False)
        listed = self.counted()
        self.assertEqual((self.find(700), self.find(701, connected=False)), (60, 0))
        self.assertEqual(listed(), [])
        del self.processes.files[60][3]
        self.processes.ran[60] += 1
        self.assertEqual(self.find(700), 0)
        self.assertEqual(listed(), [60])

    def test_connectedNo(self) -> None:
        """That no process has a connection is not remembered: it is asked once."""
        self.scan()
        for inode in range(10):
            self.find(inode)
        self.assertEqual(self.search._answers, {})

    def test_limit(self) -> None:
        """What is remembered is bounded."""
        self.scan()
        for inode in range(2 * ANSWER_LIMIT):
            self.find(inode, connected=False)
            self.assertLessEqual(len(self.search._answers), ANSWER_LIMIT)

    def test_proxies(self) -> None:
        """All new processes with the listening socket are the proxy from then on."""
        self.scan()
        for pid in (60, 61):
            self.opened(pid, 900, "/usr/sbin/danted")
        self.opened(62, 901, "/usr/bin/wget")
        self.search.adoptProxies(frozenset({900}), 1.0)
        self.assertEqual([each.text for each in self.newcomers.excluded], [LOCAL_PROXY] * 2)
        self.processes.open(61, 700)
        self.assertEqual((self.find(700), self.find(901)), (61, 0))

    def test_proxiesInTime(self) -> None:
        """If the deadline passes, no process is taken for the proxy."""
        self.scan()
        self.opened(60, 900)
        self.clock.advance(2)
        self.assertRaises(OutOfTime, self.search.adoptProxies, frozenset({900}), 1.0)

    def test_proxyEnds(self) -> None:
        """A new process that ends while it is examined is ignored."""
        self.scan()
        self.opened(60, 900, "/usr/sbin/danted")
        self.newcomers.look(1.0)
        with mock.patch.object(self.processes, "process", lambda pid: None):
            self.search.adoptProxies(frozenset({900}), 1.0)
        self.assertEqual(self.newcomers.excluded, [])

    def test_stalePid(self) -> None:
        """A reused pid is not the excluded process's."""
        self.opened(60, 700)
        self.age(100)
        table = self.scan()
        self.processes.end(60)
        self.opened(60, 701, "/usr/bin/wget")
        self.assertIsInstance(table.excluded[60], Excluded)
        self.assertEqual(self.find(701), 0)
