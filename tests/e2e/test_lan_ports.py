"""
C{lanOnlyPorts} on a host whose world has public addresses: no such port leaves its own
networks.
"""

from __future__ import annotations

import errno
import os
import socket

from tests.e2e.case import engines
from tests.e2e.lab.daemon import Daemon, writeConfig
from tests.e2e.lab.host import HOST4, HOST6, NEIGHBOUR4, NEIGHBOUR6, UPLINK
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.udp import UDPServer, familyOf, mirror
from tests.e2e.routes_case import FAMILIES, RoutesCase
from tests.e2e.test_rules import SMB, peerOf

NAMES = 137

#: The default of lanOnlyPorts.
TCP_PORTS = (139, SMB)
UDP_PORTS = (NAMES, 138, SMB, 5353)

REFUSED = (errno.EHOSTUNREACH, errno.EACCES)


class LanPortsChecks(RoutesCase):
    """File sharing, mDNS and the like, with all routes through the tunnel."""

    stackMode = "gvisor"

    def start(self, proxy: Dante, **settings: object) -> Daemon:
        """A daemon of this engine."""
        return self.daemon(proxy, stackMode=self.stackMode, **settings)

    def sharing(self, space: Namespace, *hosts: str) -> None:
        """Serve file sharing there, over TCP on every address and over UDP on these."""
        self.peer(peerOf, space, port=SMB)
        for host in hosts:
            server = UDPServer(space, host, mirror, NAMES)
            self.addCleanup(server.stop)

    def datagramsTo(self, space: Namespace, host: str, port: int) -> socket.socket:
        """A socket that has sent something there."""
        sock = space.makeSocket(familyOf(host), socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.settimeout(PATIENCE)
        sock.connect((host, port))
        sock.send(b"?")
        return sock

    def seen(self, host: str) -> set[str]:
        """The host's address as file sharing at C{host} sees it, over TCP and UDP."""
        with self.lab.host.connect((host, SMB)) as sock:
            over = sock.recv(100).decode()
        datagrams = self.datagramsTo(self.lab.host, host, NAMES)
        return {over, datagrams.recv(100).decode().split()[0]}

    def assertRefused(self, space: Namespace) -> None:
        """All of these ports of the world are refused."""
        for family in FAMILIES:
            for port in TCP_PORTS:
                with self.assertRaises(OSError) as raised:
                    space.connect((family.world, port))
                self.assertIn(raised.exception.errno, REFUSED, (family.name, port))
            for port in UDP_PORTS:
                with self.assertRaises(OSError) as raised:
                    self.datagramsTo(space, family.world, port).recv(100)
                self.assertIn(raised.exception.errno, REFUSED, (family.name, port))

    def assertKeptIn(self, proxy: Dante, space: Namespace, **settings: object) -> Daemon:
        """Nothing of it reaches the proxy or the world."""
        self.sharing(self.lab.world, HOST4.world, HOST6.world)
        daemon = self.start(proxy, **settings)
        witness = self.witness()
        self.assertRefused(space)
        self.assertNoLeak(witness)
        self.assertEqual(proxy.connects(), [])
        return daemon

    def test_lanProxy(self) -> None:
        """With lan: proxy and killSwitch such a port of a public address reaches nobody."""
        # The daemon asks the proxy whether it works, and nothing else leaves.
        others = f"(tcp or udp) and not host {HOST4.proxy} and not host {HOST6.proxy}"
        everything = Tcpdump(self.lab.host, self.directory, UPLINK, others)
        self.addCleanup(everything.stop)
        daemon = self.assertKeptIn(self.socks(), self.lab.host, lan="proxy", killSwitch=True)
        self.assertEqual(everything.destinations(), {})
        log = daemon.log()
        for name, ports in (("TCP", TCP_PORTS), ("UDP", UDP_PORTS)):
            for port in ports:
                # Once in each of the logs, standard output and the file.
                line = f"Flows to {name} port {port} of Internet hosts are refused"
                self.assertEqual(log.count(line), 2, log)

    def test_lanDirect(self) -> None:
        """Nor with lan: direct."""
        self.assertKeptIn(self.socks(), self.lab.host, lan="direct")

    def test_machineBehind(self) -> None:
        """Nor from a machine for which this one forwards."""
        self.lab.host.run(
            ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        )
        self.lab.neighbour.ip(
            f"route replace default via {HOST4.app}", f"route replace default via {HOST6.app}"
        )
        self.assertKeptIn(self.socks(), self.lab.neighbour)

    def test_neighbour(self) -> None:
        """A neighbour is reached past the proxy with lan: proxy, at a public address too."""
        self.sharing(self.lab.neighbour, NEIGHBOUR4, NEIGHBOUR6)
        proxy = self.socks()
        self.start(proxy, lan="proxy")
        self.assertEqual(self.seen(NEIGHBOUR4), {HOST4.app})
        self.assertEqual(self.seen(NEIGHBOUR6), {HOST6.app})
        self.assertEqual(proxy.connects(), [])

    def test_excluded(self) -> None:
        """Excluded addresses and excluded processes go direct, whatever the port."""
        self.sharing(self.lab.world, HOST4.world, HOST6.world)
        proxy = self.socks()
        for settings in (
            {"excludedIPs": [HOST4.world, HOST6.world]},
            {"excludedProcesses": f"pid:{os.getpid()}"},
        ):
            daemon = self.start(proxy, **settings)
            witness = self.witness()
            for family in FAMILIES:
                self.assertEqual(self.seen(family.world), {family.app})
            # A thread reads the packets.
            for family in FAMILIES:
                waitUntil(lambda: witness.to(family.world), PATIENCE, "a packet to the world")  # noqa: B023
            self.assertEqual(proxy.connects(), [])
            daemon.stop()

    def test_turnedOff(self) -> None:
        """After a reload with lanOnlyPorts: [] such ports go through the proxy."""
        proxy = self.socks()
        daemon = self.assertKeptIn(proxy, self.lab.host)
        settings = self.settings(proxy, stackMode=self.stackMode, lanOnlyPorts=[])
        writeConfig(daemon.directory, settings)
        done = self.console("reload", "--run-dir", str(self.directory / "run"))
        self.assertEqual(done.stdout, "Changed: lanOnlyPorts.\n", done.stderr)
        witness = self.witness()
        for family in FAMILIES:
            self.assertEqual(self.seen(family.world), {family.proxyOutside})
        self.assertNoLeak(witness)


engines(globals(), LanPortsChecks)
# Otherwise trial would run the base class, too.
del LanPortsChecks
