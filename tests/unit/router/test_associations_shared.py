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
    Tests for DNS queries through an upstream whose associations are cheap.
    """

    def test_own(self) -> None:
        """
        Each source has its own association, as for other datagrams.
        """
        self.ask(1, DNS)
        self.ask(2, DNS)
        self.assertEqual(len(self.upstream.families), 2)
        self.assertIdle()


class SharedTests(AssociationCase):
    """
    Tests for the associations that DNS queries share.
    """

    sharesLegs = True

    def query(self, port: int) -> MemoryRequest:
        """An app asks a DNS server."""
        return self.ask(port, DNS)

    def takerOf(self, request: MemoryRequest) -> int:
        """The number of the association that took a query."""
        return self.engine.attached[request.flow.id]

    def ask50(self, first: int) -> None:
        """As many queries as one association takes before there is another."""
        for port in range(first, first + SHARED_SPREAD):
            self.query(port)

    def test_one(self) -> None:
        """
        Queries of all sources share an association, and wait while it opens.
        """
        first, second = self.query(1), self.query(2)
        association = self.open()
        third = self.query(3)
        for each in (first, second, third):
            self.assertEqual(self.takerOf(each), association)
        self.assertEqual((self.engine.shared, len(self.upstream.families)), ({association}, 1))
        self.assertIdle()

    def test_others(self) -> None:
        """
        All other datagrams leave through an association of their source.
        """
        self.query(1)
        self.open()
        self.ask(1)
        association = self.open()
        self.assertNotIn(association, self.engine.shared)
        self.assertIdle()

    def test_networkMoved(self) -> None:
        """Queries that wait for a dial that is given up wait together for another."""
        for port in (1, 2):
            self.query(port)
        self.associations.networkMoved(lambda route: True, dials=True)
        self.assertEqual((self.upstream.cancelled, len(self.upstream.families)), (1, 2))
        self.open()
        self.assertEqual((len(self.engine.associations), len(self.engine.attached)), (1, 2))

    def test_spread(self) -> None:
        """
        Many queries open more associations, up to a few, and no query waits for them.
        """
        self.query(1)
        self.open()
        for number in range(SHARED_LIMIT + 2):
            self.ask50(1 + number * SHARED_SPREAD)
            self.ask50(1 + number * SHARED_SPREAD)
            if len(self.upstream.families) > len(self.engine.associations):
                last = self.open()
                self.chosen = [len(self.engine.associations) - 1]
                self.assertEqual(self.takerOf(self.query(60000 + number)), last)
                # It takes the rest of the round as well.
                self.chosen = [len(self.engine.associations) - 1] * 2 * SHARED_SPREAD
        self.assertEqual(len(self.upstream.families), SHARED_LIMIT)
        self.assertEqual(self.engine.dropped, [])
        self.assertIdle()

    def test_collision(self) -> None:
        """
        A query like one under way takes the next shared association; if there is none,
        the source gets its own.
        """
        self.query(1)
        busy = []
        for number in range(SHARED_LIMIT):
            busy.append(self.open())
            self.engine.busy.add(busy[-1])
            request = self.query(2 + number)
            self.assertNotIn(request.flow.id, self.engine.attached)
        own = self.open()
        self.assertEqual((self.takerOf(request), len(busy)), (own, SHARED_LIMIT))
        self.assertNotIn(own, self.engine.shared)
        self.assertIdle()

    def test_collisionWhileOpening(self) -> None:
        """
        Of two equal queries that waited for one association, one gets an association of
        its own.
        """
        first, second = self.query(1), self.query(2)
        original = self.engine.attachFlow

        def attachFlow(flowID: int, association: int, real: Endpoint | None, note: int = 0) -> bool:
            if association in self.engine.shared and association in self.engine.attached.values():
                return False
            return original(flowID, association)

        self.patch(self.engine, "attachFlow", attachFlow)
        shared = self.open()
        own = self.open()
        self.assertEqual((self.takerOf(first), self.takerOf(second)), (shared, own))
        self.assertIdle()

    def test_time(self) -> None:
        """
        An association takes new flows for a while; then it waits for the answers that are
        still to come, and ends.
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
        It retires earlier if it has had enough flows.
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
        An association that ends early is replaced and leaves no timer.
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
        When shared associations fail one after the other, sources have their own for a
        while: a server that refuses must not harm queries to others.
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
        If the dial fails the queries that waited are refused.
        """
        requests = [self.query(1), self.query(2)]
        self.upstream.failDatagrams(DatagramsUnsupported("No UDP."))
        self.assertEqual(
            self.engine.refused, {each.flow.id: Refusal.PORT_UNREACHABLE for each in requests}
        )
        self.assertIdle()

    def test_stop(self) -> None:
        """
        The stop ends retiring associations too.
        """
        self.query(1)
        self.open()
        self.clock.advance(SHARED_TIME)
        self.query(2)
        self.assertIdle()
