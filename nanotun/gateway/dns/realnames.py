"""
C{dnsMode: normal}: what the rest of nanotun learns of the names behind addresses
that are real.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from nanotun.gateway.dns.answered import AnsweredNames
from nanotun.gateway.dns.lookup import Resolving


class RealNames:
    """
    See L{nanotun.router.named.Names}.

    @param answered: what the relay handed out; L{None} if no upstream is sent names.
    """

    followsFlows = False

    def __init__(self, clock: Any, answered: AnsweredNames | None, lookup: Resolving) -> None:
        self._clock = clock
        self._answered = answered
        self._lookup = lookup

    def start(self) -> None:
        """Nothing to do."""

    def stop(self) -> None:
        """Nothing to do."""

    def isFake(self, host: str) -> bool:
        """See L{nanotun.router.named.Names.isFake}."""
        return False

    def nameOf(self, host: str) -> str | None:
        """See L{nanotun.router.named.Names.nameOf}."""
        return None if self._answered is None else self._answered.find(host, self._clock.seconds())

    def resolve(self, name: str, family: int) -> Deferred[list[str]]:
        """See L{nanotun.router.named.Names.resolve}."""
        return self._lookup.resolve(name, family)

    def flowJoined(self, host: str) -> None:
        """Nobody is told."""

    def flowClosed(self, host: str) -> None:
        """Nobody is told."""
