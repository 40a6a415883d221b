"""
What all dials of one upstream share, for the engine.
"""

from __future__ import annotations

import os
import socket
import struct

from nanotun.interfaces import Course, Step, UpstreamContext
from nanotun.upstream.dial.resolver import SocketAddress
from nanotun.upstream.dial.secure import Secure
from nanotun.upstream.dial.sockets import STALL_TIME

#: struct sockaddr_in, sockaddr_in6 and sockaddr_un of Linux, each from its family on: in the
#: machine's byte order, as is the scope, while the rest is in the network's.
_FAMILY, _SCOPE = struct.Struct("=H"), struct.Struct("=I")
_PORT4, _PORT6 = struct.Struct("!H4s8x"), struct.Struct("!HI16s")


def pack(address: SocketAddress) -> bytes | None:
    """
    An address as connect(2) takes it.

    @return: L{None} if that would have to look something up.
    """
    family, place = address
    head = _FAMILY.pack(family)
    if family == socket.AF_UNIX:
        return head + os.fsencode(place) + b"\0"
    host, port, *rest = place
    try:
        packed = socket.inet_pton(family, host)
    except OSError:
        return None
    if family == socket.AF_INET:
        return head + _PORT4.pack(port, packed)
    flow, scope = rest or (0, 0)
    return head + _PORT6.pack(port, flow, packed) + _SCOPE.pack(scope)


class Courses:
    """
    Makes the courses of one upstream, and keeps the last ones.

    @param secure: TLS for all of them, if there is one.
    """

    def __init__(self, context: UpstreamContext, secure: Secure | None = None) -> None:
        self._secure = secure
        self._timeout = context.timeout
        self._mark = context.mark
        self._addresses: list[SocketAddress] | None = None
        self._made: dict[tuple[Step, ...], Course | None] = {}

    def of(self, addresses: list[SocketAddress], steps: tuple[Step, ...]) -> Course | None:
        """
        The course to these addresses.

        @param addresses: not changed afterwards; where others take their place, that is another
            list.
        @return: L{None} if the engine cannot connect there.
        @raise nanotun.errors.UpstreamError: see L{Secure.number}.
        """
        if addresses is not self._addresses:
            self._addresses = addresses
            self._made.clear()
        if steps not in self._made:
            self._made[steps] = self._make(addresses, steps)
        return self._made[steps]

    def _make(self, addresses: list[SocketAddress], steps: tuple[Step, ...]) -> Course | None:
        packed = tuple(each for each in map(pack, addresses) if each is not None)
        if self._mark is None or len(packed) < len(addresses):
            return None
        tls = 0 if self._secure is None else self._secure.number()
        return Course(packed, self._timeout, self._mark, STALL_TIME, 0.0, steps, tls)
