"""
Tests for L{nanotun.tun.links}, without a kernel; with one in
tests/contracts_real.py.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.tun.links import IFA_F_NODAD, IPV6_VALUES, TX_QUEUE_LENGTH, NetlinkLinks


class FakeRoute:
    """Writes down what L{nanotun.tun.netlink.RouteSocket} is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def __enter__(self) -> FakeRoute:
        return self

    def __exit__(self, *_: object) -> None:
        self.asked.append(("close",))

    def indexOf(self, name: str) -> int:
        """An index."""
        return 7

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.asked.append((name, *arguments))


class NetlinkLinksTests(SynchronousTestCase):
    """
    Tests for L{NetlinkLinks}.
    """

    def setUp(self) -> None:
        """A folder of settings as the kernel has it."""
        self.settings = self.mktemp()
        self.folder = os.path.join(self.settings, "nano0")
        os.makedirs(self.folder)
        self.route = FakeRoute()

    def write(self, setting: str, value: str) -> None:
        """Set a setting."""
        with open(os.path.join(self.folder, setting), "w") as file:
            file.write(value)

    def configure(self) -> None:
        """Configure the device."""
        route: Any = self.route
        NetlinkLinks(self.settings, lambda: route).configure("nano0", 1400)

    def addresses(self) -> list[str]:
        """The addresses that were added."""
        return [each[2] for each in self.route.asked if each[0] == "addAddress"]

    def test_both(self) -> None:
        """
        The device gets both addresses, then comes up.
        """
        self.write("disable_ipv6", "0\n")
        self.configure()
        self.assertEqual(
            self.route.asked,
            [
                ("setSizes", 7, 1400, TX_QUEUE_LENGTH),
                ("addAddress", 7, "198.18.0.2/30"),
                ("addAddress", 7, "fdfe:dcba:9876::2/126", IFA_F_NODAD),
                ("setUp", 7),
                ("close",),
            ],
        )
        for setting, value in IPV6_VALUES.items():
            with open(os.path.join(self.folder, setting)) as file:
                self.assertEqual(file.read(), value)

    def test_noIPv6(self) -> None:
        """
        Where IPv6 is disabled, or not built in, there is only IPv4.
        """
        self.configure()
        self.write("disable_ipv6", "1\n")
        self.configure()
        self.assertEqual(self.addresses(), ["198.18.0.2/30"] * 2)

    def test_readOnly(self) -> None:
        """
        Settings that cannot be written do not stop it.
        """
        self.write("disable_ipv6", "0\n")
        for setting in IPV6_VALUES:
            os.mkdir(os.path.join(self.folder, setting))
        self.configure()
        self.assertEqual(len(self.addresses()), 2)
