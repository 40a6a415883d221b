"""Tests of L{nanotun.policy.networktable}."""

from __future__ import annotations

import random
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from twisted.trial.unittest import SynchronousTestCase

from nanotun.config.networks import Network
from nanotun.policy.networktable import NetworkTable


class NetworkTableTests(SynchronousTestCase):
    """L{NetworkTable}."""

    def test_likeIpaddress(self) -> None:
        """Of 2,000 networks, it says the same as a look through all of them; in each family."""
        chance = random.Random(3)
        for bits, made in ((32, IPv4Network), (128, IPv6Network)):
            networks: list[Network] = []
            for _ in range(2000):
                prefix = chance.randint(bits // 4, bits)
                number = chance.getrandbits(bits) >> bits - prefix << bits - prefix
                networks.append(made((number, prefix)))
            table = NetworkTable.of(networks)
            edges = [
                int(edge) + step
                for network in chance.sample(networks, 150)
                for edge in (network.network_address, network.broadcast_address)
                for step in (-1, 0, 1)
            ]
            for number in edges + [chance.getrandbits(bits) for _ in range(100)]:
                if 0 <= number < 1 << bits:
                    expected = any(
                        int(each.network_address) <= number <= int(each.broadcast_address)
                        for each in networks
                    )
                    self.assertEqual(table.has(number, bits == 128), expected, number)

    def test_families(self) -> None:
        """The number of an IPv4 address is no address of the other family."""
        table = NetworkTable.of([ip_network("0.0.0.0/0")])
        self.assertTrue(table.has(7, False))
        self.assertFalse(table.has(7, True))
        self.assertFalse(NetworkTable([]).has(7, False))

    def test_range(self) -> None:
        """The range is named that an address is in; networks that touch are one."""
        table = NetworkTable.of(
            map(ip_network, ("192.0.2.0/25", "192.0.2.128/25", "203.0.113.7", "2001:db8::/127"))
        )
        self.assertEqual(len(table), 3)
        for host, expected in (
            ("192.0.2.200", "192.0.2.0 to 192.0.2.255"),
            ("203.0.113.7", "203.0.113.7"),
            ("2001:db8::1", "2001:db8:: to 2001:db8::1"),
            ("192.0.3.0", ""),
            ("0.0.0.1", ""),
        ):
            address = ip_address(host)
            self.assertEqual(table.rangeOf(int(address), address.version == 6), expected)
