"""
Tests for L{nanotun.tun.links}, with a netlink socket of Python; the kernel's is
in tests/contracts_real.py.
"""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux.netlink import osError
from nanotun.tun import links
from nanotun.tun.links import IPV6_VALUES, TX_QUEUE_LENGTH, NetlinkLinks


class FakeChanges:
    """Stands for L{nanotun.linux.linkchange.LinkChanges}: notes the calls."""

    def __init__(self) -> None:
        self.links: list[tuple[object, ...]] = []
        self.addresses: list[str] = []
        self.refuses: list[int] = []

    def __enter__(self) -> FakeChanges:
        """Note nothing."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Note nothing."""

    def resize(self, index: int, mtu: int, queue: int) -> None:
        """Note it."""
        self.links.append(("resize", mtu, queue))

    def setUp(self, index: int, up: bool) -> None:
        """Note it."""
        self.links.append(("up" if up else "down",))

    def rename(self, index: int, name: str) -> None:
        """Note it, and refuse if a test says so."""
        self.links.append(("rename", name))
        if self.refuses:
            raise osError(self.refuses.pop(0))

    def addAddress(self, index: int, address: str, prefix: int, flags: int = 0) -> None:
        """Note it."""
        self.addresses.append(f"{address}/{prefix}")


class NetlinkLinksTests(SynchronousTestCase):
    """
    Tests for L{NetlinkLinks}.
    """

    def setUp(self) -> None:
        """A folder of settings like the kernel's."""
        self.settings = self.mktemp()
        self.folder = os.path.join(self.settings, "lo")
        os.makedirs(self.folder)
        self.changes = FakeChanges()

    def write(self, setting: str, value: str) -> None:
        """Set a setting."""
        with open(os.path.join(self.folder, setting), "w") as file:
            file.write(value)

    def configure(self) -> None:
        """Configure the device."""
        kept: Any = NetlinkLinks(self.settings)
        kept._configure(self.changes, "lo", 1400)

    def test_both(self) -> None:
        """
        The device gets both addresses, then comes up.
        """
        self.write("disable_ipv6", "0\n")
        self.configure()
        self.assertEqual(self.changes.addresses, ["198.18.0.2/30", "fdfe:dcba:9876::2/126"])
        self.assertEqual(self.changes.links, [("resize", 1400, TX_QUEUE_LENGTH), ("up",)])
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
        self.assertEqual(self.changes.addresses, ["198.18.0.2/30"] * 2)

    def test_readOnly(self) -> None:
        """
        Settings that cannot be written are no failure.
        """
        self.write("disable_ipv6", "0\n")
        for setting in IPV6_VALUES:
            os.mkdir(os.path.join(self.folder, setting))
        self.configure()
        self.assertEqual(len(self.changes.addresses), 2)

    def test_restore(self) -> None:
        """An interface gets back what it has lost, and nothing else is touched."""
        self.write("disable_ipv6", "0\n")
        opened: list[FakeChanges] = []

        def fake() -> FakeChanges:
            opened.append(self.changes)
            return self.changes

        self.patch(links, "LinkChanges", fake)
        kept = NetlinkLinks(self.settings)
        self.assertFalse(kept.restore(7, "lo", ["198.18.0.2", "fdfe:dcba:9876::2"]))
        self.assertEqual(opened, [])
        self.assertTrue(kept.restore(7, "lo", ["198.18.0.2"]))
        self.assertEqual(self.changes.addresses, ["fdfe:dcba:9876::2/126"])
        self.write("disable_ipv6", "1\n")
        self.assertFalse(kept.restore(7, "lo", ["198.18.0.2"]))
        self.assertTrue(kept.restore(7, "lo", []))
        self.assertEqual(self.changes.addresses[1:], ["198.18.0.2/30"])
        self.assertEqual(self.changes.links, [])

    def test_rename(self) -> None:
        """A kernel that renames no interface that is up gets one that is down."""
        kept: Any = NetlinkLinks(self.settings)
        kept._rename(self.changes, 7, "nano0")
        self.assertEqual(self.changes.links, [("rename", "nano0")])
        self.changes.links.clear()
        self.changes.refuses = [errno.EBUSY]
        kept._rename(self.changes, 7, "nano0")
        self.assertEqual(
            [word for word, *_ in self.changes.links], ["rename", "down", "rename", "up"]
        )

    def test_notRenamed(self) -> None:
        """An interface that cannot be renamed even so is up again."""
        kept: Any = NetlinkLinks(self.settings)
        self.changes.refuses = [errno.EBUSY, errno.EEXIST]
        self.assertRaises(OSError, kept._rename, self.changes, 7, "nano0")
        self.assertEqual(self.changes.links[-1], ("up",))
        self.changes.links.clear()
        self.changes.refuses = [errno.EEXIST]
        self.assertRaises(OSError, kept._rename, self.changes, 7, "nano0")
        self.assertEqual(len(self.changes.links), 1)
