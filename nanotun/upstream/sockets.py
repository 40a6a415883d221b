"""
The one file that makes sockets towards the outside.

Each carries L{SOCKET_MARK}.  One without it would, once the routes are ours,
enter the tunnel again and come back as a new flow, for ever.
"""

from __future__ import annotations

import errno
import socket

from nanotun.addresses import SOCKET_MARK
from nanotun.errors import UpstreamError

#: socket(7); Python has the name on Linux only, and mypy may run elsewhere.
SO_MARK = getattr(socket, "SO_MARK", 36)
_NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)


def openStream(family: int, mark: int = SOCKET_MARK) -> socket.socket:
    """
    A TCP or unix socket that is marked, non-blocking, closed on exec and without
    Nagle's delay.

    @param family: C{AF_INET}, C{AF_INET6} or C{AF_UNIX}.
    @param mark: 0 for none, which needs no privilege.
    @raise UpstreamError: the system has no more, or does not let us mark it.
    """
    stream = _open(family, socket.SOCK_STREAM, mark)
    try:
        if family != socket.AF_UNIX:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        stream.close()
        raise UpstreamError(_sentence(error)) from None
    return stream


def openDatagram(family: int, mark: int = SOCKET_MARK) -> socket.socket:
    """
    A UDP socket that is marked, non-blocking, closed on exec and of one family
    only: no IPv4 peer comes in by an IPv6 socket.

    @param family: as for L{openStream}, and so are C{mark} and what is raised.
    """
    datagram = _open(family, socket.SOCK_DGRAM, mark)
    try:
        if family == socket.AF_INET6:
            datagram.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    except OSError as error:
        datagram.close()
        raise UpstreamError(_sentence(error)) from None
    return datagram


def _open(family: int, kind: int, mark: int) -> socket.socket:
    try:
        # Python adds SOCK_CLOEXEC.
        opened = socket.socket(family, kind | _NONBLOCK)
    except OSError as error:
        raise UpstreamError(_sentence(error)) from None
    try:
        if mark:
            opened.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    except OSError as error:
        opened.close()
        raise UpstreamError(_sentence(error)) from None
    return opened


def _sentence(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return "A socket cannot be marked without CAP_NET_ADMIN; run nanotun as root."
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "There are no more file descriptors; raise the limit (ulimit -n, LimitNOFILE)."
    if error.errno == errno.EAFNOSUPPORT:
        return "This machine has no such address family; use an address of the other one."
    return f"A socket cannot be made: {error.strerror}."
