"""
Tells what a start would change, without changing anything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from twisted.internet.defer import succeed

from nanotun.config.settings import Settings
from nanotun.routing.changes import readSysctl
from nanotun.routing.exceptions import Exceptions
from nanotun.routing.firewall.firewall import Firewall
from nanotun.routing.host import AskedServers, HostReader, lookUp, proxyHosts, wishesOf
from nanotun.routing.interfaces import IChange, IKernelRoutes
from nanotun.routing.make import makeChanges
from nanotun.routing.plan import plan
from nanotun.routing.ssh import sshPorts
from nanotun.routing.values import Rule

_IPV6_OFF = "net/ipv6/conf/default/disable_ipv6"
_RP_FILTER = "net/ipv4/conf/default/rp_filter"


def plannedChanges(
    settings: Settings,
    kernel: IKernelRoutes,
    environment: Mapping[str, str],
    root: str = "/proc/sys",
) -> list[IChange]:
    """
    The changes that L{nanotun.routing.routes.Routes.start} would make, in order.

    @param environment: of this process, for the SSH session that it runs in.
    @param root: the folder of sysctls.
    @raise nanotun.errors.RoutingError: as the start would.
    """
    wishes = wishesOf(settings)
    exceptions = Exceptions(
        proxyHosts(settings),
        lookUp,
        lambda name: succeed([]),
        lambda: sshPorts(environment),
        lambda function: succeed(function()),
    )
    exceptions.readNow()
    reader = HostReader(kernel, wishes, AskedServers(settings).hosts, root)
    host = reader.read(exceptions.proxies, exceptions.sshPorts, {})
    if not readSysctl(os.path.join(root, f"net/ipv4/conf/{wishes.device}/rp_filter")):
        # The device does not exist yet; it will get the values of new devices.
        value = readSysctl(os.path.join(root, _RP_FILTER))
        host = host._replace(
            tunnelHasIPv6=readSysctl(os.path.join(root, _IPV6_OFF)) == "0",
            rpFilterTunnel=int(value) if value.isdecimal() else 0,
        )
    changes = makeChanges(kernel)
    first, last = plan(wishes, host)
    firewall = Firewall(settings)
    wanted = [*map(changes.make, first), *firewall.changes(None, host), *map(changes.make, last)]
    if wishes.killSwitch:
        rules = [each for each in (*first, *last) if isinstance(each, Rule)]
        wanted += firewall.switch(rules, host.earlier)
    return wanted
