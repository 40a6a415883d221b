"""
Tests for L{nanotun.router.router}: flows to addresses that stand for names.
"""

from __future__ import annotations

from nanotun.errors import UpstreamRefused
from nanotun.flow import Decision, Endpoint, Known, Verdict
from nanotun.testing import FakeNames
from tests.unit.router.test_router import RouterCase


class NameTests(RouterCase):
    """
    Tests for flows to a fake address.
    """

    FAKE = Endpoint("198.19.0.1", 443)

    def makeNames(self) -> FakeNames:
        """One name, with a fake address."""
        names = FakeNames()
        names.known = {self.FAKE.host: "a.example"}
        return names

    def replaceRouter(self, debug: bool) -> None:
        """Give the engine another router."""
        self.router = self.engine.handler = self.makeRouter(debug)

    def test_counted(self) -> None:
        """
        The names are told of each flow that was joined and of its end, and of no other.
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
        A flow that the app gave up, or that is over the limit, is not counted.
        """
        given = self.engine.request(self.FAKE)
        self.engine.abandon(given.flow.id)
        self.engine.request(self.FAKE)
        self.engine.flowLimit = 0
        self.addCleanup(self.upstream.answer().close)
        self.assertEqual(self.names.open, [])

    def test_logged(self) -> None:
        """
        The line about a flow has the address and the name of its destination.
        """
        self.replaceRouter(True)
        self.engine.request(self.FAKE)
        self.engine.requestDatagrams(Endpoint("192.0.2.1", 53))
        first, second = self.lines("debug")
        self.assertIn("to 198.19.0.1:443 (a.example) by", first)
        self.assertIn("to 192.0.2.1:53 by", second)

    def test_said(self) -> None:
        """
        A name that the flow itself has said is in all of its lines.
        """
        self.replaceRouter(True)
        for number, verdict in enumerate((Verdict.PROXY, Verdict.REJECT), start=8):
            host = f"192.0.2.{number}"
            self.judge.decisions[host] = Decision(verdict, "#1", "why", name="said.example")
            given = self.engine.request(Endpoint(host, 443))
            if verdict is Verdict.PROXY:
                self.addCleanup(self.upstream.answer().close)
                self.engine.end(given.flow.id)
        lines = self.lines("debug")
        self.assertEqual(len(lines), 3)
        for line in lines:
            self.assertRegex(line, r"to 192\.0\.2\.[89]:443 \(said\.example\)")

    def test_oneOfSeveral(self) -> None:
        """
        Of several names of an address the upstream is asked by the one that the app has said;
        one that the app cannot have asked for changes nothing.
        """
        host = "192.0.2.7"
        self.names.known[host] = "last.example"
        self.names.several[host] = Known(("last.example", "first.example"))
        for said, dialled in (
            ("first.example", "first.example"),
            ("last.example", None),
            ("other.example", None),
            ("", None),
        ):
            decision = Decision(Verdict.PROXY, "#1", "why", name=said)
            self.judge.decisions[host] = decision
            self.engine.request(Endpoint(host, 443))
            asked = self.upstream.asked[-1]
            self.assertEqual(asked, Endpoint(host, 443))
            self.assertEqual(getattr(asked, "name", None), dialled)

    def test_realNames(self) -> None:
        """
        If no address is fake no flow is counted.
        """
        self.names.followsFlows = False
        self.replaceRouter(False)
        self.assertFalse(self.router.followsFlows)
        self.engine.request(self.FAKE)
        self.addCleanup(self.upstream.answer().close)
        self.assertEqual(self.names.open, [])
