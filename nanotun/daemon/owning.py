"""
Who finds flows' processes, where that may become another one.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.interfaces import IPart
from nanotun.owners import Owners


@implementer(IPart)
class CurrentOwners:
    """
    The part of the daemon that holds the L{Owners}.

    @ivar owners: L{None} where no rule is about processes.
    """

    name = "the process table"

    def __init__(self, owners: Owners | None) -> None:
        self.owners = owners

    def start(self) -> None:
        """See L{IPart.start}."""
        if self.owners is not None:
            self.owners.start()

    def stop(self) -> Deferred[None] | None:
        """See L{IPart.stop}."""
        if self.owners is not None:
            self.owners.stop()
        return None

    def replace(self, owners: Owners | None) -> None:
        """
        Have another one, which is started already where it is one.  The one before
        stops.
        """
        before, self.owners = self.owners, owners
        if before is not None and before is not owners:
            before.stop()
