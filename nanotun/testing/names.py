"""
Names that a test makes up.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.addresses import isFake
from nanotun.flow import Flow, Known
from nanotun.interfaces import INames


@implementer(INames)
class FakeNames:
    """
    See L{INames}.

    @ivar followsFlows: see L{INames}.
    @ivar known: address to name.
    @ivar several: address to all names, where there is more than one.
    @ivar asked: name and family of each lookup, in order.
    @ivar open: addresses of the flows that were joined and have not ended.
    """

    def __init__(self) -> None:
        self.followsFlows = True
        self.known: dict[str, str] = {}
        self.several: dict[str, Known] = {}
        self.asked: list[tuple[str, int]] = []
        self.open: list[str] = []
        self._lookups: list[Deferred[list[str]]] = []

    def isFake(self, host: str) -> bool:
        """See L{INames.isFake}."""
        return isFake(host)

    def nameOf(self, host: str) -> str | None:
        """See L{INames.nameOf}."""
        return self.known.get(host)

    def namesOf(self, flow: Flow) -> Known:
        """See L{INames.namesOf}."""
        host = flow.destination.host
        name = self.nameOf(host)
        return self.several.get(host, Known() if name is None else Known((name,)))

    def resolve(self, name: str, family: int) -> Deferred[list[str]]:
        """See L{INames.resolve}."""
        self.asked.append((name, family))
        lookup: Deferred[list[str]] = Deferred(self._lookups.remove)
        self._lookups.append(lookup)
        return lookup

    def flowJoined(self, host: str) -> None:
        """See L{INames.flowJoined}."""
        self.open.append(host)

    def flowClosed(self, host: str) -> None:
        """See L{INames.flowClosed}."""
        self.open.remove(host)

    def answer(self, *addresses: str) -> None:
        """The oldest lookup gets its answer."""
        self._lookups.pop(0).callback(list(addresses))

    def fail(self, error: Exception) -> None:
        """The oldest lookup fails."""
        self._lookups.pop(0).errback(error)

    @property
    def pending(self) -> int:
        """How many lookups are under way."""
        return len(self._lookups)
