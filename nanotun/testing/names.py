"""
Names that the test makes up.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from nanotun.addresses import isFake


class FakeNames:
    """
    See L{nanotun.router.named.Names}.

    @ivar followsFlows: see L{nanotun.router.named.Names}.
    @ivar known: address to name.
    @ivar asked: lookups: name and family, in order.
    @ivar open: addresses of flows that were joined and have not ended.
    """

    def __init__(self) -> None:
        self.followsFlows = True
        self.known: dict[str, str] = {}
        self.asked: list[tuple[str, int]] = []
        self.open: list[str] = []
        self._lookups: list[Deferred[list[str]]] = []

    def isFake(self, host: str) -> bool:
        """See L{nanotun.router.named.Names.isFake}."""
        return isFake(host)

    def nameOf(self, host: str) -> str | None:
        """See L{nanotun.router.named.Names.nameOf}."""
        return self.known.get(host)

    def resolve(self, name: str, family: int) -> Deferred[list[str]]:
        """See L{nanotun.router.named.Names.resolve}."""
        self.asked.append((name, family))
        lookup: Deferred[list[str]] = Deferred(self._lookups.remove)
        self._lookups.append(lookup)
        return lookup

    def flowJoined(self, host: str) -> None:
        """See L{nanotun.router.named.Names.flowJoined}."""
        self.open.append(host)

    def flowClosed(self, host: str) -> None:
        """See L{nanotun.router.named.Names.flowClosed}."""
        self.open.remove(host)

    def answer(self, *addresses: str) -> None:
        """The oldest lookup has its answer."""
        self._lookups.pop(0).callback(list(addresses))

    def fail(self, error: Exception) -> None:
        """The oldest lookup fails."""
        self._lookups.pop(0).errback(error)

    @property
    def pending(self) -> int:
        """Lookups under way."""
        return len(self._lookups)
