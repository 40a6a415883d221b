"""
The other addresses of a neighbour.

A container has an IPv4 and an IPv6 address, and whoever names it names only one of them.
The kernel's tables of neighbours (ARP, neighbour discovery) say which addresses belong to one
interface of the other side.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from nanotun.linux import netlink
from nanotun.linux.netlink import attributeValues

#: Seconds that the tables are used without another look.
MAX_AGE = 1.0

_GET_NEIGHBOUR = 30
_NEIGHBOUR = 28
#: NDA_DST and NDA_LLADDR.
_ADDRESS, _LINK_ADDRESS = 1, 2
#: struct ndmsg: family, padding, interface, state, flags, type.
_MESSAGE = struct.Struct("=BxxxiHBB")


class Neighbour(NamedTuple):
    """
    An address of a neighbour.

    @ivar interface: the index of the interface on this machine.
    @ivar link: the address of the neighbour's interface, as bytes.
    """

    host: str
    interface: int
    link: bytes


def neighbours() -> list[Neighbour]:
    """
    The neighbours whose link addresses are known.

    @raise OSError: the kernel cannot be asked now.
    """
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        body = _MESSAGE.pack(family, 0, 0, 0, 0)
        for data, message in netlink.dump(netlink.ROUTE, _GET_NEIGHBOUR, body):
            each = neighbourOf(data, message)
            if each is not None:
                found.append(each)
    return found


def neighbourOf(data: bytes, message: netlink.Message) -> Neighbour | None:
    """The neighbour in a message; L{None} if its link address is not known."""
    start = message.start + _MESSAGE.size
    if message.kind != _NEIGHBOUR or start > message.end:
        return None
    family, interface, _, _, _ = _MESSAGE.unpack_from(data, message.start)
    values = attributeValues(data, start, message.end)
    link = values.get(_LINK_ADDRESS, b"")
    try:
        host = socket.inet_ntop(family, values[_ADDRESS])
    except (KeyError, ValueError, OSError):
        return None
    return Neighbour(host, interface, link) if any(link) else None


def relativesIn(table: Iterable[Neighbour], hosts: Collection[str]) -> frozenset[str]:
    """
    The addresses of the other IP version that belong to the interfaces of some hosts.

    An interface with several addresses of one version may stand for several machines, so that
    nothing is concluded from it.
    """
    places: dict[tuple[int, bytes], list[str]] = {}
    for each in table:
        if not each.host.lower().startswith("fe80:"):
            places.setdefault((each.interface, each.link), []).append(each.host)
    found: set[str] = set()
    for there in places.values():
        four = [host for host in there if ":" not in host]
        six = [host for host in there if ":" in host]
        for mine, others in ((four, six), (six, four)):
            if len(mine) == 1 and mine[0] in hosts:
                found.update(others)
    return frozenset(found)


class Relatives:
    """
    Asks the kernel.

    @param seconds: the clock.
    @param table: see L{neighbours}.
    @param maxAge: seconds for which an answer is used again.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        table: Callable[[], list[Neighbour]] = neighbours,
        maxAge: float = MAX_AGE,
    ) -> None:
        self._seconds = seconds
        self._maxAge = maxAge
        self._table = table
        self._asked = -MAX_AGE
        self._known: list[Neighbour] = []

    def of(self, hosts: Collection[str]) -> frozenset[str]:
        """See L{relativesIn}.  Never raises."""
        now = self._seconds()
        if not 0 <= now - self._asked < self._maxAge:
            self._asked = now
            try:
                self._known = self._table()
            except OSError:
                # What was known is better than nothing.
                pass
        return relativesIn(self._known, hosts)
