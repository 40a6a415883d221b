"""
Tests for the flows that wait for their owner: L{nanotun.owners.waiting}.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from nanotun.flow import Flow, Owner
from nanotun.owners.descriptors import OutOfTime
from nanotun.owners.owners import Owners
from nanotun.owners.schedule import EARLY_INTERVAL
from nanotun.owners.waiting import PATIENCE, ROUND_INTERVAL, WAITING_LIMIT
from tests.unit.owners.owners_cases import TCP, OwnersCase


class WaitingTests(OwnersCase):
    """Flows whose lookup does not have enough time at first."""

    def waiting(self) -> tuple[Owners, Deferred[Owner | None]]:
        """Owners, and the answer about a flow of curl that waits for its next lookup."""
        owners = self.owners()
        self.program(60, "/usr/bin/curl")
        with self.slow(owners):
            return owners, self.wait(owners)

    def test_waits(self) -> None:
        """A flow whose lookup takes too long waits until its owner is found."""
        owners = self.owners()
        self.program(60, "/usr/bin/curl")
        with self.slow(owners):
            owner = self.wait(owners)
            self.clock.pump([ROUND_INTERVAL] * 5)
            self.assertNoResult(owner)
        self.clock.advance(ROUND_INTERVAL)
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
        # A scan was requested, and the other one finds out whose it was.
        self.assertEqual(len(self.scans), 2)
        self.finish()
        self.finish()
        self.assertEqual(owners._lookup._search._recent, [60])

    def test_inTurn(self) -> None:
        """Each round gets one of the waiting flows further, and all get their turn."""
        owners = self.owners()
        asked: list[int] = []

        def find(flow: Flow, last: bool) -> None:
            asked.append(flow.id)
            raise OutOfTime

        self.patch(owners._lookup, "find", find)
        flows = [TCP._replace(id=number) for number in (1, 2, 3)]
        for flow in flows:
            self.wait(owners, flow)
        asked.clear()
        self.clock.pump([ROUND_INTERVAL] * 6)
        self.assertEqual(asked, [1, 2, 3, 1, 2, 3])

    def test_cancelled(self) -> None:
        """A flow that was given up is not looked up again."""
        owners, owner = self.waiting()
        owner.cancel()
        self.failureResultOf(owner, CancelledError)
        self.patch(owners._lookup, "find", lambda flow, last: self.fail("it looks"))
        self.clock.pump([ROUND_INTERVAL] * 3)

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
        self.finish()
        with self.slow(owners):
            owners.stop()
        self.assertIsNone(self.successResultOf(owner))
        self.assertEqual((owners.misses, self.scans), (1, []))
