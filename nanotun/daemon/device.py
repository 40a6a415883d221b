"""
The tunnel's device, before it is opened and afterwards.
"""

from __future__ import annotations

from typing import Any

from nanotun.config.settings import Settings
from nanotun.errors import DeviceError
from nanotun.interfaces import ITunDevice, ITunOpener


class TunnelDevice:
    """
    The device that the settings name.  Made before twistd forks, opened after it.

    @param opener: opens it.
    """

    def __init__(self, settings: Settings, opener: ITunOpener) -> None:
        self._settings = settings
        self._opener = opener
        self._tun: ITunDevice | None = None

    @property
    def tun(self) -> ITunDevice:
        """
        The open device.

        @raise DeviceError: it is not open.
        """
        if self._tun is None:
            raise DeviceError(f"the device {self._settings.tunName} is not open.")
        return self._tun

    def open(self) -> None:
        """
        Open it.

        @raise DeviceError: with one sentence; nothing is left behind.
        """
        settings = self._settings
        self._tun = self._opener.open(settings.tunName, settings.mtu, settings.offload)

    def close(self) -> None:
        """Close it, once it is open.  It may be opened again."""
        tun, self._tun = self.tun, None
        tun.close()

    def report(self) -> dict[str, Any]:
        """
        The report's C{device}.

        @return: C{name}, C{mtu} in bytes, and whether C{offload} is on.
        @raise DeviceError: it is not open.
        """
        return {"name": self.tun.name, "mtu": self.tun.mtu, "offload": bool(self.tun.vnetHeader)}
