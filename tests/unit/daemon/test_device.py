"""Tests of L{nanotun.daemon.device}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.keys import KEYS
from nanotun.config.settings import flagValue, makeSettings
from nanotun.daemon.device import TunnelDevice
from nanotun.errors import DeviceError
from nanotun.testing import MemoryTunOpener

SETTINGS = makeSettings({}, {"proxy": flagValue(KEYS["proxy"], "h")}, None)


class TunnelDeviceTests(SynchronousTestCase):
    """L{TunnelDevice}."""

    def setUp(self) -> None:
        self.opener = MemoryTunOpener()
        self.device = TunnelDevice(SETTINGS, self.opener)

    def test_closed(self) -> None:
        """Before it is opened there is no device, and nothing to report of one."""
        self.assertEqual(self.opener.devices, {})
        for ask in (lambda: self.device.tun, self.device.report):
            error = self.assertRaises(DeviceError, ask)
            self.assertEqual(str(error), "the device nano0 is not open.")

    def test_open(self) -> None:
        """It opens what the settings say, any number of times, and closes it."""
        for _ in range(2):
            self.device.open()
            self.assertIs(self.device.tun, self.opener.devices["nano0"])
            self.assertEqual(self.device.report(), {"name": "nano0", "mtu": 1500, "offload": True})
            self.device.close()
            self.assertEqual(self.opener.devices, {})

    def test_fails(self) -> None:
        """A device that cannot be opened leaves it closed."""
        self.opener.failure = DeviceError("there is no /dev/net/tun.")
        self.assertRaises(DeviceError, self.device.open)
        self.assertRaises(DeviceError, lambda: self.device.tun)
