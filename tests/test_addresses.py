"""Tests of L{nanotun.addresses}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import isUnicast


class UnicastTests(SynchronousTestCase):
    """L{isUnicast}."""

    def test_hosts(self) -> None:
        """What can be one host's address is, also what looks like multicast."""
        for host in (
            "192.0.2.1",
            "1.0.0.1",
            "223.255.255.255",
            "198.18.0.1",
            "198.18.0.2",
            "2001:db8::1",
            "::1",
            "ff::1",
            "f::",
            "fe80::1",
        ):
            self.assertTrue(isUnicast(host), host)

    def test_others(self) -> None:
        """Multicast, broadcast, reserved and unspecified addresses are nobody's."""
        for host in (
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.251",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "198.18.0.0",
            "198.18.0.3",
            "::",
            "ff02::fb",
            "ff0e:1::",
        ):
            self.assertFalse(isUnicast(host), host)
