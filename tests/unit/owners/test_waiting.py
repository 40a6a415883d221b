"""
Tests for the flows that wait for their owner: L{nanotun.owners.waiting}.
"""

from __future__ import annotations

import errno
from unittest import mock

from twisted.internet.defer import CancelledError, Deferred

from nanotun.flow import Endpoint, Flow, Owner, Protocol
from nanotun.owners.descriptors import OutOfTime
from nanotun.owners.owners import Owners
from nanotun.owners.schedule import EARLY_INTERVAL
from nanotun.owners.waiting import PATIENCE, ROUND_INTERVAL, WAITING_LIMIT
from nanotun.policy.rules import LOCAL_PROXY
from tests.unit.owners.owners_cases import REFRESH, TCP, OwnersCase


class WaitingTests(OwnersCase):
    """Flows whose lookup does not have enough time at first."""

    def waiting(self) -> tuple[Owners, Deferred[Owner | None]]:
        """Owners, and the answer about a flow of curl that waits for its next lookup."""
        owners = self.owners()
        self.program(60, "/usr/bin/curl")
        with self.slow(owners):
            return owners, self.wait(owners)

    def test_waits(self) -> None:
        """A flow whose lookup takes too long waits until its process is found on the thread."""
        owners, owner = self.waiting()
        self.clock.pump([ROUND_INTERVAL] * 5)
        self.assertNoResult(owner)
        self.finish()
        found = self.successResultOf(owner)
        assert found is not None
        self.assertEqual((found.excluded, owners.misses), ("curl", 0))

    def test_tooLong(self) -> None:
        """A flow that has waited in vain is a miss; what was learnt meanwhile is kept."""
        owners = self.owners()
        self.program(60, "/usr/bin/wget")
        with self.slow(owners):
            owner = self.wait(owners)
            self.clock.pump([ROUND_INTERVAL] * round(PATIENCE / ROUND_INTERVAL + 2))
        self.assertIsNone(self.successResultOf(owner))
        self.assertEqual(owners.misses, 1)
        self.clock.advance(EARLY_INTERVAL)
        # A scan was requested, and the sweep finds out whose it was.
        self.assertEqual(len(self.scans), 2)
        self.finish()
        self.finish()
        self.assertEqual(owners._lookup._search._recent, [60])

    def test_inTurn(self) -> None:
        """Where only time helps, each round looks one of the flows up, and all get their turn."""
        owners = self.owners()
        asked: list[int] = []

        def find(flow: Flow, brief: bool) -> None:
            asked.append(flow.id)
            raise OutOfTime

        self.patch(owners._lookup, "find", find)
        flows = [TCP._replace(id=number) for number in (1, 2, 3)]
        for flow in flows:
            self.wait(owners, flow)
        asked.clear()
        self.clock.pump([ROUND_INTERVAL] * 6)
        self.assertEqual(asked, [1, 2, 3, 1, 2, 3])
        self.assertEqual(self.scans, [])

    def test_failed(self) -> None:
        """A sweep that fails is made again, and never leaves a flow behind."""
        owners, owner = self.waiting()
        self.clock.advance(ROUND_INTERVAL)
        with self.slow(owners):
            self.scans.pop()[1].errback(OSError(24, "Too many open files"))
        self.assertNoResult(owner)
        self.finish()
        self.assertEqual(owners.misses, 0)
        self.assertIsNotNone(self.successResultOf(owner))

    def test_broke(self) -> None:
        """A mistake in a sweep is logged, and the flow is looked up again all the same."""
        _, owner = self.waiting()
        self.clock.advance(ROUND_INTERVAL)
        self.scans.pop()[1].errback(ZeroDivisionError())
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIsNotNone(self.successResultOf(owner))

    def test_cancelled(self) -> None:
        """A flow that was given up is not looked up again."""
        owners, owner = self.waiting()
        owner.cancel()
        self.failureResultOf(owner, CancelledError)
        self.patch(owners._lookup, "find", lambda flow, brief: self.fail("it looks"))
        self.clock.pump([ROUND_INTERVAL] * 3)
        self.assertEqual(self.scans, [])

    def test_full(self) -> None:
        """If very many flows wait, another one is a miss at once."""
        owners = self.owners()
        self.program(60, "/usr/bin/curl")
        with self.slow(owners):
            for _ in range(WAITING_LIMIT):
                owners.ownerOf(TCP)
            self.assertIsNone(owners.ownerOf(TCP))

    def test_stopped(self) -> None:
        """When the owners are replaced, the flows that wait are looked up once more."""
        owners, owner = self.waiting()
        owners.stop()
        found = self.successResultOf(owner)
        assert found is not None
        self.assertEqual(found.excluded, "curl")

    def test_stoppedInVain(self) -> None:
        """Flows whose owner is not found at the stop are misses, and cause no other search."""
        owners, owner = self.waiting()
        with self.slow(owners):
            owners.stop()
        self.assertIsNone(self.successResultOf(owner))
        self.assertEqual((owners.misses, self.scans), (1, []))


