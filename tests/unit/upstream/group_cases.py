"""
What the tests of groups of upstreams share: fakes with names, a clock, and the lines
that were logged.
"""

from __future__ import annotations

import os
import socket
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import ProxyError
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, DatagramLeg, IUpstream
from nanotun.log.trouble import TroubleLog
from nanotun.testing import FakeUpstream, NamedFakeUpstream
from nanotun.upstream.group.breaker import FAULTS
from nanotun.upstream.group.group import GroupUpstream
from nanotun.upstream.group.member import Member
from tests.unit.upstream.dial_ways import DialledFake, PlanEngine

DESTINATION = Endpoint("192.0.2.1", 443)
TIMEOUT = 10.0
INTERVAL = 30.0


def fault(name: str = "a") -> ProxyError:
    """The error of a proxy that is not there."""
    return ProxyError(f"The proxy {name} cannot be reached.")


class GroupCase(SynchronousTestCase):
    """
    A failover group of fakes named a, b and c.

    @cvar plans: whether the fakes have dial plans, which C{self.engine} carries out then.
    """

    policy = "failover"
    count = 2
    plans = False

    def setUp(self) -> None:
        """Make the group."""
        self.clock = Clock()
        self.engine = PlanEngine(self.clock)
        self.fakes: list[FakeUpstream] = [self.makeFake(name) for name in "abc"[: self.count]]
        self.group = self.makeGroup()
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def makeGroup(self, timeout: float = TIMEOUT) -> GroupUpstream:
        """A group of the fakes."""
        self.trouble = TroubleLog(self.clock, Logger(namespace="test"))
        return GroupUpstream(
            self.fakes,
            self.policy,
            self.clock,
            timeout,
            INTERVAL,
            self.trouble,
            chance=lambda: 0.5,
        )

    def makeFake(self, name: str) -> NamedFakeUpstream:
        """One fake."""
        return DialledFake(name, self.engine) if self.plans else NamedFakeUpstream(name)

    def dial(self, upstream: IUpstream | None = None) -> Deferred[Connection]:
        """Begin a connection, through the group if nothing else is given."""
        return self.engine.connect(upstream or self.group, DESTINATION)

    def lines(self, least: LogLevel = LogLevel.info) -> list[str]:
        """What was logged since the last call."""
        events, self.events[:] = self.events[:], []
        return [formatEvent(event) for event in events if event["log_level"] >= least]

    def member(self, index: int) -> Member:
        """What the group knows of a fake."""
        return self.group.members.all[index]

    def asked(self) -> list[int]:
        """How many connections each fake was asked for."""
        return [len(fake.asked) for fake in self.fakes]

    def answer(self, index: int) -> None:
        """This fake opens the oldest connection that it was asked for."""
        self.addCleanup(self.fakes[index].answer().close)

    def took(self, dial: Deferred[Connection]) -> Connection:
        """The connection that the dial opened; it is closed."""
        connection = self.successResultOf(dial)
        # Fails unless the fd is open and a socket.
        socket.socket(fileno=connection.fd).close()
        return connection

    def tookDatagrams(self, dial: Deferred[DatagramLeg]) -> None:
        """The dial opened a leg for UDP; it is closed."""
        os.close(self.successResultOf(dial).fd)

    def through(self, index: int) -> None:
        """A connection through this fake, which opens it at once."""
        dial = self.dial()
        self.answer(index)
        self.took(dial)

    def bringDown(self, index: int) -> None:
        """Enough faults to open this fake's breaker."""
        for _ in range(FAULTS):
            self.group.members.failed(self.member(index), "It is off.")
        self.assertFalse(self.member(index).healthy)
