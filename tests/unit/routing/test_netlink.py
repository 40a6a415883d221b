"""
Tests for L{nanotun.routing.netlink} and its fake, without a kernel.
"""

from __future__ import annotations

import socket
from ipaddress import ip_network
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux.network import Address, Link
from nanotun.routing import netlink
from nanotun.routing.netlink import CachedRoutes, NetlinkRoutes, earlierOf, ruleMessage, ruleOf
from nanotun.routing.values import Earlier, Interface, Rule
from nanotun.testing import MemoryRoutes
from tests.contracts.routes import DEVICE, RULES, KernelRoutesContract


class MemoryRoutesTests(KernelRoutesContract, SynchronousTestCase):
    """The fake keeps the contract."""

    def setUp(self) -> None:
        """Make it."""
        self.kernel = MemoryRoutes(Interface(DEVICE))


class CachedRoutesTests(KernelRoutesContract, SynchronousTestCase):
    """Tests for L{CachedRoutes}."""

    def setUp(self) -> None:
        """Make it."""
        self.memory = MemoryRoutes(Interface(DEVICE))
        self.kernel = CachedRoutes(self.memory)

    def test_asksOnce(self) -> None:
        """The kernel is asked once, until the answers are forgotten."""
        for _ in range(3):
            self.kernel.rules()
            self.kernel.routes()
        self.assertEqual(self.memory.asked, 2)
        self.memory.addRule(RULES[0])
        self.assertEqual(self.kernel.rules(), [])
        self.kernel.forget()
        self.assertEqual(self.kernel.rules(), [RULES[0]])


class InterfacesTests(SynchronousTestCase):
    """Tests for L{NetlinkRoutes.interfaces}; the kernel's part is in the end-to-end tests."""

    def test_down(self) -> None:
        """The public networks of an interface that is down are not connected, as the default
        route leads there; whether one is down is asked only where there is such a network."""
        asked: list[int] = []
        names = {1: "lo", 2: "eth0", 3: "eth1"}

        def links() -> list[Link]:
            asked.append(1)
            return [Link(n, name, "", 1500, name != "eth1") for n, name in names.items()]

        self.patch(netlink, "links", links)
        self.patch(netlink, "interfaceNames", lambda: names)
        self.patch(netlink, "nextHops", lambda destinations, mark: iter(()))
        for second, expected in (("10.1.2.0/24", True), ("8.8.8.0/24", False)):
            nets = [ip_network("2a77::/64"), ip_network(second)]
            found = [
                Address(link, "", net, net)
                for link, net in zip(("eth0", "eth1"), nets, strict=True)
            ]
            self.patch(netlink, "addresses", lambda names, found=found: found)
            (first, other) = NetlinkRoutes().interfaces(())
            self.assertEqual(first.networks, ("2a77::/64",))
            self.assertEqual(other.networks, (second,) if expected else ())
            self.assertEqual(bool(asked), not expected)


