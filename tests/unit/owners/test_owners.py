"""
Tests for L{nanotun.owners.owners}, with a machine that is not there.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from unittest import mock

from twisted.logger import capturedLogs, formatEvent
from zope.interface.verify import verifyObject

from nanotun.addresses import SOCKET_MARK
from nanotun.errors import ConfigError
from nanotun.flow import Endpoint, Flow, Owner, Protocol
from nanotun.interfaces import IOwners, IPart
from nanotun.owners.handover import HANDOVER_TRIES
from nanotun.owners.listening import LISTENER_INTERVAL
from nanotun.owners.owners import LOOK_INTERVAL, Owners
from nanotun.owners.scanner import ScanStopped
from nanotun.owners.schedule import EARLY_INTERVAL
from nanotun.owners.values import Made, Table
from nanotun.owners.waiting import ROUND_INTERVAL
from nanotun.policy.rules import LOCAL_PROXY
from tests.unit.owners.owners_cases import OWN, REFRESH, SOURCE, TARGET, TCP, UDP, OwnersCase


class OwnerTests(OwnersCase):
    """Tests for L{Owners.ownerOf}."""

    def test_interfaces(self) -> None:
        """It provides both interfaces."""
        owners = self.owners()
        verifyObject(IOwners, owners)
        verifyObject(IPart, owners)

    def test_excluded(self) -> None:
        """The owner of an excluded process's flow is that process."""
        self.program(60, "/usr/bin/curl")
        expected = Owner(60, 1000, "curl", "/usr/bin/curl", "/", "curl")
        self.assertEqual(self.owners().ownerOf(TCP), expected)

    def test_others(self) -> None:
        """The owner of another process's flow has only its user and cgroup."""
        self.program(60, "/usr/bin/wget")
        owners = self.owners()
        self.assertEqual(owners.ownerOf(TCP), Owner(0, 1000, cgroup="/"))
        self.assertEqual(owners.misses, 0)

    def test_nobody(self) -> None:
        """A flow without a socket is a miss."""
        owners = self.owners()
        self.assertIsNone(owners.ownerOf(TCP))
        self.assertEqual((owners.lookups, owners.misses), (1, 1))

    def test_ourselves(self) -> None:
        """A marked socket is ours, whichever process has it, and no process is examined."""
        self.program(60, "/usr/bin/curl", mark=SOCKET_MARK)
        owners = self.owners()
        self.patch(self.processes, "descriptors", lambda pid: self.fail("it looks"))
        self.assertEqual(owners.ownerOf(TCP), Owner(OWN, 1000))

    def test_libraries(self) -> None:
        """An unmarked socket of our own process, a library's, is treated like any other."""
        inode = self.sockets.add(Protocol.TCP, SOURCE, TARGET)
        for pid in range(100, 200):
            self.processes.spawn(pid, "/usr/bin/curl")
        owners = self.owners()
        self.processes.open(OWN, inode)
        owners._lookup._search.note(OWN)
        self.assertEqual(owners.ownerOf(TCP), Owner(0, 1000, cgroup="/"))

    def test_learned(self) -> None:
        """After a long search without a result, the process is found on the thread, once."""
        self.processes.spawn(60, "/usr/bin/wget")
        self.processes.now += 100
        owners = self.owners()
        self.processes.open(60, self.sockets.add(Protocol.TCP, SOURCE, TARGET))
        with mock.patch.object(owners._lookup._budget, "isLong", return_value=True):
            for _ in range(3):
                self.assertEqual(owners.ownerOf(TCP), Owner(0, 1000, cgroup="/"))
        self.assertEqual(len(self.scans), 1)
        self.finish()
        self.assertEqual(owners._lookup._search._recent, [60])
        for pid in range(100, 200):
            self.processes.spawn(pid, "/usr/bin/curl")
        self.assertEqual(owners.ownerOf(TCP), Owner(60, 1000, cgroup="/"))

    def test_bySocket(self) -> None:
        """Users and cgroups are matched by the socket alone: no process is ever examined."""
        self.cgroups.paths[77] = "/system.slice/x.service/y"
        owners = self.owners("uid:alice, unit:x.service")
        self.patch(self.processes, "newest", lambda: self.fail("it looks"))
        self.program(60, "/usr/bin/curl", uid=7)
        self.assertEqual(owners.ownerOf(TCP), Owner(0, 7, cgroup="/", excluded="uid:alice"))
        self.program(61, "/usr/bin/curl", UDP, cgroup=77)
        path = self.cgroups.paths[77]
        expected = Owner(0, 1000, cgroup=path, excluded="unit:x.service")
        self.assertEqual(owners.ownerOf(UDP), expected)
        self.program(62, "/usr/bin/curl", TCP._replace(source=Endpoint("192.0.2.1", 4001)))
        other = owners.ownerOf(TCP._replace(source=Endpoint("192.0.2.1", 4001)))
        self.assertEqual(other, Owner(0, 1000, cgroup="/"))

    def test_sharedPort(self) -> None:
        """If a UDP port is shared, all processes have to be excluded."""
        self.processes.spawn(60, "/usr/bin/curl")
        self.processes.spawn(61, "/usr/bin/wget")
        mine = self.sockets.add(Protocol.UDP, SOURCE)
        self.processes.open(60, mine)
        owners = self.owners()
        owner = owners.ownerOf(UDP)
        assert isinstance(owner, Owner)
        self.assertEqual(owner.excluded, "curl")
        self.processes.open(61, self.sockets.add(Protocol.UDP, SOURCE))
        owner = owners.ownerOf(UDP)
        assert isinstance(owner, Owner)
        self.assertEqual(owner.excluded, "")

    def test_failures(self) -> None:
        """Nothing raises: a failure is a miss, and logged once."""
        self.program(60, "/usr/bin/curl")
        owners = self.owners()
        self.sockets.failure = OSError(errno.ENOBUFS, "No buffer space available")
        for _ in range(3):
            self.assertIsNone(owners.ownerOf(TCP))
        self.sockets.failure = None
        self.processes.failure = OSError(errno.EMFILE, "Too many open files")
        self.assertIsNone(owners.ownerOf(TCP))
        self.assertEqual(owners.misses, 4)
        self.processes.failure = None

    def test_mistake(self) -> None:
        """An internal error is a miss, and logged with its traceback."""
        owners = self.owners()
        with mock.patch.object(self.sockets, "find", side_effect=ZeroDivisionError):
            self.assertIsNone(owners.ownerOf(TCP))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(owners.misses, 1)


