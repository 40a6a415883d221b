"""
The default routes of one table, by rtnetlink(7) without pyroute2: that reads every
route of the machine, a tenth of a millisecond for each, to find the two of ours.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

#: struct nlmsghdr, struct rtmsg (the first half of it counts), struct rtattr.
_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")

#: Of linux/netlink.h and linux/rtnetlink.h.
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_NLM_F_REQUEST, _NLM_F_DUMP_INTR, _NLM_F_DUMP = 0x1, 0x10, 0x300
_RTA_OIF, _RTA_TABLE = 4, 15

#: SOL_NETLINK, and NETLINK_GET_STRICT_CHK of Linux 4.20: the kernel picks what is
#: asked for.  Before, it tells of all tables.
_SOL_NETLINK, _STRICT = 270, 12

_READ_SIZE = 1 << 17


class DefaultRoute(NamedTuple):
    """
    One route.

    @ivar family: C{AF_INET} or C{AF_INET6}.
    @ivar protocol: who made it, as a number.
    @ivar interface: its index, 0 if it has none.
    """

    family: int
    protocol: int
    interface: int


class Interrupted(Exception):
    """The table changed while it was read: what was read may not be all of it."""


def defaultRoutes(family: int, table: int) -> list[DefaultRoute]:
    """
    The default routes of a table.

    @raise Interrupted: ask again.
    @raise OSError: the kernel refuses.
    """
    body = _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0) + _ATTRIBUTE.pack(8, _RTA_TABLE)
    body += struct.pack("=I", table)
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asked:
        with contextlib.suppress(OSError):
            asked.setsockopt(_SOL_NETLINK, _STRICT, 1)
        asked.send(_HEADER.pack(_HEADER.size + len(body), _RTM_GETROUTE, flags, 1, 0) + body)
        found: list[DefaultRoute] = []
        while readRoutes(asked.recv(_READ_SIZE), table, found):
            pass
    return found


def readRoutes(data: bytes, table: int, found: list[DefaultRoute]) -> bool:
    """
    Read what the kernel has sent.

    @param found: what is of that table is appended.
    @return: whether there is more to come.
    @raise Interrupted, OSError: see L{defaultRoutes}.
    """
    offset = 0
    while offset + _HEADER.size <= len(data):
        size, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
        body = data[offset + _HEADER.size : offset + size]
        if flags & _NLM_F_DUMP_INTR:
            raise Interrupted
        if kind in (_NLMSG_DONE, _NLMSG_ERROR):
            error = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
            # A table in which nothing was ever put is none.
            if error not in (0, 2):
                raise OSError(error, os.strerror(error))
            return False
        if kind == _RTM_NEWROUTE:
            family, length, _, _, short, protocol = _ROUTE.unpack_from(body)[:6]
            attributes = dict(_attributes(body[_ROUTE.size :]))
            if attributes.get(_RTA_TABLE, short) == table and length == 0:
                found.append(DefaultRoute(family, protocol, attributes.get(_RTA_OIF, 0)))
        offset += (size + 3) & ~3
    return True


def _attributes(data: bytes) -> Iterator[tuple[int, int]]:
    """The attributes of four bytes, as numbers."""
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < _ATTRIBUTE.size:
            return
        if size == 8:
            yield kind, struct.unpack_from("=I", data, offset + 4)[0]
        offset += (size + 3) & ~3
