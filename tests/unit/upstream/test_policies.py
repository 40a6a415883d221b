"""
Tests for L{nanotun.upstream.group.policies}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.keys import KEYS
from nanotun.testing import FakeUpstream
from nanotun.upstream.group.breaker import FAULTS, Breaker
from nanotun.upstream.group.member import Member
from nanotun.upstream.group.policies import (
    EXPLORE,
    POLICIES,
    LeastLatency,
    RoundRobin,
    datagramOrder,
    failover,
    order,
)


def known(
    name: str,
    healthy: bool = True,
    retryAt: float = 0.0,
    latency: float | None = None,
    datagrams: bool | None = None,
) -> Member:
    """A member of which this is known."""
    member = Member(FakeUpstream(name), Breaker(lambda attempt: retryAt))
    if not healthy:
        for _ in range(FAULTS):
            member.breaker.failed(0.0)
    member.latency = latency
    member.datagrams = datagrams
    return member


A, B, C = (known(name) for name in "abc")


def names(members: list[Member]) -> str:
    """One letter for each."""
    return "".join(each.name for each in members)


class OrderTests(SynchronousTestCase):
    """
    Tests for L{order}, L{datagramOrder} and the policies.
    """

    def test_setting(self) -> None:
        """
        Each policy is a value that the setting may have.
        """
        for name in POLICIES:
            self.assertEqual(KEYS["proxyPolicy"].check(name), name)
            self.assertEqual(names(order([A], POLICIES[name](lambda: 0.5))), "a")

    def test_failover(self) -> None:
        """
        The first healthy member comes first; those that are down come last, in the
        order in which they are to be checked.
        """
        self.assertEqual(names(order([A, B, C], failover)), "abc")
        down = [known(name, healthy=False) for name in "abc"]
        self.assertEqual(names(order([down[0], B, C], failover)), "bca")
        later = known("a", healthy=False, retryAt=5.0)
        self.assertEqual(names(order([later, down[1], C], failover)), "cba")
        self.assertEqual(names(order([later, *down[1:]], failover)), "bca")

    def test_roundRobin(self) -> None:
        """
        Each is first in turn; one that is down gets no turn.
        """
        policy: RoundRobin = RoundRobin()
        self.assertEqual(
            [names(order([A, B, C], policy)) for _ in range(4)], ["abc", "bca", "cab", "abc"]
        )
        down = known("b", healthy=False)
        self.assertEqual({names(order([A, down, C], policy)) for _ in range(4)}, {"acb", "cab"})

    def test_leastLatency(self) -> None:
        """
        The fastest comes first, but after those that were never measured.
        """
        slow, fast = known("a", latency=0.3), known("b", latency=0.1)
        policy = LeastLatency(lambda: 0.5)
        self.assertEqual(names(order([slow, fast], policy)), "ba")
        self.assertEqual(names(order([slow, fast, C], policy)), "cba")

    def test_explore(self) -> None:
        """
        By chance one of the others comes first.
        """
        members = [known(name, latency=0.1 * n) for n, name in enumerate("abc", 1)]
        for second, expected in ((0.0, "bac"), (0.49, "bac"), (0.5, "cab"), (0.99, "cab")):
            policy = LeastLatency(iter((EXPLORE / 2, second)).__next__)
            self.assertEqual(names(order(members, policy)), expected)
        self.assertEqual(names(order([A], LeastLatency(lambda: 0.0))), "a")

    def test_datagrams(self) -> None:
        """
        Members that carry UDP come first, healthy ones before those that are down;
        members that do not carry it come last.
        """
        members = [
            known("a", datagrams=False),
            known("b"),
            known("c", datagrams=True, healthy=False),
            known("d", datagrams=True),
            known("e", healthy=False),
            known("f", datagrams=True),
            known("g", datagrams=False, healthy=False),
        ]
        self.assertEqual(names(datagramOrder(members, failover)), "dfbceag")