class LocalCase(OwnersCase):
    """Owners with a proxy on this machine."""

    proxy = "127.0.0.1:1080"

    def listen(self, pid: int) -> None:
        """Let a process listen on the proxy's address."""
        place = Endpoint("127.0.0.1", 1080)
        self.processes.open(pid, self.sockets.add(Protocol.TCP, place, listens=True))

    def excluded(self, owners: Owners, flow: Flow = TCP) -> str:
        """The selector by which the flow's owner is excluded."""
        owner = owners.ownerOf(flow)
        assert isinstance(owner, Owner)
        return owner.excluded


class LocalProxyTests(LocalCase):
    """Tests for L{Owners} with a proxy on this machine."""

    def test_runs(self) -> None:
        """A proxy that runs at the start is known."""
        self.program(60, "/usr/bin/microsocks")
        self.listen(60)
        owners = self.owners("")
        self.assertEqual(self.excluded(owners), LOCAL_PROXY)

    def test_starts(self) -> None:
        """A proxy that starts later is known at its first flow; a scan follows."""
        owners = self.owners("")
        self.program(60, "/usr/bin/microsocks")
        self.assertEqual(self.excluded(owners), "")
        self.listen(60)
        self.clock.advance(2 * LISTENER_INTERVAL)
        self.assertEqual(self.excluded(owners), LOCAL_PROXY)
        self.clock.advance(EARLY_INTERVAL)
        self.finish()
        self.assertEqual(set(owners.table.excluded), {60})
        self.assertEqual(self.excluded(owners), LOCAL_PROXY)

    def test_unix(self) -> None:
        """A proxy that listens on a unix socket after the start is known soon, too."""
        self.proxy = "socks5:///run/proxy.sock"
        owners = self.owners("")
        self.program(60, "/usr/bin/proxy")
        self.sockets.paths["/run/proxy.sock"] = [900]
        self.processes.open(60, 900)
        self.assertEqual(self.excluded(owners), LOCAL_PROXY)

    def test_unixBusy(self) -> None:
        """The list of unix sockets is read at most ten times a second, however many flows come."""
        self.proxy = "socks5:///run/proxy.sock"
        owners = self.owners("")
        self.program(60, "/usr/bin/wget")
        listeningAt = mock.Mock(return_value=[])
        self.patch(self.sockets, "listeningAt", listeningAt)
        for _ in range(20):
            self.assertEqual(self.excluded(owners), "")
            self.clock.advance(0.02)
        self.assertLessEqual(listeningAt.call_count, 4)

    def test_begins(self) -> None:
        """Flows wait for the scan that finds a process that listens long after its start."""
        self.program(60, "/usr/bin/microsocks")
        self.processes.now += 100
        owners = self.owners("")
        self.listen(60)
        owner = self.wait(owners)
        self.clock.advance(EARLY_INTERVAL)
        self.assertNoResult(owner)
        self.finish()
        self.clock.advance(ROUND_INTERVAL)
        found = self.successResultOf(owner)
        assert found is not None
        self.assertEqual(found.excluded, LOCAL_PROXY)
        self.assertEqual(self.excluded(owners), LOCAL_PROXY)

    def test_recorded(self) -> None:
        """With the record no flow waits for a process that listens long after its start."""
        self.program(60, "/usr/bin/microsocks")
        self.processes.now += 100
        owners = self.owners("")
        place = Endpoint("127.0.0.1", 1080)
        self.record[12] = Made(60, self.processes.now)
        self.processes.open(60, self.sockets.add(Protocol.TCP, place, listens=True, cookie=12))
        self.clock.advance(2 * LISTENER_INTERVAL)
        self.patch(self.processes, "descriptors", lambda pid: [3, 4] if pid == 60 else [])
        self.assertEqual(self.excluded(owners), LOCAL_PROXY)
        # Others may have it as well.
        self.assertTrue(owners._schedule._soon.active)

    def test_givenAway(self) -> None:
        """Who makes a listening socket for another process is not the proxy; that process is."""
        self.program(60, "/usr/bin/dockerd", cookie=11)
        self.processes.now += 100
        self.record[11] = Made(60, self.processes.now)
        owners = self.owners("")
        place = Endpoint("127.0.0.1", 1080)
        self.record[12] = Made(60, self.processes.now)
        inode = self.sockets.add(Protocol.TCP, place, listens=True, cookie=12)
        self.processes.spawn(61, "/usr/bin/docker-proxy", parent=60)
        self.processes.open(61, inode)
        self.clock.advance(2 * LISTENER_INTERVAL)
        self.assertEqual(owners.ownerOf(TCP), Owner(60, 1000, cgroup="/"))
        self.assertEqual(owners._lookup._search.proxyPids(), {61})

    def test_unseen(self) -> None:
        """A listening socket that no process has holds flows no longer than one scan."""
        owners = self.owners("")
        self.program(60, "/usr/bin/wget")
        self.sockets.add(Protocol.TCP, Endpoint("127.0.0.1", 1080), listens=True)
        owner = self.wait(owners)
        self.clock.advance(EARLY_INTERVAL)
        self.finish()
        self.clock.advance(ROUND_INTERVAL)
        self.assertEqual(self.successResultOf(owner), Owner(0, 1000, cgroup="/"))
        self.assertEqual(self.excluded(owners), "")

    def test_vanishes(self) -> None:
        """A socket that listens no longer is not waited for."""
        owners = self.owners("")
        self.program(60, "/usr/bin/wget")
        self.sockets.add(Protocol.TCP, Endpoint("127.0.0.1", 1080), listens=True)
        owner = self.wait(owners)
        del self.sockets.open[-1]
        self.clock.advance(LOOK_INTERVAL)
        self.clock.advance(ROUND_INTERVAL)
        self.assertEqual(self.successResultOf(owner), Owner(0, 1000, cgroup="/"))

    def test_others(self) -> None:
        """While a new proxy is being found, flows that are excluded anyway do not wait."""
        owners = self.owners("curl")
        self.program(60, "/usr/bin/curl")
        self.sockets.add(Protocol.TCP, Endpoint("127.0.0.1", 1080), listens=True)
        self.assertEqual(self.excluded(owners), "curl")

    def test_startsAgain(self) -> None:
        """A proxy that was restarted is known, and its predecessor forgotten."""
        self.processes.spawn(60, "/usr/bin/microsocks")
        self.listen(60)
        owners = self.owners("")
        self.processes.end(60)
        self.sockets.open.clear()
        self.program(61, "/usr/bin/microsocks")
        self.listen(61)
        self.assertEqual(self.excluded(owners), LOCAL_PROXY)
        self.clock.advance(EARLY_INTERVAL)
        self.finish()
        self.assertEqual(set(owners.table.excluded), {61})

    def test_startsAgainOnce(self) -> None:
        """A proxy that was restarted is probed once, however it is noticed."""
        for flows in (True, False):
            self.setUp()
            self.processes.spawn(60, "/usr/bin/microsocks")
            self.listen(60)
            owners = self.owners("")
            self.processes.end(60)
            self.sockets.open.clear()
            self.program(61, "/usr/bin/microsocks")
            self.listen(61)
            look = mock.Mock()
            self.patch(owners.hops, "look", look)
            if flows:
                self.excluded(owners)
            self.clock.advance(EARLY_INTERVAL)
            self.finish()
            self.assertEqual(look.call_count, 1, flows)
            self.stop(owners)

    def test_startsInScan(self) -> None:
        """A proxy that starts during a scan is not lost when the scan ends."""
        owners = self.owners("")
        self.clock.advance(REFRESH)
        scan, done = self.scans.pop()
        table = scan()
        self.program(60, "/usr/bin/microsocks")
        self.listen(60)
        self.assertEqual(self.excluded(owners), LOCAL_PROXY)
        done.callback(table)
        self.clock.advance(2 * LISTENER_INTERVAL)
        self.assertEqual(self.excluded(owners), LOCAL_PROXY)


