"""
Lets connections of excluded processes go on that are older than the daemon.
"""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from nanotun.daemon.reload import Live
from nanotun.interfaces import IPart


@implementer(IPart)
class OlderConnections:
    """
    Started when the daemon is ready, and once more when its routes are set.  A reload is not
    its affair: by then every connection runs through the tunnel, or past it.

    @param live: knows what is excluded.
    @param changes: how many changes of the daemon's to the machine are in force.
    """

    name = "the connections that are older than nanotun"

    def __init__(self, live: Live, changes: Callable[[], int]) -> None:
        self._live = live
        self._changes = changes

    def start(self) -> None:
        """See L{IPart.start}."""
        owners = self._live.current.owners
        if owners is not None:
            owners.established.keep()

    def stop(self) -> None:
        """
        See L{IPart.stop}.  As long as routes lead into the tunnel, or a kill switch stays
        closed, the connections need their marks.
        """
        owners = self._live.current.owners
        if owners is not None and not self._changes():
            owners.established.release()
