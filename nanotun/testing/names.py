"""
Names that a test makes up.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.addresses import isFake
from nanotun.interfaces import INames


@implementer(INames)
class FakeNames:
    """
    See L{INames}.

    @ivar followsFlows: see L{INames}; likewise C{knowsAny}.
    @ivar known: address to name.
    @ivar asked: name and family of each lookup, in order.
    @ivar open: addresses of the flows that were joined and have not ended.
    """

    def __init__(self) -> None:
        self.followsFlows = True
        self.knowsAny = True
        self.known: dict[str, str] = {}
        self.asked: list[tuple[str, int]] = []
        self.open: list[str] = []
        self._lookups: list[Deferred[list[str]]] = []

    def isFake(self, host: str) -> bool:
        """See L{INames.isFake}."""
        return isFake(host)

    def nameOf(self, host: str) -> str | None:
        """See L{INames.nameOf}."""
        return self.known.get(host)

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
