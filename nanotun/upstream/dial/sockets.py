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

#: tcp(7), C{TCP_USER_TIMEOUT}, of Linux.
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)

#: Seconds that data may wait to be taken by the other side before the kernel gives
#: the connection up, dead or merely not reading.  Linux itself would go on sending
#: for about 15 minutes (tcp_retries2).  Two minutes outlast a change of networks
#: and every pause of a reader that means to go on.
STALL_TIME = 120.0

_NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)


def openStream(family: int, mark: int = SOCKET_MARK) -> socket.socket:
    """
    A TCP or unix socket that is marked, non-blocking, closed on exec, without
    Nagle's delay, and given up after L{STALL_TIME} in which it could not send.

    @param family: C{AF_INET}, C{AF_INET6} or C{AF_UNIX}.
    @param mark: 0 for none, which needs no privilege.
    @raise UpstreamError: the system has no more, or does not let us mark it.
    """
    stream = _open(family, socket.SOCK_STREAM, mark)
    try:
        if family != socket.AF_UNIX:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            limitStall(stream, STALL_TIME)
    except OSError as error:
        stream.close()
        raise UpstreamError(_sentence(error)) from None
    return stream


def limitStall(stream: socket.socket, seconds: float) -> None:
    """
    Set after how long without progress a TCP socket that sends is given up, with
    ETIMEDOUT.

    @raise OSError: the socket is no good any more.
    """
    stream.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(seconds * 1000))


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
