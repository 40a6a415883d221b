"""
Tests for L{nanotun.upstream.group.policies}.
"""

from __future__ import annotations

from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.keys import KEYS
from nanotun.upstream.group.policies import (
    EXPLORE,
    POLICIES,
    LeastLatency,
    RoundRobin,
    datagramOrder,
    failover,
    order,
)


class Known(NamedTuple):
    """What is known of an upstream."""

    name: str
    healthy: bool = True
    retryAt: float = 0.0
    latency: float | None = None
    datagrams: bool | None = None


A, B, C = (Known(name) for name in "abc")


def names(candidates: list[Known]) -> str:
    """One letter for each."""
    return "".join(each.name for each in candidates)


class OrderTests(SynchronousTestCase):
    """
    Tests for L{order}, L{datagramOrder} and the policies.
    """

    def test_setting(self) -> None:
        """
        The policies are those that the setting may have.
        """
        for name in POLICIES:
            self.assertEqual(KEYS["proxyPolicy"].check(name), name)
            self.assertEqual(names(order([A], POLICIES[name](lambda: 0.5))), "a")

    def test_failover(self) -> None:
        """
        The first that is healthy comes first, and those that are down last, in the
        order of their times.
        """
        self.assertEqual(names(order([A, B, C], failover)), "abc")
        down = [each._replace(healthy=False) for each in (A, B, C)]
        self.assertEqual(names(order([down[0], B, C], failover)), "bca")
        later = down[0]._replace(retryAt=5.0)
        self.assertEqual(names(order([later, down[1], C], failover)), "cba")
        self.assertEqual(names(order([later, *down[1:]], failover)), "bca")

    def test_roundRobin(self) -> None:
        """
        Each is first in turn; one that is down is left out of it.
        """
        policy: RoundRobin = RoundRobin()
        self.assertEqual(
            [names(order([A, B, C], policy)) for _ in range(4)], ["abc", "bca", "cab", "abc"]
        )
        down = B._replace(healthy=False)
        self.assertEqual({names(order([A, down, C], policy)) for _ in range(4)}, {"acb", "cab"})

    def test_leastLatency(self) -> None:
        """
        The fastest is first, after those that were never measured.
        """
        slow, fast = A._replace(latency=0.3), B._replace(latency=0.1)
        policy = LeastLatency(lambda: 0.5)
        self.assertEqual(names(order([slow, fast], policy)), "ba")
        self.assertEqual(names(order([slow, fast, C], policy)), "cba")

    def test_explore(self) -> None:
        """
        By chance another is first, any of the others.
        """
        known = [each._replace(latency=0.1 * n) for n, each in enumerate((A, B, C), 1)]
        for second, expected in ((0.0, "bac"), (0.49, "bac"), (0.5, "cab"), (0.99, "cab")):
            policy = LeastLatency(iter((EXPLORE / 2, second)).__next__)
            self.assertEqual(names(order(known, policy)), expected)
        self.assertEqual(names(order([A], LeastLatency(lambda: 0.0))), "a")

    def test_datagrams(self) -> None:
        """
        Those that carry UDP come first, healthy before down; those that do not,
        last.
        """
        candidates = [
            Known("a", datagrams=False),
            Known("b"),
            Known("c", datagrams=True, healthy=False),
            Known("d", datagrams=True),
            Known("e", healthy=False),
            Known("f", datagrams=True),
            Known("g", datagrams=False, healthy=False),
        ]
        self.assertEqual(names(datagramOrder(candidates, failover)), "dfbceag")
