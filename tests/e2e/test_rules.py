"""Where flows go: addresses and ports, with and without a path beside the tunnel."""

from __future__ import annotations

import errno
import socket
import time

from tests.e2e.case import TunnelCase, engines, enginesAndFamilies
from tests.e2e.lab.daemon import CONNECT_SECONDS
from tests.e2e.lab.packets import inject, syn
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import Microsocks
from tests.e2e.lab.topology import IPV4, TUN_NAME
from tests.e2e.lab.udp import mirror

SMB = 445


def peerOf(connection: socket.socket) -> str:
    """Send the server's view of the client's address to both sides."""
    host = str(connection.getpeername()[0]).removeprefix("::ffff:")
    connection.sendall(host.encode())
    return host


class WaysChecks(TunnelCase):
    """What goes past the proxy, and what happens if it cannot."""

    def seenOver(self, port: int) -> str:
        """The client address of a connection, as a server in the world sees it."""
        with self.connect(port) as sock:
            return sock.recv(100).decode()

    def seenByDatagram(self, port: int) -> str:
        """The client address of a datagram, as a server in the world sees it."""
        sock = self.datagrams(port)
        sock.send(b"?")
        return sock.recv(100).decode().split()[0]

    def test_excludedIPs(self) -> None:
        """Excluded addresses see this machine, by TCP and UDP, and the proxy sees nothing."""
        self.lab.openDirectPath()
        dante = self.dante()
        self.daemon(proxy=dante.url(), excludedIPs=[self.family.world])
        port = self.peer(peerOf).port
        self.assertEqual(self.seenOver(port), self.family.app)
        server = self.udpServer(mirror, self.family)
        self.assertEqual(self.seenByDatagram(server.port), self.family.app)
        self.assertEqual(dante.connects(), [])

    def test_lan(self) -> None:
        """A private network that can be reached directly goes past the proxy."""
        self.lab.openDirectPath()
        self.tunnel(lan="direct")
        self.assertEqual(self.seenOver(self.peer(peerOf).port), self.family.app)
        server = self.udpServer(mirror, self.family)
        self.assertEqual(self.seenByDatagram(server.port), self.family.app)

    def test_lanRoutedHere(self) -> None:
        """A private network that can only be reached through the tunnel goes through the proxy."""
        daemon = self.tunnel(lan="direct")
        self.assertEqual(self.seenOver(self.peer(peerOf).port), self.family.proxyOutside)
        server = self.udpServer(mirror, self.family)
        self.assertEqual(self.seenByDatagram(server.port), self.family.proxyOutside)
        self.assertEndsWell(daemon)

    def test_noWay(self) -> None:
        """A flow that may not use the proxy and cannot go directly is refused, with one line."""
        daemon = self.tunnel(excludedIPs=[self.family.world])
        port = self.peer(peerOf).port
        for _ in range(5):
            error, seconds = self.connectError(port)
            self.assertIn(error, (errno.EHOSTUNREACH, errno.EACCES))
            self.assertLess(seconds, CONNECT_SECONDS / 2)
        app = self.datagrams(port)
        app.send(b"anybody?")
        with self.assertRaises(OSError) as raised:
            app.recv(100)
        self.assertIn(raised.exception.errno, (errno.EHOSTUNREACH, errno.EACCES))
        line = f"{self.family.world}/{32 if self.family is IPV4 else 128} is one of excludedIPs"
        # Once in each of the logs, standard output and the file.
        self.assertEqual(daemon.log().count(line), 2)
        self.assertIn("autoDefaultRoute", daemon.log())

    def test_lanOnlyPorts(self) -> None:
        """File sharing on a local network never reaches the proxy."""
        self.lab.openDirectPath()
        dante = self.dante()
        self.daemon(proxy=dante.url())
        self.peer(peerOf, port=SMB)
        self.assertEqual(self.seenOver(SMB), self.family.app)
        self.udpServer(mirror, self.family, port=SMB)
        self.assertEqual(self.seenByDatagram(SMB), self.family.app)
        self.assertEqual(dante.connects(), [])

    def test_lanOnlyPortsWithoutWay(self) -> None:
        """File sharing on a local network without a direct way is refused, not proxied."""
        dante = self.dante()
        self.daemon(proxy=dante.url())
        self.peer(peerOf, port=SMB)
        self.assertIn(self.connectError(SMB)[0], (errno.EHOSTUNREACH, errno.EACCES))
        self.assertEqual(dante.connects(), [])

    def test_proxyRoutedHere(self) -> None:
        """If the route to the proxy leads into the tunnel, no flow causes others."""
        url = self.dante().url(self.family)
        daemon = self.daemon(proxy=url, logLevel="debug")
        self.lab.app.ip(f"route add {self.family.proxy} dev {TUN_NAME}")
        self.connectError(self.peer(peerOf).port)
        log = daemon.log()
        self.assertIn("The route to the proxy socks5://", log)
        self.assertLessEqual(len({x for x in log.splitlines() if "(rule loop)" in x}), 2)
        self.assertIn("autoDefaultRoute", log)


