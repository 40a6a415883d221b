"""
Changes interfaces of this network namespace, their addresses and default routes, by rtnetlink(7).

Importing pyroute2 takes longer than all of nanotun's own modules: it brings multiprocessing,
sqlite3, unittest and psutil along, whichever of its modules is meant.  A start needs a few
messages of fixed form.
"""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Final

from nanotun.linux import netlink

#: Message types, of linux/rtnetlink.h.
RTM_NEWLINK: Final = 16
RTM_NEWADDR: Final = 20
RTM_NEWROUTE: Final = 24

#: Flags of messages that make something: an object that is there already is an error.
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

IFF_UP = 0x1

#: Attributes of interfaces (linux/if_link.h) and of addresses (linux/if_addr.h).
IFLA_IFNAME, IFLA_MTU, IFLA_TXQLEN = 3, 4, 13
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8

#: Attributes of routes, and what an administrator's unicast route in the table C{main} has.
RTA_OIF, RTA_GATEWAY = 4, 5
RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST = 254, 4, 0, 1

#: struct ifinfomsg: family, type, index, flags, which flags to change.
_LINK = struct.Struct("=BxHiII")
#: struct ifaddrmsg: family, prefix length, flags, scope, index.
_ADDRESS = struct.Struct("=BBBBI")
#: struct rtmsg: family, lengths of both prefixes, TOS, table, protocol, scope, type, flags.
_ROUTE = struct.Struct("=BBBBBBBBI")


class LinkChanges:
    """
    A netlink socket for changes, to be used in a C{with} block.  The kernel makes each change
    before the call returns.

    @raise OSError: from each method: the kernel refused, with its errno.
    """

    def __enter__(self) -> LinkChanges:
        """Open the socket."""
        self._socket = netlink.openNetlink(netlink.ROUTE, blocking=True)
        self._sequence = 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the socket."""
        self._socket.close()

    def setUp(self, index: int, up: bool) -> None:
        """Bring an interface up or down."""
        self._change(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP if up else 0, IFF_UP))

    def rename(self, index: int, name: str) -> None:
        """Give an interface another name."""
        attribute = netlink.packAttribute(IFLA_IFNAME, name.encode() + b"\0")
        self._change(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0) + attribute)

    def resize(self, index: int, mtu: int, queue: int) -> None:
        """
        Set an interface's limits.

        @param mtu: bytes.
        @param queue: packets that wait for the other end at most.
        """
        body = _LINK.pack(0, 0, index, 0, 0)
        for kind, value in ((IFLA_MTU, mtu), (IFLA_TXQLEN, queue)):
            body += netlink.packAttribute(kind, netlink.UINT32.pack(value))
        self._change(RTM_NEWLINK, 0, body)

    def addAddress(self, index: int, address: str, prefix: int, flags: int = 0) -> None:
        """
        Give an interface an address that it does not have.

        @param address: a literal, such as C{192.0.2.1}.
        @param prefix: the length of its network's prefix, in bits.
        @param flags: IFA_F_*.
        """
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        packed = socket.inet_pton(family, address)
        body = _ADDRESS.pack(family, prefix, 0, 0, index)
        body += netlink.packAttribute(IFA_ADDRESS, packed)
        if family == socket.AF_INET:
            # For IPv6 this would be the other end's.
            body += netlink.packAttribute(IFA_LOCAL, packed)
        if flags:
            body += netlink.packAttribute(IFA_FLAGS, netlink.UINT32.pack(flags))
        self._change(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)

    def addDefaultRoute(self, index: int, gateway: str) -> None:
        """
        Route what has no other route to a gateway; there must be no such route yet.

        @param gateway: a literal address; its family is that of the route.
        """
        family = socket.AF_INET6 if ":" in gateway else socket.AF_INET
        made = (RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST)
        body = _ROUTE.pack(family, 0, 0, 0, *made, 0)
        body += netlink.packAttribute(RTA_GATEWAY, socket.inet_pton(family, gateway))
        body += netlink.packAttribute(RTA_OIF, netlink.UINT32.pack(index))
        self._change(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, body)

    def _change(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        flags |= netlink.NLM_F_REQUEST | netlink.NLM_F_ACK
        self._socket.send(netlink.pack(kind, flags, self._sequence, body))
        while True:
            answer = self._socket.recv(netlink.READ_SIZE)
            for message in netlink.messages(answer):
                if message.kind == netlink.NLMSG_ERROR and message.sequence == self._sequence:
                    number = netlink.errorOf(answer, message)
                    if number:
                        raise netlink.osError(number)
                    return
