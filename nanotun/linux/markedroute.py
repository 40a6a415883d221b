"""
Whether the kernel would send a marked packet into the device.

It is asked by rtnetlink (rtnetlink(7), C{RTM_GETROUTE}), for the answer names the
interface whatever addresses it has.  The kernel answers within the call that asks.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from nanotun.addresses import SOCKET_MARK
from nanotun.interfaces import IPart

#: Seconds that an answer is used: routes change.
MAX_AGE = 3.0

#: Addresses that are remembered.
LIMIT = 2048

#: linux/rtnetlink.h and linux/netlink.h.
RTM_NEWROUTE = 24
RTM_GETROUTE = 26
NLM_F_REQUEST = 1
RTA_DST = 1
RTA_OIF = 4
RTA_MARK = 16

#: struct nlmsghdr, struct rtmsg and struct rtattr, in the host's own order.
NLMSGHDR = struct.Struct("=IHHII")
RTMSG = struct.Struct("=8BI")
RTATTR = struct.Struct("=HH")
HEADERS = NLMSGHDR.size + RTMSG.size

#: Bytes; an answer about one route has some 150.
ANSWER_LIMIT = 4096

_NETLINK_ROUTE = 0


def openNetlink() -> socket.socket:
    """
    A socket to ask the kernel by.

    @raise OSError: there is none to be had.
    """
    family = getattr(socket, "AF_NETLINK", 16)
    opened = socket.socket(family, socket.SOCK_RAW, _NETLINK_ROUTE)
    opened.setblocking(False)
    return opened


@implementer(IPart)
class MarkedRoute:
    """
    Asks the kernel, and remembers for a while.

    @ivar failures: how often the kernel could not be asked.
    @param device: the TUN device's name; none of that name needs to be there.
    @param seconds: the clock.
    """

    _log = Logger()

    name = "the look-up of routes"

    def __init__(
        self,
        device: str,
        seconds: Callable[[], float],
        mark: int = SOCKET_MARK,
        makeSocket: Callable[[], Any] = openNetlink,
    ) -> None:
        self.failures = 0
        self._device = device
        self._seconds = seconds
        self._mark = mark
        self._makeSocket = makeSocket
        self._socket: Any = None
        self._sequence = 0
        self._known: dict[str, tuple[bool, float]] = {}

    def start(self) -> None:
        """See L{IPart.start}.  A socket that cannot be had is tried for again at need."""
        with contextlib.suppress(OSError):
            self._socket = self._makeSocket()

    def stop(self) -> None:
        """See L{IPart.stop}."""
        self._known.clear()
        self._close()

    def leadsIn(self, host: str) -> bool:
        """
        Whether the route of a marked packet to an address leads into the device.  Where
        that cannot be found out it is said not to; never raises.

        @param host: a literal address.
        """
        now = self._seconds()
        known, asked = self._known.get(host, (False, -MAX_AGE))
        if asked <= now < asked + MAX_AGE:
            return known
        try:
            index = socket.if_nametoindex(self._device)
        except OSError:
            return False
        try:
            known = self._interfaceTo(host) == index
        except (OSError, struct.error) as error:
            if not self.failures:
                self._log.warn(
                    "The kernel cannot be asked for the way to {host}: {error}; loops may go "
                    "unseen.",
                    host=host,
                    error=error,
                )
            self.failures += 1
            self._close()
            return False
        if len(self._known) >= LIMIT:
            self._known.clear()
        self._known[host] = known, now
        return known

    def _close(self) -> None:
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()

    def _interfaceTo(self, host: str) -> int:
        """
        The index of the interface that a packet leaves by; 0 where there is no route.

        @raise OSError, struct.error: no answer, or one that makes no sense.
        """
        if self._socket is None:
            self._socket = self._makeSocket()
        self._sequence = self._sequence + 1 & 0xFFFFFFFF
        self._socket.sendto(routeRequest(host, self._mark, self._sequence), (0, 0))
        while True:
            answer, (sender, _) = self._socket.recvfrom(ANSWER_LIMIT)
            if sender == 0 and NLMSGHDR.unpack_from(answer)[3] == self._sequence:
                return routeInterface(answer)


def routeRequest(host: str, mark: int, sequence: int) -> bytes:
    """The question for the route to C{host}."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.inet_pton(family, host)
    size = RTATTR.size + len(address)
    attributes = RTATTR.pack(size, RTA_DST) + address
    attributes += RTATTR.pack(RTATTR.size + 4, RTA_MARK) + struct.pack("=I", mark)
    route = RTMSG.pack(family, len(address) * 8, 0, 0, 0, 0, 0, 0, 0)
    total = HEADERS + len(attributes)
    header = NLMSGHDR.pack(total, RTM_GETROUTE, NLM_F_REQUEST, sequence, 0)
    return header + route + attributes


def routeInterface(answer: bytes) -> int:
    """
    The interface's index in an answer; 0 where it has none, as in one that says there
    is no route.

    @raise struct.error: it makes no sense.
    """
    length, kind = NLMSGHDR.unpack_from(answer)[:2]
    if kind != RTM_NEWROUTE:
        return 0
    offset = HEADERS
    while offset + RTATTR.size <= min(length, len(answer)):
        size, attribute = RTATTR.unpack_from(answer, offset)
        if attribute == RTA_OIF:
            index: int = struct.unpack_from("=I", answer, offset + RTATTR.size)[0]
            return index
        # NLA_ALIGNTO is four bytes.
        offset += max(size + 3 & ~3, RTATTR.size)
    return 0
