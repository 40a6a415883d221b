"""Tests of L{nanotun.addresses}."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.addresses import (
    LOCAL_NETWORKS,
    isAddress,
    isFake,
    isLocalhost,
    isLoopback,
    isUnicast,
    mayDial,
)


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


class NetworkTests(SynchronousTestCase):
    """The networks that other modules derive from the one table."""

    def test_local(self) -> None:
        """Local networks are those of RFC 1918, RFC 6598, RFC 3927 and RFC 4193."""
        self.assertEqual(
            LOCAL_NETWORKS,
            {
                4: (
                    "10.0.0.0/8",
                    "100.64.0.0/10",
                    "169.254.0.0/16",
                    "172.16.0.0/12",
                    "192.168.0.0/16",
                ),
                6: ("fc00::/7",),
            },
        )


class LoopbackTests(SynchronousTestCase):
    """Tests for L{isLocalhost}, L{isLoopback} and L{isAddress}."""

    def test_names(self) -> None:
        """localhost and the names below it are this machine, in any case of letters."""
        for host in ("localhost", "LocalHost", "proxy.localhost"):
            self.assertTrue(isLocalhost(host), host)
            self.assertTrue(isLoopback(host), host)
        for host in ("notlocalhost", "localhost.example", ""):
            self.assertFalse(isLocalhost(host), host)
            self.assertFalse(isLoopback(host), host)

    def test_addresses(self) -> None:
        """Loopback addresses are this machine without being its name."""
        for host in ("127.0.0.1", "127.9.9.9", "::1"):
            self.assertTrue(isLoopback(host), host)
            self.assertFalse(isLocalhost(host), host)
        self.assertFalse(isLoopback("192.0.2.1"))
        self.assertTrue(isAddress("192.0.2.1"))
        self.assertFalse(isAddress("localhost"))
