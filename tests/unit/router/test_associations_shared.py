"""
Tests for L{nanotun.router.udp}: the associations that DNS queries share.
"""

from __future__ import annotations

from nanotun.errors import DatagramsUnsupported
from nanotun.flow import Endpoint, Refusal
from nanotun.router.udp import associations
from nanotun.router.udp.association import SHARED_GRACE, SHARED_TIME
from nanotun.router.udp.associations import SHARED_FLOWS, SHARED_LIMIT, SHARED_SPREAD
from nanotun.router.udp.pauses import ENDS, PAUSE_FIRST
from nanotun.testing import MemoryRequest
from tests.unit.router.association_cases import DNS, AssociationCase


class NotSharedTests(AssociationCase):
    """
    DNS queries where a leg is cheap.
    """

    def test_own(self) -> None:
        """
        They are datagrams like others.
        """
        self.ask(1, DNS)
        self.ask(2, DNS)
        self.assertEqual(len(self.upstream.families), 2)
        self.assertIdle()


class SharedTests(AssociationCase):
    """
    Tests for the legs that DNS queries share.
    """

    sharesLegs = True

    def query(self, port: int) -> MemoryRequest:
        """An app asks a DNS server."""
        return self.ask(port, DNS)

    def legOf(self, request: MemoryRequest) -> int:
        """The association that took a query."""
        return self.engine.attached[request.flow.id]

    def ask50(self, first: int) -> None:
        """As many queries as one leg takes before there is another."""
        for port in range(first, first + SHARED_SPREAD):
            self.query(port)

    def test_one(self) -> None:
        """
        Queries of all sources share a leg; those that come while it opens wait.
        """
        first, second = self.query(1), self.query(2)
        association = self.open()
        third = self.query(3)
        for each in (first, second, third):
            self.assertEqual(self.legOf(each), association)
        self.assertEqual((self.engine.shared, len(self.upstream.families)), ({association}, 1))
        self.assertIdle()

    def test_others(self) -> None:
        """
        Everything else has legs of its own.
        """
        self.query(1)
        self.open()
        self.ask(1)
        association = self.open()
        self.assertNotIn(association, self.engine.shared)
        self.assertIdle()

    def test_spread(self) -> None:
        """
        Many queries open more legs, which no query waits for, up to a few.
        """
        self.query(1)
        self.open()
        for number in range(SHARED_LIMIT + 2):
            self.ask50(1 + number * SHARED_SPREAD)
            self.ask50(1 + number * SHARED_SPREAD)
            if self.upstream._datagramLegs:
                last = self.open()
                self.chosen = [len(self.engine.associations) - 1]
                self.assertEqual(self.legOf(self.query(60000 + number)), last)
                # The rest of them go there as well.
                self.chosen = [len(self.engine.associations) - 1] * 2 * SHARED_SPREAD
        self.assertEqual(len(self.upstream.families), SHARED_LIMIT)
        self.assertEqual(self.engine.dropped, [])
        self.assertIdle()

    def test_collision(self) -> None:
        """
        A query like one under way takes the next leg, and a leg of its own where
        there is none.
        """
        self.query(1)
        busy = []
        for number in range(SHARED_LIMIT):
            busy.append(self.open())
            self.engine.busy.add(busy[-1])
            request = self.query(2 + number)
            self.assertNotIn(request.flow.id, self.engine.attached)
        own = self.open()
        self.assertEqual((self.legOf(request), len(busy)), (own, SHARED_LIMIT))
        self.assertNotIn(own, self.engine.shared)
        self.assertIdle()

    def test_collisionWhileOpening(self) -> None:
        """
        Two of the same that waited for one leg: one of them gets a leg of its own.
        """
        first, second = self.query(1), self.query(2)
        original = self.engine.attachFlow

        def attachFlow(flowID: int, association: int, real: Endpoint | None) -> bool:
            if association in self.engine.shared and association in self.engine.attached.values():
                return False
            return original(flowID, association)

        self.patch(self.engine, "attachFlow", attachFlow)
        shared = self.open()
        own = self.open()
        self.assertEqual((self.legOf(first), self.legOf(second)), (shared, own))
        self.assertIdle()

    def test_time(self) -> None:
        """
        A leg takes new flows for a while only; then it has time for the answers that
        are still to come, and is closed.
        """
        self.query(1)
        control = self.upstream.answerDatagrams()
        (old,) = self.engine.associations
        self.clock.advance(SHARED_TIME)
        self.query(2)
        new = self.open()
        self.assertEqual(set(self.engine.associations), {old, new})
        self.clock.advance(SHARED_GRACE)
        self.assertEqual(set(self.engine.associations), {new})
        self.assertTrue(control.closed)
        self.assertIdle()

    def test_flows(self) -> None:
        """
        So it is after a number of flows.
        """
        self.patch(associations, "SHARED_SPREAD", SHARED_FLOWS + 1)
        self.query(1)
        old = self.open()
        for port in range(2, SHARED_FLOWS + 1):
            self.query(port)
        self.assertEqual(len(self.upstream.families), 1)
        self.query(SHARED_FLOWS + 1)
        new = self.open()
        self.assertEqual(list(self.engine.attached.values()).count(old), SHARED_FLOWS)
        self.clock.advance(SHARED_GRACE)
        self.assertEqual(list(self.engine.associations), [new])
        self.assertIdle()

    def test_ended(self) -> None:
        """
        A leg that ends before its time is replaced, and its timer goes with it.
        """
        self.query(1)
        self.engine.endAssociation(self.open())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.query(2)
        self.upstream.answerDatagrams().lose()
        self.trouble.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.query(3)
        self.assertEqual(len(self.upstream.families), 3)
        self.assertIdle()

    def test_broken(self) -> None:
        """
        When shared legs break one after the other, queries have their own for a while:
        that one server refuses is not the others' business.
        """
        self.breakNew(ENDS, DNS)
        first, second = self.query(1), self.query(2)
        for request in (first, second):
            self.assertNotIn(self.open(), self.engine.shared)
            self.assertIn(request.flow.id, self.engine.attached)
        self.clock.advance(PAUSE_FIRST)
        self.query(3)
        self.assertIn(self.open(), self.engine.shared)
        self.assertIdle()

    def test_fails(self) -> None:
        """
        Without a leg the queries that waited are refused.
        """
        requests = [self.query(1), self.query(2)]
        self.upstream.failDatagrams(DatagramsUnsupported("No UDP."))
        self.assertEqual(
            self.engine.refused, {each.flow.id: Refusal.PORT_UNREACHABLE for each in requests}
        )
        self.assertIdle()

    def test_stop(self) -> None:
        """
        The stop ends legs that are retired as well.
        """
        self.query(1)
        self.open()
        self.clock.advance(SHARED_TIME)
        self.query(2)
        self.assertIdle()
