"""
The channel between nanotun and the helper in the cell: JSON objects, one per packet, each
with at most one file descriptor, over a socket pair of type C{SOCK_SEQPACKET} (unix(7)).
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

#: Bytes of one message; the longest contains the names of processes.
MESSAGE_LIMIT = 1 << 16


class ChannelClosed(Exception):
    """The peer has closed its end."""


class Channel:
    """
    One end of the channel.

    @param sock: of type C{SOCK_SEQPACKET}; the channel closes it.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def fileno(self) -> int:
        """The fd, to wait on for a message."""
        return self._socket.fileno()

    def send(self, fd: int | None = None, **message: Any) -> None:
        """
        Send one message.

        @param fd: sent with it, as a duplicate.
        @param message: the fields, which JSON can represent.
        @raise ChannelClosed: the peer is gone.
        """
        data = json.dumps(message).encode()
        try:
            if fd is None:
                self._socket.send(data)
            else:
                socket.send_fds(self._socket, [data], [fd])
        except OSError:
            raise ChannelClosed from None

    def receive(self, timeout: float | None = None) -> tuple[dict[str, Any], int | None]:
        """
        Wait for one message.

        @param timeout: seconds; L{None} to wait without limit.
        @return: the message and the fd that came with it, which the caller must close.
        @raise ChannelClosed: the peer is gone.
        @raise TimeoutError: no message arrived in time.
        """
        try:
            self._socket.settimeout(timeout)
            data, fds, _, _ = socket.recv_fds(self._socket, MESSAGE_LIMIT, 1)
        except TimeoutError:
            raise
        except OSError:
            raise ChannelClosed from None
        if not data:
            raise ChannelClosed
        for fd in fds:
            os.set_inheritable(fd, False)
        return json.loads(data), fds[0] if fds else None

    def close(self) -> None:
        """Close this end, which the peer notices; may be called twice."""
        self._socket.close()


def makePair() -> tuple[Channel, socket.socket]:
    """
    Make both ends.

    @return: this process's end, and the socket of the other end, for a child.
    @raise OSError: the process has no file descriptors left.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(ours), theirs
