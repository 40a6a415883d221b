"""Tests for L{nanotun.linux.connected}."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from functools import partial
from ipaddress import ip_interface, ip_network

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from nanotun.linux import connected, network
from nanotun.linux.connected import MAX_AGE, ConnectedNetworks
from nanotun.linux.network import Address, Link


def address(link: str, text: str, connected: bool = True) -> Address:
    """An address such as C{"203.0.113.5/24"}."""
    network = ip_network(text, strict=False)
    return Address(link, str(ip_interface(text).ip), network, network if connected else None)


class ConnectedTests(SynchronousTestCase):
    """Tests for L{ConnectedNetworks}."""

    def setUp(self) -> None:
        """Make one whose kernel the test makes up."""
        self.clock = Clock()
        self.found = [
            address("eth0", "203.0.113.5/24"),
            address("eth0", "2a77::2/64"),
            address("eth0", "fe80::2/64", connected=False),
            address("ppp0", "9.9.9.9/32", connected=False),
            address("nano0", "7.7.7.2/30"),
            address("dhcp0", "64.0.0.1/15"),
            address("dhcp1", "65.1.0.1/16"),
            address("dhcp2", "2a78::1/47"),
            address("dhcp3", "2a79::1/48"),
        ]
        self.readings = 0
        self.broken = False
        self.networks = ConnectedNetworks("nano0", self.clock.seconds, self.read)

    def read(self) -> Iterable[Address]:
        """What the kernel says."""
        self.readings += 1
        if self.broken:
            raise OSError(errno.EMFILE, "Too many open files")
        return self.found

    def test_holds(self) -> None:
        """
        Networks of interfaces hold their addresses; the device's do not count, nor do those
        that are larger than any access network.
        """
        for host in ("203.0.113.99", "2a77::99", "65.1.2.3", "2a79:0:0:9::1"):
            self.assertTrue(self.networks.holds(host), host)
        for host in ("203.0.114.1", "2a77:0:0:1::1", "9.9.9.9", "7.7.7.1", "64.0.0.2", "2a78::2"):
            self.assertFalse(self.networks.holds(host), host)

    def test_oneReading(self) -> None:
        """One reading serves for three seconds, and the next one finds what is new."""
        self.assertFalse(self.networks.holds("8.8.8.8"))
        self.found.append(address("eth1", "8.8.8.1/24"))
        self.clock.advance(MAX_AGE - 0.1)
        self.assertFalse(self.networks.holds("8.8.8.8"))
        self.assertEqual(self.readings, 1)
        self.clock.advance(0.1)
        self.assertTrue(self.networks.holds("8.8.8.8"))
        self.assertEqual(self.readings, 2)

    def test_error(self) -> None:
        """If the kernel does not answer, the last reading counts, and at first none."""
        self.broken = True
        self.assertFalse(self.networks.holds("203.0.113.99"))
        self.broken = False
        self.assertTrue(self.networks.holds("203.0.113.99"))
        self.broken = True
        self.clock.advance(MAX_AGE)
        self.assertTrue(self.networks.holds("203.0.113.99"))
        self.broken = False
        self.found.clear()
        self.assertFalse(self.networks.holds("203.0.113.99"))
        self.assertEqual(self.readings, 4)

    def test_down(self) -> None:
        """What is in the network of an interface that is down, or has no carrier, is routed
        elsewhere, perhaps to the Internet, so it is not connected."""
        real = network.links()
        (loopback,) = (link for link in real if link.name == "lo")
        for up, carrier, holds in ((True, True, True), (False, False, False), (True, False, False)):
            found = Link(loopback.number, "eth7", "", 1500, up, carrier)
            self.patch(connected, "links", partial(tuple, [found]))
            here = [each for each in connected.reached() if each.host == "127.0.0.1"]
            self.assertEqual([each.link for each in here], ["eth7" if holds else ""])
            self.found[:] = [address(here[0].link, "9.9.9.1/24")]
            networks = ConnectedNetworks("nano0", self.clock.seconds, self.read)
            self.assertEqual(networks.holds("9.9.9.9"), holds)

    def test_kernel(self) -> None:
        """The kernel's own answer is understood, and the loopback is no network of others."""
        self.assertFalse(ConnectedNetworks("nano0", self.clock.seconds).holds("127.0.0.1"))
