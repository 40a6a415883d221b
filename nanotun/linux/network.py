"""
The network of this machine: its interfaces, addresses and routes, by rtnetlink(7).

The formats and numbers are those of linux/rtnetlink.h, linux/if_link.h and
linux/if_addr.h.  Everything is about the network namespace of the calling thread.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from nanotun.linux import netlink
from nanotun.linux.netlink import UINT32, Message, attributeValues

TABLE_MAIN = 254
TABLE_LOCAL = 255

#: IFLA_INFO_KIND of devices that lead into a tunnel.
TUNNELS = ("tun", "wireguard", "ppp", "ipip", "gre", "sit", "vti", "xfrm", "ovpn")

RTM_NEWROUTE = 24
RTM_GETROUTE = 26
_RTM_NEWLINK = 16
_RTM_GETLINK = 18
_RTM_NEWADDR = 20
_RTM_GETADDR = 22

#: Attributes of routes, of addresses, and of links.
RTA_DST = 1
RTA_OIF = 4
RTA_GATEWAY = 5
_RTA_MULTIPATH = 9
RTA_TABLE = 15
RTA_MARK = 16
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINKINFO = 18
_IFLA_EXT_MASK = 29
_IFLA_INFO_KIND = 1

#: RTEXT_FILTER_SKIP_STATS: most of what the kernel tells of a link are counters.
_SKIP_STATS = 8

_IFF_UP = 1
#: if.h: the driver has a carrier.
_IFF_LOWER_UP = 1 << 16
_RTN_UNICAST = 1
_SCOPE_UNIVERSE = 0

#: struct rtmsg: family, prefix lengths of destination and source, TOS, table,
#: protocol, scope, type, flags.
RTMSG = struct.Struct("=8BI")
#: struct rtnexthop: length with the attributes that follow, flags, weight, interface.
_RTNEXTHOP = struct.Struct("=HBBi")
#: struct ifinfomsg: family, type, index, flags, change.
_IFINFOMSG = struct.Struct("=BxHiII")
#: struct ifaddrmsg: family, prefix length, flags, scope, index.
_IFADDRMSG = struct.Struct("=4BI")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Link(NamedTuple):
    """
    A network interface.

    @ivar number: the kernel's index of it.
    @ivar kind: its driver, such as C{tun} or C{wireguard}; empty for hardware.
    @ivar mtu: bytes.
    @ivar carrier: whether the other side is there; of a TUN device that is up, whether a
        process has it open.
    """

    number: int
    name: str
    kind: str
    mtu: int
    up: bool
    carrier: bool = False


class Address(NamedTuple):
    """
    One address of a link.

    @ivar link: the link's name; empty if it has just been removed.
    @ivar host: in its canonical text form.
    @ivar network: the address with its prefix length.
    @ivar connected: the network that the kernel reaches by the link because of this
        address; L{None} for link-local addresses, and for an address with nobody
        else in its network.
    """

    link: str
    host: str
    network: Network
    connected: Network | None = None


class KernelRoute(NamedTuple):
    """
    A unicast route of one of the kernel's tables.

    @ivar link: the name of the interface; empty where there are several next hops, or
        the interface has just been removed.
    @ivar protocol: the number of the program that made it (C{rtm_protocol}).
    @ivar hops: the names of the interfaces of several next hops.
    """

    table: int
    network: Network
    link: str
    protocol: int = 0
    hops: tuple[str, ...] = ()

    @property
    def isDefault(self) -> bool:
        """Whether it is a default route."""
        return self.network.prefixlen == 0


class NextHop(NamedTuple):
    """
    Where packets to one destination leave.

    @ivar interface: its index.
    @ivar gateway: its address; C{"0.0.0.0"} or C{"::"} where there is none.
    """

    interface: int
    gateway: str


class MachineNetwork(NamedTuple):
    """The network at one moment, without the table of local routes."""

    links: tuple[Link, ...]
    addresses: tuple[Address, ...]
    routes: tuple[KernelRoute, ...]

    def link(self, name: str) -> Link | None:
        """The link of that name."""
        return next((link for link in self.links if link.name == name), None)

    def uplinks(self) -> list[Link]:
        """The links that default routes of the main table lead to."""
        names = {r.link for r in self.routes if r.isDefault and r.table == TABLE_MAIN}
        return [link for link in self.links if link.name in names]


def readNetwork() -> MachineNetwork:
    """
    Read all of it.

    @raise OSError: the kernel does not answer.
    """
    found = links()
    names = {link.number: link.name for link in found}
    return MachineNetwork(
        found,
        addresses(names),
        tuple(
            route
            for family in (socket.AF_INET, socket.AF_INET6)
            for route in routes(family, names=names)
            if route.table != TABLE_LOCAL
        ),
    )


def interfaceNames() -> dict[int, str]:
    """The names of all interfaces, by index."""
    return dict(socket.if_nameindex())


def links() -> tuple[Link, ...]:
    """
    All links.

    @raise OSError: see L{netlink.dump}.
    """
    body = _IFINFOMSG.pack(0, 0, 0, 0, 0)
    body += netlink.packAttribute(_IFLA_EXT_MASK, UINT32.pack(_SKIP_STATS))
    found = []
    for data, message in netlink.dump(netlink.ROUTE, _RTM_GETLINK, body):
        if message.kind == _RTM_NEWLINK:
            found.append(readLink(data, message))
    return tuple(found)


def linkOf(index: int) -> Link | None:
    """
    The link with this index; L{None} if there is none.

    @raise OSError: the kernel does not answer.
    """
    body = _IFINFOMSG.pack(0, 0, index, 0, 0)
    body += netlink.packAttribute(_IFLA_EXT_MASK, UINT32.pack(_SKIP_STATS))
    with netlink.openNetlink(netlink.ROUTE, blocking=True) as asked:
        asked.send(netlink.pack(_RTM_GETLINK, netlink.NLM_F_REQUEST, 1, body))
        data = asked.recv(netlink.READ_SIZE)
    for message in netlink.messages(data):
        if message.kind == _RTM_NEWLINK:
            return readLink(data, message)
    return None


def readLink(data: bytes, message: Message) -> Link:
    """A link, from an RTM_NEWLINK message."""
    _, _, index, flags, _ = _IFINFOMSG.unpack_from(data, message.start)
    values = attributeValues(data, message.start + _IFINFOMSG.size, message.end)
    info = values.get(_IFLA_LINKINFO, b"")
    kind = attributeValues(info, 0, len(info)).get(_IFLA_INFO_KIND, b"")
    mtu = values.get(_IFLA_MTU)
    return Link(
        index,
        _text(values.get(_IFLA_IFNAME, b"")),
        _text(kind),
        UINT32.unpack(mtu)[0] if mtu else 0,
        bool(flags & _IFF_UP),
        bool(flags & _IFF_LOWER_UP),
    )


def addresses(names: Mapping[int, str] | None = None) -> tuple[Address, ...]:
    """
    All addresses of both families.

    @param names: see L{interfaceNames}, which is called without it.
    @raise OSError: see L{netlink.dump}.
    """
    names = interfaceNames() if names is None else names
    found = []
    for data, message in netlink.dump(netlink.ROUTE, _RTM_GETADDR, _IFADDRMSG.pack(0, 0, 0, 0, 0)):
        if message.kind == _RTM_NEWADDR:
            address = readAddress(data, message, names)
            if address is not None:
                found.append(address)
    return tuple(found)


def readAddress(data: bytes, message: Message, names: Mapping[int, str]) -> Address | None:
    """An address, from an RTM_NEWADDR message; L{None} for one of another family."""
    family, length, _, scope, index = _IFADDRMSG.unpack_from(data, message.start)
    values = attributeValues(data, message.start + _IFADDRMSG.size, message.end)
    # The local end, and what the prefix is of: of an address without a peer the same.
    other = values.get(_IFA_ADDRESS)
    own = values.get(_IFA_LOCAL, other)
    if family not in (socket.AF_INET, socket.AF_INET6) or own is None:
        return None
    network = _network(own, length)
    connected = None
    if scope == _SCOPE_UNIVERSE and other is not None:
        # The kernel connects the peer's network in IPv4, and the address's own in IPv6.
        isPeer = family == socket.AF_INET and own != other
        if isPeer or length < network.max_prefixlen:
            connected = _network(other, length) if isPeer else network
    return Address(names.get(index, ""), _host(own), network, connected)


def routes(
    family: int, table: int = 0, names: Mapping[int, str] | None = None
) -> tuple[KernelRoute, ...]:
    """
    The unicast routes of one family.

    @param table: the only table to read, as far as the kernel can tell them apart
        (Linux 4.20); 0 for all.
    @param names: see L{interfaceNames}, which is called without it.
    @raise OSError: see L{netlink.dump}.
    """
    names = interfaceNames() if names is None else names
    body = RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
    if table:
        body += netlink.packAttribute(RTA_TABLE, UINT32.pack(table))
    found = []
    for data, message in netlink.dump(netlink.ROUTE, RTM_GETROUTE, body):
        if message.kind == RTM_NEWROUTE:
            route = readRoute(data, message, names)
            if route is not None and table in (0, route.table):
                found.append(route)
    return tuple(found)


def readRoute(data: bytes, message: Message, names: Mapping[int, str]) -> KernelRoute | None:
    """A route, from an RTM_NEWROUTE message; L{None} if it is not a unicast route."""
    header = RTMSG.unpack_from(data, message.start)
    family, length, _, _, table, protocol, _, kind, _ = header
    if kind != _RTN_UNICAST or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    values = attributeValues(data, message.start + RTMSG.size, message.end)
    number, index = values.get(RTA_TABLE), values.get(RTA_OIF)
    return KernelRoute(
        UINT32.unpack(number)[0] if number else table,
        _network(values.get(RTA_DST, _unspecified(family)), length),
        names.get(UINT32.unpack(index)[0], "") if index else "",
        protocol,
        tuple(names.get(each, "") for each in _hops(values.get(_RTA_MULTIPATH, b""))),
    )


def _hops(multipath: bytes) -> Iterator[int]:
    """The interfaces of a route's next hops, by index."""
    place = 0
    while place + _RTNEXTHOP.size <= len(multipath):
        length, _, _, index = _RTNEXTHOP.unpack_from(multipath, place)
        if length < _RTNEXTHOP.size:
            return
        yield index
        place += (length + 3) & ~3


