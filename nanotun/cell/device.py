"""
The device of a cell: the helper makes it, and the packet engine uses it from outside.
"""

from __future__ import annotations

import contextlib
import os

from twisted.logger import Logger
from zope.interface import implementer

from nanotun.cell.channel import Channel, ChannelClosed
from nanotun.errors import DeviceError
from nanotun.interfaces import ITunDevice, ITunOpener

#: Seconds for the helper to start Python and to try segmentation offload.  That takes half
#: a second, or several on a very busy machine.
OPEN_LIMIT = 30.0


@implementer(ITunDevice)
class CellTun:
    """A device in another network namespace; its fd works in any."""

    def __init__(self, fd: int, name: str, mtu: int, vnetHeader: int) -> None:
        self.name = name
        self.index = 0
        self.mtu = mtu
        self.vnetHeader = vnetHeader
        self._fd = fd

    def fileno(self) -> int:
        """See L{ITunDevice.fileno}."""
        return self._fd

    def close(self) -> None:
        """See L{ITunDevice.close}."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@implementer(ITunOpener)
class CellTunOpener:
    """
    Has the helper make devices in a cell.

    @param channel: to the helper.
    """

    _log = Logger()

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def open(self, name: str, mtu: int, offload: str) -> ITunDevice:
        """See L{ITunOpener.open}."""
        try:
            with contextlib.suppress(ChannelClosed):
                self._channel.send(open=[name, mtu, offload])
            # Even if sending failed: the helper may have sent the reason before it ended.
            answer, fd = self._channel.receive(OPEN_LIMIT)
        except (ChannelClosed, TimeoutError):
            raise DeviceError(
                "the process that makes the command's network ended or hangs; "
                "look above for what it said, and try again."
            ) from None
        for note in answer.get("notes", ()):
            self._log.warn("{note}", note=note)
        if "failed" in answer or fd is None:
            raise DeviceError(answer.get("failed", "the command's network has no device."))
        return CellTun(fd, answer["name"], answer["mtu"], answer["vnetHeader"])
