"""
The network of this machine at one moment: links, addresses and routes.
"""

from __future__ import annotations

import ipaddress
from typing import Any, NamedTuple

#: Of linux/rtnetlink.h.
TABLE_MAIN = 254
TABLE_LOCAL = 255
RTN_UNICAST = 1

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Link(NamedTuple):
    """
    @ivar number: the kernel's.
    @ivar kind: what made it, such as C{tun} or C{wireguard}; empty for hardware.
    @ivar mtu: bytes.
    """

    number: int
    name: str
    kind: str
    mtu: int
    up: bool


class Address(NamedTuple):
    """One address of a link, with the network that comes with it."""

    link: str
    host: str
    network: Network


class Route(NamedTuple):
    """A unicast route; C{link} is empty where there are several next hops."""

    table: int
    network: Network
    link: str

    @property
    def isDefault(self) -> bool:
        """Whether everything goes this way."""
        return self.network.prefixlen == 0


class Landscape(NamedTuple):
    """All of it, but for the kernel's own local routes."""

    links: tuple[Link, ...]
    addresses: tuple[Address, ...]
    routes: tuple[Route, ...]

    def link(self, name: str) -> Link | None:
        """The link of that name."""
        return next((link for link in self.links if link.name == name), None)

    def uplinks(self) -> list[Link]:
        """The links that default routes of the main table lead out by."""
        names = {r.link for r in self.routes if r.isDefault and r.table == TABLE_MAIN}
        return [link for link in self.links if link.name in names]


def readLandscape() -> Landscape:
    """
    Ask the kernel.

    @raise OSError: it does not answer.
    """
    from pyroute2.iproute.linux import IPRoute

    with IPRoute() as netlink:
        links = tuple(_link(message) for message in netlink.get_links())
        names = {link.number: link.name for link in links}
        addresses = tuple(_address(message, names) for message in netlink.get_addr())
        routes = tuple(
            _route(message, names)
            for family in (2, 10)
            for message in netlink.get_routes(family=family)
            if message["type"] == RTN_UNICAST
        )
    return Landscape(links, addresses, tuple(r for r in routes if r.table != TABLE_LOCAL))


def _link(message: Any) -> Link:
    return Link(
        message["index"],
        message.get_attr("IFLA_IFNAME"),
        message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "",
        message.get_attr("IFLA_MTU") or 0,
        bool(message["flags"] & 1),
    )


def _address(message: Any, names: dict[int, str]) -> Address:
    host = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    network = ipaddress.ip_network(f"{host}/{message['prefixlen']}", strict=False)
    return Address(names.get(message["index"], ""), host, network)


def _route(message: Any, names: dict[int, str]) -> Route:
    nowhere = "0.0.0.0" if message["family"] == 2 else "::"
    network = f"{message.get_attr('RTA_DST') or nowhere}/{message['dst_len']}"
    return Route(
        message.get_attr("RTA_TABLE") or message["table"],
        ipaddress.ip_network(network, strict=False),
        names.get(message.get_attr("RTA_OIF") or 0, ""),
    )
