"""
Notices when links, addresses, routes or rules of the machine change, or whether it forwards.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.errors import RoutingError
from nanotun.linux.netlink import READ_SIZE, ROUTE, openNetlink

#: Multicast groups of rtnetlink(7), as numbers of linux/rtnetlink.h: links, and addresses,
#: routes, rules and switches such as C{forwarding} (netconf) of both families.
GROUPS = (1, 5, 7, 8, 9, 11, 19, 24, 25)

#: Messages that are read in one turn of the reactor.
_TURN = 256


def openMonitor() -> socket.socket:
    """
    A socket that receives a message about each change.

    @raise OSError: the system has no more sockets.
    """
    return openNetlink(ROUTE, groups=GROUPS)


@implementer(IReadDescriptor)
class NetworkMonitor:
    """
    Reads a message for each change, but not what it says: the plan is made anew anyway.

    @param changed: called once for each turn of the reactor in which something changed.
    @param makeSocket: see L{openMonitor}.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        changed: Callable[[], None],
        makeSocket: Callable[[], socket.socket] = openMonitor,
    ) -> None:
        self._reactor = reactor
        self._changed = changed
        self._makeSocket = makeSocket
        self._socket: socket.socket | None = None

    @property
    def isListening(self) -> bool:
        """Whether the kernel tells of changes."""
        return self._socket is not None

    def start(self) -> None:
        """
        Begin to listen.

        @raise RoutingError: the socket cannot be opened.
        """
        try:
            self._socket = self._makeSocket()
        except OSError as error:
            raise RoutingError(
                f"The kernel does not tell of changes of the network (netlink: {error.strerror})."
            ) from None
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Stop listening; harmless before the start."""
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None

    def fileno(self) -> int:
        """See L{IReadDescriptor.fileno}."""
        return -1 if self._socket is None else self._socket.fileno()

    def doRead(self) -> None:
        """See L{IReadDescriptor.doRead}."""
        heard = False
        for _ in range(_TURN):
            if self._socket is None:
                return
            try:
                self._socket.recv(READ_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                # ENOBUFS: more messages than fit the buffer are changes, too.
                if error.errno != errno.ENOBUFS:
                    self._log.error(
                        "The kernel no longer tells of changes of the network ({error}); they are "
                        "looked for every few seconds.",
                        error=os.strerror(error.errno or 0),
                    )
                    self.stop()
                    return
            heard = True
        if heard:
            self._changed()

    def connectionLost(self, reason: Failure) -> None:
        """See L{IReadDescriptor.connectionLost}: the reactor stops, or the socket failed."""
        self.stop()

    def logPrefix(self) -> str:
        """See L{twisted.internet.interfaces.ILoggingContext.logPrefix}."""
        return "network monitor"
