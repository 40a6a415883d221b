"""
Tells whether the kernel would route a marked packet into the device.

rtnetlink(7) is asked (C{RTM_GETROUTE}), because its answer names the interface
whatever addresses that has.  The kernel answers within the call that asks.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from nanotun.addresses import SOCKET_MARK
from nanotun.interfaces import IPart
from nanotun.linux import netlink
from nanotun.linux.network import packRouteRequest, readInterface

#: No device's name: that of a device in another network, where no route leads.
NOWHERE = ""

#: Seconds that an answer is used: routes change.
MAX_AGE = 3.0

#: Addresses that are remembered.
LIMIT = 2048

#: Bytes; an answer about one route has some 150.
ANSWER_LIMIT = 4096


@implementer(IPart)
class MarkedRoute:
    """
    Asks the kernel, and remembers each answer for L{MAX_AGE}.

    @ivar failures: how often the kernel could not be asked.
    @param device: the TUN device's name; the device need not exist yet.
    @param seconds: the clock.
    """

    _log = Logger()

    name = "the look-up of routes"

    def __init__(
        self,
        device: str,
        seconds: Callable[[], float],
        mark: int = SOCKET_MARK,
        makeSocket: Callable[[], Any] = lambda: netlink.openNetlink(netlink.ROUTE),
    ) -> None:
        self.failures = 0
        self._device = device
        self._seconds = seconds
        self._mark = mark
        self._makeSocket = makeSocket
        self._socket: Any = None
        self._sequence = 0
        self._known: dict[str, tuple[int, float]] = {}

    def start(self) -> None:
        """See L{IPart.start}.  If the socket cannot be opened now, the first question tries."""
        with contextlib.suppress(OSError):
            self._socket = self._makeSocket()

    def stop(self) -> None:
        """See L{IPart.stop}."""
        self._known.clear()
        self._close()

    def leadsIn(self, host: str) -> bool:
        """
        Whether the route of a marked packet to an address leads into the device; C{False}
        if that cannot be found out.  Never raises.

        @param host: a literal address.
        """
        try:
            index = socket.if_nametoindex(self._device)
        except OSError:
            return False
        return self.interfaceTo(host) == index

    def forget(self) -> None:
        """Routes have changed: ask the kernel anew."""
        self._known.clear()

    def interfaceTo(self, host: str) -> int:
        """
        The index of the interface by which a marked packet to an address leaves; 0 where there
        is no route, or that cannot be found out.  Never raises.

        @param host: a literal address.
        """
        now = self._seconds()
        known, asked = self._known.get(host, (0, -MAX_AGE))
        if asked <= now < asked + MAX_AGE:
            return known
        try:
            known = self._ask(host)
        except OSError as error:
            if not self.failures:
                self._log.warn(
                    "The kernel cannot be asked for the route to {host}: {error}; loops may go "
                    "unnoticed.",
                    host=host,
                    error=error,
                )
            self.failures += 1
            self._close()
            return 0
        if len(self._known) >= LIMIT:
            self._known.clear()
        self._known[host] = known, now
        return known

    def _close(self) -> None:
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()

    def _ask(self, host: str) -> int:
        """
        The index of the interface that a packet leaves by; 0 where there is no route.

        @raise OSError: there is no answer, or it makes no sense.
        """
        if self._socket is None:
            self._socket = self._makeSocket()
        self._sequence = self._sequence + 1 & 0xFFFFFFFF
        self._socket.sendto(packRouteRequest(host, self._mark, self._sequence), (0, 0))
        while True:
            answer, (sender, _) = self._socket.recvfrom(ANSWER_LIMIT)
            index = readInterface(answer, self._sequence) if sender == 0 else None
            if index is not None:
                return index
