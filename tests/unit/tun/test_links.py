"""
Tests for L{nanotun.tun.links}, with a netlink socket of Python; the kernel's is
in tests/contracts_real.py.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.tun.links import IPV6_VALUES, NetlinkLinks


class FakeNetlink:
    """Notes the calls."""

    def __init__(self) -> None:
        self.links: list[dict[str, Any]] = []
        self.addresses: list[str] = []

    def link_lookup(self, ifname: str) -> tuple[int]:
        """An index."""
        return (7,)

    def link(self, command: str, **values: Any) -> None:
        """Note it."""
        self.links.append(values)

    def addr(self, command: str, **values: Any) -> None:
        """Note it."""
        self.addresses.append(f"{values['address']}/{values['prefixlen']}")


class NetlinkLinksTests(SynchronousTestCase):
    """
    Tests for L{NetlinkLinks}.
    """

    def setUp(self) -> None:
        """A folder of settings like the kernel's."""
        self.settings = self.mktemp()
        self.folder = os.path.join(self.settings, "nano0")
        os.makedirs(self.folder)
        self.netlink = FakeNetlink()

    def write(self, setting: str, value: str) -> None:
        """Set a setting."""
        with open(os.path.join(self.folder, setting), "w") as file:
            file.write(value)

    def configure(self) -> None:
        """Configure the device."""
        NetlinkLinks(self.settings)._configure(self.netlink, "nano0", 1400)

    def test_both(self) -> None:
        """
        The device gets both addresses, then comes up.
        """
        self.write("disable_ipv6", "0\n")
        self.configure()
        self.assertEqual(self.netlink.addresses, ["198.18.0.2/30", "fdfe:dcba:9876::2/126"])
        self.assertEqual(self.netlink.links[0]["mtu"], 1400)
        self.assertEqual(self.netlink.links[-1], {"index": 7, "state": "up"})
        for setting, value in IPV6_VALUES.items():
            with open(os.path.join(self.folder, setting)) as file:
                self.assertEqual(file.read(), value)

    def test_noIPv6(self) -> None:
        """
        If IPv6 is disabled, or not built in, the device gets only IPv4.
        """
        self.configure()
        self.write("disable_ipv6", "1\n")
        self.configure()
        self.assertEqual(self.netlink.addresses, ["198.18.0.2/30"] * 2)

    def test_readOnly(self) -> None:
        """
        Settings that cannot be written are no failure.
        """
        self.write("disable_ipv6", "0\n")
        for setting in IPV6_VALUES:
            os.mkdir(os.path.join(self.folder, setting))
        self.configure()
        self.assertEqual(len(self.netlink.addresses), 2)
