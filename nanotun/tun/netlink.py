"""
The few requests of rtnetlink(7) that a device takes.

Written out here because the libraries that speak all of netlink cost a daemon
10 MB and a tenth of a second at each start.  Everything is in host order,
without padding, as in linux/netlink.h, linux/rtnetlink.h and linux/if_addr.h.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from ipaddress import ip_interface
from socket import AF_INET, AF_INET6, AF_NETLINK, NETLINK_ROUTE, SOCK_RAW, if_nametoindex, socket
from typing import Any

#: struct nlmsghdr: length, type, flags, sequence number, port.
HEADER = struct.Struct("=IHHII")
#: struct ifinfomsg: family, type, index, flags, which flags change.
LINK = struct.Struct("=BxHiII")
#: struct ifaddrmsg: family, prefix length, flags, scope, index.
ADDRESS = struct.Struct("=BBBBI")
#: struct nlattr (length, type) with a number, and without.
NUMBER = struct.Struct("=HHI")
ATTRIBUTE = struct.Struct("=HH")
#: struct nlmsgerr, as far as it matters: 0 or -errno.
ERROR = struct.Struct("=i")

NLMSG_ERROR = 2
RTM_NEWLINK = 16
RTM_NEWADDR = 20

NLM_F_REQUEST = 0x001
NLM_F_ACK = 0x004
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

IFLA_MTU = 4
IFLA_TXQLEN = 13
IFF_UP = 1
IFA_ADDRESS = 1
IFA_LOCAL = 2

#: Bytes.  An answer repeats the request, which is shorter than this by far.
ANSWER_LIMIT = 4096


def _open() -> socket:
    return socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)


class RouteSocket:
    """
    Asks the kernel, and waits for its answer, which comes at once.  A context
    manager, at whose end the socket is closed.

    @param open: makes a netlink socket.
    """

    def __init__(self, open: Callable[[], Any] = _open) -> None:
        self._socket = open()
        self._sequence = 0

    def __enter__(self) -> RouteSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def indexOf(self, name: str) -> int:
        """
        The number of an interface.

        @raise OSError: there is none of this name.
        """
        return if_nametoindex(name)

    def setSizes(self, index: int, mtu: int, queueLength: int) -> None:
        """
        Set an interface's MTU (bytes) and the length of its queue (packets).

        @raise OSError: the kernel refused.
        """
        body = LINK.pack(0, 0, index, 0, 0)
        body += NUMBER.pack(NUMBER.size, IFLA_MTU, mtu)
        body += NUMBER.pack(NUMBER.size, IFLA_TXQLEN, queueLength)
        self._ask(RTM_NEWLINK, 0, body)

    def setUp(self, index: int) -> None:
        """
        Bring an interface up.

        @raise OSError: the kernel refused.
        """
        self._ask(RTM_NEWLINK, 0, LINK.pack(0, 0, index, IFF_UP, IFF_UP))

    def addAddress(self, index: int, address: str, flags: int = 0) -> None:
        """
        Give an interface an address.

        @param address: with its prefix length, C{198.18.0.2/30}.
        @param flags: C{IFA_F_...}.
        @raise OSError: the kernel refused.
        """
        parsed = ip_interface(address)
        family = AF_INET if parsed.version == 4 else AF_INET6
        packed = parsed.ip.packed
        body = ADDRESS.pack(family, parsed.network.prefixlen, flags, 0, index)
        for kind in (IFA_LOCAL, IFA_ADDRESS):
            body += ATTRIBUTE.pack(ATTRIBUTE.size + len(packed), kind) + packed
        self._ask(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)

    def _ask(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        length = HEADER.size + len(body)
        flags |= NLM_F_REQUEST | NLM_F_ACK
        self._socket.send(HEADER.pack(length, kind, flags, self._sequence, 0) + body)
        answer = self._socket.recv(ANSWER_LIMIT)
        if len(answer) < HEADER.size + ERROR.size:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        _, kind, _, sequence, _ = HEADER.unpack_from(answer)
        if (kind, sequence) != (NLMSG_ERROR, self._sequence):
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        (error,) = ERROR.unpack_from(answer, HEADER.size)
        if error:
            raise OSError(-error, os.strerror(-error))
