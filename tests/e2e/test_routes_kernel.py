"""
The contract of L{IKernelRoutes}, fulfilled by the kernel.
"""

from __future__ import annotations

from nanotun.routing.netlink import CachedRoutes, NetlinkRoutes
from nanotun.routing.values import Earlier, Interface, Mark, Others
from tests.contracts.routes import DEVICE, ROUTES, RULES, KernelRoutesContract
from tests.e2e.case import LabCase
from tests.e2e.lab.host import GATEWAY4, GATEWAY6, HostLab


class NetlinkRoutesTests(KernelRoutesContract, LabCase):
    """Tests for L{NetlinkRoutes}, in a namespace with a device."""

    def setUp(self) -> None:
        """Enter the namespace."""
        super().setUp()
        self.host = HostLab()
        self.addCleanup(self.host.remove)
        self.host.host.ip(
            f"tuntap add {DEVICE} mode tun",
            f"link set {DEVICE} up",
            f"addr add 198.18.0.2/30 dev {DEVICE}",
            f"addr add fdfe:dcba:9876::2/126 dev {DEVICE} nodad",
        )
        inside = self.host.host.entered()
        inside.__enter__()
        self.addCleanup(inside.__exit__, None, None, None)
        self.kernel = NetlinkRoutes()
        self.addCleanup(self.kernel.close)

    def test_whatIsThere(self) -> None:
        """Interfaces have their networks, and uplinks their gateways."""
        self.host.host.ip("addr add 192.0.2.7 peer 192.0.2.8 dev up0")
        found = {each.name: each for each in self.kernel.interfaces(("9.9.9.9", "2a00::1"))}
        self.assertEqual(
            found,
            {
                "up0": Interface(
                    "up0",
                    ("192.0.2.8/32", "192.168.77.0/24", "2a77::/64"),
                    (GATEWAY4, GATEWAY6),
                ),
                DEVICE: Interface(DEVICE, ("198.18.0.0/30", "fdfe:dcba:9876::/126")),
            },
        )

    def test_leading(self) -> None:
        """Default routes, their halves and the way of marked packets lead to uplinks."""
        self.assertEqual(self.kernel.uplinks(), ("up0",))
        for name, route in (("half", "128.0.0.0/1"), ("whole", "default"), ("other", "10.0.0.0/8")):
            self.host.host.ip(
                f"link add {name} type bridge",
                f"link set {name} up",
                f"route add {route} dev {name} metric 4000",
            )
        self.host.host.ip(
            "link add marked type bridge",
            "link set marked up",
            "route add default dev marked table 99",
            "rule add pref 90 fwmark 0x6e74 lookup 99",
        )
        self.assertEqual(self.kernel.uplinks(), ("half", "marked", "up0", "whole"))

    def test_leadingElsewhere(self) -> None:
        """
        So do default routes in other programs' tables, all next hops of one, and 2000::/3, but
        not those in our own.
        """
        for name in ("second", "hop0", "hop1", "all6", "ours"):
            self.host.host.ip(f"link add {name} type bridge", f"link set {name} up")
        self.host.host.ip(
            "route add default dev second table 100",
            "rule add from 192.0.2.1 lookup 100",
            "route add default metric 4000 nexthop dev hop0 nexthop dev hop1",
            "route add 2000::/3 dev all6 metric 4000",
            "route add default dev ours table 28276",
        )
        self.assertEqual(self.kernel.uplinks(), ("all6", "hop0", "hop1", "second", "up0"))

    def test_earlier(self) -> None:
        """What Tailscale's rules let past is found, and what cannot be told is named."""
        self.host.host.ip(
            "link add tailscale0 type veth peer name tailscale1",
            "link set tailscale1 up",
            "link set tailscale0 arp off up",
        )
        for version in ("-4", "-6"):
            self.host.host.ip(
                "rule add pref 5210 fwmark 0x80000/0xff0000 lookup main",
                "rule add pref 5270 lookup 52",
                "rule add pref 100 iif up0 lookup 52",
                "rule add pref 30000 lookup 52",
                "route add default dev tailscale0 table 52",
                version=version,
            )
        self.assertEqual(
            self.kernel.others(),
            Others(
                tuple(
                    each
                    for family in (4, 6)
                    for each in (
                        Earlier(family, 5210, 0x80000, 0xFF0000),
                        Earlier(family, 5270, device="tailscale0"),
                    )
                ),
                (100, 100),
            ),
        )

    def test_first(self) -> None:
        """
        The rules of a program that names no priority are put before ours by the kernel, and
        ours have to move before them; but never among the rules of others.
        """
        for rule in RULES:
            self.kernel.addRule(rule)
        for expected in (7200, 7000):
            for table in (51820, 51821):
                self.host.host.ip(f"rule add not fwmark 0xca6c lookup {table}")
            self.assertEqual(self.kernel.others().first, expected)
            for rule in RULES:
                moved = rule._replace(priority=rule.priority - 7400 + expected)
                self.kernel.addRule(moved)
        self.host.host.ip("rule add pref 7050 from 10.0.0.1 lookup 51820")
        self.assertEqual(self.kernel.others().first, 6900)

    def test_marks(self) -> None:
        """
        The mark of a VPN that takes everything else is found, in the family that it takes; not
        where its table leads nowhere, or where another condition is in the rule.
        """
        host = self.host.host
        host.ip("tuntap add wg9 mode tun", "link set wg9 up")
        for version in ("-4", "-6"):
            host.ip(
                "rule add not fwmark 0xca6c lookup 51820",
                "rule add pref 40000 not fwmark 0x80000/0xff0000 lookup 51821",
                "rule add pref 40001 not fwmark 0x5 lookup main",
                "rule add pref 40002 not fwmark 0x6 iif up0 lookup 51820",
                "rule add pref 40003 fwmark 0x7 lookup 51820",
                version=version,
            )
        host.ip(
            "route add default dev wg9 table 51820",
            "route add 0.0.0.0/1 dev wg9 table 51821",
        )
        host.ip("route add 2000::/3 dev wg9 table 51820", version="-6")
        found = self.kernel.others()
        self.assertEqual(found.marks, (Mark(4, 0xCA6C), Mark(4, 0x80000, 0xFF0000)))
        self.assertEqual((found.first, found.ahead), (7400, ()))
        for rule in RULES:
            self.kernel.addRule(rule)
        host.ip("rule add pref 5000 not fwmark 0xca6d lookup 51820")
        self.assertEqual(self.kernel.others().ahead, (5000,))

    def test_answers(self) -> None:
        """
        Beside a VPN, the links where the answers to its own packets arrive are known: by its
        mark, or by the route to its server.
        """
        host = self.host.host

        def answers(*marks: int) -> list[str]:
            found = self.kernel.interfaces(("9.9.9.9", "192.0.2.1"), marks)
            return [each.name for each in found if each.answers]

        self.assertEqual(answers(), [])
        host.ip("tuntap add wg9 mode tun", "link set wg9 up")
        host.ip("rule add not fwmark 0xca6c lookup 51820", "route add default dev wg9 table 51820")
        self.assertEqual(answers(0xCA6C), ["up0"])
        host.ip("rule del not fwmark 0xca6c lookup 51820")
        self.assertEqual(answers(), [])
        host.ip("route add 0.0.0.0/1 dev wg9", "route add 128.0.0.0/1 dev wg9")
        self.assertEqual(answers(), ["up0"])
        # The uplink may be a tunnel itself, such as PPPoE's.
        host.ip("tuntap add ppp9 mode tun", "link set ppp9 up", "route add 45.45.45.2 dev ppp9")
        self.assertEqual(sorted(answers()), ["ppp9", "up0"])
        gateways = {each.name: each.gateways for each in self.kernel.interfaces(("9.9.9.9",))}
        self.assertEqual((gateways["up0"], gateways["wg9"]), ((), ("0.0.0.0",)))

    def test_foreign(self) -> None:
        """Other people's rules and routes are neither seen nor deleted."""
        self.host.host.ip(
            "rule add pref 7499 nop",
            "rule add pref 7401 tun_id 5 goto 7499 protocol 110",
            "rule add pref 7402 oif up0 goto 7499 protocol 110",
            "route add default dev up0 table 28276",
        )
        self.assertEqual((self.kernel.rules(), self.kernel.routes()), ([], []))
        self.assertRaises(FileNotFoundError, self.kernel.deleteRule, RULES[0])
        self.assertRaises(FileExistsError, self.kernel.addRoute, ROUTES[0])
        self.assertRaises(ProcessLookupError, self.kernel.deleteRoute, ROUTES[0])


class CachedRoutesTests(NetlinkRoutesTests):
    """Tests for L{CachedRoutes} around the real routes."""

    def setUp(self) -> None:
        """Wrap the real routes."""
        super().setUp()
        self.kernel = CachedRoutes(self.kernel)
