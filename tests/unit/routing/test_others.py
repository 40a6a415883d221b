"""
Tests for L{nanotun.routing.others}; the kernel's part is in the end-to-end tests.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux.network import TUNNELS, KernelRoute, Link
from nanotun.routing.others import earlierOf, firstAmong, markOf, priorityOf, takesAll
from nanotun.routing.values import FIRST, FLOOR, Earlier, Mark
from tests.unit.routing.routing_cases import ruleMessageOf


class FirstTests(SynchronousTestCase):
    """Tests for L{firstAmong}: where our rules begin."""

    def test_usual(self) -> None:
        """Rules elsewhere, such as those of Tailscale and wg-quick, change nothing."""
        for taken in ((), (0, 32766, 32767), (5210, 5230, 5250, 5270), (7299, 7500, 30000)):
            self.assertEqual(firstAmong(taken), FIRST, taken)

    def test_placed(self) -> None:
        """Ours begin before rules that the kernel has placed before them, and with none of
        another program's among them, nor in the places that the kernel gives out next."""
        for taken, expected in (
            ((7399,), 7200),
            ((7398, 7399), 7200),
            ((7299, 7300), 7100),
            ((7398, 7399, 7198, 7199), 7000),
            ((7399, 6150), 7200),
        ):
            self.assertEqual(firstAmong(taken), expected, taken)

    def test_moving(self) -> None:
        """Whatever many programs do, ours find a place where nobody else's are, once."""
        taken: list[int] = []
        for _ in range(9):
            first = firstAmong(taken)
            self.assertFalse([each for each in taken if first - 100 <= each < first + 100])
            taken += [first - 1, first - 2]

    def test_floor(self) -> None:
        """Ours never go to where Tailscale's are."""
        self.assertEqual(firstAmong(range(5300, 7400, 50)), FLOOR)

    def test_priority(self) -> None:
        """Ours do not count, nor does the kernel's own."""
        self.assertEqual(priorityOf(ruleMessageOf()), 0)
        self.assertEqual(priorityOf(ruleMessageOf(FRA_PROTOCOL=3, FRA_PRIORITY=7399)), 7399)
        message = ruleMessageOf()
        self.assertEqual(priorityOf({**message, "attrs": [("FRA_PROTOCOL", 2)]}), 0)


class EarlierTests(SynchronousTestCase):
    """Tests for L{earlierOf}: what another program's rule lets past."""

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
        message = {**ruleMessageOf(**given), "action": 1, "tos": 0, "table": 0, **more}
        return earlierOf(
            message, FIRST, lambda family, table: ["tailscale0"] if table == 52 else []
        )

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


class MarkTests(SynchronousTestCase):
    """Tests for L{markOf}: the mark of a VPN's own packets."""

    def mark(self, **attributes: Any) -> Mark | None:
        """The mark in wg-quick's rule; table 51820 leads into a tunnel."""
        given: dict[str, Any] = {
            "FRA_PROTOCOL": 3,
            "FRA_PRIORITY": 32764,
            "FRA_TABLE": 51820,
            "FRA_FWMARK": 0xCA6C,
            "FRA_FWMASK": 0xFFFFFFFF,
            "FRA_SUPPRESS_PREFIXLEN": 0xFFFFFFFF,
            **attributes,
        }
        more = {name: given.pop(name) for name in [*given] if name.islower()}
        message = {**ruleMessageOf(**given), "action": 1, "tos": 0, "table": 0, "flags": 2, **more}
        return markOf(message, lambda family, table: table == 51820)

    def test_found(self) -> None:
        """Everything without the mark is sent into the tunnel; a mask is part of the mark."""
        self.assertEqual(self.mark(), Mark(4, 0xCA6C))
        self.assertEqual(self.mark(FRA_PRIORITY=7399, family=10), Mark(6, 0xCA6C))
        self.assertEqual(
            self.mark(FRA_FWMARK=0x80000, FRA_FWMASK=0xFF0000), Mark(4, 0x80000, 0xFF0000)
        )

    def test_none(self) -> None:
        """A rule of ours, with other conditions, of no mark, or whose table has no such route."""
        cases: tuple[dict[str, Any], ...] = (
            {"FRA_PROTOCOL": 110},
            {"FRA_TABLE": 254},
            {"FRA_FWMARK": 0},
            {"FRA_DST": "9.9.9.0", "dst_len": 24},
            {"FRA_IIFNAME": "up0"},
            {"FRA_UID_RANGE": "5:5"},
            {"FRA_SUPPRESS_PREFIXLEN": 0},
            {"src_len": 8},
            {"tos": 8},
            {"flags": 0},
            {"action": 2},
            {"action": 7},
        )
        for attributes in cases:
            self.assertIsNone(self.mark(**attributes), attributes)

    def test_devices(self) -> None:
        """
        A VPN's device takes all by a default route or half of one; by which of several uplinks a
        packet leaves, and with what mark, is the machine's own affair.
        """
        for kind in (*TUNNELS, ""):
            for network in ("0.0.0.0/0", "128.0.0.0/1", "::/0", "10.0.0.0/8"):
                links = Link(1, "eth0", "", 1500, True), Link(2, "t0", kind, 1500, True)
                route = KernelRoute(51820, ip_network(network), "t0")
                expected = kind in ("wireguard", "tun", "ovpn") and route.network.prefixlen < 8
                self.assertIs(takesAll((route,), links), expected, (kind, network))
                self.assertFalse(takesAll((route._replace(link="eth0"),), links))
