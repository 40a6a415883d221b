"""
What the tests of L{nanotun.router.udp.associations} and L{nanotun.router.udp.association}
share.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from nanotun.flow import Endpoint
from nanotun.interfaces import IDatagramFlowRequest, IFlowHandler
from nanotun.log.trouble import TroubleLog
from nanotun.router.udp.associations import Associations
from nanotun.router.udp.faults import Faults
from nanotun.testing import (
    FakeNames,
    FakeUpstream,
    MemoryEngine,
    MemoryRequest,
    MemoryTunOpener,
    NoDials,
)

WEB = Endpoint("192.0.2.1", 443)
DNS = Endpoint("192.0.2.53", 53)


def losingShared(engine: MemoryEngine) -> Callable[..., int]:
    """An C{openAssociation} in which a shared leg's control connection ends."""
    original = engine.openAssociation

    def openAssociation(
        leg: Any, ended: Any, refused: Any, shared: bool = False, name: str = ""
    ) -> int:
        if shared:
            leg.control.lose("The proxy closed it.")
        return original(leg, ended, refused, shared, name)

    return openAssociation


@implementer(IFlowHandler)
class Handler(NoDials):
    """Sends all datagrams through one upstream."""

    followsFlows = False

    def __init__(self, case: AssociationCase) -> None:
        self.case = case

    def flowRequested(self, request: Any) -> None:
        raise NotImplementedError

    def datagramFlowRequested(self, request: IDatagramFlowRequest) -> None:
        self.case.associations.send(request, self.case.upstream)

    def flowAbandoned(self, flowID: int) -> None:
        raise NotImplementedError

    def flowClosed(self, end: Any) -> None:
        raise NotImplementedError

    def flowNotHttp(self, flow: Any, reason: int) -> None:
        raise NotImplementedError


class AssociationCase(SynchronousTestCase):
    """The associations between a memory engine and a fake upstream."""

    sharesLegs = False

    def setUp(self) -> None:
        """Make what the tests use."""
        self.clock = Clock()
        self.engine = MemoryEngine()
        self.upstream = FakeUpstream()
        self.upstream.sharesLegs = self.sharesLegs
        self.logged: list[str] = []
        log = Logger(
            observer=lambda event: self.logged.append(formatEvent(event)),  # type: ignore[arg-type]
            namespace="test",
        )
        self.trouble = TroubleLog(self.clock, log)
        self.chosen: list[int] = []
        self.patch(Faults, "_log", log)
        said = TroubleLog(self.clock, log, LogLevel.info)
        self.addCleanup(said.stop)
        self.names = FakeNames()
        self.associations = Associations(
            self.engine, self.clock, self.trouble, said, self.names, self.choose
        )
        self.engine.start(MemoryTunOpener().open("nano0", 1500, "off"), Handler(self))
        self.addCleanup(self.engine.stop)

    def choose(self, count: int) -> int:
        """The first shared association, unless the test says which."""
        return self.chosen.pop(0) if self.chosen else 0

    def ask(self, port: int = 40000, destination: Endpoint = WEB) -> MemoryRequest:
        """The app on a port sends to a destination."""
        return self.engine.requestDatagrams(destination, Endpoint("198.18.0.2", port))

    def open(self) -> int:
        """The oldest dial has its leg; returns the number of the association."""
        self.upstream.answerDatagrams()
        return max(self.engine.associations)

    def endNewest(self, error: int = errno.ETIMEDOUT) -> None:
        """The engine ends the newest association."""
        self.engine.endAssociation(max(self.engine.associations), error)

    def breakNew(self, times: int = 1, destination: Endpoint = WEB) -> None:
        """An app sends, and its association fails as soon as it is open."""
        for _ in range(times):
            self.ask(destination=destination)
            self.open()
            self.endNewest(errno.ECONNREFUSED)

    def assertIdle(self) -> None:
        """Nothing is left."""
        self.associations.stop()
        self.trouble.stop()
        self.assertEqual(self.associations.present, set())
        self.assertEqual(self.engine.associations, {})
        self.assertEqual(self.clock.getDelayedCalls(), [])
