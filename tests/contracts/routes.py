"""
What every L{IKernelRoutes} does, the kernel itself and the fake.
"""

from __future__ import annotations

import errno
from typing import Any

from zope.interface.verify import verifyObject

from nanotun.addresses import SOCKET_MARK
from nanotun.routing.interfaces import IKernelRoutes
from nanotun.routing.values import TABLE, Route, Rule

DEVICE = "nano0"

#: One of each shape, for both families.
RULES = tuple(
    rule
    for family, network, proxy in (
        (4, "10.0.0.0/8", "172.17.0.2/32"),
        (6, "fd00::/8", "fd17::2/128"),
    )
    for rule in (
        Rule(family, 7499, "nop"),
        Rule(family, 7400, "goto", 7499, mark=SOCKET_MARK),
        Rule(family, 7402, "goto", 7499, incoming=DEVICE),
        Rule(family, 7403, "goto", 7499, mark=0xCA6C, incoming="lo"),
        Rule(family, 7403, "goto", 7499, mark=0x80000, incoming="lo", mask=0xFF0000),
        Rule(family, 7405, "lookup", TABLE, to=network),
        Rule(family, 7410, "goto", 7499, transport="tcp", sourcePort=22),
        Rule(family, 7415, "goto", 7499, transport="udp", sourcePort=68, destinationPort=67),
        Rule(family, 7421, "goto", 7499, source=proxy),
        Rule(family, 7430, "goto", 7499, uids=(1000, 1000)),
        Rule(family, 7430, "goto", 7499, uids=(0, 0)),
        Rule(family, 7450, "lookup", TABLE, mark=SOCKET_MARK, invert=True),
        Rule(family, 7460, "unreachable", mark=SOCKET_MARK, invert=True),
    )
)
ROUTES = (Route(4, DEVICE), Route(6, DEVICE))


class KernelRoutesContract:
    """
    Mix into a test case that sets L{kernel} to one without rules and routes of ours,
    where L{DEVICE} exists.
    """

    kernel: Any

    def test_interface(self) -> None:
        """It provides the interface."""
        verifyObject(IKernelRoutes, self.kernel)

    def test_rules(self) -> None:
        """An added rule is listed exactly as it was given, until it is deleted."""
        case: Any = self
        for rule in RULES:
            self.kernel.addRule(rule)
        case.assertEqual(sorted(self.kernel.rules(), key=str), sorted(RULES, key=str))
        for number, rule in enumerate(RULES):
            self.kernel.deleteRule(rule)
            left = RULES[number + 1 :]
            case.assertEqual(sorted(self.kernel.rules(), key=str), sorted(left, key=str))

    def test_ruleTwice(self) -> None:
        """An existing rule cannot be added, and a missing one cannot be deleted."""
        case: Any = self
        rule = RULES[0]
        self.kernel.addRule(rule)
        case.assertRaises(FileExistsError, self.kernel.addRule, rule)
        self.kernel.deleteRule(rule)
        error = case.assertRaises(OSError, self.kernel.deleteRule, rule)
        case.assertEqual(error.errno, errno.ENOENT)

    def test_routes(self) -> None:
        """An added route is listed until it is deleted."""
        case: Any = self
        for route in ROUTES:
            self.kernel.addRoute(route)
            case.assertRaises(FileExistsError, self.kernel.addRoute, route)
        case.assertEqual(self.kernel.routes(), list(ROUTES))
        for route in ROUTES:
            self.kernel.deleteRoute(route)
            error = case.assertRaises(OSError, self.kernel.deleteRoute, route)
            case.assertEqual(error.errno, errno.ESRCH)
        case.assertEqual(self.kernel.routes(), [])

    def test_noDevice(self) -> None:
        """A route through a device that does not exist fails with ENODEV."""
        case: Any = self
        for call in (self.kernel.addRoute, self.kernel.deleteRoute):
            error = case.assertRaises(OSError, call, Route(4, "gone0"))
            case.assertEqual(error.errno, errno.ENODEV)

    def test_interfaces(self) -> None:
        """All interfaces but the loopback are listed by name."""
        case: Any = self
        names = [each.name for each in self.kernel.interfaces(("192.0.2.1", "2001:db8::1"))]
        case.assertIn(DEVICE, names)
        case.assertNotIn("lo", names)

    def test_uplinks(self) -> None:
        """Uplinks are interfaces, sorted, and never the loopback."""
        case: Any = self
        found = self.kernel.uplinks()
        names = {each.name for each in self.kernel.interfaces(())}
        case.assertEqual(found, tuple(sorted(names & set(found))))

    def test_close(self) -> None:
        """It can be used again after a close, and may be closed twice."""
        case: Any = self
        self.kernel.close()
        self.kernel.close()
        case.assertEqual(self.kernel.rules(), [])
        self.kernel.close()
