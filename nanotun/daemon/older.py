"""
Lets connections of excluded processes go on that are older than the daemon.
"""

from __future__ import annotations

from zope.interface import implementer

from nanotun.daemon.reload import Live
from nanotun.interfaces import IPart


@implementer(IPart)
class OlderConnections:
    """
    Started when the daemon is ready, and the routes do not yet lead to it.  A reload does
    not do this again: by then every connection runs through the tunnel, or past it, and
    goes on as it is.
    """

    name = "the connections that are older than nanotun"

    def __init__(self, live: Live) -> None:
        self._live = live

    def start(self) -> None:
        """See L{IPart.start}."""
        owners = self._live.current.owners
        if owners is not None:
            owners.established.keep()

    def stop(self) -> None:
        """See L{IPart.stop}.  The marks stay: without our rules they mean nothing."""
