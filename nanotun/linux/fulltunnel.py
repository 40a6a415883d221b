"""
Tells whether another VPN has the default route, and which destinations it has routed past itself.

nanotun then reaches its proxy through that VPN.  The VPN's own packets go to its server, to which
it has set a route of its own; if they were proxied, they would come back for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from nanotun.linux.markedroute import MAX_AGE
from nanotun.linux.network import TABLE_MAIN, TUNNELS, KernelRoute, Link, linkOf

#: Links that are remembered.
LIMIT = 64


def hasServerRoute(routes: Iterable[KernelRoute], devices: Collection[str]) -> bool:
    """
    Whether a VPN may have routed its server past itself: whether there is a route to a single host
    on the Internet by another link.

    @param devices: the VPN's, and ours.
    """
    return any(
        each.link not in devices
        and each.table == TABLE_MAIN
        and each.network.prefixlen == each.network.max_prefixlen
        and each.network.is_global
        for each in routes
    )


def hasUplink(routes: Iterable[KernelRoute], devices: Collection[str]) -> bool:
    """
    Whether there is a way out below a tunnel, for the packets that carry it.  Below PPPoE, which
    is the uplink itself, there is none that routes know of.

    @param devices: the tunnel's, and ours.
    """
    routes = tuple(routes)
    return hasServerRoute(routes, devices) or any(
        each.isDefault and each.table == TABLE_MAIN and each.link not in devices for each in routes
    )


class FullTunnel:
    """
    Asks for the routes of marked packets.

    @param interfaceTo: see L{nanotun.linux.markedroute.MarkedRoute.interfaceTo}.
    @param somewhere: addresses on the Internet, to which nothing is sent.
    @param device: our own device's name.
    @param seconds: the clock.
    @param linkOf: see L{nanotun.linux.network.linkOf}.
    """

    def __init__(
        self,
        interfaceTo: Callable[[str], int],
        somewhere: Iterable[str],
        device: str,
        seconds: Callable[[], float],
        linkOf: Callable[[int], Link | None] = linkOf,
    ) -> None:
        self._interfaceTo = interfaceTo
        self._somewhere = tuple(somewhere)
        self._device = device
        self._seconds = seconds
        self._linkOf = linkOf
        self._links: dict[int, tuple[Link | None, float]] = {}

    def forget(self) -> None:
        """Something has changed: ask the kernel anew for links."""
        self._links.clear()

    def current(self) -> Link | None:
        """The VPN's device, if packets of ours to the Internet leave by one.  Never raises."""
        for host in self._somewhere:
            link = self._link(self._interfaceTo(host))
            if link is not None and link.kind in TUNNELS and link.name != self._device:
                return link
        return None

    def past(self, host: str) -> Link | None:
        """
        The other VPN's device, if there is one and C{host} is reached by another link.  Never
        raises.

        @param host: a literal address.
        """
        link = self.current()
        if link is None:
            return None
        other = self._link(self._interfaceTo(host))
        if other is None or other.number == link.number or other.name == self._device:
            return None
        return link

    def _link(self, index: int) -> Link | None:
        """The link with this index, unless that is 0."""
        now = self._seconds()
        known, asked = self._links.get(index, (None, -MAX_AGE))
        if not index or asked <= now < asked + MAX_AGE:
            return known
        try:
            known = self._linkOf(index)
        except OSError:
            return None
        if len(self._links) >= LIMIT:
            self._links.clear()
        self._links[index] = known, now
        return known
