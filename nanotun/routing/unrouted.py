"""
Makes what looks at the machine's routes though the daemon may set none.  What sets them is
imported only where it is needed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from nanotun.config.settings import Settings
from nanotun.routing.alone import Alone
from nanotun.routing.firewall.resolvconf import leftBy
from nanotun.routing.journal import Journal
from nanotun.routing.netlink import CachedRoutes, NetlinkRoutes

if TYPE_CHECKING:
    from nanotun.routing.recover import Leftovers


def makeAlone(settings: Settings) -> Alone:
    """The part that refuses the start beside another daemon that is in the way."""
    return Alone(NetlinkRoutes(), settings.tunName, settings.autoDefaultRoute)


def makeLeftovers(settings: Settings) -> Leftovers | None:
    """
    The part that takes back what a killed daemon has left, for a daemon that sets no
    routes itself (C{autoDefaultRoute} is off); L{None} if nothing was left.
    """
    journal = Journal(settings.runDir)
    left = os.path.exists(journal.path) or leftBy(settings.runDir)
    if settings.autoDefaultRoute or not left:
        return None
    from nanotun.routing.applied import Applied
    from nanotun.routing.make import makeChanges
    from nanotun.routing.recover import Leftovers

    kernel = CachedRoutes(NetlinkRoutes())
    return Leftovers(kernel, Applied(journal, makeChanges(kernel)))
