"""
Tests for L{nanotun.router.udp}: a source's own associations.
"""

from __future__ import annotations

import errno
from typing import Any

from nanotun.errors import DatagramsUnsupported, ProxyError
from nanotun.flow import Endpoint, Refusal
from nanotun.interfaces import LegKind
from nanotun.linux.sources import LegRoute
from nanotun.router.udp import associations
from nanotun.router.udp.association import MATURE_AGE, AssociationState
from nanotun.router.udp.pauses import ENDS, PAUSE_FIRST
from nanotun.testing import FakeControl, FakeUpstream
from tests.unit.router.association_cases import DNS, AssociationCase


class OwnTests(AssociationCase):
    """
    Tests for the association that a source has for itself.
    """

    def test_one(self) -> None:
        """
        A source has one association for whatever it talks to: flows wait while it opens,
        and later ones are attached at once.
        """
        first, second = self.ask(), self.ask(destination=DNS)
        self.assertEqual((self.upstream.families, self.engine.attached), ([4], {}))
        self.upstream.answerDatagrams()
        third = self.ask(destination=Endpoint("198.51.100.1", 1))
        (association,) = self.engine.associations
        self.assertEqual(
            self.engine.attached, {each.flow.id: association for each in (first, second, third)}
        )
        self.assertEqual((self.upstream.families, self.engine.shared), ([4], set()))
        self.assertIdle()

    def test_each(self) -> None:
        """
        Each source has its own, even if only the ports differ.
        """
        self.ask(1)
        self.ask(2)
        self.engine.requestDatagrams(
            Endpoint("2001:db8::1", 1), Endpoint("fdfe:dcba:9876::2", 40000)
        )
        self.assertEqual(self.upstream.families, [4, 4, 6])
        for _ in range(3):
            self.upstream.answerDatagrams()
        self.assertEqual(sorted(self.engine.attached.values()), sorted(self.engine.associations))
        self.assertIdle()

    def test_networkMoved(self) -> None:
        """
        Legs that lead nowhere any more end without a word, and a source goes on by a new one;
        others, and dials, are left alone.
        """
        for port in (1, 2):
            self.ask(port)
            self.open()
        stale, well = sorted(self.associations.present, key=lambda each: str(each.key.source))
        stale.route = LegRoute(2, "192.0.2.7", ("192.0.2.1", 1080))
        well.route = LegRoute(2, "192.0.2.8", ("192.0.2.1", 1080))
        self.ask(3)
        self.associations.networkMoved(lambda route: route is stale.route, dials=False)
        self.assertEqual(len(self.associations.present), 2)
        self.assertEqual(stale.state, AssociationState.GONE)
        self.assertEqual((len(self.engine.associations), self.upstream.cancelled), (1, 0))
        self.assertEqual(self.logged, [])
        self.ask(1)
        self.assertEqual(len(self.upstream.families), 4)
        self.assertIdle()

    def test_networkMovedDirect(self) -> None:
        """A direct leg, for which the kernel chooses each time, never ends because of it."""
        self.ask()
        self.upstream.answerDatagrams(LegKind.DIRECT)
        self.associations.networkMoved(lambda route: True, dials=True)
        self.assertEqual(len(self.associations.present), 1)
        self.assertIdle()

    def test_networkMovedDials(self) -> None:
        """A dial under way is given up, and the flow that waits for it waits for another."""
        self.ask()
        self.associations.networkMoved(lambda route: True, dials=True)
        self.assertEqual((self.upstream.cancelled, len(self.upstream.families)), (1, 2))
        self.assertEqual(len(self.associations.present), 1)
        self.open()
        self.assertEqual((len(self.engine.associations), len(self.engine.attached)), (1, 1))
        self.assertIdle()

    def test_direct(self) -> None:
        """
        An association on a direct leg works without a control connection.
        """
        self.ask()
        self.upstream.answerDatagrams(LegKind.DIRECT)
        (association,) = self.engine.associations
        self.engine.endAssociation(association)
        self.ask()
        self.upstream.answerDatagrams(LegKind.DIRECT)
        self.assertEqual(len(self.engine.attached), 2)
        self.assertIdle()

    def test_ended(self) -> None:
        """
        An association that the engine ended closes its control connection, and the next
        flow has a new association.
        """
        self.ask()
        control = self.upstream.answerDatagrams()
        (association,) = self.engine.associations
        self.engine.endAssociation(association)
        self.assertTrue(control.closed)
        self.assertEqual(self.associations.present, set())
        self.ask()
        self.assertEqual(self.upstream.families, [4, 4])
        self.upstream.answerDatagrams()
        self.assertEqual(self.logged, [])
        self.assertIdle()

    def test_harmlessEnds(self) -> None:
        """
        An association that was idle, or made room for another, is no fault, however often
        it happens.
        """
        for _ in range(ENDS):
            for error in (errno.ETIMEDOUT, errno.ENOBUFS):
                self.ask()
                self.open()
                self.endNewest(error)
        self.assertEqual((self.logged, self.engine.refused), ([], {}))
        self.assertIdle()

    def test_broken(self) -> None:
        """
        Associations that fail as soon as they are open are logged once.  After a few,
        their source is refused for a while, longer each time, and other sources are not.
        """
        seconds = PAUSE_FIRST
        self.breakNew(ENDS - 1)
        for number in range(3):
            self.breakNew()
            self.clock.advance(seconds - 0.01)
            request = self.ask()
            self.assertEqual(self.engine.refused[request.flow.id], Refusal.PORT_UNREACHABLE)
            self.assertEqual(len(self.upstream.families), ENDS + number)
            self.clock.advance(0.02)
            seconds *= 2
        self.breakNew()
        self.ask(1)
        self.assertEqual(len(self.upstream.families), ENDS + 4)
        self.assertEqual(
            self.logged,
            [
                "The UDP association through fake:// failed: Connection refused; if it happens "
                "often, check that the proxy's UDP ports are open.",
            ],
        )
        self.assertIdle()

    def test_lives(self) -> None:
        """
        An association that lasts for a while ends the pauses: if it is lost later, the next
        flow has a new one at once.
        """
        self.breakNew(ENDS)
        self.clock.advance(PAUSE_FIRST)
        for _ in range(2 * ENDS):
            self.ask()
            control = self.upstream.answerDatagrams()
            self.clock.advance(MATURE_AGE)
            control.lose()
        self.assertEqual(self.engine.refused, {})
        self.assertIdle()

    def test_lost(self) -> None:
        """
        The loss of the control connection ends the association, and is logged.
        """
        self.ask()
        control = self.upstream.answerDatagrams()
        control.lose()
        self.assertEqual((self.engine.associations, self.associations.present), ({}, set()))
        self.assertEqual(self.logged, ["The proxy closed it."])
        self.assertIdle()

    def test_lostOften(self) -> None:
        """
        Control connections that the proxy ends at once lead to pauses too.
        """
        for _ in range(ENDS):
            self.ask()
            self.upstream.answerDatagrams().lose()
        requests = [self.ask() for _ in range(10)]
        self.assertEqual(len(self.upstream.families), ENDS)
        self.assertEqual(list(self.engine.refused), [each.flow.id for each in requests])
        self.assertEqual(self.logged, ["The proxy closed it."])
        self.clock.advance(PAUSE_FIRST)
        self.ask()
        self.assertEqual(len(self.upstream.families), ENDS + 1)
        self.assertIdle()

    def test_lostAtOnce(self) -> None:
        """
        If the control connection was lost before the association was open, the flow that
        waited is dropped.
        """
        request = self.ask()
        original = self.engine.openAssociation

        def openAssociation(leg: Any, ended: Any, refused: Any, shared: bool = False) -> int:
            leg.control.lose()
            return original(leg, ended, refused, shared)

        self.patch(self.engine, "openAssociation", openAssociation)
        self.upstream.answerDatagrams()
        self.assertEqual(self.engine.dropped, [request.flow.id])
        self.assertIdle()

    def test_endUnderWay(self) -> None:
        """
        A flow that an association does not take, because it has just ended, gets a new
        one; if that does not take the flow either, it is dropped.
        """
        self.ask()
        self.upstream.answerDatagrams()
        (first,) = self.engine.associations
        self.engine.busy.add(first)
        request = self.ask()
        self.assertEqual(self.upstream.families, [4, 4])
        # The engine numbers flows and associations in one sequence.
        self.engine.busy.add(request.flow.id + 1)
        self.upstream.answerDatagrams()
        self.assertEqual(self.engine.dropped, [request.flow.id])
        # The first one's end is told late, and does not harm the second.
        self.engine.endAssociation(first)
        self.engine.busy.clear()
        self.ask()
        self.assertEqual(self.upstream.families, [4, 4])
        self.assertIdle()

    def test_fails(self) -> None:
        """
        If the dial fails every flow that waited is refused, and the cause is logged once;
        a new flow leads to a new dial.
        """
        requests = [self.ask(), self.ask(), self.ask()]
        self.upstream.failDatagrams(ProxyError("The proxy is down."))
        self.assertEqual(
            self.engine.refused, {each.flow.id: Refusal.PORT_UNREACHABLE for each in requests}
        )
        self.assertEqual(self.logged, ["The proxy is down."])
        self.ask()
        self.upstream.failDatagrams(ProxyError("The proxy is down."))
        self.assertEqual(len(self.logged), 1)
        self.assertIdle()

    def test_unsupported(self) -> None:
        """
        That an upstream carries no UDP is logged once, and once more after it did carry
        some.
        """
        for _ in range(2):
            for _ in range(3):
                request = self.ask()
                self.upstream.failDatagrams(DatagramsUnsupported("It carries no UDP."))
                self.assertEqual(self.engine.refused[request.flow.id], Refusal.PORT_UNREACHABLE)
            self.assertEqual(self.logged, ["It carries no UDP."])
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.logged.clear()
            self.ask(1)
            self.open()
            self.endNewest()
        self.assertIdle()

    def test_unsupportedForAll(self) -> None:
        """
        It is logged once for all programs that have an upstream of their own at one proxy.
        """
        for port in (1, 2):
            self.upstream = FakeUpstream()
            self.ask(port)
            self.upstream.failDatagrams(DatagramsUnsupported("It carries no UDP."))
        self.assertEqual(self.logged, ["It carries no UDP."])

    def test_unsupportedByNature(self) -> None:
        """
        If it follows from the upstream's URL it was told at the start, and is not logged.
        """
        self.upstream.carriesDatagrams = False
        self.ask()
        self.upstream.failDatagrams(DatagramsUnsupported("It carries no UDP."))
        self.assertEqual(self.logged, [])

    def test_unusable(self) -> None:
        """
        If the engine cannot take the leg the flow is refused, and the control connection
        closed.
        """
        request = self.ask()
        self.engine.associationError = OSError(errno.EMFILE, "Too many open files")
        control = self.upstream.answerDatagrams()
        self.assertTrue(control.closed)
        self.assertEqual(self.engine.refused, {request.flow.id: Refusal.PORT_UNREACHABLE})
        self.assertEqual(self.logged, ["A UDP association cannot be used: Too many open files."])
        self.assertIdle()

    def test_bug(self) -> None:
        """
        An internal error is logged as one, and the flow is refused.
        """
        request = self.ask()
        bug: Any = ZeroDivisionError()
        self.upstream.failDatagrams(bug)
        self.assertIn(request.flow.id, self.engine.refused)
        self.assertIn("internal error", self.logged[0])

    def test_bugAtOnce(self) -> None:
        """
        An internal error of the upstream's method itself is no different, and the
        association no longer counts as opening.
        """
        self.patch(associations, "OPENING_LIMIT", 1)

        def associate(family: int) -> Any:
            raise ZeroDivisionError

        self.upstream.associate = associate  # type: ignore[method-assign]
        requests = [self.ask(), self.ask()]
        self.assertEqual(list(self.engine.refused), [each.flow.id for each in requests])
        self.assertIn("internal error", self.logged[0])
        self.assertIdle()

    def test_bugInControl(self) -> None:
        """
        An internal error in the control drops the flows that waited, and nothing stays
        open.
        """
        requests = [self.ask(), self.ask()]

        def watch(control: FakeControl, lost: Any) -> None:
            raise ZeroDivisionError

        self.patch(FakeControl, "watch", watch)
        self.assertTrue(self.upstream.answerDatagrams().closed)
        self.assertEqual(self.engine.dropped, [each.flow.id for each in requests])
        self.assertEqual((self.engine.associations, self.associations.present), ({}, set()))
        self.assertIn("internal error", self.logged[0])
        self.assertIdle()

    def test_bugInEngine(self) -> None:
        """
        If one flow cannot be attached, it and those behind it are dropped: none is left
        undecided.
        """
        requests = [self.ask(), self.ask(), self.ask()]
        original = self.engine.attachFlow

        def attachFlow(flowID: int, association: int, real: Endpoint | None, note: int = 0) -> bool:
            if flowID == requests[1].flow.id:
                raise OSError(errno.EINVAL, "Invalid argument")
            return original(flowID, association, real)

        self.patch(self.engine, "attachFlow", attachFlow)
        self.upstream.answerDatagrams()
        self.assertEqual(list(self.engine.attached), [requests[0].flow.id])
        self.assertEqual(self.engine.dropped, [each.flow.id for each in requests[1:]])
        self.assertIdle()

    def test_openingLimit(self) -> None:
        """
        Over the limit datagrams are dropped, until some associations have opened or
        failed.
        """
        self.patch(associations, "OPENING_LIMIT", 3)
        requests = [self.ask(port) for port in range(1, 6)]
        self.assertEqual(self.engine.dropped, [each.flow.id for each in requests[3:]])
        self.upstream.answerDatagrams()
        self.upstream.failDatagrams(ProxyError("why"))
        for port in (6, 7, 8):
            self.ask(port)
        self.assertEqual((len(self.upstream.families), len(self.engine.dropped)), (5, 3))
        self.assertIdle()

    def test_stop(self) -> None:
        """
        The stop cancels dials and ends associations; the flows that wait are dropped, and
        so are later ones.
        """
        self.ask(1)
        control = self.upstream.answerDatagrams()
        waiting = self.ask(2)
        self.associations.stop()
        late = self.ask(3)
        self.assertEqual(self.upstream.cancelled, 1)
        self.assertTrue(control.closed)
        self.assertEqual(self.engine.dropped, [waiting.flow.id, late.flow.id])
        self.assertIdle()
