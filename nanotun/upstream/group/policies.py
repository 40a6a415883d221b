"""
The order in which one flow tries the upstreams of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nanotun.upstream.group.member import Member

#: Share of the flows that measure another upstream than the fastest.  Without them an
#: upstream that was slow once would never be measured again.
EXPLORE = 0.05

#: Takes the healthy members, at least one, in the configuration's order, and returns
#: them in the order to try.
Policy = Callable[[list[Member]], list[Member]]


def failover(healthy: list[Member]) -> list[Member]:
    """The first healthy member."""
    return healthy


class RoundRobin:
    """Each flow uses the next member."""

    def __init__(self) -> None:
        self._turn = -1

    def __call__(self, healthy: list[Member]) -> list[Member]:
        self._turn += 1
        first = self._turn % len(healthy)
        return healthy[first:] + healthy[:first]


class LeastLatency:
    """
    The fastest member, but another one for some flows; see L{EXPLORE}.

    @param chance: C{random.random}.
    """

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance

    def __call__(self, healthy: list[Member]) -> list[Member]:
        # A member that was never measured comes first: this flow measures it.
        order = sorted(healthy, key=lambda each: each.latency or 0.0)
        if len(order) > 1 and self._chance() < EXPLORE:
            other = order.pop(1 + int(self._chance() * (len(order) - 1)))
            order.insert(0, other)
        return order


#: Makes the policy for each value of the C{proxyPolicy} setting.
POLICIES: dict[str, Callable[[Callable[[], float]], Policy]] = {
    "failover": lambda chance: failover,
    "round-robin": lambda chance: RoundRobin(),
    "least-latency": LeastLatency,
}

#: Those that give every flow the same order for as long as no member goes down or comes back.
#: With the others each flow takes its turn, or measures somebody.
STEADY = frozenset({"failover"})


def order(members: Sequence[Member], policy: Policy) -> list[Member]:
    """
    The order for a connection: the healthy members by the policy, then the others,
    first the one that is to be checked first.
    """
    healthy = [each for each in members if each.healthy]
    if len(healthy) == len(members):
        return policy(healthy)
    down = [each for each in members if not each.healthy]
    down.sort(key=lambda each: each.retryAt)
    return (policy(healthy) if healthy else []) + down


def datagramOrder(members: Sequence[Member], policy: Policy) -> list[Member]:
    """
    The order for an association: as for a connection, but members known to carry UDP
    come first, and those known not to, healthy or not, come last.
    """
    return sorted(order(members, policy), key=_datagramRank)


def _datagramRank(member: Member) -> int:
    if member.datagrams is False:
        return 4
    return (0 if member.healthy else 2) + (member.datagrams is None)
