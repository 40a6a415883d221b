"""
Tests for L{nanotun.engine.request}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from nanotun.engine.request import DatagramFlowRequest, FlowRequest
from nanotun.errors import FlowDecidedError
from nanotun.flow import AbsoluteForm, Endpoint, Flow, Protocol, Refusal
from nanotun.interfaces import IDatagramFlowRequest, IFlowRequest

FLOW = Flow(7, Protocol.TCP, Endpoint("198.18.0.2", 4000), Endpoint("192.0.2.1", 80))


class RecordingDecisions:
    """Stands for L{nanotun.engine.decisions.Decisions}; only the association 5 takes flows."""

    def __init__(self) -> None:
        self.made: list[tuple[object, ...]] = []

    def joinFlow(
        self, flowID: int, fd: int, leftover: bytes, form: AbsoluteForm | None, note: int
    ) -> bool:
        """Note it."""
        self.made.append(("join", flowID, fd, leftover, form, note))
        return True

    def attachFlow(self, flowID: int, association: int, real: Endpoint | None, note: int) -> bool:
        """Note it."""
        self.made.append(("attach", flowID, association, real, note))
        return association == 5

    def sniffFlow(self, flowID: int) -> Deferred[str]:
        """Note it."""
        self.made.append(("sniff", flowID))
        return succeed("a.example")

    def serveFlow(self, flowID: int) -> None:
        """Note it."""
        self.made.append(("serve", flowID))

    def refuseFlow(self, flowID: int, reason: Refusal) -> None:
        """Note it."""
        self.made.append(("refuse", flowID, reason))

    def dropFlow(self, flowID: int) -> None:
        """Note it."""
        self.made.append(("drop", flowID))


class RequestCase(SynchronousTestCase):
    """Requests of an engine that only writes down what is decided."""

    decisions: Any

    def setUp(self) -> None:
        """Make what the tests use."""
        self.decisions = RecordingDecisions()


class FlowRequestTests(RequestCase):
    """
    Tests for L{FlowRequest}.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.request = FlowRequest(FLOW, self.decisions)

    def test_interface(self) -> None:
        """
        It is an L{IFlowRequest}.
        """
        verifyClass(IFlowRequest, FlowRequest)
        verifyObject(IFlowRequest, self.request)

    def test_decisions(self) -> None:
        """
        Each decision reaches the engine with the flow's id.
        """
        self.assertTrue(self.request.join(5, b"x", note=9))
        FlowRequest(FLOW, self.decisions).refuse(Refusal.PROHIBITED)
        FlowRequest(FLOW, self.decisions).drop()
        self.assertEqual(
            self.decisions.made,
            [("join", 7, 5, b"x", None, 9), ("refuse", 7, Refusal.PROHIBITED), ("drop", 7)],
        )

    def test_sniff(self) -> None:
        """
        A flow that waits can be sniffed, and then be decided.
        """
        self.assertEqual(self.successResultOf(self.request.sniff()), "a.example")
        self.request.drop()
        self.assertEqual(self.decisions.made, [("sniff", 7), ("drop", 7)])

    def test_secondDecision(self) -> None:
        """
        A second decision of any kind raises and does not reach the engine.
        """
        self.request.drop()
        for second in (
            lambda: self.request.join(5),
            self.request.sniff,
            lambda: self.request.refuse(Refusal.RESET),
            self.request.drop,
        ):
            error = self.assertRaises(FlowDecidedError, second)
            self.assertIn("192.0.2.1:80", str(error))
        self.assertEqual(len(self.decisions.made), 1)


class DatagramFlowRequestTests(RequestCase):
    """
    Tests for L{DatagramFlowRequest}.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.request = DatagramFlowRequest(FLOW, self.decisions)

    def test_interface(self) -> None:
        """
        It is an L{IDatagramFlowRequest}.
        """
        verifyClass(IDatagramFlowRequest, DatagramFlowRequest)
        verifyObject(IDatagramFlowRequest, self.request)

    def test_decisions(self) -> None:
        """
        Each decision reaches the engine with the flow's id.
        """
        self.request.serve()
        DatagramFlowRequest(FLOW, self.decisions).refuse(Refusal.PORT_UNREACHABLE)
        DatagramFlowRequest(FLOW, self.decisions).drop()
        self.assertEqual(
            self.decisions.made,
            [("serve", 7), ("refuse", 7, Refusal.PORT_UNREACHABLE), ("drop", 7)],
        )

    def test_redirect(self) -> None:
        """
        The engine is told where the datagrams really go.
        """
        real = Endpoint("192.0.2.9", 53)
        self.assertTrue(self.request.attach(5, real, 9))
        self.assertEqual(self.decisions.made, [("attach", 7, 5, real, 9)])

    def test_attach(self) -> None:
        """
        An association that does not take the flow decides nothing; one that takes it is
        the one decision.
        """
        self.assertFalse(self.request.attach(4))
        self.assertTrue(self.request.attach(5))
        self.assertEqual(
            self.decisions.made, [("attach", 7, 4, None, 0), ("attach", 7, 5, None, 0)]
        )
        for second in (
            lambda: self.request.attach(5),
            self.request.serve,
            lambda: self.request.refuse(Refusal.PORT_UNREACHABLE),
            self.request.drop,
        ):
            self.assertRaises(FlowDecidedError, second)
        self.assertEqual(len(self.decisions.made), 2)
