"""
TUN devices that exist only in memory.
"""

from __future__ import annotations

from zope.interface import implementer

from nanotun.errors import DeviceError
from nanotun.interfaces import ITunDevice, ITunOpener

#: The fd of every fake device; no file is behind it.
FAKE_FD = 1_000_000

#: The index of every fake device.
FAKE_INDEX = 7


@implementer(ITunDevice)
class MemoryTun:
    """
    A device that exists only in memory.

    @ivar closed: whether it was closed.
    """

    def __init__(self, opener: MemoryTunOpener, name: str, mtu: int, vnetHeader: int) -> None:
        self.name = name
        self.index = FAKE_INDEX
        self.mtu = mtu
        self.vnetHeader = vnetHeader
        self.closed = False
        self._opener = opener

    def fileno(self) -> int:
        """See L{ITunDevice.fileno}."""
        return -1 if self.closed else FAKE_FD

    def close(self) -> None:
        """See L{ITunDevice.close}."""
        self.closed = True
        self._opener.devices.pop(self.name, None)


@implementer(ITunOpener)
class MemoryTunOpener:
    """
    Makes fake devices.

    @ivar devices: the open ones, by name.
    @ivar offloadWorks: whether the fake kernel supports segmentation offload.
    @ivar failure: raised by the next L{open}, if set.
    """

    def __init__(self) -> None:
        self.devices: dict[str, MemoryTun] = {}
        self.offloadWorks = True
        self.failure: DeviceError | None = None

    def open(self, name: str, mtu: int, offload: str) -> ITunDevice:
        """See L{ITunOpener.open}."""
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if name in self.devices:
            raise DeviceError(f"an interface named {name} exists already.")
        if not 0 < len(name) <= 15 or "/" in name or "%" in name:
            raise DeviceError(f"{name!r} is not an interface's name.")
        if offload == "on" and not self.offloadWorks:
            raise DeviceError(f"the kernel refuses segmentation offload on {name}.")
        vnetHeader = 10 if offload != "off" and self.offloadWorks else 0
        device = self.devices[name] = MemoryTun(self, name, mtu, vnetHeader)
        return device
