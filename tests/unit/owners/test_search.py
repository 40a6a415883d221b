"""
Tests for L{nanotun.owners.scanner}, L{nanotun.owners.newcomers},
L{nanotun.owners.descriptors} and L{nanotun.owners.search}.
"""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.selectors import selectors
from nanotun.owners import newcomers as newcomersModule
from nanotun.owners.descriptors import PROCESS_LIMIT, STEP, Descriptors, OutOfTime
from nanotun.owners.matching import Matcher
from nanotun.owners.newcomers import Newcomers
from nanotun.owners.scanner import CHUNK, SETTLED, YOUNG, Scanner, ScanStopped
from nanotun.owners.search import ANSWER_LIMIT, Search
from nanotun.owners.values import EMPTY, Excluded, FlowSocket, SocketHolder, Table
from nanotun.policy.rules import LOCAL_PROXY
from nanotun.testing import FakeCgroups, FakeProcesses

OWN = 50
"""The pid of the daemon."""


class ProcessesCase(SynchronousTestCase):
    """Some processes, and a clock that the test advances."""

    excluded = "curl"
    children = False

    def setUp(self) -> None:
        """An init, a shell and a daemon, all of some age."""
        self.clock = Clock()
        self.processes = FakeProcesses()
        self.processes.spawn(1, "/sbin/init", parent=0, uid=0)
        self.processes.spawn(10, "/bin/bash", session=10)
        self.processes.spawn(OWN, "/usr/bin/python3", uid=0, session=OWN)
        self.age(100)
        self.matcher = Matcher(
            selectors(self.excluded),
            self.children,
            {"nobody": 65534}.__getitem__,
            lambda path: path,
        )
        self.pauses: list[float] = []
        self.descriptors = Descriptors(self.processes, self.clock.seconds)
        self.scanner = Scanner(
            self.processes,
            self.descriptors,
            self.matcher,
            self.children,
            lambda: OWN,
            self.pauses.append,
        )
        self.newcomers = Newcomers(
            self.processes, self.matcher, self.children, self.clock.seconds, self.clock.seconds
        )
        self.cgroups = FakeCgroups()
        self.search = Search(
            self.processes, self.cgroups, self.newcomers, self.descriptors, self.clock.seconds
        )

    def age(self, seconds: float) -> None:
        """Let time pass for the processes."""
        self.processes.now += seconds

    def scan(self, previous: Table = EMPTY, *listeners: int) -> Table:
        """Scan, and give the table to the search."""
        table = self.scanner.scan(previous, listeners)
        self.search.reset(table)
        return table

    def texts(self, table: Table) -> dict[int, str]:
        """The selectors of the excluded processes, by pid."""
        return {pid: excluded.text for pid, excluded in table.excluded.items()}

    def find(self, inode: int, cgroup: str = "/", uid: int = 1000, connected: bool = True) -> int:
        """The pid of the excluded process that has a socket, or 0."""
        found = FlowSocket(inode, uid, 0, 1, connected)
        excluded = self.search.find(found, cgroup, self.clock.seconds() + 1).excluded
        return 0 if excluded is None else excluded.process.pid


