"""
Follows the network, with and without C{autoDefaultRoute}.

Changes come in swarms, so L{SETTLE} seconds pass between the first message of the kernel's
and the look.  Without a message there is a look every L{CHECK} seconds, as messages can be
lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from nanotun.daemon.devicewatch import DeviceWatch
from nanotun.errors import RoutingError
from nanotun.interfaces import IPart
from nanotun.routing.follower import CHECK, SETTLE
from nanotun.routing.monitor import NetworkMonitor
from nanotun.timer import Timer


@implementer(IPart)
class NetworkWatch:
    """
    See the module.

    @param makeMonitor: makes a monitor from the function that it calls.
    @param device: looks after the device; L{None} where it is in a cell, which nobody else
        has access to.
    """

    name = "the look at the network"

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        makeMonitor: Callable[[Callable[[], None]], NetworkMonitor],
        device: DeviceWatch | None,
    ) -> None:
        self._device = device
        self._monitor = makeMonitor(self._heard)
        self._settle = Timer(clock, self._settled)
        self._loop = LoopingCall(self._check)
        self._loop.clock = clock

    def start(self) -> None:
        """See L{IPart.start}."""
        if self._device is not None:
            self._device.start()
        try:
            self._monitor.start()
        except RoutingError as error:
            self._log.warn(
                "Changes of the network are noticed every few seconds only: {error}",
                error=str(error),
            )
        self._loop.start(CHECK, now=False)

    def stop(self) -> None:
        """See L{IPart.stop}."""
        self._monitor.stop()
        self._settle.cancel()
        if self._loop.running:
            self._loop.stop()
        if self._device is not None:
            self._device.stop()

    def _heard(self) -> None:
        """The kernel says that something has changed."""
        if self._device is not None:
            # At once, because nothing gets through without it.
            self._device.look()
        if not self._settle.active and self._loop.running:
            self._settle.start(SETTLE)

    def _check(self) -> None:
        if not self._settle.active:
            self._settled()

    def _settled(self) -> None:
        try:
            self._look()
        except Exception:
            self._log.failure("Looking at the network failed: internal error")

    def _look(self) -> None:
        if self._device is not None:
            self._device.lookClosely()
