"""
Tests of L{nanotun.routing.firewall.resolved}, with a systemd-resolved in memory; one on
a real bus is in tests/e2e/test_resolved.py.
"""

from __future__ import annotations

from nanotun.errors import RoutingError
from nanotun.routing.firewall.resolved import ResolvedLink, isRunning, linkFromRecord
from nanotun.routing.interfaces import IChange
from tests.contracts.firewall import ChangeContract
from tests.unit.routing.firewall_cases import FirewallCase


def noDevice(name: str) -> int:
    """Like C{socket.if_nametoindex} without the device."""
    raise OSError("no interface with this name")


class ResolvedTests(FirewallCase, ChangeContract):
    """L{ResolvedLink}."""

    def setUp(self) -> None:
        """systemd-resolved runs."""
        super().setUp()
        self.tools.resolved.running = True

    def makeChange(self) -> IChange:
        """The link."""
        return ResolvedLink(self.tools, "lo", lambda name: 1)

    def state(self) -> str:
        """The arguments of the methods that were called."""
        return repr(self.tools.resolved.links)

    def test_hardware(self) -> None:
        """A record that names a link of hardware, or a path, is refused."""
        self.tools.hardware.add("lo")
        self.assertRaises(ValueError, self.remake, self.makeChange())
        for name in ("../lo", "a/b"):
            self.assertRaises(ValueError, linkFromRecord, self.tools, {"device": name})

    def test_told(self) -> None:
        """All names are sent to the gateway's two addresses, without TLS."""
        self.makeChange().apply()
        six = "10 16 253 254 220 186 152 118 0 0 0 0 0 0 0 0 0 1"
        self.assertEqual(
            self.tools.resolved.links,
            {
                "_31": {
                    "SetLinkDNS": f"2 2 4 198 18 0 1 {six}".split(),
                    "SetLinkDomains": ["1", ".", "true"],
                    "SetLinkDefaultRoute": ["true"],
                    "SetLinkDNSOverTLS": ["no"],
                }
            },
        )

    def test_notRunning(self) -> None:
        """The change holds while systemd-resolved does not run, but not once it does."""
        self.tools.resolved.running = False
        change = self.makeChange()
        change.apply()
        change.undo()
        self.assertTrue(change.holds())
        self.tools.resolved.running = True
        self.assertFalse(change.holds())
        change.apply()
        self.assertTrue(change.holds())

    def test_hung(self) -> None:
        """A systemd-resolved that does not answer is asked again only after a while."""
        now = [0.0]
        change = ResolvedLink(self.tools, "lo", lambda name: 1, lambda: now[0])
        change.apply()
        self.tools.resolved.hung = True
        for _ in range(3):
            self.assertTrue(change.holds())
        self.assertEqual(self.tools.resolved.asked, 1)
        # It was started again, and has forgotten.
        self.tools.resolved.hung = False
        self.tools.resolved.links.clear()
        self.assertTrue(change.holds())
        now[0] = 15.0
        self.assertFalse(change.holds())

    def test_refused(self) -> None:
        """If one setting is refused, all are reverted and the error says why."""
        self.tools.resolved.refused.add("SetLinkDefaultRoute")
        error = self.assertRaises(RoutingError, self.makeChange().apply)
        self.assertIn("Call failed: no", str(error))
        self.assertEqual(self.tools.resolved.links, {})

    def test_old(self) -> None:
        """Methods that an old systemd-resolved does not know are left out."""
        self.tools.resolved.unknown.add("SetLinkDNSOverTLS")
        change = self.makeChange()
        change.apply()
        self.assertTrue(change.holds())

    def test_cannotUndo(self) -> None:
        """If the settings cannot be reverted, the error says what to type."""
        change = self.makeChange()
        change.apply()
        self.tools.resolved.refused.add("RevertLink")
        self.assertIn("resolvectl revert lo", str(self.assertRaises(RoutingError, change.undo)))

    def test_deviceGone(self) -> None:
        """After the device was removed there is nothing to undo."""
        self.makeChange().apply()
        change = ResolvedLink(self.tools, "tun9", noDevice)
        self.assertFalse(change.holds())
        change.undo()
        self.assertIn("gone", str(self.assertRaises(RoutingError, change.apply)))

    def test_isRunning(self) -> None:
        """Without busctl, or without a bus, systemd-resolved counts as not running."""
        self.assertTrue(isRunning(self.tools))
        self.tools.installed.discard("busctl")
        self.assertFalse(isRunning(self.tools))
        self.makeChange().undo()
