"""
A check that makes a trial device, in a network namespace that disappears afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from nanotun.cell.command import visible
from nanotun.cell.device import CellTunOpener
from nanotun.cell.launch import Cell
from nanotun.config.settings import Settings
from nanotun.doctor.finding import Finding, ICheck, Level
from nanotun.errors import NanotunError, RoutingError

#: The module with the helper's C{main}.
HELPER = "nanotun.console.run.helper"


def openAndClose(settings: Settings) -> bool:
    """
    Make a device in a cell, as the daemon would, and remove it.  Blocks.

    @return: whether it has segmentation offload.
    @raise RoutingError: no cell can be made.
    @raise nanotun.errors.DeviceError: no device can be made.
    """
    cell = Cell(["/bin/true"], None, HELPER, visible(os.environ, keepProxies=False))
    try:
        cell.ready()
        opener = CellTunOpener(cell.channel)
        device = opener.open(settings.tunName, settings.mtu, settings.offload)
        device.close()
        return bool(device.vnetHeader)
    finally:
        cell.end()


@implementer(ICheck)
class TrialCheck:
    """
    Whether a device can be made, and segmentation offload works on it.

    @param inThread: calls a function in a thread and returns a Deferred.
    @param isRoot: whether this process may try.
    @param attempt: makes the device; like L{openAndClose}.
    """

    name = "trial device"

    def __init__(
        self,
        settings: Settings,
        inThread: Callable[[Callable[[], bool]], Deferred[bool]],
        isRoot: bool,
        attempt: Callable[[Settings], bool] = openAndClose,
    ) -> None:
        self._settings = settings
        self._inThread = inThread
        self._isRoot = isRoot
        self._attempt = attempt

    def run(self) -> list[Finding] | Deferred[list[Finding]]:
        """See L{ICheck.run}."""
        if not self._isRoot:
            return [Finding(self.name, Level.INFO, "Not tried: that takes root.")]
        tried: Deferred[Any] = self._inThread(lambda: self._attempt(self._settings))
        return tried.addCallbacks(self._made, self._failed)

    def _made(self, offload: bool) -> list[Finding]:
        if offload or self._settings.offload == "off":
            how = "with" if offload else "as configured without"
            text = f"A device can be made, in a namespace of its own, {how} segmentation offload."
            return [Finding(self.name, Level.OK, text)]
        return [
            Finding(
                self.name,
                Level.WARN,
                "A device can be made, but segmentation offload does not work on this kernel: "
                "everything is carried, a few times slower.",
                "Use another kernel; those around 6.6.44 had that fault.",
            )
        ]

    def _failed(self, failure: Any) -> list[Finding]:
        failure.trap(NanotunError)
        text = failure.getErrorMessage()
        level = Level.INFO if failure.check(RoutingError) else Level.FAIL
        if level is Level.INFO:
            text = f"Not tried, and 'nanotun run' cannot work here: {text}"
        return [Finding(self.name, level, text[:1].upper() + text[1:])]
