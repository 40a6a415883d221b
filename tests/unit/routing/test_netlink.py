"""
Tests for L{nanotun.routing.netlink} and its fake, without a kernel.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.routing.netlink import CachedRoutes, ruleMessage, ruleOf
from nanotun.routing.values import Interface, Rule
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
            {**self.message(), "action": 6},
        ):
            self.assertIsNone(ruleOf(message))

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
