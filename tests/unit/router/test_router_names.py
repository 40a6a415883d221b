"""
Tests for L{nanotun.router.router}: flows to addresses that stand for names.
"""

from __future__ import annotations

from twisted.logger import Logger

from nanotun.errors import (
    UpstreamRefused,
)
from nanotun.flow import Endpoint
from nanotun.router.router import FlowRouter
from nanotun.testing import FakeNames
from tests.unit.router.test_router import RouterCase


class NameTests(RouterCase):
    """
    Tests for flows whose destination stands for a name.
    """

    FAKE = Endpoint("198.19.0.1", 443)

    def setUp(self) -> None:
        """A router that knows names."""
        super().setUp()
        self.names = FakeNames()
        self.names.known = {"198.19.0.1": "a.example"}
        self.makeRouter(False)

    def makeRouter(self, logFlows: bool) -> None:
        """Another router for the engine."""
        self.router = FlowRouter(
            self.judge,
            self.upstream,
            self.direct,
            self.engine,
            self.gateway,
            self.clock,
            logFlows,
            self.names,
        )
        log = Logger(observer=self.logged.append, namespace="test")  # type: ignore[arg-type]
        self.router._log = log  # type: ignore[misc]
        self.router._ledger._log = log
        self.engine.handler = self.router

    def test_counted(self) -> None:
        """
        The names hear of each flow that was joined, and of its end; of no other.
        """
        self.assertTrue(self.router.followsFlows)
        first, second, third = (self.engine.request(self.FAKE) for _ in range(3))
        for _ in range(2):
            self.addCleanup(self.upstream.answer().close)
        self.upstream.fail(UpstreamRefused("no"))
        self.assertEqual(self.names.open, [self.FAKE.host] * 2)
        self.engine.end(first.flow.id)
        self.engine.end(second.flow.id)
        self.assertEqual(self.names.open, [])
        self.assertEqual(self.lines("debug"), [])
        self.assertIn(third.flow.id, self.engine.refused)

    def test_notJoined(self) -> None:
        """
        A flow that the app gave up, or that is one too many, is not counted.
        """
        given = self.engine.request(self.FAKE)
        self.engine.abandon(given.flow.id)
        self.engine.request(self.FAKE)
        self.engine.flowLimit = 0
        self.addCleanup(self.upstream.answer().close)
        self.assertEqual(self.names.open, [])

    def test_logged(self) -> None:
        """
        The line about a flow has its address and its name.
        """
        self.makeRouter(True)
        self.engine.request(self.FAKE)
        self.engine.requestDatagrams(Endpoint("192.0.2.1", 53))
        first, second = self.lines("debug")
        self.assertIn("to 198.19.0.1:443 (a.example) by", first)
        self.assertIn("to 192.0.2.1:53 by", second)

    def test_realNames(self) -> None:
        """
        Where no address is fake nothing is counted.
        """
        self.names.followsFlows = False
        self.makeRouter(False)
        self.assertFalse(self.router.followsFlows)
        self.engine.request(self.FAKE)
        self.addCleanup(self.upstream.answer().close)
        self.assertEqual(self.names.open, [])
