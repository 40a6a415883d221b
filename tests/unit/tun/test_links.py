"""
Tests for L{nanotun.tun.links}, with a netlink socket of Python; the kernel's is
in tests/contracts_real.py.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError
from twisted.trial.unittest import SynchronousTestCase

from nanotun.tun import links
from nanotun.tun.links import IPV6_VALUES, NetlinkLinks


class FakeNetlink:
    """Notes the calls."""

    def __init__(self) -> None:
        self.links: list[dict[str, Any]] = []
        self.addresses: list[str] = []
        self.refuses: list[Exception] = []

    def link_lookup(self, ifname: str) -> tuple[int]:
        """An index."""
        return (7,)

    def link(self, command: str, **values: Any) -> None:
        """Note it, and refuse a new name if a test says so."""
        self.links.append(values)
        if "ifname" in values and self.refuses:
            raise self.refuses.pop(0)

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

    def test_restore(self) -> None:
        """An interface gets back what it has lost, and nothing else is touched."""
        self.write("disable_ipv6", "0\n")
        opened: list[FakeNetlink] = []

        @contextmanager
        def fake() -> Iterator[FakeNetlink]:
            opened.append(self.netlink)
            yield self.netlink

        self.patch(links, "_opened", fake)
        kept = NetlinkLinks(self.settings)
        self.assertFalse(kept.restore(7, "nano0", ["198.18.0.2", "fdfe:dcba:9876::2"]))
        self.assertEqual(opened, [])
        self.assertTrue(kept.restore(7, "nano0", ["198.18.0.2"]))
        self.assertEqual(self.netlink.addresses, ["fdfe:dcba:9876::2/126"])
        self.write("disable_ipv6", "1\n")
        self.assertFalse(kept.restore(7, "nano0", ["198.18.0.2"]))
        self.assertTrue(kept.restore(7, "nano0", []))
        self.assertEqual(self.netlink.addresses[1:], ["198.18.0.2/30"])
        self.assertEqual(self.netlink.links, [])

    def test_rename(self) -> None:
        """A kernel that renames no interface that is up gets one that is down."""
        kept = NetlinkLinks(self.settings)
        kept._rename(self.netlink, 7, "nano0")
        self.assertEqual(self.netlink.links, [{"index": 7, "ifname": "nano0"}])
        self.netlink.links.clear()
        self.netlink.refuses = [NetlinkError(errno.EBUSY)]
        kept._rename(self.netlink, 7, "nano0")
        states = [each.get("state", "rename") for each in self.netlink.links]
        self.assertEqual(states, ["rename", "down", "rename", "up"])

    def test_notRenamed(self) -> None:
        """An interface that cannot be renamed even so is up again."""
        kept = NetlinkLinks(self.settings)
        self.netlink.refuses = [NetlinkError(errno.EBUSY), NetlinkError(errno.EEXIST)]
        self.assertRaises(NetlinkError, kept._rename, self.netlink, 7, "nano0")
        self.assertEqual(self.netlink.links[-1], {"index": 7, "state": "up"})
        self.netlink.links.clear()
        self.netlink.refuses = [NetlinkError(errno.EEXIST)]
        self.assertRaises(NetlinkError, kept._rename, self.netlink, 7, "nano0")
        self.assertEqual(len(self.netlink.links), 1)