class ScannerTests(ProcessesCase):
    """Tests for L{Scanner}."""

    def test_table(self) -> None:
        """A table has all processes, the excluded ones, and the most recent pid."""
        self.processes.spawn(60, "/usr/bin/curl", parent=10)
        table = self.scan()
        self.assertEqual(set(table.stats), {1, 10, OWN, 60})
        self.assertEqual(self.texts(table), {60: "curl"})
        self.assertEqual(table.newest, 60)

    def test_looksOnce(self) -> None:
        """A process that is not excluded is examined once, until it becomes another program."""
        self.scan()
        self.processes.looks.clear()
        table = self.scan(self.scanner.scan(EMPTY, ()))
        self.assertEqual(self.processes.looks, [])
        self.processes.execute(10, "/usr/bin/curl")
        self.assertEqual(self.texts(self.scan(table)), {10: "curl"})
        self.assertEqual(self.processes.looks, [10])

    def test_young(self) -> None:
        """Processes that may not have reached execve are listed, and reliable cgroups marked."""
        self.processes.spawn(60, "/usr/bin/curl")
        table = self.scan()
        self.assertEqual(table.young, (60,))
        self.assertFalse(table.excluded[60].settled)
        self.age(SETTLED + 1)
        table = self.scan(table)
        self.assertEqual(table.young, ())
        self.assertTrue(table.excluded[60].settled)

    def test_pauses(self) -> None:
        """A scan of many processes pauses for the reactor, and can be stopped."""
        for pid in range(100, 100 + 4 * CHUNK):
            self.processes.spawn(pid, "/bin/sleep")
        self.scan()
        self.assertGreaterEqual(len(self.pauses), 4)
        self.scanner.stop()
        self.assertRaises(ScanStopped, self.scanner.scan, EMPTY, ())

    def test_gone(self) -> None:
        """A process that ends during the scan is left out."""
        self.processes.spawn(60, "/usr/bin/curl")
        real = self.processes.process
        self.patch(self.processes, "process", lambda pid: None if pid == 60 else real(pid))
        self.assertEqual(self.texts(self.scan()), {})

    def test_proxy(self) -> None:
        """All processes with the proxy's listening socket are the proxy, but for the daemon."""
        for pid in (60, 61):
            self.processes.spawn(pid, "/usr/sbin/danted", session=60)
            self.processes.open(pid, 900)
        self.processes.open(OWN, 900)
        table = self.scan(EMPTY, 900)
        self.assertEqual(self.texts(table), {60: LOCAL_PROXY, 61: LOCAL_PROXY})
        self.assertEqual(set(table.holders), {SocketHolder(60, 3, 900), SocketHolder(61, 3, 900)})

    def test_proxyKnown(self) -> None:
        """All files of all processes are read only for a new listening socket."""
        self.processes.spawn(60, "/usr/sbin/danted", session=60)
        self.processes.open(60, 900)
        table = self.scan(EMPTY, 900)
        with mock.patch.object(self.processes, "descriptors", side_effect=AssertionError):
            table = self.scan(table, 900)
        self.assertEqual(self.texts(table), {60: LOCAL_PROXY})
        self.processes.end(60)
        self.assertEqual(self.texts(self.scan(table)), {})

    def test_proxyWorkers(self) -> None:
        """A proxy's child is the proxy; then the sockets of all processes are noted."""
        self.processes.spawn(60, "/usr/sbin/danted", session=60)
        self.processes.spawn(61, "/usr/lib/worker", parent=60, session=60)
        self.processes.open(60, 900)
        self.processes.open(10, 901)
        self.assertEqual(self.texts(self.scan(EMPTY, 900)), {60: LOCAL_PROXY, 61: LOCAL_PROXY})
        with mock.patch.object(self.processes, "descriptors", side_effect=AssertionError):
            self.assertEqual(self.search.findHolder(901, 1.0).pid, 10)

    def test_proxyFirst(self) -> None:
        """A process that is the proxy and also excluded counts as the proxy."""
        self.processes.spawn(60, "/usr/bin/curl")
        self.processes.open(60, 900)
        self.assertEqual(self.texts(self.scan(EMPTY, 900)), {60: LOCAL_PROXY})


class FamilyTests(ProcessesCase):
    """Tests for L{Scanner} and L{Newcomers} with C{excludeChildren}."""

    excluded = "bash"
    children = True

    def test_children(self) -> None:
        """Descendants are excluded, before the scan and after it."""
        self.processes.spawn(60, "/usr/bin/make", parent=10)
        self.scan()
        self.processes.spawn(61, "/usr/bin/cc", parent=60)
        self.processes.spawn(62, "/usr/bin/ld", parent=61)
        self.processes.open(62, 700)
        self.processes.spawn(63, "/usr/bin/wget", parent=1)
        self.processes.open(63, 701)
        self.assertEqual((self.find(700), self.find(701)), (62, 0))

    def test_orphans(self) -> None:
        """A known child stays excluded without its parent, whatever program it becomes."""
        self.processes.spawn(60, "/usr/bin/make", parent=10)
        table = self.scan()
        self.processes.end(10)
        self.processes.adopt(60)
        self.processes.execute(60, "/usr/bin/wget")
        self.processes.open(60, 700)
        self.assertEqual(self.find(700), 60)
        self.assertEqual(self.texts(self.scan(table)), {60: "bash"})
        self.assertEqual(self.find(700), 60)


