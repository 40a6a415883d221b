"""Tests for L{nanotun.owners.makers}, and for L{nanotun.owners.search} with a record."""

from __future__ import annotations

from nanotun.owners import newcomers
from nanotun.owners.makers import Makers
from nanotun.owners.values import Excluded, FlowSocket, Made
from nanotun.policy.rules import LOCAL_PROXY
from tests.unit.owners.search_cases import ProcessesCase

COOKIE = 12
INODE = 1000


class MakersTests(ProcessesCase):
    """L{Makers}."""

    def setUp(self) -> None:
        """A process that made a socket a second after its start."""
        super().setUp()
        self.makers = Makers(self.record.get, self.processes)
        self.processes.spawn(60, "/usr/bin/curl")
        self.age(1)
        self.record[COOKIE] = Made(60, self.processes.now)

    def test_found(self) -> None:
        """The maker of a socket is known as long as it runs."""
        self.assertEqual(self.makers.pidOf(COOKIE), 60)
        self.assertEqual(self.makers.find(COOKIE), (60, self.processes.table[60].stat))
        self.processes.end(60)
        self.assertEqual(self.makers.pidOf(COOKIE), 0)
        self.assertIsNone(self.makers.find(COOKIE))

    def test_unknown(self) -> None:
        """Nobody made a socket that is not in the record."""
        self.assertEqual(self.makers.pidOf(COOKIE + 1), 0)
        self.assertEqual(self.makers.pidOf(0), 0)

    def test_reused(self) -> None:
        """A process that was started after the socket was made did not make it."""
        self.processes.end(60)
        self.age(0.01)
        self.processes.spawn(60, "/usr/bin/curl")
        self.assertEqual(self.makers.pidOf(COOKIE), 0)

    def test_atOnce(self) -> None:
        """A socket may be made in the tick in which its process was started."""
        self.processes.spawn(61, "/usr/bin/curl")
        self.record[COOKIE] = Made(61, self.processes.now + 0.000_001)
        self.assertEqual(self.makers.pidOf(COOKIE), 61)

    def test_managers(self) -> None:
        """systemd's and inetd's sockets are those of the services that they start."""
        for program in ("/usr/lib/systemd/systemd", "/sbin/init", "/usr/sbin/inetd"):
            self.processes.execute(60, program)
            self.assertEqual(self.makers.pidOf(COOKIE), 0)


