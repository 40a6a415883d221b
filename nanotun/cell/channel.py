"""
What nanotun and the helper in the cell say to each other: JSON objects, one a packet,
with at most one file descriptor beside each, over a socket pair of the kind
C{SOCK_SEQPACKET} (unix(7)).
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

#: Bytes of one message; the longest one has the names of processes in it.
MESSAGE_LIMIT = 1 << 16


class ChannelClosed(Exception):
    """The other side is gone."""


class Channel:
    """
    One end.

    @param sock: of the kind C{SOCK_SEQPACKET}; the channel's from here on.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def fileno(self) -> int:
        """The fd, for those who wait for a message."""
        return self._socket.fileno()

    def send(self, fd: int | None = None, **message: Any) -> None:
        """
        Send one message.

        @param fd: goes along, as a duplicate.
        @raise ChannelClosed: nobody is there to hear it.
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

        @param timeout: seconds; L{None} waits for as long as it takes.
        @return: the message and the fd that came along, which is the caller's.
        @raise ChannelClosed: the other side is gone.
        @raise TimeoutError: nothing came.
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
        """The other side hears of it; may be called twice."""
        self._socket.close()


def makePair() -> tuple[Channel, socket.socket]:
    """
    Make both ends.

    @return: ours, and the other's, for a child.
    @raise OSError: there are no file descriptors.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(ours), theirs
