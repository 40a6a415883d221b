"""
Waits until the other end of a connection has taken all that was sent to it.

A reset, and a close where bytes wait to be read, have the kernel throw away what the other end
has not taken.  A connection that has to end with a reset is therefore ended only once nothing
is left to deliver, or once the other end takes nothing any more.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable
from typing import Any

from nanotun.timer import Timer

#: Seconds between two looks at how much is left.
LOOK = 0.05

#: Seconds for which the other end may take nothing.  The engine comes back for more whenever
#: an app has taken 256 KiB, so this is for apps that read 13 KB/s or more.
PATIENCE = 20.0


class Delivery:
    """
    Looks at once, and from then on every L{LOOK} seconds.

    @param transport: of a stream, connected; nothing more is written to it from now on, and
        nothing is read from it.
    @param ended: called once, when there is nothing left to wait for; not after L{stop}.
    """

    def __init__(self, transport: Any, clock: Any, ended: Callable[[], object]) -> None:
        self._transport = transport
        self._clock = clock
        self._ended = ended
        self._left = sys.maxsize
        self._since = 0.0
        self._timer = Timer(clock, self._look)
        transport.unregisterProducer()
        transport.pauseProducing()
        self._look()

    def stop(self) -> None:
        """Look no more.  Harmless where nothing is looked at any more."""
        self._timer.close()

    def _look(self) -> None:
        left, now = unsent(self._transport), self._clock.seconds()
        if left < self._left:
            self._left, self._since = left, now
        if left and now - self._since < PATIENCE:
            self._timer.start(LOOK)
        else:
            self.stop()
            self._ended()


def unsent(transport: Any) -> int:
    """
    How many bytes the other end has not taken, a FIN included; 0 if it takes none any more.
    """
    if not transport.connected:
        return 0
    own: socket.socket = transport.getHandle()
    if own.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        return 0
    (inKernel,) = struct.unpack("i", fcntl.ioctl(own, termios.TIOCOUTQ, bytes(4)))
    buffered = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
    return int(inKernel) + int(buffered)


def received(transport: Any) -> bytes:
    """
    What has come by a connection that has failed, and which its transport, about to close it,
    has not read.
    """
    own: socket.socket = transport.getHandle()
    pieces = []
    try:
        while piece := own.recv(1 << 16):
            pieces.append(piece)
    except OSError:
        pass  # The failure, or there is no more.
    return b"".join(pieces)