class MessageTests(SynchronousTestCase):
    """Tests for L{ruleMessage} and L{ruleOf}; the kernel's part is in the end-to-end tests."""

    def message(self, family: int = socket.AF_INET, **attributes: Any) -> dict[str, Any]:
        """A rule as pyroute2 has read it."""
        given = {"FRA_PROTOCOL": 110, "FRA_PRIORITY": 7499, **attributes}
        return {
            "family": family,
            "action": 3,
            "flags": 0,
            "src_len": 0,
            "dst_len": 0,
            "attrs": list(given.items()),
        }

    def test_read(self) -> None:
        """A rule of ours is read."""
        self.assertEqual(ruleOf(self.message()), Rule(4, 7499, "nop"))
        self.assertEqual(ruleOf(self.message(socket.AF_INET6)), Rule(6, 7499, "nop"))
        self.assertEqual(
            ruleOf(self.message(UNKNOWN={"header": {"type": 28}})), Rule(4, 7499, "nop")
        )

    def test_others(self) -> None:
        """A rule with another number, or with an attribute that ours never have, is not ours."""
        for message in (
            self.message(FRA_PROTOCOL=2),
            self.message(FRA_OIFNAME="up0"),
            self.message(FRA_FWMASK=0xFF),
            {**self.message(), "src_len": 8},
            self.message(FRA_SRC="172.17.0.2"),
            {**self.message(), "action": 6},
        ):
            self.assertIsNone(ruleOf(message))

    def test_source(self) -> None:
        """A rule about a source is read as it was sent."""
        rule = Rule(4, 7421, "goto", 7499, source="172.17.0.2/32")
        sent = ruleMessage(rule)
        self.assertEqual((sent["src"], sent["src_len"]), ("172.17.0.2", 32))
        message = self.message(FRA_PRIORITY=7421, FRA_GOTO=7499, FRA_SRC="172.17.0.2")
        self.assertEqual(ruleOf({**message, "action": 2, "src_len": 32}), rule)

    def earlier(self, **attributes: Any) -> list[Earlier] | None:
        """What another program's rule lets past; table 52 leads to tailscale0, 53 nowhere."""
        given: dict[str, Any] = {
            "FRA_PROTOCOL": 3,
            "FRA_PRIORITY": 5270,
            "FRA_TABLE": 52,
            "FRA_SUPPRESS_PREFIXLEN": 0xFFFFFFFF,
            **attributes,
        }
        more = {name: given.pop(name) for name in [*given] if name.islower()}
        message = {**self.message(**given), "action": 1, "tos": 0, "table": 0, **more}
        return earlierOf(message, lambda family, table: ["tailscale0"] if table == 52 else [])

    def test_earlier(self) -> None:
        """What another program's rule lets past: by mark, by destination, or by device."""
        self.assertEqual(self.earlier(), [Earlier(4, 5270, device="tailscale0")])
        self.assertEqual(
            self.earlier(FRA_FWMARK=0x80000, FRA_FWMASK=0xFF0000, FRA_TABLE=254),
            [Earlier(4, 5270, 0x80000, 0xFF0000)],
        )
        self.assertEqual(self.earlier(FRA_FWMARK=5), [Earlier(4, 5270, 5, 0xFFFFFFFF)])
        self.assertEqual(
            self.earlier(FRA_DST="9.9.9.0", dst_len=24), [Earlier(4, 5270, to="9.9.9.0/24")]
        )

    def test_nothingEarlier(self) -> None:
        """Our rules, later ones, those that stop packets and those that lead nowhere."""
        cases: tuple[dict[str, Any], ...] = (
            {"FRA_PROTOCOL": 110},
            {"FRA_PRIORITY": 0},
            {"FRA_PRIORITY": 7400},
            {"action": 7},
            {"FRA_TABLE": 53},
            {"FRA_TABLE": 53, "FRA_DST": "9.9.9.0", "dst_len": 24},
        )
        for attributes in cases:
            self.assertEqual(self.earlier(**attributes), [], attributes)

    def test_unclear(self) -> None:
        """A rule with conditions that a firewall's line does not repeat cannot be told."""
        cases: tuple[dict[str, Any], ...] = (
            {"FRA_IIFNAME": "up0"},
            {"FRA_L3MDEV": 1},
            {"FRA_UID_RANGE": "5:5"},
            {"FRA_SUPPRESS_PREFIXLEN": 0},
            {"UNKNOWN": {}},
            {"src_len": 8},
            {"tos": 8},
            {"flags": 2},
            {"action": 2},
        )
        for attributes in cases:
            self.assertIsNone(self.earlier(**attributes), attributes)

    def test_numbers(self) -> None:
        """The numbers are those of linux/fib_rules.h."""
        rule = Rule(6, 7450, "lookup", 28276, mark=0x6E74, invert=True)
        self.assertEqual(
            ruleMessage(rule),
            {
                "family": socket.AF_INET6,
                "priority": 7450,
                "action": 1,
                "protocol": 110,
                "table": 28276,
                "fwmark": 0x6E74,
                "flags": 2,
            },
        )