class OneOfSeveralChecks(TunnelCase):
    """C{direct://} behind a proxy that is down."""

    def test_noLoop(self) -> None:
        """If the direct route leads into the tunnel, no flow causes others."""
        nobody = f"socks5://{IPV4.proxy}:9"
        daemon = self.daemon(proxy=[nobody, "direct://"], logLevel="debug")
        port = self.peer(peerOf).port
        self.assertEqual(self.connectError(port)[0], errno.ENETUNREACH)
        lines = {x for x in daemon.log().splitlines() if " TCP flow " in x and " ended" not in x}
        self.assertEqual(len(lines), 1, daemon.log())
        self.lab.openDirectPath()
        time.sleep(3.1)  # The daemon's knowledge about routes may be this old.
        with self.connect(port) as sock:
            self.assertEqual(sock.recv(100).decode(), IPV4.app)


class ForwardedChecks(TunnelCase):
    """Packets of other machines."""

    # Not the proxy, whose own connections go past it.
    STRANGER = "10.77.1.9"

    def comes(self, destination: tuple[str, int], port: int) -> None:
        """A stranger's connect arrives on the device."""
        inject(self.lab.app, TUN_NAME, syn((self.STRANGER, port), destination))

    def test_notDialled(self) -> None:
        """
        They reach neither the loopback, nor an address of this machine, nor the cloud's
        metadata; they do reach other destinations.
        """
        self.lab.openDirectPath()
        daemon = self.tunnel(logLevel="debug")
        own = self.peer(peerOf, self.lab.app)
        world = self.peer(peerOf)
        self.lab.app.ip("addr add 169.254.169.254/32 dev lo")
        hosts = ("127.0.0.1", "169.254.169.254", IPV4.app, IPV4.kernel, "169.254.7.7")
        for number, host in enumerate(hosts):
            self.comes((host, own.port), 30000 + number)
        self.comes((IPV4.world, world.port), 31000)
        waitUntil(lambda: "31000" in daemon.log(), PATIENCE, "all of them were judged")
        self.assertEqual(world.result(), IPV4.proxyOutside)
        self.assertTrue(own.results.empty())
        lines = {line for line in daemon.log().splitlines() if ": reject (rule " in line}
        # The stack itself has dropped the packets for the loopback.
        self.assertEqual(len(lines), len(hosts) - 1, daemon.log())


class LocalProxyChecks(TunnelCase):
    """A proxy on the machine whose traffic all goes into the tunnel."""

    def test_noLoop(self) -> None:
        """Its own connections go direct: each flow of an app becomes two, and never more."""
        self.lab.openDirectPath()
        proxy = Microsocks(self.lab.app, self.directory)
        self.addCleanup(proxy.stop)
        url = f"socks5://127.0.0.1:{proxy.port}"
        daemon = self.daemon(proxy=url, logLevel="debug")
        port = self.peer(peerOf).port
        for _ in range(20):
            with self.connect(port) as sock:
                self.assertEqual(sock.recv(100).decode(), IPV4.app)
        lines = {x for x in daemon.log().splitlines() if " TCP flow " in x and " ended" not in x}
        self.assertEqual(len([x for x in lines if "(rule local-proxy)" in x]), 20, daemon.log())
        self.assertEqual(len([x for x in lines if "(rule default)" in x]), 20)
        self.assertEqual(len(lines), 40)

    def test_noWay(self) -> None:
        """
        If they can only go into the tunnel, they are refused, with a line that names the
        proxy.
        """
        proxy = Microsocks(self.lab.app, self.directory)
        self.addCleanup(proxy.stop)
        url = f"socks5://127.0.0.1:{proxy.port}"
        daemon = self.daemon(proxy=url, logLevel="debug")
        self.connectError(self.peer(peerOf).port)
        self.assertIn("microsocks is the proxy on this machine", daemon.log())
        lines = {x for x in daemon.log().splitlines() if " TCP flow " in x}
        self.assertEqual(len([x for x in lines if "(rule no-way)" in x]), 1, daemon.log())


class DnsOrderChecks(TunnelCase):
    """The DNS override among the rules."""

    def test_beforeReserved(self) -> None:
        """A query to a server on the local network is answered by the DNS relay."""
        self.lab.openDirectPath()
        self.nameServer(IPV4.world)
        self.tunnel(lan="direct", dnsOverride=True, dns=[IPV4.world])
        done = self.lab.app.run(
            ["kdig", "+short", "+timeout=30", "@10.9.9.9", "host.lab", "A"], check=False
        )
        self.assertEqual(done.stdout, "10.1.2.3\n")


enginesAndFamilies(globals(), WaysChecks)
engines(globals(), ForwardedChecks)
engines(globals(), DnsOrderChecks)
engines(globals(), LocalProxyChecks)
engines(globals(), OneOfSeveralChecks)
# Otherwise trial would run the base classes, too.
del WaysChecks, ForwardedChecks, DnsOrderChecks, LocalProxyChecks, OneOfSeveralChecks
