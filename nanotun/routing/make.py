"""
Puts the routes together.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from nanotun.config.settings import Settings
from nanotun.routing.applied import Ledger
from nanotun.routing.changes import Changes
from nanotun.routing.exceptions import Surroundings
from nanotun.routing.firewall import Firewall, firewallKinds, firewallLeftovers
from nanotun.routing.host import HostReader, lookUp, proxyHosts, wishesOf
from nanotun.routing.interfaces import IKernelRoutes
from nanotun.routing.journal import Journal
from nanotun.routing.monitor import NetworkMonitor
from nanotun.routing.netlink import CachedRoutes, NetlinkRoutes
from nanotun.routing.proxynames import ProxyResolver
from nanotun.routing.recover import Leftovers
from nanotun.routing.routes import Routes
from nanotun.routing.ssh import sshPorts


def makeRoutes(
    settings: Settings,
    reactor: Any,
    ask: Callable[[str, int], Deferred[list[str]]],
    networkChanged: Callable[[], None],
    confirmSeconds: int,
    endWith: Callable[[int], None],
    kernel: IKernelRoutes | None = None,
) -> Routes:
    """
    The routes of a daemon with these settings.  Changes nothing yet, but that
    C{reactor} looks names up by C{ask} from now on.

    @param ask: looks a name up at the relay's servers, as 4 or 6.
    @param kernel: what to set them in.
    """
    cached = CachedRoutes(kernel or NetlinkRoutes())
    wishes = wishesOf(settings)
    resolver = ProxyResolver(reactor.nameResolver, ask)
    reactor.installNameResolver(resolver)
    changes = makeChanges(cached)

    def inThread(function: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function)

    def now(name: str) -> list[str]:
        found = lookUp(name)
        resolver.remember(name, found)
        return found

    surroundings = Surroundings(
        proxyHosts(settings), now, resolver.lookUp, lambda: sshPorts(os.environ), inThread
    )
    return Routes(
        wishes,
        cached,
        HostReader(cached, wishes, [server.host for server in settings.dns]),
        surroundings,
        changes,
        Ledger(Journal(settings.runDir), changes),
        Firewall(settings).changes,
        lambda changed: NetworkMonitor(reactor, changed),
        reactor,
        networkChanged,
        confirmSeconds,
        endWith,
    )


def makeLeftovers(settings: Settings) -> Leftovers | None:
    """
    What takes back what a daemon has left that was killed, where C{autoDefaultRoute} is
    off now; L{None} where there is nothing.
    """
    journal = Journal(settings.runDir)
    if settings.autoDefaultRoute or not os.path.exists(journal.path):
        return None
    kernel = CachedRoutes(NetlinkRoutes())
    return Leftovers(kernel, Ledger(journal, makeChanges(kernel)))


def makeChanges(kernel: IKernelRoutes) -> Changes:
    """What makes changes, of every kind that there is."""
    return Changes(kernel, firewallKinds(), firewallLeftovers)
