"""Tests for L{nanotun.owners.scanner} and L{nanotun.owners.newcomers}."""

from __future__ import annotations

from unittest import mock

from nanotun.owners import newcomers as newcomersModule
from nanotun.owners.descriptors import OutOfTime
from nanotun.owners.scanner import CHUNK, SETTLED, YOUNG, ScanStopped
from nanotun.owners.values import EMPTY, FlowSocket, SocketHolder
from nanotun.policy.rules import LOCAL_PROXY
from tests.unit.owners.search_cases import OWN, ProcessesCase


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
        self.assertEqual(sorted(self.processes.looks), [60, 61])

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


class HolderTests(ProcessesCase):
    """Tests for L{Scanner.holders}."""

    def setUp(self) -> None:
        """Three processes with two sockets each."""
        super().setUp()
        for pid in (60, 70, 80):
            self.processes.spawn(pid, "/usr/bin/wget")
            self.processes.open(pid, pid * 10)
            self.processes.open(pid, pid * 10 + 1)

    def test_suspects(self) -> None:
        """All sockets of suspects are found, and those of the next other process that has any."""
        found = self.scanner.holders((600, 601, 700, 800, 1), (60,))
        self.assertEqual(found, {600: (60, 3), 601: (60, 4), 800: (80, 3)})

    def test_everybody(self) -> None:
        """Without suspects all processes are searched."""
        found = self.scanner.holders((600, 700, 800, 1), None)
        self.assertEqual(found, {600: (60, 3), 700: (70, 3), 800: (80, 3)})

    def test_nobody(self) -> None:
        """If nobody is a suspect, it is still found out who has some."""
        self.assertEqual(self.scanner.holders((600, 700), ()), {700: (70, 3)})

    def test_once(self) -> None:
        """Each descriptor is read once for all sockets, and none of a process that slept since."""
        with mock.patch.object(
            self.processes, "socketAt", wraps=self.processes.socketAt
        ) as socketAt:
            self.scanner.holders((600, 601, 1, 2), None)
            read = [call.args for call in socketAt.call_args_list]
            self.assertEqual(len(read), len(set(read)))
            socketAt.reset_mock()
            self.assertEqual(self.scanner.holders((601, 2), None), {601: (60, 4)})
            self.assertEqual(socketAt.call_args_list, [])

    def test_busy(self) -> None:
        """A process that runs is searched again each time."""
        self.processes.busy.add(60)
        self.scanner.holders((1,), None)
        self.processes.files[60][3] = 602
        self.assertEqual(self.scanner.holders((602,), (60,)), {602: (60, 3)})

    def test_inherited(self) -> None:
        """A process that was started during the sweep may have inherited a socket."""
        real = self.processes.descriptors

        def descriptors(pid: int) -> list[int]:
            if pid == 60 and 90 not in self.processes.table:
                self.processes.fork(60, 90)
                self.processes.end(60)
            return real(pid)

        self.patch(self.processes, "descriptors", descriptors)
        self.assertEqual(self.scanner.holders((600, 700), (60, 70)), {600: (90, 3), 700: (70, 3)})

    def test_stopped(self) -> None:
        """A sweep does not pause, as flows wait for it, and can be stopped."""
        for inode in range(4 * CHUNK):
            self.processes.open(60, 10_000 + inode)
        self.scanner.holders((1,), (60,))
        self.assertEqual(self.pauses, [])
        self.scanner.stop()
        self.processes.ran[60] += 1
        self.assertRaises(ScanStopped, self.scanner.holders, (1,), (60,))