class MakerTests(ProcessesCase):
    """L{nanotun.owners.search.Search}, where it is recorded who made the socket."""

    def made(self, pid: int) -> FlowSocket:
        """A socket that a process has just made, and that nobody has."""
        self.record[COOKIE] = Made(pid, self.processes.now)
        return FlowSocket(INODE, 1000, 0, 1, True, COOKIE)

    def text(self, pid: int) -> str | None:
        """The selector that excludes the maker of a socket; the lookup has no time at all."""
        found = self.search.find(self.made(pid), "/", self.clock.seconds() - 1)
        self.assertEqual((found.pid, found.descriptor), (pid, 0))
        return None if found.excluded is None else found.excluded.text

    def test_atOnce(self) -> None:
        """A newcomer is recognised without any list of processes, and without a descriptor."""
        self.scan()
        self.processes.spawn(60, "/usr/bin/curl", parent=10)
        self.processes.spawn(61, "/usr/bin/wget", parent=10)
        for name in ("pids", "newest", "descriptors", "socketAt"):
            self.patch(self.processes, name, None)
        self.assertEqual(self.text(60), "curl")
        self.assertIsNone(self.text(61))

    def test_once(self) -> None:
        """A program is looked at once, however many sockets it makes."""
        self.scan()
        self.processes.spawn(60, "/usr/bin/wget", parent=10)
        self.processes.looks.clear()
        for _ in range(5):
            self.assertIsNone(self.text(60))
        self.assertEqual(self.processes.looks, [60])

    def test_lateExec(self) -> None:
        """A process that becomes an excluded program, or another one, is seen at its next flow."""
        self.processes.spawn(60, "/bin/sh", parent=10)
        self.scan()
        self.age(10)
        self.assertIsNone(self.text(60))
        self.processes.execute(60, "/usr/bin/curl")
        self.assertEqual(self.text(60), "curl")
        self.age(10)
        self.processes.execute(60, "/usr/bin/wget")
        self.assertIsNone(self.text(60))

    def test_renamed(self) -> None:
        """So is one that changes its own name."""
        self.processes.spawn(60, "/usr/bin/worker", parent=10)
        self.scan()
        self.assertIsNone(self.text(60))
        process = self.processes.table[60]
        stat = process.stat._replace(command=b"curl")
        names = process.names | {"curl"}
        self.processes.table[60] = process._replace(stat=stat, names=names)
        self.assertEqual(self.text(60), "curl")

    def test_makerEnded(self) -> None:
        """If the maker has ended, the process that has its socket now is searched for."""
        self.scan()
        self.processes.spawn(60, "/bin/sh", parent=10)
        found = self.made(60)
        self.processes.spawn(61, "/usr/bin/curl", parent=60)
        self.processes.open(61, INODE)
        self.processes.end(60)
        later = self.clock.seconds() + 1
        self.assertEqual(self.search.find(found, "/", later).pid, 61)

    def test_passedOn(self) -> None:
        """A socket that was passed on is its maker's, whoever has it by now."""
        self.scan()
        self.processes.spawn(60, "/usr/bin/curl", parent=10)
        self.processes.spawn(61, "/usr/bin/wget", parent=60)
        self.processes.open(61, INODE)
        self.assertEqual(self.text(60), "curl")

    def test_adopted(self) -> None:
        """A process that was found to be the proxy is still it at its flows."""
        self.processes.spawn(60, "/usr/bin/proxy", parent=10)
        self.scan()
        self.newcomers.adopt(Excluded(self.processes.table[60], LOCAL_PROXY))
        self.assertEqual(self.text(60), LOCAL_PROXY)

    def test_limit(self) -> None:
        """Only so many processes are remembered between two scans; then a scan is due."""
        self.patch(newcomers, "LIMIT", 3)
        self.scan()
        for pid in range(60, 64):
            self.assertFalse(self.search.overflowed)
            self.processes.spawn(pid, "/usr/bin/wget", parent=10)
            self.assertIsNone(self.text(pid))
        self.assertTrue(self.search.overflowed)
        self.assertEqual(self.newcomers.pids, [63, 62, 61])

    def test_ended(self) -> None:
        """Those that have ended need no room, so that a crowd of short ones causes no scans."""
        self.patch(newcomers, "LIMIT", 8)
        self.scan()
        for pid in range(60, 80):
            self.processes.spawn(pid, "/usr/bin/wget", parent=10)
            self.assertIsNone(self.text(pid))
            self.processes.end(pid)
        self.search.prepare(self.clock.seconds() + 1)
        self.assertFalse(self.search.overflowed)


class MakersChildrenTests(ProcessesCase):
    """The same for processes that are excluded because of their parents."""

    excluded = "backup.sh"
    children = True

    def setUp(self) -> None:
        """A shell with a child with a child, which is the first to be seen."""
        super().setUp()
        self.scan()
        for pid, path in ((60, "/opt/backup.sh"), (61, "/bin/sh"), (62, "/usr/bin/curl")):
            self.processes.spawn(pid, path, parent=pid - 1 if pid > 60 else 10)
        self.record[COOKIE] = Made(62, self.processes.now)
        self.socket = FlowSocket(INODE, 1000, 0, 1, True, COOKIE)

    def text(self) -> str | None:
        """The selector that excludes the maker of the socket."""
        excluded = self.search.find(self.socket, "/", self.clock.seconds() - 1).excluded
        return None if excluded is None else excluded.text

    def test_parents(self) -> None:
        """The parents of a newcomer are looked at, though nobody has listed them yet."""
        self.assertEqual(self.text(), "backup.sh")

    def test_parentEnds(self) -> None:
        """A child stays excluded when its parents end."""
        self.assertEqual(self.text(), "backup.sh")
        self.processes.end(60)
        self.processes.end(61)
        self.processes.adopt(62)
        self.assertEqual(self.text(), "backup.sh")

    def test_otherParents(self) -> None:
        """Children of others are not excluded."""
        self.processes.execute(60, "/bin/sh")
        self.assertIsNone(self.text())
