"""
The sockets of a cell that nanotun uses from outside: a socket stays in the network namespace that
it was made in.  The helper makes them, and passes them over the channel.

Each request is C{make}: L{LISTENER} with an address and a port, L{STREAM} or L{ASKING}.  Each
answer is C{made} with the fd, or with the errno in its place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from nanotun.cell.channel import Channel
from nanotun.linux.listeners import openAsking

LISTENER = "listener"
STREAM = "stream"
ASKING = "asking"

#: What a dual-stack socket takes for an IPv4 address.
MAPPED = "::ffff:"


def boundSocket(host: str, port: int) -> socket.socket:
    """
    A non-blocking TCP socket that is bound, and does not listen yet.

    @param host: a literal address, a link-local one with its interface; C{::} is for IPv4 as well.
    @raise OSError: the address or the port cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        _share(made, True)
        made.bind(_place(host, port))
        # Only now is somebody in the way who listens already.
        listen(made, 0)
        refuse(made)
    except OSError:
        made.close()
        raise
    return made


def _place(host: str, port: int) -> Any:
    """What bind(2) takes, with the number of an address's interface."""
    try:
        ((*_, place),) = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
        )
    except socket.gaierror:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None
    return place


def listen(sock: socket.socket, backlog: int) -> None:
    """
    Have a socket of L{boundSocket} listen.

    @raise OSError: the kernel has it not.
    """
    _share(sock, True)
    sock.listen(backlog)


def refuse(sock: socket.socket) -> None:
    """
    Have it listen no more, while the port stays its own.

    @raise OSError: it does not listen.
    """
    _share(sock, False)
    sock.shutdown(socket.SHUT_RD)


def _share(sock: socket.socket, isShared: bool) -> None:
    """
    Let others have the port as well, unless one listens: connections of before, which are over or
    go on, and also anybody's bind(2), so only as long as there is a listener.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, isShared)


def freeSocket() -> socket.socket:
    """
    A non-blocking TCP socket that can connect to addresses of both families, or to those of IPv4 if
    the kernel has no IPv6.

    @raise OSError: the system has none to give.
    """
    try:
        made = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        with contextlib.suppress(OSError):
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    except OSError:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    return made


def connect(sock: socket.socket, host: str, port: int) -> None:
    """
    Begin to connect a socket of L{freeSocket}.

    @param host: a literal address.
    @raise OSError: it was refused already.
    """
    if sock.family == socket.AF_INET6 and ":" not in host:
        host = MAPPED + host
    with contextlib.suppress(BlockingIOError):
        sock.connect((host, port))


class SocketMakers:
    """
    Makes what nanotun asks for, in the helper.

    @param channel: to nanotun.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def answer(self, message: dict[str, Any]) -> bool:
        """
        Answer a request.

        @return: whether the message is one.
        @raise nanotun.cell.channel.ChannelClosed: nanotun is gone.
        """
        if "make" not in message:
            return False
        try:
            made = _make(*message["make"])
        except OSError as error:
            self._channel.send(made=error.errno)
            return True
        with made:
            self._channel.send(made.fileno(), made=0)
        return True


def _make(kind: str, *rest: Any) -> socket.socket:
    if kind == LISTENER:
        return boundSocket(*rest)
    return freeSocket() if kind == STREAM else openAsking()


def ask(channel: Channel, request: Sequence[object], timeout: float) -> socket.socket:
    """
    Have the helper make a socket, and wait for it, while nothing else is said.

    @raise OSError: it cannot be made.
    @raise ChannelClosed: the helper is gone.
    @raise TimeoutError: it does not answer.
    """
    channel.send(make=list(request))
    message, fd = channel.receive(timeout)
    return taken(message, fd)


def taken(message: dict[str, Any], fd: int | None) -> socket.socket:
    """
    The socket of an answer.

    @raise OSError: there is none.
    """
    if fd is None:
        number = message.get("made", 0)
        raise OSError(number, os.strerror(number))
    return socket.socket(fileno=fd)