class HandoverTests(LocalCase):
    """Tests for L{Owners} with a proxy of several processes."""

    def setUp(self) -> None:
        """One that listens with two processes."""
        super().setUp()
        self.processes.spawn(70, "/usr/sbin/danted")
        self.listen(70)
        self.processes.spawn(71, "/usr/sbin/danted", parent=70)
        self.processes.open(71, self.processes.socketAt(70, 3))

    def test_onItsWay(self) -> None:
        """A connection without a process, to where the proxy was asked to go, is the proxy's."""
        owners = self.owners("")
        inode = self.sockets.add(Protocol.TCP, SOURCE, TARGET)
        owners._lookup._handover.asked(TARGET)
        self.assertEqual(self.excluded(owners), LOCAL_PROXY)
        self.processes.open(1, inode)
        self.assertEqual(owners.ownerOf(TCP), Owner(1, 1000, cgroup="/"))

    def test_arrives(self) -> None:
        """A connection that no process has, to where nobody asked to go, is looked for again."""
        owners = self.owners("")
        inode = self.sockets.add(Protocol.TCP, SOURCE, TARGET)
        owner = self.wait(owners)
        self.clock.advance(ROUND_INTERVAL)
        self.finish()
        self.assertNoResult(owner)
        self.processes.open(71, inode)
        self.finish()
        found = self.successResultOf(owner)
        assert found is not None
        self.assertEqual((found.pid, found.excluded), (71, LOCAL_PROXY))

    def test_nobodys(self) -> None:
        """If it is nowhere, its flow is proxied in the end, and the proxy may be its next maker."""
        owners = self.owners("")
        self.sockets.add(Protocol.TCP, SOURCE, TARGET)
        owner = self.wait(owners)
        self.clock.advance(ROUND_INTERVAL)
        for _ in range(HANDOVER_TRIES):
            self.assertNoResult(owner)
            self.finish()
        self.assertEqual(self.successResultOf(owner), Owner(0, 1000, cgroup="/"))
        self.scans.clear()
        other = TCP._replace(source=Endpoint("192.0.2.1", 4001))
        self.sockets.add(Protocol.TCP, other.source, TARGET)
        self.assertEqual(self.excluded(owners, other), LOCAL_PROXY)

    def test_positive(self) -> None:
        """An app's flow to where the proxy was asked to go is not taken for the proxy's."""
        owners = self.owners("")
        owners._lookup._handover.asked(TARGET)
        self.program(80, "/usr/bin/wget")
        self.assertEqual(owners.ownerOf(TCP), Owner(80, 1000, cgroup="/"))


