"""
What docs/gateway.md promises to machines for which this one forwards.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable

from tests.e2e.case import GVisor, Simple
from tests.e2e.lab import curl, toydns
from tests.e2e.lab.host import DNS4, HOST4, HOST6, Witness
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, LabError
from tests.e2e.lab.servers import WebServer
from tests.e2e.lab.topology import TUN_NAME, Family
from tests.e2e.lab.udp import Address, UDPServer
from tests.e2e.routes_case import FAMILIES, RoutesCase

LAN = "lan0"
GUEST4, GUEST6 = "10.77.9.2", "fd77:9::2"
METADATA = "169.254.169.254"
ECHO_PORT = 7


class GatewayChecks(RoutesCase):
    """A machine behind the host, on a network of its own."""

    stackMode = ""
    seconds = 150

    def setUp(self) -> None:
        """Make the machine, and servers in the world."""
        super().setUp()
        host = self.lab.host
        self.guest = Namespace(f"{host.name.rpartition('-')[0]}-guest")
        self.addCleanup(self.guest.remove)
        host.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
        host.ip(
            f"link add {LAN} type veth peer name up0 netns {self.guest.name}",
            f"link set {LAN} up",
            f"addr add 10.77.9.1/24 dev {LAN}",
            f"addr add fd77:9::1/64 dev {LAN} nodad",
        )
        self.guest.ip(
            "link set up0 up",
            f"addr add {GUEST4}/24 dev up0",
            f"addr add {GUEST6}/64 dev up0 nodad",
            "route add default via 10.77.9.1",
            "route add default via fd77:9::1",
        )
        self.web = self.world()

    def seen(self, family: Family) -> str:
        """The guest's address as the world sees it; empty if the guest gets no answer."""
        return seenFrom(self.guest, self.web, family)

    def assertNothingOut(self, witness: Witness, families: Iterable[Family] = FAMILIES) -> None:
        """The guest cannot connect, and nothing of it leaves by the uplink."""
        for family in families:
            self.assertEqual(self.seen(family), "", family.name)
            with self.guest.makeSocket(family.af, socket.SOCK_DGRAM) as sock:
                try:
                    sock.sendto(b"x", (family.world, ECHO_PORT))
                except OSError:
                    continue
        self.assertEqual(witness.to(HOST4.world, HOST6.world), [])

    def test_behind(self) -> None:
        """Its TCP, UDP and DNS go through the tunnel; with killSwitch, also after kill -9."""
        names = UDPServer(self.lab.world, DNS4, toydns.honest, 53)
        self.addCleanup(names.stop)
        daemon = self.daemon(self.socks(), stackMode=self.stackMode, killSwitch=True)
        witness = self.witness()
        for family in FAMILIES:
            self.assertEqual(self.seen(family), family.proxyOutside)
            echo = UDPServer(self.lab.world, family.world, sendBack, ECHO_PORT)
            self.addCleanup(echo.stop)
            with self.guest.makeSocket(family.af, socket.SOCK_DGRAM) as sock:
                sock.settimeout(PATIENCE)
                sock.sendto(b"hello", (family.world, ECHO_PORT))
                data, sender = sock.recvfrom(100)
                self.assertEqual((data, sender[:2]), (b"hello", (family.world, ECHO_PORT)))
        for family in FAMILIES:
            # The answer is an ICMP error, so that nothing is waited for.
            ping = ["ping", "-n", "-c", "1", "-W", "30", family.world]
            began = time.monotonic()
            said = self.guest.run(ping, check=False).stdout
            self.assertRegex(said, "Packet filtered|Administratively prohibited")
            self.assertLess(time.monotonic() - began, 20)
        asked = self.guest.run(["kdig", "+short", "host.lab", "@1.1.1.1"]).stdout
        self.assertEqual(asked.strip(), toydns.RIGHT)
        for host in (METADATA, HOST4.gateway):
            self.assertRaises(OSError, self.guest.connect, (host, 80), 1)
        self.assertEqual(witness.to(HOST4.world, HOST6.world, "1.1.1.1"), [])
        # As a local network, with lan: direct.
        self.assertEqual({each.source for each in witness.to(METADATA)}, {GUEST4})
        daemon.kill()
        self.assertNothingOut(witness)
        self.assertEqual(self.recover()[0], 0)

    def test_excluded(self) -> None:
        """
        What excludedIPs has is dialled by the host, from the host's own address, but never the
        host's links.
        """
        excluded = [HOST4.world, HOST6.world]
        settings = {"stackMode": self.stackMode, "lan": "proxy"}
        self.daemon(self.socks(), excludedIPs=excluded, **settings)
        witness = self.witness()
        for family in FAMILIES:
            self.assertEqual(self.seen(family), family.app)
        began = time.monotonic()
        self.assertRaises(OSError, self.guest.connect, (METADATA, 80), 30)
        self.assertLess(time.monotonic() - began, 20)
        self.assertEqual(witness.to(METADATA), [])

    def test_byHand(self) -> None:
        """With rules for the LAN's interface alone, the host stays as it is; nothing leaks."""
        settings = {"stackMode": self.stackMode, "autoDefaultRoute": False}
        proxy = self.socks()
        daemon = self.daemon(proxy, **settings)
        for version in ("-4", "-6"):
            self.lab.host.ip(
                f"rule add iif {LAN} lookup 100 pref 100",
                f"rule add iif {LAN} prohibit pref 101",
                f"route add default dev {TUN_NAME} table 100",
                version=version,
            )
        for family in FAMILIES:
            self.assertEqual(self.seen(family), family.proxyOutside)
        self.assertDirect(self.web)
        witness = self.witness()
        daemon.kill()
        self.assertNothingOut(witness)
        daemon = self.daemon(proxy, **settings)
        self.assertNothingOut(witness)
        for version in ("-4", "-6"):
            self.lab.host.ip(f"route add default dev {TUN_NAME} table 100", version=version)
        for family in FAMILIES:
            self.assertEqual(self.seen(family), family.proxyOutside)


def sendBack(server: UDPServer, data: bytes, source: Address) -> None:
    """Answer a datagram with itself."""
    server.sock.sendto(data, source)


def seenFrom(space: Namespace, web: WebServer, family: Family) -> str:
    """The address of a namespace as the world sees it; empty if it gets no answer."""
    try:
        return curl.get(space, family.url(web.port, "/peer"))
    except LabError:
        return ""


class GatewayGVisorTests(GVisor, GatewayChecks):
    """L{GatewayChecks} with the C{gvisor} engine."""


class GatewaySimpleTests(Simple, GatewayChecks):
    """L{GatewayChecks} with the C{simple} engine."""


# Otherwise trial would run the base class, too.
del GatewayChecks
