"""
A judge and owners that say what the test says.
"""

from __future__ import annotations

from zope.interface import implementer

from nanotun.flow import Decision, Flow, Owner, Verdict
from nanotun.interfaces import IJudge, IOwners


@implementer(IOwners)
class FakeOwners:
    """
    @ivar known: the source's port to its owner.
    @ivar asked: the flows, in order.
    """

    def __init__(self) -> None:
        self.known: dict[int, Owner] = {}
        self.asked: list[Flow] = []
        self.misses = 0

    def ownerOf(self, flow: Flow) -> Owner | None:
        """See L{IOwners.ownerOf}."""
        self.asked.append(flow)
        owner = self.known.get(flow.source.port)
        if owner is None:
            self.misses += 1
        return owner


@implementer(IJudge)
class FakeJudge:
    """
    @ivar decisions: the destination's host to what is decided of it; all others are
        proxied.
    @ivar judged: the flows, in order.
    """

    def __init__(self) -> None:
        self.decisions: dict[str, Decision] = {}
        self.judged: list[Flow] = []

    def judge(self, flow: Flow) -> Decision:
        """See L{IJudge.judge}."""
        self.judged.append(flow)
        proxied = Decision(Verdict.PROXY, "proxy", "no other rule applies")
        return self.decisions.get(flow.destination.host, proxied)
