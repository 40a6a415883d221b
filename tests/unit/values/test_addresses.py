"""Tests of L{nanotun.addresses}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import isFake, isUnicast, mayDial


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

    def test_fake(self) -> None:
        """Only the two networks of fake addresses are fake."""
        for host in ("198.19.0.1", "198.19.255.255", "fdfe:dcba:9876:1::1"):
            self.assertTrue(isFake(host), host)
        for host in ("198.18.0.1", "198.190.0.1", "fdfe:dcba:9876::1", "fdfe:dcba:9876:1a::1"):
            self.assertFalse(isFake(host), host)

    def test_mayDial(self) -> None:
        """What a name leads to may be anybody's but this machine's, its link's and ours."""
        for host in (
            "192.0.2.1",
            "10.0.0.1",
            "198.17.255.255",
            "198.20.0.0",
            "2001:db8::1",
            "fd00::1",
            "fdfe:dcba:9877::1",
            "64:ff9b::c000:201",
            "2002:c000:201::1",
            "::1:0:0:1",
        ):
            self.assertTrue(mayDial(host), host)
        for host in (
            "127.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "198.19.0.1",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:192.0.2.1",
            "fdfe:dcba:9876::1",
            "fdfe:dcba:9876:1::1",
            "198.18.0.2",
            "198.18.255.1",
            "fdfe:dcba:9876::2",
            "fdfe:dcba:9876:ffff::1",
            "::7f00:1",
            "::192.0.2.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::c612:2",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
        ):
            self.assertFalse(mayDial(host), host)
