"""
What the tests of groups of upstreams share: fakes with names, a clock, and the
log's lines.
"""

from __future__ import annotations

import os
import socket
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import ProxyError
from nanotun.flow import Endpoint
from nanotun.interfaces import Connection, DatagramLeg
from nanotun.testing import FakeUpstream
from nanotun.upstream.group.breaker import FAULTS
from nanotun.upstream.group.group import GroupUpstream
from nanotun.upstream.group.members import Member

DESTINATION = Endpoint("192.0.2.1", 443)
TIMEOUT = 10.0
INTERVAL = 30.0


def fault(name: str = "a") -> ProxyError:
    """The error of a proxy that is not there."""
    return ProxyError(f"The proxy {name} cannot be reached.")


class GroupCase(SynchronousTestCase):
    """
    A group of fakes called a, b and c, by failover.
    """

    policy = "failover"
    count = 2

    def setUp(self) -> None:
        """Make the group."""
        self.clock = Clock()
        self.fakes = [FakeUpstream(name) for name in "abc"[: self.count]]
        self.group = self.makeGroup()
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def makeGroup(self) -> GroupUpstream:
        """The group of the fakes."""
        return GroupUpstream(
            self.fakes, self.policy, self.clock, TIMEOUT, INTERVAL, chance=lambda: 0.5
        )

    def lines(self, least: LogLevel = LogLevel.info) -> list[str]:
        """What was logged since the last call."""
        events, self.events[:] = self.events[:], []
        return [formatEvent(event) for event in events if event["log_level"] >= least]

    def member(self, index: int) -> Member:
        """What the group knows of a fake."""
        return self.group.members.all[index]

    def asked(self) -> list[int]:
        """How many connections each was asked for."""
        return [len(fake.asked) for fake in self.fakes]

    def answer(self, index: int) -> None:
        """The oldest connection by this fake stands."""
        self.addCleanup(self.fakes[index].answer().close)

    def took(self, leg: Deferred[Connection]) -> Connection:
        """The connection, which is closed."""
        connection = self.successResultOf(leg)
        # It is the caller's, and open.
        socket.socket(fileno=connection.fd).close()
        return connection

    def tookDatagrams(self, leg: Deferred[DatagramLeg]) -> None:
        """The leg stands; it is closed."""
        os.close(self.successResultOf(leg).fd)

    def through(self, index: int) -> None:
        """A connection that goes by this fake, at once."""
        leg = self.group.connect(DESTINATION)
        self.answer(index)
        self.took(leg)

    def bringDown(self, index: int) -> None:
        """Faults enough for this one's breaker to open."""
        for _ in range(FAULTS):
            self.group.members.failed(self.member(index), "It is off.")
        self.assertFalse(self.member(index).healthy)
