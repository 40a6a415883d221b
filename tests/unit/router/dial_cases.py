"""
What the tests of dials by plans share.
"""

from __future__ import annotations

import socket

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.flow import Endpoint
from nanotun.interfaces import (
    Connection,
    DialEnd,
    DialEndKind,
    DialPlan,
    IDialOutcomes,
)
from nanotun.testing import FakeScript, FakeUpstreams, PlannedFakeUpstream
from tests.unit.router.test_router import RouterCase

#: Seconds that a dial of the engine may be silent.
PATIENCE = 3.0


@implementer(IDialOutcomes)
class RouterUpstream(PlannedFakeUpstream):
    """
    One that hears of all dials by itself, and whose plans may bring a connection along.

    @ivar heard: each call, in order, and what it was called with.
    @ivar silences: the dials of the engine that took long; the test answers in their place.
    @ivar fds: the connections that the next plans bring along.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[object, ...]] = []
        self.silences: list[Deferred[DialEnd]] = []
        self.fds: list[int] = []

    def plan(self, destination: Endpoint) -> DialPlan | None:
        """See L{IPlanned.plan}."""
        plan = super().plan(destination)
        if plan is None:
            return None
        fd = self.fds.pop(0) if self.fds else -1
        course = plan.course._replace(patience=PATIENCE)
        return plan._replace(course=course, outcomes=self, fd=fd)

    def opened(self, count: int, seconds: float, address: int) -> None:
        """See L{IDialOutcomes.opened}."""
        self.heard.append(("opened", count, round(seconds, 3), address))

    def resume(self, end: DialEnd) -> Deferred[Connection]:
        """See L{IDialOutcomes.resume}."""
        self.heard.append(("resume", end))
        return self._resumed()

    def silent(self, engine: Deferred[DialEnd], seconds: float) -> Deferred[Connection]:
        """See L{IDialOutcomes.silent}."""
        self.heard.append(("silent", seconds))
        self.silences.append(engine)
        return self._resumed()

    def abandoned(self, seconds: float) -> None:
        """See L{IDialOutcomes.abandoned}."""
        self.heard.append(("abandoned", seconds))


class PlannedCase(RouterCase):
    """A router whose proxy has plans."""

    upstream: RouterUpstream

    def setUp(self) -> None:
        """Make what the tests use."""
        super().setUp()
        self.upstream = RouterUpstream()
        self.configure()

    def configure(self, debug: bool = False, script: FakeScript | None = None) -> None:
        """Configure the router, with upstreams that have plans."""
        upstreams = FakeUpstreams(self.upstream, self.direct)
        self.router.configure(self.judge, upstreams, debug, script)

    @property
    def heard(self) -> list[tuple[object, ...]]:
        """What the plans' outcomes were told."""
        return self.upstream.heard

    def openDial(self, flowID: int, seconds: float = 0.01, address: int = 0) -> None:
        """The engine's dial of a flow succeeds."""
        self.addCleanup(self.engine.openDial(flowID, seconds, address).close)

    def handed(self) -> tuple[DialEnd, socket.socket]:
        """The end of a dial whose connection lives, and its far end."""
        near, far = socket.socketpair()
        self.addCleanup(far.close)
        far.settimeout(1)
        return DialEnd(DialEndKind.HANDED, 0, 1, 0, near.detach(), b"\5\2", 0.1), far