class NewcomerTests(ProcessesCase):
    """Tests for L{Newcomers}."""

    def test_started(self) -> None:
        """Processes started since the scan are found, and each is examined once."""
        self.scan()
        self.processes.looks.clear()
        self.processes.spawn(60, "/usr/bin/curl")
        self.processes.spawn(61, "/usr/bin/wget")
        self.processes.open(60, 700)
        self.processes.open(61, 701)
        for _ in range(3):
            self.assertEqual((self.find(700), self.find(701)), (60, 0))
        # The second is for the one that is excluded, of whom more is told.
        self.assertEqual(sorted(self.processes.looks), [60, 60, 61])

    def test_notYetSeen(self) -> None:
        """A process that has a pid, but is not visible at the first flow, is found at the next."""
        self.scan()
        self.processes.spawn(60, "/usr/bin/curl")
        self.processes.open(60, 700)
        hidden = self.processes.table.pop(60)
        self.assertEqual(self.find(700), 0)
        self.processes.table[60] = hidden
        self.assertEqual(self.find(700), 60)

    def test_execute(self) -> None:
        """A new process that was examined before its execve is examined again after it."""
        self.scan()
        self.processes.fork(10, 60)
        self.assertEqual(self.find(1), 0)
        self.processes.execute(60, "/usr/bin/curl")
        self.processes.open(60, 700)
        self.assertEqual(self.find(700), 60)

    def test_scannedYoung(self) -> None:
        """A process that was scanned before its execve is examined again after it."""
        self.processes.fork(10, 60)
        self.scan()
        self.processes.execute(60, "/usr/bin/curl")
        self.processes.open(60, 700)
        self.assertEqual(self.find(700), 60)

    def test_rest(self) -> None:
        """A process that is no longer young is not examined at each flow."""
        self.scan()
        self.processes.spawn(60, "/usr/bin/wget")
        self.find(1)
        self.age(2 * YOUNG)
        self.find(1)
        self.patch(self.processes, "stat", lambda pid: self.fail("it looks again"))
        self.find(1)

    def test_ended(self) -> None:
        """A process that has ended is forgotten."""
        self.scan()
        self.processes.spawn(60, "/usr/bin/curl")
        self.find(1)
        self.processes.end(60)
        self.find(1)
        self.assertEqual(self.newcomers.pids, [])
        self.assertEqual(self.newcomers.excluded, [])

    def test_wrapped(self) -> None:
        """When pids wrap around, lower ones are new, as are reused ones."""
        self.processes.spawn(70, "/bin/sleep")
        self.processes.spawn(30000, "/bin/sleep")
        self.age(100)
        self.scan()
        self.processes.end(70)
        for pid, inode in ((70, 700), (71, 701)):
            self.processes.spawn(pid, "/usr/bin/curl")
            self.processes.open(pid, inode)
        self.assertEqual((self.find(700), self.find(701)), (70, 71))

    def test_afterWrap(self) -> None:
        """When pids wrap around, old processes with higher pids are not examined."""
        for pid in range(20000, 20100):
            self.processes.spawn(pid, "/bin/sleep")
        self.age(100)
        self.scan()
        for pid in (300, 301):
            self.processes.spawn(pid, "/usr/bin/curl")
            self.processes.open(pid, pid)
        self.assertEqual(self.find(300), 300)
        self.processes.spawn(302, "/usr/bin/curl")
        self.processes.open(302, 302)
        with mock.patch.object(self.processes, "stat", wraps=self.processes.stat) as stat:
            self.assertEqual(self.find(302), 302)
        looked = [call.args[0] for call in stat.call_args_list]
        self.assertEqual([pid for pid in looked if pid >= 20000], [])

    def test_otherProgram(self) -> None:
        """An excluded process that became another program is not excluded any more."""
        self.processes.spawn(60, "/usr/bin/curl")
        self.processes.open(60, 700)
        self.age(100)
        self.scan()
        self.processes.execute(60, "/usr/bin/wget")
        self.assertEqual(self.find(700), 0)

    def test_limit(self) -> None:
        """If there are too many new processes, the oldest are left to the next scan."""
        self.patch(newcomersModule, "LIMIT", 5)
        self.scan()
        for pid in range(100, 110):
            self.processes.spawn(pid, "/usr/bin/curl")
            self.processes.open(pid, pid)
        self.assertEqual((self.find(109), self.find(100)), (109, 0))
        self.assertTrue(self.newcomers.overflowed)
        self.scan()
        self.assertFalse(self.newcomers.overflowed)

    def test_deadline(self) -> None:
        """Without time for all new processes, the search does not claim that none is excluded."""
        self.scan()
        self.processes.spawn(60, "/usr/bin/wget")
        self.clock.advance(1)
        found = FlowSocket(1, 1000, 0, 1, True)
        self.assertRaises(OutOfTime, self.search.find, found, "/", 0.5)


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
