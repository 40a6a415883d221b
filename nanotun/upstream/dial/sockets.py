"""
The one file that makes sockets to the outside.

Each has L{SOCKET_MARK}.  Without the mark its packets would follow nanotun's own routes
back into the tunnel and come out as a new flow, again and again.  The device of C{nanotun run} is
in a network of its own, where no route of this machine's leads; so whoever may set no mark, as an
ordinary user, needs none.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from nanotun.addresses import SOCKET_MARK
from nanotun.errors import UpstreamError

#: socket(7); Python has the name on Linux only, and mypy may run elsewhere.
SO_MARK = getattr(socket, "SO_MARK", 36)

#: tcp(7), C{TCP_USER_TIMEOUT}, of Linux.
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)

#: Seconds that data may wait for the other side to take it.  Then the kernel gives the
#: connection up, whether the other side is dead or just does not read.  Linux by itself
#: would retry for about 15 minutes (tcp_retries2).  Two minutes are enough for a change
#: of networks and for any pause of a reader that intends to continue.
STALL_TIME = 120.0

_NONBLOCK = getattr(socket, "SOCK_NONBLOCK", 0)


def openStream(family: int, mark: int = SOCKET_MARK) -> socket.socket:
    """
    Make a TCP or unix socket: marked, non-blocking, closed on exec, without Nagle's
    delay, and given up by the kernel after L{STALL_TIME} without progress in sending.

    @param family: C{AF_INET}, C{AF_INET6} or C{AF_UNIX}.
    @param mark: 0 for no mark, which needs no privilege.
    @raise UpstreamError: the system has no more sockets, lacks the family, or does not
        let us set the mark.
    """
    stream = _open(family, socket.SOCK_STREAM, mark)
    try:
        if family != socket.AF_UNIX:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            limitStall(stream, STALL_TIME)
    except OSError as error:
        stream.close()
        raise noSocket(error.errno or 0) from None
    return stream


def limitStall(stream: socket.socket, seconds: float) -> None:
    """
    Have the kernel give up a TCP socket, with ETIMEDOUT, after so long without progress
    in sending.

    @raise OSError: the connection has ended.
    """
    stream.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(seconds * 1000))


def openDatagram(family: int, mark: int = SOCKET_MARK) -> socket.socket:
    """
    Make a UDP socket: marked, non-blocking, closed on exec and of one family only, so
    an IPv6 socket gets nothing from IPv4 peers.

    @param family: C{AF_INET} or C{AF_INET6}.
    @param mark: as for L{openStream}.
    @raise UpstreamError: as from L{openStream}.
    """
    datagram = _open(family, socket.SOCK_DGRAM, mark)
    try:
        if family == socket.AF_INET6:
            datagram.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    except OSError as error:
        datagram.close()
        raise noSocket(error.errno or 0) from None
    return datagram


class Sockets(NamedTuple):
    """
    Makes the sockets of one tunnel.

    @ivar mark: that of all of them; 0 for none.
    @ivar openStream: see the function L{openStream}; takes the family.
    @ivar openDatagram: likewise.
    """

    mark: int
    openStream: Callable[[int], socket.socket]
    openDatagram: Callable[[int], socket.socket]


MARKED = Sockets(SOCKET_MARK, openStream, openDatagram)

#: Of an ordinary user's C{nanotun run}.
UNMARKED = Sockets(0, partial(openStream, mark=0), partial(openDatagram, mark=0))


def socketsFor() -> Sockets:
    """
    L{MARKED}, unless the kernel lets this process set no mark.  Root's number does not tell: in a
    user namespace, as of unshare(1) or rootless containers, it may not.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, SO_MARK, SOCKET_MARK)
    except OSError as error:
        return UNMARKED if error.errno == errno.EPERM else MARKED
    return MARKED


def _open(family: int, kind: int, mark: int) -> socket.socket:
    try:
        # Python adds SOCK_CLOEXEC.
        opened = socket.socket(family, kind | _NONBLOCK)
    except OSError as error:
        raise noSocket(error.errno or 0) from None
    try:
        if mark:
            opened.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    except OSError as error:
        opened.close()
        raise noSocket(error.errno or 0) from None
    return opened


def noSocket(error: int) -> UpstreamError:
    """The error for an errno of socket(2) or setsockopt(2)."""
    if error == errno.EPERM:
        text = "A socket cannot be marked without CAP_NET_ADMIN; run nanotun as root."
    elif error in (errno.EMFILE, errno.ENFILE):
        text = "There are no more file descriptors; raise the limit (ulimit -n, LimitNOFILE)."
    elif error == errno.EAFNOSUPPORT:
        text = "This machine has no such address family; use an address of the other one."
    else:
        text = f"A socket cannot be made: {os.strerror(error)}."
    return UpstreamError(text)
