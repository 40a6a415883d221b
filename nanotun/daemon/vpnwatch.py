"""
Another VPN that has the default route: which flows are its own, and what is said about it.

nanotun reaches its proxy through such a VPN, and the VPN its server past nanotun, if nanotun can
tell the VPN's packets from others: by their mark (L{nanotun.routing.others.markOf}), or by the
process that has the VPN's device open (L{nanotun.owners.tunnels}) and a server to which the VPN
has set a route of its own.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from nanotun.config.settings import Settings
from nanotun.flow import Flow
from nanotun.linux.fulltunnel import FullTunnel, hasServerRoute, hasUplink
from nanotun.linux.markedroute import MarkedRoute
from nanotun.linux.network import TABLE_MAIN, KernelRoute, Link, routes
from nanotun.owners.processes import ProcProcesses
from nanotun.owners.sockets import KernelSockets
from nanotun.owners.tunnels import TunnelOwners
from nanotun.owners.values import Process
from nanotun.policy.judge import Carrier
from nanotun.routing.netlink import vpnMarks
from nanotun.routing.values import SOMEWHERE4, SOMEWHERE6


def mainRoutes() -> tuple[KernelRoute, ...]:
    """
    The routes of both families in the table C{main}.

    @raise OSError: the kernel does not answer.
    """
    return (*routes(socket.AF_INET, TABLE_MAIN), *routes(socket.AF_INET6, TABLE_MAIN))


class Surroundings(NamedTuple):
    """
    What the watch asks of the machine and of the daemon.

    @ivar marks: the marks of VPNs whose packets go past the tunnel.
    @ivar routes: see L{mainRoutes}.
    """

    marks: Callable[[], Iterable[int]]
    routes: Callable[[], Iterable[KernelRoute]]


class VpnWatch:
    """
    See the module.  L{nanotun.daemon.networkwatch.NetworkWatch} says when to look.

    @param forget: makes others forget routes; called when something has changed.
    @param device: our own device's name.
    """

    _log = Logger()

    def __init__(
        self,
        tunnel: FullTunnel,
        owners: TunnelOwners,
        forget: Callable[[], None],
        surroundings: Surroundings,
        device: str,
    ) -> None:
        self._tunnel = tunnel
        self._owners = owners
        self._forget = forget
        self._surroundings = surroundings
        self._device = device
        # The tunnel that the default route led into at the last look, and if that is a VPN, too,
        # the VPN.
        self._tunnelSeen = self._seen = ""

    def carrier(self, flow: Flow) -> Carrier | Deferred[Carrier | None] | None:
        """
        Whose flow it is, if it is another VPN's own to a server that the VPN has routed past
        itself.

        @param flow: of this machine.
        """
        device = self._devicePast(flow.destination.host)
        if not device:
            return None
        owner = self._owners.ownerOf(flow, device)
        if isinstance(owner, Deferred):
            return owner.addCallback(lambda found: found and Carrier(found, device))
        return None if owner is None else Carrier(owner, device)

    def isPast(self, host: str) -> bool:
        """
        Whether flows to an address may be another VPN's own, whosever they are.  Never raises.

        @param host: a literal address.
        """
        return bool(self._devicePast(host))

    def _devicePast(self, host: str) -> str:
        """The device of the VPN that has routed an address past itself; empty for none."""
        link = self._tunnel.past(host)
        return link.name if link is not None and link.kind == "tun" else ""

    def forget(self) -> None:
        """
        Something has changed.  The VPN's first packet may come right after its routes, so what
        was known of them is of no use from now on.
        """
        self._forget()
        self._tunnel.forget()

    def look(self) -> None:
        """
        Say so if a VPN has taken the default route, or has it no longer.

        @raise OSError: the kernel does not answer; the next look may do better.
        """
        link = self._tunnel.current()
        name = "" if link is None else link.name
        if name == self._tunnelSeen:
            return
        isVpn = bool(name) and hasUplink(self._surroundings.routes(), (name, self._device))
        self._tunnelSeen = name
        before, self._seen = self._seen, name if isVpn else ""
        if link is not None and isVpn:
            self._describe(link)
        elif before:
            self._log.info("The VPN {device} no longer has the default route.", device=before)

    def _describe(self, link: Link) -> None:
        """Say how a VPN is treated, or what to do."""
        marks = list(self._surroundings.marks())
        if marks:
            self._log.info(
                "The VPN {device} has the default route, so nanotun reaches its proxy through it; "
                "packets with its mark {mark} go past nanotun.",
                device=link.name,
                mark=" or ".join(f"{each:#x}" for each in marks),
            )
            return
        if link.kind != "tun":
            self._advise(link.name, ())
            return
        found = self._owners.holders(link.name)
        found.addCallback(lambda holders: self._carried(link, holders))
        found.addErrback(lambda failure: self._log.failure("Internal error", failure))

    def _carried(self, link: Link, holders: Sequence[Process]) -> None:
        """
        Say how a VPN is treated that has no mark.

        @param holders: the processes that have its device open.
        """
        if link.name != self._seen:
            return
        try:
            known = hasServerRoute(self._surroundings.routes(), (link.name, self._device))
        except OSError:
            known = False
        if holders and known:
            self._log.info(
                "The VPN {device} has the default route, so nanotun reaches its proxy through it; "
                "packets of {name} (pid {pid}) itself go past nanotun.",
                device=link.name,
                name=holders[0].name,
                pid=holders[0].pid,
            )
        else:
            self._advise(link.name, holders)

    def _advise(self, device: str, holders: Sequence[Process]) -> None:
        """Say how to let a VPN's own packets past."""
        cure = "write its server into excludedIPs, or its program into excludedProcesses"
        if holders:
            cure = f"write 'excludedProcesses: [{holders[0].name}]' into the configuration"
        self._log.warn(
            "The VPN {device} has the default route, and nanotun cannot tell its own packets from "
            "others: if nothing gets through, {cure}.",
            device=device,
            cure=cure,
        )


def makeVpnWatch(settings: Settings, marked: MarkedRoute, reactor: Any) -> VpnWatch:
    """The watch of a daemon with these settings."""
    # Without routes of ours there is no rule that lets marked packets past.
    marks = vpnMarks if settings.autoDefaultRoute else tuple

    def inThread(function: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function)

    return VpnWatch(
        FullTunnel(marked.interfaceTo, (SOMEWHERE4, SOMEWHERE6), settings.tunName, reactor.seconds),
        TunnelOwners(KernelSockets(settings.tunName), ProcProcesses(), inThread, reactor.seconds),
        marked.forget,
        Surroundings(marks, mainRoutes),
        settings.tunName,
    )
