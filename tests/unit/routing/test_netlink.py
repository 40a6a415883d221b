"""
Tests for L{nanotun.routing.netlink} and its fake, without a kernel.
"""

from __future__ import annotations

import socket
from ipaddress import ip_network

from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux.network import Address, Link
from nanotun.routing import netlink
from nanotun.routing.netlink import CachedRoutes, NetlinkRoutes, ruleMessage, ruleOf
from nanotun.routing.values import Interface, Rule
from nanotun.testing import MemoryRoutes
from tests.contracts.routes import DEVICE, RULES, KernelRoutesContract
from tests.unit.routing.routing_cases import ruleMessageOf


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

    def test_read(self) -> None:
        """A rule of ours is read."""
        self.assertEqual(ruleOf(ruleMessageOf()), Rule(4, 7499, "nop"))
        self.assertEqual(ruleOf(ruleMessageOf(socket.AF_INET6)), Rule(6, 7499, "nop"))
        self.assertEqual(
            ruleOf(ruleMessageOf(UNKNOWN={"header": {"type": 28}})), Rule(4, 7499, "nop")
        )

    def test_masks(self) -> None:
        """A mark with a mask is written and read, and one without is a mark of all bits."""
        for mask, said in ((0, ""), (0xFF0000, "/0xff0000")):
            rule = Rule(4, 7403, "goto", 7499, mark=0x80000, incoming="lo", mask=mask)
            self.assertIn(f"iif lo fwmark 0x80000{said} goto", rule.command("add"))
            self.assertEqual(ruleMessage(rule).get("fwmask", 0), mask)
            message = ruleMessageOf(
                FRA_PRIORITY=7403,
                FRA_GOTO=7499,
                FRA_FWMARK=0x80000,
                FRA_FWMASK=mask or 0xFFFFFFFF,
                FRA_IIFNAME="lo",
            )
            self.assertEqual(ruleOf({**message, "action": 2}), rule)

    def test_others(self) -> None:
        """A rule with another number, or with an attribute that ours never have, is not ours."""
        for message in (
            ruleMessageOf(FRA_PROTOCOL=2),
            ruleMessageOf(FRA_OIFNAME="up0"),
            {**ruleMessageOf(), "src_len": 8},
            ruleMessageOf(FRA_SRC="172.17.0.2"),
            {**ruleMessageOf(), "action": 6},
        ):
            self.assertIsNone(ruleOf(message))

    def test_source(self) -> None:
        """A rule about a source is read as it was sent."""
        rule = Rule(4, 7421, "goto", 7499, source="172.17.0.2/32")
        sent = ruleMessage(rule)
        self.assertEqual((sent["src"], sent["src_len"]), ("172.17.0.2", 32))
        message = ruleMessageOf(FRA_PRIORITY=7421, FRA_GOTO=7499, FRA_SRC="172.17.0.2")
        self.assertEqual(ruleOf({**message, "action": 2, "src_len": 32}), rule)

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
