"""
Makes the routes and all that they consist of.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from nanotun.config.settings import Settings
from nanotun.interfaces import End
from nanotun.linux.cgroups import cgroupMount
from nanotun.routing.applied import Applied
from nanotun.routing.changes import Changes
from nanotun.routing.exceptions import Exceptions
from nanotun.routing.firewall.cgroups import Cgroups
from nanotun.routing.firewall.cgroupwatch import CgroupWatch
from nanotun.routing.firewall.firewall import Firewall, firewallKinds, firewallLeftovers
from nanotun.routing.firewall.resolvconf import leftBy
from nanotun.routing.host import AskedServers, HostReader, lookUp, proxyHosts, wishesOf
from nanotun.routing.interfaces import IKernelRoutes
from nanotun.routing.journal import Journal
from nanotun.routing.monitor import NetworkMonitor
from nanotun.routing.netlink import CachedRoutes, NetlinkRoutes
from nanotun.routing.proxynames import ProxyResolver
from nanotun.routing.reconciler import Reconciler
from nanotun.routing.routes import Routes
from nanotun.routing.ssh import sshPorts
from nanotun.rundir import command


def makeRoutes(
    settings: Settings,
    reactor: Any,
    ask: Callable[[str, int], Deferred[list[str]]],
    networkChanged: Callable[[], None],
    confirmSeconds: int,
    endWith: Callable[[int], None],
    how: Callable[[], End],
    systemHosts: Callable[[], tuple[str, ...]],
    kernel: IKernelRoutes | None = None,
) -> Routes:
    """
    The routes of a daemon with these settings.  The machine is not changed yet, but from
    now on C{reactor} looks names up with C{ask}.

    @param ask: looks a name up at the relay's servers; takes the name and 4 or 6.
    @param how: how the daemon ends, asked at its end.
    @param systemHosts: the literal addresses of this machine's own DNS servers, if they are asked.
    @param kernel: where to set the routes; by default this machine's kernel.
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

    exceptions = Exceptions(
        proxyHosts(settings), now, resolver.lookUp, lambda: sshPorts(os.environ), inThread
    )
    firewall = Firewall(settings)
    servers = AskedServers(settings, systemHosts)

    def adapt(live: Settings) -> bool:
        others = servers.follow(live)
        return firewall.exclude(live.excludedIPs) or others

    mount = cgroupMount()
    groups = [each.path for each in Cgroups(settings.onlyProcesses, mount).usual()]
    reconciler = Reconciler(
        wishes,
        cached,
        HostReader(cached, wishes, servers.hosts),
        exceptions,
        changes,
        Applied(Journal(settings.runDir), changes),
        firewall.changes,
        firewall.switch,
    )
    return Routes(
        reconciler,
        exceptions,
        lambda changed: NetworkMonitor(reactor, changed),
        reactor,
        networkChanged,
        confirmSeconds,
        endWith,
        how,
        closedSentence(settings.lan, settings.runDir),
        adapt,
        lambda made: CgroupWatch(reactor, mount, groups, made),
        list(map(str, settings.onlyProcesses)),
    )


def closedSentence(lan: str, runDir: str) -> str:
    """What a kill switch that stays closed lets out, and until when."""
    out = "the local network and SSH get" if lan == "direct" else "SSH gets"
    return (
        f"The kill switch stays closed: only {out} out until the next start or "
        f"'{command('recover', runDir)}'."
    )


def makeChanges(kernel: IKernelRoutes) -> Changes:
    """The maker of changes of all kinds."""
    return Changes(kernel, firewallKinds(), firewallLeftovers, leftBy)
