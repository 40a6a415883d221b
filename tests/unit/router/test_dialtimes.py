"""
Tests for L{nanotun.router.dialtimes}, and for what the router tells it.
"""

from __future__ import annotations

import errno
import math

from nanotun.errors import ProxyError, UpstreamRefused
from nanotun.flow import Decision, Endpoint, Verdict
from nanotun.interfaces import DialEnd, DialEndKind
from nanotun.router.dialtimes import BOUNDS, DialTimes
from nanotun.testing import FakeUpstreams
from tests.unit.router.dial_cases import PlannedCase

DIRECT = "192.0.2.8"
OFFICE = "192.0.2.9"
LOST = DialEnd(DialEndKind.LOST, errno.ECONNRESET, 1, 0, -1, b"", 0.25)


class DialTimesTests(PlannedCase):
    """
    A router whose dials are counted.
    """

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        upstreams = FakeUpstreams(self.upstream, self.direct)
        upstreams.byName["office"] = self.upstream
        self.router.configure(self.judge, upstreams, False)
        self.times = self.router.dialling.times = DialTimes()
        self.judge.decisions[DIRECT] = Decision(Verdict.DIRECT, "#1")
        self.judge.decisions[OFFICE] = Decision(Verdict.PROXY, "#2", upstream="office")

    def took(self) -> dict[str, tuple[int, float]]:
        """How many dials of each upstream have succeeded, and the seconds of all."""
        return {
            name: (sum(each.counts), round(each.total, 6))
            for name, each in self.times.opened.items()
        }

    def test_byEngine(self) -> None:
        """A dial of the engine counts as long as the engine says, for its upstream."""
        self.openDial(self.engine.request(Endpoint("192.0.2.7", 443)).flow.id, 0.02)
        self.openDial(self.engine.request(Endpoint(OFFICE, 443)).flow.id, 0.5)
        self.assertEqual(self.took(), {"proxy": (1, 0.02), "office": (1, 0.5)})
        self.assertEqual(self.times.opened["proxy"].counts[BOUNDS.index(0.025)], 1)

    def test_general(self) -> None:
        """A dial of the upstream's counts from the flow's request on."""
        self.upstream.plans = False
        self.engine.request(Endpoint("192.0.2.7", 443))
        self.clock.advance(0.75)
        self.addCleanup(self.upstream.answer().close)
        self.engine.request(Endpoint(DIRECT, 443))
        self.clock.advance(0.25)
        self.addCleanup(self.direct.answer().close)
        self.assertEqual(self.took(), {"proxy": (1, 0.75), "direct": (1, 0.25)})

    def test_resumed(self) -> None:
        """A dial that the engine began and the upstream ended counts from its beginning."""
        flowID = self.engine.request(Endpoint("192.0.2.7", 443)).flow.id
        self.clock.advance(0.25)
        self.engine.endDial(flowID, LOST)
        self.clock.advance(0.5)
        self.addCleanup(self.upstream.answer().close)
        self.assertEqual(self.took(), {"proxy": (1, 0.75)})

    def test_standing(self) -> None:
        """The dials of a standing decision count once it is told of, with their mean."""
        self.upstream.standing = True
        self.judge.standing = {"192.0.2.1": math.inf}
        web = Endpoint("192.0.2.1", 80)
        for seconds in (0.01, 0.01, 0.2, 0.4):
            self.openDial(self.engine.request(web).flow.id, seconds)
        self.assertEqual(self.took(), {"proxy": (2, 0.02)})
        self.router.report()
        self.assertEqual(self.took(), {"proxy": (4, 0.62)})
        self.assertEqual(self.times.opened["proxy"].counts[BOUNDS.index(0.5)], 2)

    def test_failed(self) -> None:
        """A dial that fails is counted by upstream, and by whether the destination is at fault."""
        self.upstream.plans = False
        self.engine.request(Endpoint("192.0.2.7", 443))
        self.upstream.fail(UpstreamRefused("There is nobody."))
        self.engine.request(Endpoint(OFFICE, 443))
        self.upstream.fail(ProxyError("It is down."))
        self.assertEqual(
            self.times.failed, {("proxy", "destination"): 1, ("office", "upstream"): 1}
        )
        self.assertEqual(self.took(), {})

    def test_givenUp(self) -> None:
        """A flow whose app gives up has neither led to a leg nor failed."""
        flowID = self.engine.request(Endpoint("192.0.2.7", 443)).flow.id
        self.engine.abandon(flowID)
        self.assertEqual((self.took(), self.times.failed), ({}, {}))
