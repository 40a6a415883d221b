"""
Tests for L{nanotun.owners.handover}.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.flow import Endpoint
from nanotun.owners.handover import ASKED_LIMIT, ASKED_TIME, Handover
from nanotun.owners.values import EMPTY, Excluded, FlowSocket, Process, ProcStat, Table
from nanotun.policy.rules import LOCAL_PROXY

THERE = Endpoint("192.0.2.7", 443)


def proxy(pid: int, uid: int = 7, cgroup: str = "/") -> Excluded:
    """A process of the proxy."""
    stat = ProcStat(1, 1, b"danted", 1, 1)
    names = frozenset({"danted"})
    uids = (uid, uid, uid)
    return Excluded(Process(pid, stat, uids, names, "danted", "", cgroup), LOCAL_PROXY)


def table(*excluded: Excluded) -> Table:
    """A table of these."""
    return Table(9, {}, {each.process.pid: each for each in excluded})


class HandoverTests(SynchronousTestCase):
    """Tests for L{Handover}."""

    def setUp(self) -> None:
        """A proxy of two processes."""
        self.clock = Clock()
        self.handover = Handover(self.clock.seconds)
        self.handover.reset(table(proxy(60), proxy(61)))
        self.socket = FlowSocket(700, 7, 0, 1, True)

    def maker(self, cgroup: str = "/", uid: int = 7, there: Endpoint = THERE) -> int:
        """The pid of the proxy's process that may have made the socket; 0 for none."""
        found = self.handover.maker(self.socket._replace(uid=uid), cgroup, there)
        return 0 if found is None else found.process.pid

    def test_asked(self) -> None:
        """A socket may be handed over only if the proxy was recently asked for its target."""
        self.assertEqual(self.maker(), 0)
        self.handover.asked(THERE)
        self.assertEqual(self.maker(), 60)
        self.assertEqual(self.maker(there=Endpoint("192.0.2.7", 80)), 0)
        self.clock.advance(ASKED_TIME + 1)
        self.assertEqual(self.maker(), 0)

    def test_makers(self) -> None:
        """Only a socket of the proxy's user and cgroup may be the proxy's; root may be any user."""
        self.handover.asked(THERE)
        self.assertEqual((self.maker(uid=8), self.maker(cgroup="/x")), (0, 0))
        self.assertEqual(self.maker(cgroup=""), 60)
        self.handover.reset(table(proxy(60), proxy(61, uid=0)))
        self.assertEqual(self.maker(uid=8), 61)

    def test_alone(self) -> None:
        """A proxy of one process hands nothing over, and nothing is remembered."""
        for alone in (table(proxy(60)), EMPTY, table(proxy(60), proxy(61)._replace(text="x"))):
            self.handover.reset(alone)
            self.handover.asked(THERE)
            self.assertEqual(self.maker(), 0)

    def test_mayHave(self) -> None:
        """Whatever it was asked for, only a proxy of several processes hands sockets over."""
        self.assertTrue(self.handover.possible)
        self.assertTrue(self.handover.mayHave(self.socket, "/"))
        self.assertFalse(self.handover.mayHave(self.socket._replace(uid=8), "/"))
        self.handover.reset(table(proxy(60)))
        self.assertFalse(self.handover.possible)
        self.assertFalse(self.handover.mayHave(self.socket, "/"))

    def test_bounded(self) -> None:
        """The number of remembered destinations is bounded."""
        for number in range(2 * ASKED_LIMIT):
            self.handover.asked(Endpoint("192.0.2.7", number))
        self.assertLessEqual(len(self.handover._asked), ASKED_LIMIT)
