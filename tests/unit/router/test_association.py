"""
Tests for L{nanotun.router.udp.association}: the table of its life.
"""

from __future__ import annotations

import errno
from functools import partial
from typing import Any

from nanotun.errors import ProxyError, UnexpectedEvent, UpstreamRefused
from nanotun.flow import Endpoint
from nanotun.router.udp.association import (
    MATURE_AGE,
    SHARED_GRACE,
    TRANSITIONS,
    Association,
    AssociationEvent,
    AssociationState,
)
from nanotun.router.udp.pauses import ENDS
from tests.garbage import garbageOf
from tests.unit.router.association_cases import DNS, AssociationCase, losingShared


class TableTests(AssociationCase):
    """
    Tests for L{TRANSITIONS}.
    """

    def the(self) -> Association:
        """The one association there is."""
        (association,) = self.associations.present
        return association

    def test_life(self) -> None:
        """
        An association is opening, open, and gone once it is closed.
        """
        self.ask()
        association = self.the()
        self.assertIs(association.state, AssociationState.OPENING)
        self.open()
        self.assertIs(association.state, AssociationState.OPEN)
        association.close()
        self.assertIs(association.state, AssociationState.GONE)
        self.assertEqual(self.engine.associations, {})
        self.assertIdle()

    def test_unexpected(self) -> None:
        """
        An event that the state does not allow raises an error that names both, and changes
        nothing.
        """
        self.ask()
        association = self.the()
        error = self.assertRaises(UnexpectedEvent, association.retire)
        self.assertIn("opening", str(error))
        self.assertIn("full", str(error))
        self.assertIs(association.state, AssociationState.OPENING)
        self.open()
        association.close()
        self.assertRaises(UnexpectedEvent, association.retire)
        self.assertIdle()

    def test_goneForGood(self) -> None:
        """
        No state but opening waits for a leg, and no event leads out of gone.
        """
        for (state, event), (after, _) in TRANSITIONS.items():
            if state is AssociationState.GONE:
                self.assertIs(after, AssociationState.GONE)
            if event is AssociationEvent.OPENED:
                self.assertIs(state, AssociationState.OPENING)
            self.assertIsNot(after, AssociationState.OPENING)

    def test_closedWhileOpening(self) -> None:
        """
        The end of a dial that was cancelled is no news.
        """
        request = self.ask()
        association = self.the()
        association.close()
        self.assertEqual((self.upstream.cancelled, self.engine.dropped), (1, [request.flow.id]))
        association.close()
        self.assertEqual(self.logged, [])
        self.assertIdle()

    def test_refused(self) -> None:
        """
        A refusal ends nothing: one line names the first destination, the control connection
        is doubted, and there is no pause.
        """
        self.ask()
        control = self.upstream.answerDatagrams()
        (number,) = self.engine.associations
        for _ in range(ENDS + 1):
            self.engine.refusals[number]()
        line = (
            "UDP to 192.0.2.1:443 was refused behind the proxy fake://: the port is closed "
            "there, or the proxy's UDP relay is."
        )
        self.assertEqual(self.logged, [line])
        self.assertEqual((control.doubts, control.closed), (ENDS + 1, False))
        self.ask(destination=Endpoint("192.0.2.2", 443))
        self.engine.refusals[number]()
        self.ask(destination=Endpoint("192.0.2.3", 443))
        self.engine.refusals[number]()
        several = "UDP to one of several destinations, the first of them 192.0.2.1:443,"
        self.assertEqual(self.logged[1:], [line.replace("UDP to 192.0.2.1:443", several)])
        self.assertIs(self.the().state, AssociationState.OPEN)
        self.assertEqual(len(self.upstream.families), 1)
        self.associations.stop()

    def test_refusedName(self) -> None:
        """
        The line about a refusal has the name that a destination is known by.
        """
        self.names.known = {"198.19.0.1": "name.example"}
        self.ask(destination=Endpoint("198.19.0.1", 443))
        self.engine.refusals[self.open()]()
        self.assertIn("UDP to 198.19.0.1:443 (name.example) was refused", self.logged[0])
        self.associations.stop()

    def test_refusedWhileRetiring(self) -> None:
        """
        A retiring association hears of refusals, too.
        """
        self.ask()
        self.open()
        association = self.the()
        association.retire()
        self.engine.refusals[max(self.engine.associations)]()
        self.assertIs(association.state, AssociationState.RETIRING)
        self.associations.stop()

    def test_noGarbage(self) -> None:
        """
        However an association ends, nothing is left to the garbage collector.
        """
        begin = partial(self.ask, destination=DNS)

        def failed() -> None:
            begin()
            self.upstream.failDatagrams(UpstreamRefused("x"))

        def cancelled() -> None:
            begin()
            self.the().close()

        def closed() -> None:
            begin()
            self.open()
            self.the().close()

        def lost() -> None:
            begin()
            control = self.upstream.answerDatagrams()
            self.clock.advance(MATURE_AGE)
            control.lose("x")

        def ended() -> None:
            begin()
            self.open()
            self.endNewest()

        for end in (failed, cancelled, closed, lost, ended):
            self.assertEqual(garbageOf(end), [], end)
        self.assertIdle()

    def test_bugInOpen(self) -> None:
        """
        An internal error while the engine takes the leg closes the control and drops the
        flows that waited.
        """
        request = self.ask()

        def openAssociation(*_: Any) -> int:
            raise ZeroDivisionError

        self.patch(self.engine, "openAssociation", openAssociation)
        self.assertTrue(self.upstream.answerDatagrams().closed)
        self.assertEqual(self.engine.dropped, [request.flow.id])
        self.assertIn("internal error", self.logged[0])
        self.assertIdle()


class SharedTableTests(TableTests):
    """
    The same where there are shared associations, and what only those do.
    """

    sharesLegs = True

    def retire(self) -> Association:
        """A shared association that was open for a moment and is retiring."""
        self.ask(destination=DNS)
        association = self.the()
        self.open()
        association.retire()
        self.assertIs(association.state, AssociationState.RETIRING)
        return association

    def test_retiring(self) -> None:
        """
        It ends with its grace, and may mature before that.
        """
        association = self.retire()
        self.clock.advance(MATURE_AGE)
        self.assertIs(association.state, AssociationState.RETIRING)
        self.assertRaises(UnexpectedEvent, association.retire)
        self.clock.advance(SHARED_GRACE - MATURE_AGE)
        self.assertIs(association.state, AssociationState.GONE)
        self.assertIdle()

    def test_endedWhileRetiring(self) -> None:
        """
        The engine may end it before that.
        """
        association = self.retire()
        self.endNewest(errno.ETIMEDOUT)
        self.assertIs(association.state, AssociationState.GONE)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIdle()

    def test_lostWhileOpening(self) -> None:
        """
        The flows that waited for an association whose control connection had ended before
        get associations of their own.
        """
        requests = [self.ask(port, DNS) for port in (1, 2)]
        self.patch(self.engine, "openAssociation", losingShared(self.engine))
        self.upstream.answerDatagrams()
        self.assertEqual(self.logged, ["The proxy closed it."])
        self.open()
        self.upstream.failDatagrams(ProxyError("It is down."))
        self.assertEqual(list(self.engine.attached), [requests[0].flow.id])
        self.assertEqual(list(self.engine.refused), [requests[1].flow.id])
        self.assertIdle()