class ScanTests(OwnersCase):
    """Tests for the scans of L{Owners}."""

    def test_refresh(self) -> None:
        """The table is made periodically on the thread, and replaced as a whole."""
        owners = self.owners()
        before = owners.table
        self.processes.spawn(60, "/usr/bin/curl")
        for _ in range(3):
            self.clock.advance(REFRESH)
            self.assertEqual(len(self.scans), 1)
            self.finish()
        self.assertEqual(set(before.excluded), set())
        self.assertEqual(set(owners.table.excluded), {60})

    def test_slow(self) -> None:
        """While a scan runs, no second one is started."""
        self.owners()
        self.clock.pump([REFRESH] * 5)
        self.assertEqual(len(self.scans), 1)
        self.finish()
        self.clock.advance(REFRESH)
        self.assertEqual(len(self.scans), 1)
        self.finish()

    def test_soonWhileSlow(self) -> None:
        """A scan that is requested during a slow one begins after it, without any polling."""
        owners = self.owners()
        self.clock.advance(REFRESH)
        owners._schedule.soon()
        self.clock.advance(EARLY_INTERVAL)
        self.assertFalse(owners._schedule._soon.active)
        self.clock.advance(EARLY_INTERVAL)
        self.assertEqual(len(self.scans), 1)
        self.finish()
        self.clock.advance(0)
        self.assertEqual(len(self.scans), 1)
        self.finish()

    def test_fails(self) -> None:
        """A scan that fails keeps the old table, is logged, and is tried again."""
        self.processes.spawn(60, "/usr/bin/curl")
        owners = self.owners()
        self.clock.advance(REFRESH)
        with capturedLogs() as events:
            self.scans.pop()[1].errback(OSError(errno.EMFILE, "Too many open files"))
        self.assertEqual(set(owners.table.excluded), {60})
        self.assertIn("the last table", formatEvent(events[0]))
        self.sockets.failure = OSError(errno.ENOBUFS, "No buffer space available")
        self.clock.advance(REFRESH)
        self.sockets.failure = None
        self.clock.advance(REFRESH)
        self.finish()

    def test_stop(self) -> None:
        """After the stop nothing runs, and the result of a late scan is ignored."""
        owners = self.owners()
        table = owners.table
        self.clock.advance(REFRESH)
        scan, done = self.scans.pop()
        late = scan()
        owners.stop()
        self.assertTrue(self.sockets.closed)
        self.assertRaises(ScanStopped, self.manyScanned, scan)
        done.callback(late)
        self.assertIs(owners.table, table)
        self.clock.advance(10 * REFRESH)
        self.assertEqual(self.scans, [])

    def manyScanned(self, scan: Callable[[], Table]) -> None:
        """Scan when there are many processes."""
        for pid in range(100, 200):
            self.processes.spawn(pid, "/bin/sleep")
        scan()


class StartTests(OwnersCase):
    """Tests for L{Owners.start}."""

    def test_refused(self) -> None:
        """If the kernel does not list sockets, the start fails and says why."""
        self.sockets.failure = PermissionError(1, "Operation not permitted")
        owners = self.make("curl")
        error = self.assertRaises(ConfigError, owners.start)
        self.assertIn("Operation not permitted", str(error))
        self.assertTrue(self.sockets.closed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_noCgroups(self) -> None:
        """If a selector names a cgroup and there are none, the start fails."""
        self.cgroups.mount = ""
        self.assertRaises(ConfigError, self.make("unit:x.service").start)
        self.owners("uid:7")

    def test_noPid(self) -> None:
        """A selector for a pid that no process has causes a warning."""
        with capturedLogs() as events:
            self.owners("pid:4711")
        self.assertIn("no process pid:4711", formatEvent(events[0]))