class LocalWaitingTests(OwnersCase):
    """Flows that wait while a proxy runs on this machine: a guess could loop."""

    proxy = "127.0.0.1:1080"

    def setUp(self) -> None:
        """A proxy."""
        super().setUp()
        self.program(60, "/usr/bin/microsocks")
        place = Endpoint("127.0.0.1", 1080)
        self.processes.open(60, self.sockets.add(Protocol.TCP, place, listens=True))

    def flow(self, number: int, pid: int = 60) -> Flow:
        """Another flow, of the proxy's or of another process."""
        flow = TCP._replace(id=number, source=Endpoint("192.0.2.2", number))
        self.processes.open(pid, self.sockets.add(Protocol.TCP, flow.source, flow.destination))
        return flow

    def test_patient(self) -> None:
        """A flow waits until its owner is known, for an hour if need be."""
        owners = self.owners("")
        with self.slow(owners):
            owner = self.wait(owners)
            self.assertEqual(owners.waiting, 1)
            for _ in range(360):
                self.clock.advance(10)
                self.scans.clear()
                owners._lookup._schedule._sweeping = owners._lookup._schedule._scanning = False
            self.assertNoResult(owner)
        self.clock.advance(ROUND_INTERVAL)
        self.finish()
        found = self.successResultOf(owner)
        assert found is not None
        self.assertEqual((found.excluded, owners.misses), (LOCAL_PROXY, 0))
        self.assertEqual(owners.waiting, 0)

    def test_oneSweep(self) -> None:
        """Many flows that wait, of the proxy and of others, are decided by one sweep."""
        owners = self.owners("")
        self.processes.spawn(70, "/usr/bin/wget")
        with self.slow(owners):
            pids = [60 if number % 2 else 70 for number in range(1, 201)]
            flows = [self.wait(owners, self.flow(n, pid)) for n, pid in enumerate(pids, 1)]
            self.clock.advance(ROUND_INTERVAL)
        self.assertEqual(len(self.scans), 1)
        with mock.patch.object(owners._lookup._search._newcomers, "look", self.fail):
            self.finish()
        found = [self.successResultOf(flow) for flow in flows]
        self.assertEqual(
            [owner and owner.excluded for owner in found],
            [LOCAL_PROXY if pid == 60 else "" for pid in pids],
        )
        self.assertEqual((self.scans, owners.misses), ([], 0))

    def test_next(self) -> None:
        """A flow that comes during a sweep is decided by the next one."""
        owners = self.owners("")
        with self.slow(owners):
            first = self.wait(owners, self.flow(1))
            self.clock.advance(ROUND_INTERVAL)
            second = self.wait(owners, self.flow(2))
            self.clock.pump([ROUND_INTERVAL] * 5)
        self.assertEqual(len(self.scans), 1)
        self.finish()
        self.successResultOf(first)
        self.assertNoResult(second)
        self.finish()
        self.successResultOf(second)

    def test_givenUp(self) -> None:
        """A flow that its app gave up is not swept for."""
        owners = self.owners("")
        with self.slow(owners):
            flows = [self.flow(1), self.flow(2)]
            first, second = (self.wait(owners, flow) for flow in flows)
            first.cancel()
            self.failureResultOf(first, CancelledError)
            sweep = self.patch(owners._schedule, "sweep", mock.Mock(return_value=False))
            self.clock.advance(ROUND_INTERVAL)
        socket = self.sockets.find(flows[1])
        assert socket is not None
        self.assertEqual(owners._schedule.sweep.call_args.args[0], {socket.inode})  # type: ignore
        sweep.restore()
        second.cancel()
        self.failureResultOf(second, CancelledError)

    def test_changed(self) -> None:
        """That a socket is no suspect's counts only as long as nobody else is one."""
        owners = self.owners("curl")
        self.processes.spawn(70, "/usr/bin/wget")
        self.clock.advance(REFRESH)
        self.finish()
        with self.slow(owners):
            owner = self.wait(owners, self.flow(1, 70))
            self.clock.advance(ROUND_INTERVAL)
            _, swept = self.scans.pop()
            self.processes.execute(70, "/usr/bin/curl")
            self.clock.advance(REFRESH)
            self.finish()
            self.assertIn(70, owners.table.excluded)
            swept.callback({})
            self.assertNoResult(owner)
        self.finish()
        found = self.successResultOf(owner)
        assert found is not None
        self.assertEqual(found.excluded, "curl")

    def test_unchanged(self) -> None:
        """
        A scan that finds nobody else during a sweep does not make it vain: on a machine where
        sweeps take longer than scans, flows would wait for ever.
        """
        owners = self.owners("curl")
        self.processes.spawn(70, "/usr/bin/wget")
        self.clock.advance(REFRESH)
        self.finish()
        with mock.patch.object(owners._lookup._search, "_among", side_effect=OutOfTime):
            owner = self.wait(owners, self.flow(1, 70))
            self.clock.advance(ROUND_INTERVAL)
            _, swept = self.scans.pop()
            self.clock.advance(REFRESH)
            self.finish()
            swept.callback({})
        found = self.successResultOf(owner)
        assert found is not None
        self.assertEqual(found.excluded, "")

    def test_brief(self) -> None:
        """While flows wait for a sweep, no long search is made for another one."""
        owners = self.owners("")
        begin = mock.Mock(wraps=owners._lookup._budget.begin)
        self.patch(owners._lookup._budget, "begin", begin)
        with self.slow(owners):
            for number in (1, 2):
                self.wait(owners, self.flow(number))
        self.assertEqual(begin.call_args_list, [mock.call(False), mock.call(True)])

    def test_noAnswer(self) -> None:
        """While the kernel cannot be asked, a flow waits."""
        owners = self.owners("")
        self.sockets.failure = OSError(errno.ENOBUFS, "No buffer space available")
        owner = self.wait(owners)
        self.clock.pump([ROUND_INTERVAL] * 3)
        self.assertNoResult(owner)
        self.sockets.failure = None
        self.clock.advance(ROUND_INTERVAL)
        self.assertIsNotNone(self.successResultOf(owner))

    def twoOwners(self) -> tuple[Owners, Owners]:
        """Those before a reload and after it; each has sockets of its own, which stay open."""
        self.patch(self.sockets, "close", lambda: None)
        return self.owners(""), self.owners("")

    def test_handOver(self) -> None:
        """
        At a reload flows go on waiting for the new owners, and none is guessed; one that its app
        gives up meanwhile is forgotten.
        """
        before, after = self.twoOwners()
        with self.slow(before):
            flows = [self.flow(number) for number in range(3)]
            first, second, third = (self.wait(before, flow) for flow in flows)
        with self.slow(after):
            before.handOver(after)
            before.stop()
            third.cancel()
            self.failureResultOf(third, CancelledError)
            self.assertEqual((before.waiting, after.waiting, before.misses), (0, 2, 0))
            for owner in (first, second):
                self.assertNoResult(owner)
        self.clock.advance(ROUND_INTERVAL)
        self.finish()
        self.assertNotIn(None, [self.successResultOf(owner) for owner in (first, second)])

    def test_handOverAtOnce(self) -> None:
        """What the new owners know at once is decided at once, and so is all without any."""
        before, after = self.twoOwners()
        with self.slow(before):
            flow = self.flow(1)
            owner = self.wait(before, flow)
            before.handOver(after)
            self.assertEqual(self.successResultOf(owner), after.ownerOf(flow))
            owner = self.wait(before, self.flow(2))
            before.handOver(None)
            self.assertIsNone(self.successResultOf(owner))
        before.stop()

    def test_unlimited(self) -> None:
        """However many flows wait, none is guessed."""
        owners = self.owners("")
        with self.slow(owners):
            for _ in range(WAITING_LIMIT + 1):
                self.wait(owners)
            self.assertFalse(owners._waiting.full)