def nextHops(hosts: Iterable[str], mark: int) -> Iterator[NextHop]:
    """
    Where packets with this mark would leave, for each of some hosts to which there is a
    route.

    @param hosts: literal addresses.
    @raise OSError: the kernel does not answer.
    """
    with netlink.openNetlink(netlink.ROUTE, blocking=True) as asked:
        for number, host in enumerate(hosts, 1):
            asked.send(packRouteRequest(host, mark, number))
            while (hop := readNextHop(asked.recv(netlink.READ_SIZE), number)) is None:
                pass
            if hop.interface:
                yield hop


def packRouteRequest(host: str, mark: int, sequence: int) -> bytes:
    """The request for the route that a marked packet to C{host} takes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.inet_pton(family, host)
    return netlink.pack(
        RTM_GETROUTE,
        netlink.NLM_F_REQUEST,
        sequence,
        RTMSG.pack(family, len(address) * 8, 0, 0, 0, 0, 0, 0, 0)
        + netlink.packAttribute(RTA_DST, address)
        + netlink.packAttribute(RTA_MARK, UINT32.pack(mark)),
    )


def readInterface(data: bytes, sequence: int) -> int | None:
    """
    Read the interface's index from the answer to L{packRouteRequest}.

    @return: 0 where there is no route; L{None} if C{data} answers another request.
    @raise OSError: C{data} is no whole message.
    """
    message = _answer(data, sequence)
    if message is None:
        return None
    place = _routeAttribute(data, message, RTA_OIF)
    interface: int = UINT32.unpack_from(data, place)[0] if place else 0
    return interface


def readNextHop(data: bytes, sequence: int) -> NextHop | None:
    """As L{readInterface}, with the gateway."""
    message = _answer(data, sequence)
    if message is None:
        return None
    interface = _routeAttribute(data, message, RTA_OIF)
    if not interface:
        return NextHop(0, "")
    packed = _unspecified(data[message.start])
    gateway = _routeAttribute(data, message, RTA_GATEWAY)
    if gateway:
        packed = data[gateway : gateway + len(packed)]
    return NextHop(UINT32.unpack_from(data, interface)[0], _host(packed))


def _answer(data: bytes, sequence: int) -> Message | None:
    message = None
    for message in netlink.messages(data):
        if message.sequence == sequence:
            return message
    if message is None:
        raise netlink.osError(errno.EBADMSG)
    return None


def _routeAttribute(data: bytes, message: Message, kind: int) -> int:
    if message.kind != RTM_NEWROUTE:
        return 0
    return netlink.findAttribute(data, message.start + RTMSG.size, message.end, kind)


def _unspecified(family: int) -> bytes:
    return bytes(4 if family == socket.AF_INET else 16)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _host(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _network(packed: bytes, length: int) -> Network:
    return ipaddress.ip_network((packed, length), strict=False)
