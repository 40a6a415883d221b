"""
What the firewall's rules do to traffic, with each of the tools: nft and the two kinds of
iptables.  tcpdump on the uplink is the witness.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Sequence

from twisted.trial.unittest import SkipTest

from tests.e2e.firewall_case import (
    UPLINK,
    ByIptablesNft,
    ByLegacy,
    ByNft,
    FirewallLabCase,
    controlGroup,
    inGroup,
)
from tests.e2e.lab import toydns, udp
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.nameserver import ask, kdig
from tests.e2e.lab.process import PATIENCE, LabError, run
from tests.e2e.lab.servers import Peer
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6, MARK, TUN_NAME, Family

DNS = 53

#: DNS servers that do not exist: in the world, and in the app's own network.
ASKED = ("203.0.113.53", IPV4.proxy, "2001:db8::53", IPV6.proxy)

TRANSPORTS = (("+notcp", "UDP"), ("+tcp", "TCP"))


def dotted(host: str, port: int = DNS) -> str:
    """An address in tcpdump's form."""
    return f"{host}.{port}"


class DnsChecks(FirewallLabCase):
    """Where queries are sent."""

    def relay(self) -> None:
        """Start a daemon whose DNS relay asks the world's server, and set up the firewall."""
        self.server = self.nameServer(IPV4.world, IPV6.world)
        self.daemon(proxy=f"socks5://{IPV4.proxy}:9", dns=IPV4.world, dnsCache=False)
        self.change = self.protect()

    def test_redirected(self) -> None:
        """
        Queries to any server, by UDP and TCP, IPv4 and IPv6, are answered by the relay under
        that server's address; only the relay's own queries leave by the uplink.
        """
        self.relay()
        witness = self.witness("port", "53")
        for host in ASKED:
            for option, transport in TRANSPORTS:
                got = ask(self.lab.app, host, option, "host.lab", "A")
                self.assertEqual((got.data, got.server), (["10.1.2.3"], f"{host}@53({transport})"))
        self.assertEqual(set(witness.destinations()), {dotted(IPV4.world)})
        self.assertTrue(self.holds(self.change))
        self.unprotect(self.change)
        self.assertEqual(kdig(self.lab.app, ASKED[1], "host.lab", wait=1), [])
        self.assertIn(dotted(ASKED[1]), witness.destinations())

    def test_boundToTheUplink(self) -> None:
        """A query on a socket that is bound to the uplink does not leave; UDP sees EPERM."""
        self.relay()
        witness = self.witness("port", "53")
        device = UPLINK.encode()
        for host in ASKED:
            family = udp.familyOf(host)
            with self.lab.app.makeSocket(family, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
                error = self.assertRaises(
                    OSError, sock.sendto, toydns.query("host.lab", 7), (host, DNS)
                )
                self.assertEqual(error.errno, errno.EPERM)
            with self.lab.app.makeSocket(family) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
                sock.settimeout(0.3)
                self.assertRaises(OSError, sock.connect, (host, DNS))
        self.assertEqual(witness.destinations(), {})

    def test_linkLocal(self) -> None:
        """A server with a link-local address is not asked, which UDP sees at once."""
        self.relay()
        witness = self.witness("port", "53")
        index = int(self.lab.app.run(["cat", f"/sys/class/net/{UPLINK}/ifindex"]).stdout)
        for device in ("", UPLINK):
            with self.lab.app.makeSocket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
                where = ("fe80::1", DNS, 0, index)
                error = self.assertRaises(OSError, sock.sendto, b"query", where)
                self.assertEqual(error.errno, errno.EPERM)
        self.assertEqual(witness.destinations(), {})

    def test_marked(self) -> None:
        """Marked queries go to their destination, as if there were no firewall."""
        self.relay()
        witness = self.witness("port", "53")
        for family in FAMILIES:
            with self.lab.app.makeSocket(family.af, socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
                sock.settimeout(PATIENCE)
                sock.sendto(toydns.query("host.lab", 7), (family.world, DNS))
                self.assertEqual(sock.recvfrom(4096)[1][:2], (family.world, DNS))
            with self.lab.app.connect((family.world, DNS), mark=MARK) as connection:
                connection.sendall(toydns.framed(toydns.query("host.lab", 7)))
                self.assertTrue(toydns.readFramed(connection))
        self.assertEqual(
            {asker for asker, _ in self.server.queries()}, {each.app for each in FAMILIES}
        )
        gone = witness.destinations()
        self.assertEqual(set(gone), {dotted(each.world) for each in FAMILIES})

    def test_ownServer(self) -> None:
        """A DNS server on this machine, on the loopback or another address, is asked itself."""
        self.relay()
        for host in ("127.0.0.53", IPV4.app, "::1", IPV6.app):
            server = udp.UDPServer(self.lab.app, host, toydns.honest, DNS)
            self.addCleanup(server.stop)
            got = ask(self.lab.app, host, "host.lab", "A")
            self.assertEqual(got.data, [toydns.RIGHT], host)
            server.stop()

    def test_guest(self) -> None:
        """
        The queries of a machine behind this one to any server are answered, too; queries from
        outside to the gateway are not.
        """
        self.relay()
        guest = self.guest()
        witness = self.witness("port", "53")
        for host in (ASKED[0], ASKED[2]):
            for option, transport in TRANSPORTS:
                got = ask(guest, host, option, "host.lab", "A")
                self.assertEqual((got.data, got.server), (["10.1.2.3"], f"{host}@53({transport})"))
        self.assertEqual(set(witness.destinations()), {dotted(IPV4.world)})
        self.lab.proxy.ip("route add 198.18.0.0/30 via 10.77.1.2")
        self.lab.proxy.ip("route add fdfe:dcba:9876::/48 via fd77:1::2", version="-6")
        for namespace in (guest, self.lab.proxy):
            for family in FAMILIES:
                for option, _ in TRANSPORTS:
                    answers = kdig(namespace, family.gateway, option, "host.lab", wait=1)
                    self.assertEqual(answers, [], f"{namespace.name} {family.name} {option}")


class WayChecks(FirewallLabCase):
    """Which path connections take."""

    def through(self, **settings: str) -> Daemon:
        """Start a daemon with a proxy, and set up the firewall."""
        daemon = self.tunnel()
        self.change = self.protect(**settings)
        return daemon

    def test_serverHere(self) -> None:
        """
        A server on this machine answers clients from the uplink, TCP and UDP, IPv4 and IPv6,
        while this machine's own traffic goes through the tunnel.
        """
        web = self.webServer()
        peer = self.peer(lambda connection: connection.sendall(b"hello"), self.lab.app)
        self.through()
        for family in FAMILIES:
            server = udp.UDPServer(self.lab.app, family.app, udp.echo)
            self.addCleanup(server.stop)

            def reach(family: Family = family, server: udp.UDPServer = server) -> None:
                with self.lab.world.connect((family.app, peer.port), 2) as connection:
                    self.assertEqual(connection.recv(9), b"hello")
                with self.lab.world.makeSocket(family.af, socket.SOCK_DGRAM) as sock:
                    sock.settimeout(2)
                    sock.connect((family.app, server.port))
                    sock.send(b"datagram")
                    self.assertEqual(sock.recv(99), b"datagram")

            reach()
            self.assertEqual(self.peerOf(family, web.port), family.proxyOutside)
            if family is IPV6:
                self.unprotect(self.change)
                self.assertRaises(OSError, reach)

    def test_connectedBefore(self) -> None:
        """
        A client that was connected to a server here before the start stays connected, even if
        the server speaks first; an earlier connection from here does not continue past the
        tunnel.
        """
        speak = threading.Event()
        self.addCleanup(speak.set)

        def serve(connection: socket.socket) -> None:
            speak.wait(30)
            connection.sendall(b"still here")

        # The lab's ports for clients begin at 1024.
        server = Peer(self.lab.app, serve, 80, timeout=30)
        self.addCleanup(server.stop)
        world = self.peer(lambda connection: connection.recv(9))
        clients = [self.lab.world.connect((family.app, 80), 5) for family in FAMILIES]
        old = self.lab.app.connect((IPV4.world, world.port), 5)
        for sock in (*clients, old):
            self.addCleanup(sock.close)
        self.through()
        witness = self.witness("tcp", "port", str(world.port))
        speak.set()
        for client in clients:
            self.assertEqual(client.recv(99), b"still here")
        old.sendall(b"leak")
        self.assertRaises(OSError, old.recv, 1)
        self.assertEqual(witness.destinations(), {})

    def test_borrowedSource(self) -> None:
        """
        What another machine sends with this machine's address in the tunnel as its source does
        not enter the tunnel, unlike what it sends with an address of its own.
        """
        web = self.webServer()
        self.through()
        guest = self.guest()
        guest.ip(f"addr add {IPV4.kernel}/32 dev up0", f"addr add {IPV6.kernel}/128 dev up0 nodad")
        witness = Tcpdump(self.lab.app, self.directory, TUN_NAME, "tcp")
        self.addCleanup(witness.stop)
        for family, own in ((IPV4, "10.77.9.2"), (IPV6, "fd77:9::2")):
            url = family.url(web.port, "/peer")
            for source, seconds, seen in ((own, 10, family.proxyOutside), (family.kernel, 2, "")):
                argv = ["curl", "-s", "-m", f"{seconds}", "-g", "--interface", source, url]
                self.assertEqual(run(guest.argv(argv), check=False).stdout, seen)
            entered = witness.destinations()[dotted(family.world, web.port)]
            self.assertEqual({each.rpartition(".")[0] for each in entered}, {own})

    def test_group(self) -> None:
        """A process in an excluded control group goes past the tunnel, from the real address."""
        web = self.webServer()
        mirrors = {family: self.udpServer(udp.mirror, family) for family in FAMILIES}
        with controlGroup(f"nt-{os.getpid()}") as folder:
            if not folder:
                raise SkipTest("there are no control groups of version 2 that can be made")
            self.through(excludedProcesses=f"cgroup:/{os.path.basename(folder)}")
            for family in FAMILIES:
                self.assertEqual(self.peerOf(family, web.port), family.proxyOutside)
                self.assertEqual(self.peerOf(family, web.port, folder), family.app)
                port = mirrors[family].port
                self.assertEqual(self.sourceOf(family, port), family.proxyOutside)
                self.assertEqual(self.sourceOf(family, port, folder), family.app)

    def test_user(self) -> None:
        """A process of an excluded user goes past the tunnel, including its DNS."""
        web = self.webServer()
        server = self.nameServer(IPV4.world)
        self.through(excludedProcesses="uid:65534")
        asNobody = ["setpriv", "--reuid", "65534", "--clear-groups"]
        for family in FAMILIES:
            self.assertEqual(self.peerOf(family, web.port, prefix=asNobody), family.app)
        asking = [*asNobody, "kdig", "+time=20", "+retry=0", f"@{IPV4.world}", "host.lab"]
        self.assertIn("10.1.2.3", self.lab.app.run(asking).stdout)
        self.assertEqual({asker for asker, _ in server.queries()}, {IPV4.app})

    def peerOf(
        self, family: Family, port: int, folder: str = "", prefix: Sequence[str] = ()
    ) -> str:
        """The address of curl, perhaps in a group, as a web server in the world sees it."""
        curl = [*prefix, "curl", "-sS", "-m", "60", "-g", family.url(port, "/peer")]
        return self._output(curl, folder)

    def sourceOf(self, family: Family, port: int, folder: str = "") -> str:
        """The address of socat as a UDP server in the world sees it."""
        target = f"[{family.world}]" if family is IPV6 else family.world
        words = ["socat", "-t", "3", "-T", "3", "-", f"UDP{family.name[-1]}:{target}:{port}"]
        return self._output(["sh", "-c", f"echo who | {' '.join(words)}"], folder).split(" ")[0]

    def _output(self, argv: list[str], folder: str) -> str:
        argv = self.lab.app.argv(argv)
        try:
            return run(inGroup(folder, argv) if folder else argv).stdout
        except LabError as error:
            return str(error)


class NftDnsTests(ByNft, DnsChecks):
    """nft."""


class LegacyDnsTests(ByLegacy, DnsChecks):
    """The old iptables."""


class IptablesNftDnsTests(ByIptablesNft, DnsChecks):
    """The iptables that makes nft rules."""


class NftWayTests(ByNft, WayChecks):
    """nft."""


class LegacyWayTests(ByLegacy, WayChecks):
    """The old iptables."""


class IptablesNftWayTests(ByIptablesNft, WayChecks):
    """The iptables that makes nft rules."""


# Otherwise trial would run the base classes, too.
del DnsChecks, WayChecks, FirewallLabCase
