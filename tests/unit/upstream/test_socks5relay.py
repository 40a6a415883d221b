"""
Tests for L{nanotun.upstream.handshakes.socks5relay}.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from nanotun.errors import HandshakeError
from nanotun.flow import Endpoint
from nanotun.upstream.handshakes.socks5relay import relayEndpoint

#: The address that the proxy gives for its UDP relay, the address at which the proxy was
#: reached, and the address to send datagrams to.
TABLE = (
    # As the proxy gives it.
    ("198.51.100.7", "203.0.113.1", "198.51.100.7"),
    ("2001:db8::7", "2001:db8::1", "2001:db8::7"),
    ("2001:db8::7", "203.0.113.1", "2001:db8::7"),
    ("203.0.113.1", "203.0.113.1", "203.0.113.1"),
    # No address in particular.
    ("0.0.0.0", "203.0.113.1", "203.0.113.1"),
    ("0.0.0.0", "192.168.1.1", "192.168.1.1"),
    ("0.0.0.0", "127.0.0.1", "127.0.0.1"),
    ("::", "2001:db8::1", "2001:db8::1"),
    ("::", "203.0.113.1", "203.0.113.1"),
    ("0.0.0.0", "2001:db8::1", "2001:db8::1"),
    ("224.0.0.1", "203.0.113.1", "203.0.113.1"),
    ("ff02::1", "2001:db8::1", "2001:db8::1"),
    ("255.255.255.255", "203.0.113.1", "203.0.113.1"),
    # A name, and something that is not even a name.
    ("relay.example", "203.0.113.1", "203.0.113.1"),
    ("", "203.0.113.1", "203.0.113.1"),
    ("\xff\0", "2001:db8::1", "2001:db8::1"),
    # Loopback: the proxy's own, which is this machine's only if it runs here.
    ("127.0.0.1", "203.0.113.1", "203.0.113.1"),
    ("127.0.0.1", "192.168.1.1", "192.168.1.1"),
    ("127.0.0.2", "127.0.0.1", "127.0.0.2"),
    ("127.0.0.1", "::1", "127.0.0.1"),
    ("::1", "2001:db8::1", "2001:db8::1"),
    ("::1", "fd00::1", "fd00::1"),
    # A local network: behind NAT if the proxy has a public address.
    ("10.0.0.5", "203.0.113.1", "203.0.113.1"),
    ("192.168.1.5", "2001:db8::1", "2001:db8::1"),
    ("100.64.0.5", "203.0.113.1", "203.0.113.1"),
    ("169.254.0.5", "203.0.113.1", "203.0.113.1"),
    ("fd00::5", "2001:db8::1", "2001:db8::1"),
    # ... else it may be reachable: a proxy with two interfaces, a container.
    ("10.0.0.5", "192.168.1.1", "10.0.0.5"),
    ("172.17.0.2", "127.0.0.1", "172.17.0.2"),
    ("fd00::5", "10.0.0.1", "fd00::5"),
    ("fd00::5", "fe80::1", "fd00::5"),
    # An address that is useless without its interface.
    ("fe80::5", "fe80::1", "fe80::1"),
    ("fe80::5", "fd00::1", "fd00::1"),
    # IPv4 addresses in IPv6 form.
    ("::ffff:198.51.100.7", "203.0.113.1", "198.51.100.7"),
    ("::ffff:0.0.0.0", "203.0.113.1", "203.0.113.1"),
    ("::ffff:10.0.0.5", "::ffff:192.168.1.1", "10.0.0.5"),
)


class RelayTests(SynchronousTestCase):
    """
    Tests for L{relayEndpoint}.
    """

    def test_table(self) -> None:
        """
        The proxy's own address is used wherever the address that it gives cannot be
        meant.
        """
        for bound, proxy, expected in TABLE:
            found = relayEndpoint(Endpoint(bound, 4000), proxy, "socks5://h:1")
            self.assertEqual(found, Endpoint(expected, 4000), (bound, proxy))

    def test_noPort(self) -> None:
        """
        An answer without a port is an error.
        """
        error = self.assertRaises(
            HandshakeError, relayEndpoint, Endpoint("0.0.0.0", 0), "203.0.113.1", "socks5://h:1"
        )
        self.assertIn("socks5://h:1 opened a UDP relay without a port", str(error))
