"""
A judge and owners whose answers the test chooses.
"""

from __future__ import annotations

from zope.interface import implementer

from nanotun.flow import Decision, Flow, Owner, Verdict
from nanotun.interfaces import IJudge, IOwners, Sniff


@implementer(IOwners)
class FakeOwners:
    """
    Owners whose answers the test chooses.

    @ivar known: owners by the port of a flow's source.
    @ivar asked: the flows that were asked for, in order.
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
    A judge whose decisions the test chooses.

    @ivar decisions: decisions by a destination's host; all other flows are proxied.
    @ivar judged: the flows that were judged, in order.
    @ivar again: flows that were judged again, each with the name that it is known by.
    @ivar doubts: the destinations of flows about which it is in doubt then.
    @ivar sniffs: what each of them could have been sniffed by.
    @ivar standing: by a destination's host, for how many seconds decisions about it stand; not
        at all about others.
    """

    def __init__(self) -> None:
        self.decisions: dict[str, Decision] = {}
        self.judged: list[Flow] = []
        self.again: list[tuple[Flow, str]] = []
        self.doubts: set[str] = set()
        self.sniffs: list[Sniff | None] = []
        self.standing: dict[str, float] = {}

    def judge(self, flow: Flow, sniff: Sniff | None = None) -> Decision:
        """See L{IJudge.judge}."""
        self.sniffs.append(sniff)
        self.judged.append(flow)
        proxied = Decision(Verdict.PROXY, "default", "no other rule applies")
        return self.decisions.get(flow.destination.host, proxied)

    def judgeAgain(self, flow: Flow, before: Decision) -> Decision | None:
        """See L{IJudge.judgeAgain}: as L{judge}."""
        self.again.append((flow, before.name))
        if flow.destination.host in self.doubts:
            return None
        return self.decisions.get(flow.destination.host, self.judge(flow))

    def stands(self, flow: Flow, decision: Decision) -> float | None:
        """See L{IJudge.stands}."""
        return self.standing.get(flow.destination.host)
