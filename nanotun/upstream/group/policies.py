"""
In which order the upstreams of a group are tried, for one flow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

#: Share of the flows that look how another upstream does.  Without them one that
#: was slow once would never be measured again.
EXPLORE = 0.05


class Candidate(Protocol):
    """What is known of an upstream."""

    @property
    def healthy(self) -> bool:
        """Whether its breaker is closed."""

    @property
    def retryAt(self) -> float:
        """When it is to be checked again, if it is not healthy."""

    @property
    def latency(self) -> float | None:
        """Seconds that a handshake takes, or L{None} before the first."""

    @property
    def datagrams(self) -> bool | None:
        """Whether it carries UDP; L{None} if that is not known."""


C = TypeVar("C", bound=Candidate)

#: Takes those that are healthy, at least one, in the configuration's order, and
#: returns them in the order to try.
Policy = Callable[[list[C]], list[C]]


def failover(healthy: list[C]) -> list[C]:
    """The first that is healthy."""
    return healthy


class RoundRobin:
    """Each flow by the next one."""

    def __init__(self) -> None:
        self._turn = -1

    def __call__(self, healthy: list[C]) -> list[C]:
        self._turn += 1
        first = self._turn % len(healthy)
        return healthy[first:] + healthy[:first]


class LeastLatency:
    """
    The fastest, but for some flows; see L{EXPLORE}.

    @param chance: C{random.random}.
    """

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance

    def __call__(self, healthy: list[C]) -> list[C]:
        # One that was never measured comes first: its flow measures it.
        order = sorted(healthy, key=lambda each: each.latency or 0.0)
        if len(order) > 1 and self._chance() < EXPLORE:
            other = order.pop(1 + int(self._chance() * (len(order) - 1)))
            order.insert(0, other)
        return order


#: The values of the C{proxyPolicy} setting.
POLICIES: dict[str, Callable[[Callable[[], float]], Policy[Any]]] = {
    "failover": lambda chance: failover,
    "round-robin": lambda chance: RoundRobin(),
    "least-latency": LeastLatency,
}


def order(candidates: Sequence[C], policy: Policy[C]) -> list[C]:
    """
    The order for a connection: those that are healthy by the policy, then the
    others by when their time comes.
    """
    healthy = [each for each in candidates if each.healthy]
    if len(healthy) == len(candidates):
        return policy(healthy)
    down = [each for each in candidates if not each.healthy]
    down.sort(key=lambda each: each.retryAt)
    return (policy(healthy) if healthy else []) + down


def datagramOrder(candidates: Sequence[C], policy: Policy[C]) -> list[C]:
    """
    The order for datagrams: the same, with those first that carry UDP, and those
    last that do not, which being healthy does not help.
    """
    return sorted(order(candidates, policy), key=_datagramRank)


def _datagramRank(candidate: Candidate) -> int:
    if candidate.datagrams is False:
        return 4
    return (0 if candidate.healthy else 2) + (candidate.datagrams is None)
