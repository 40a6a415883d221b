"""
Flows to fake addresses, with a witness on the uplink that nothing is looked up for them.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from twisted.names import dns

from tests.e2e.case import TunnelCase, engines
from tests.e2e.firewall_case import UPLINK
from tests.e2e.lab import nameserver, udp
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6
from tests.e2e.lab.udp import UDPServer
from tests.e2e.lab.udprelay import Manners, Relay
from tests.e2e.test_names import FAKES, NAME, hearSocks, world

OTHER = "other.world.example"

KINDS = {IPV4: "A", IPV6: "AAAA"}


def hearHttp(connection: socket.socket) -> bytes:
    """Act as an HTTP proxy that refuses; the request's first line is returned."""
    request = b""
    while b"\r\n\r\n" not in request:
        heard = connection.recv(4096)
        if not heard:
            return b""
        request += heard
    connection.sendall(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
    return request.partition(b"\r\n")[0]


class FakeNamesChecks(TunnelCase):
    """What leaves the machine for a fake address."""

    # Tens of thousands of queries take a while.
    seconds = 120

    def fakes(self, **settings: object) -> Daemon:
        """Start a daemon with fake addresses, whose servers are in the world."""
        state: Path = self.directory / "fakeip.json"
        settings.setdefault("dnsStateFile", str(state))
        return self.daemon(dns=[IPV4.world], dnsMode="fake-ip", **settings)

    def setUp(self) -> None:
        """There is a way out that does not lead to the proxy."""
        super().setUp()
        self.lab.openDirectPath()

    def witness(self) -> Tcpdump:
        """Record whatever leaves the app for another place than the proxy."""
        other = f"not host {IPV4.proxy} and not host {IPV6.proxy} and not arp and not icmp6"
        other += " and not ip6 multicast"
        witness = Tcpdump(self.lab.app, self.directory, UPLINK, other)
        self.addCleanup(witness.stop)
        return witness

    def lookUp(self, kind: str, name: str = NAME) -> list[str]:
        """Ask the gateway."""
        return nameserver.ask(self.lab.app, IPV4.gateway, name, kind).data

    def test_streams(self) -> None:
        """A C{socks5://} and an C{http://} proxy are asked for the name, and nothing else leaves
        the machine."""
        witness = self.witness()
        socks = b"\5\1\0\3" + bytes((len(NAME),)) + NAME.encode() + b"\x1f\x90"
        http = f"CONNECT {NAME}:8080 HTTP/1.1".encode()
        for scheme, hear, expected in (("socks5", hearSocks, socks), ("http", hearHttp, http)):
            proxy = self.peer(hear, self.lab.proxy)
            daemon = self.fakes(proxy=f"{scheme}://{IPV4.proxy}:{proxy.port}")
            for family in FAMILIES:
                self.assertEqual(self.lookUp(KINDS[family]), [FAKES[family]])
                with self.assertRaises(OSError):
                    self.lab.app.connect((FAKES[family], 8080), 10.0)
                self.assertEqual(proxy.request(), expected)
            self.assertEndsWell(daemon)
        self.assertEqual(witness.destinations(), {})

    def understanding(self) -> Relay:
        """A UDP relay that takes names, of which it knows two."""
        manners = Manners()
        manners.names = {NAME: IPV4.world, OTHER: IPV4.world}
        return self.socksRelay(manners)

    def nameServer4(self) -> UDPServer:
        """A DNS server in the world."""
        return self.udpServer(world, IPV4, IPV4.world, nameserver.PORT)

    def unconnected(self) -> socket.socket:
        """A socket of the app that sends wherever it likes."""
        sock = self.lab.app.makeSocket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.bind(("0.0.0.0", 0))
        sock.settimeout(PATIENCE)
        return sock

    def test_datagrams(self) -> None:
        """Datagrams carry the name, their replies come from the fake address of the app's
        family, whatever the host's is, and nothing else leaves the machine."""
        witness = self.witness()
        relay = self.understanding()
        self.nameServer4()
        self.fakes(proxy=f"socks5://{IPV4.proxy}:{relay.port}")
        for family in FAMILIES:
            self.assertEqual(self.lookUp(KINDS[family]), [FAKES[family]])
            for real in FAMILIES:
                relay.manners.names = {NAME: real.world}
                server = self.udpServer(udp.echo, real)
                # The socket is connected, so a reply from any other address would be dropped.
                app = self.datagrams(server.port, FAKES[family])
                for size in (0, 10, 5000):
                    self.assertEchoes(app, bytes(size))
                header = b"\0\0\0\3" + bytes((len(NAME),)) + NAME.encode()
                self.assertEqual(relay.headers[-1], header + server.port.to_bytes(2, "big"))
        self.assertEqual(witness.destinations(), {})

    def test_dante(self) -> None:
        """Dante looks up a name by itself, for TCP and for UDP."""
        witness = self.witness()
        dante = self.dante(hosts={NAME: [IPV4.world]})
        self.nameServer4()
        self.fakes(proxy=dante.url())
        self.assertEqual(self.lookUp("A"), [FAKES[IPV4]])
        server = self.udpServer(udp.echo, IPV4)
        self.assertEchoes(self.datagrams(server.port, FAKES[IPV4]))
        peer = self.peer(lambda connection: connection.sendall(b"hello"))
        with self.lab.app.connect((FAKES[IPV4], peer.port), 10.0) as sock:
            self.assertEqual(sock.recv(10), b"hello")
        self.assertEqual(witness.destinations(), {})

    def test_outsidePorts(self) -> None:
        """Two names from one port leave from two outside ports, two ports of one name from
        one."""
        relay = self.understanding()
        self.nameServer4()
        self.fakes(proxy=f"socks5://{IPV4.proxy}:{relay.port}")
        (first,) = self.lookUp("A")
        (second,) = self.lookUp("A", OTHER)
        servers = [self.udpServer(udp.mirror, IPV4) for _ in range(2)]
        app = self.unconnected()
        seen = []
        for host, server in ((first, servers[0]), (second, servers[0]), (first, servers[1])):
            app.sendto(b"who am I?", (host, server.port))
            answer, source = app.recvfrom(100)
            self.assertEqual(source, (host, server.port))
            seen.append(answer)
        self.assertNotEqual(seen[0], seen[1])
        self.assertEqual(seen[0], seen[2])

    def test_withoutNames(self) -> None:
        """For a relay that takes no names they are looked up here, which one line says."""
        relay = self.socksRelay()
        server = self.nameServer4()
        daemon = self.fakes(proxy=f"socks5://{IPV4.proxy}:{relay.port}")
        self.assertEqual(self.lookUp("A"), [FAKES[IPV4]])
        echo = self.udpServer(udp.echo, IPV4)
        self.assertEchoes(self.datagrams(echo.port, FAKES[IPV4]))
        self.assertTrue(any(b"\5world" in query for query, _ in server.heard))
        told = daemon.log().count("takes no host names")
        self.assertGreater(told, 0)
        self.assertEchoes(self.datagrams(echo.port, FAKES[IPV4]))
        self.assertEqual(daemon.log().count("takes no host names"), told)

    def test_unknown(self) -> None:
        """A relay through which no server answers is told apart from one that takes no names."""
        relay = self.understanding()
        daemon = self.fakes(proxy=f"socks5://{IPV4.proxy}:{relay.port}")
        self.assertEqual(self.lookUp("A"), [FAKES[IPV4]])
        self.datagrams(9, FAKES[IPV4]).send(b"anybody?")
        sentence = f"cannot be told whether the UDP relay of the proxy socks5://{IPV4.proxy}"
        waitUntil(lambda: sentence in daemon.log(), PATIENCE, "the line about the relay")
        self.assertNotIn("takes no host names", daemon.log())

    def test_withoutNamesVia(self) -> None:
        """With dnsVia: proxy names for UDP that the relay takes none of are looked up through it,
        and if no server answers the app hears so: nothing goes past the proxy."""
        witness = self.witness()
        relay = self.socksRelay()
        daemon = self.fakes(proxy=f"socks5://{IPV4.proxy}:{relay.port}", dnsVia="proxy")
        self.assertEqual(self.lookUp("A"), [FAKES[IPV4]])
        app = self.datagrams(9, FAKES[IPV4])
        app.settimeout(20)
        app.send(b"anybody?")
        with self.assertRaises(ConnectionRefusedError):
            app.recv(1)
        self.assertIn("neither by name nor by address", daemon.log())
        self.assertIn(f"The name {NAME} cannot be looked up", daemon.log())
        self.assertEndsWell(daemon)
        server = self.nameServer4()
        self.fakes(proxy=f"socks5://{IPV4.proxy}:{relay.port}", dnsVia="proxy")
        echo = self.udpServer(udp.echo, IPV4)
        self.assertEchoes(self.datagrams(echo.port, FAKES[IPV4]))
        self.assertTrue(any(b"\5world" in query for query, _ in server.heard))
        self.assertEqual(witness.destinations(), {})

    def names(self, start: int, sockets: list[socket.socket]) -> int:
        """Ask for a new name by each socket; returns how many have got an address."""
        for number, sock in enumerate(sockets, start):
            message = dns.Message(number % 65536, recDes=1)
            message.addQuery(f"n{number}.example", dns.A)
            sock.sendto(message.toStr(), (IPV4.gateway, nameserver.PORT))
        return sum(sock.recv(512)[3] & 15 == 0 for sock in sockets)

    def test_user(self) -> None:
        """Nor does one that asks for each name from another socket stop other users."""
        self.nameServer4()
        daemon = self.fakes(proxy=f"socks5://{IPV4.proxy}:1080")
        answered = 0
        for start in range(0, 34_000, 100):
            sockets = [self.unconnected() for _ in range(100)]
            for sock in sockets:
                os.fchown(sock.fileno(), 1000, -1)
            answered += self.names(start, sockets)
            for sock in sockets:
                sock.close()
        # A quarter until many are in use, and then its share.
        self.assertEqual(answered, 2 * 16383)
        self.assertTrue(self.lookUp("A", "new.example"))
        self.assertIn("The programs of uid 1000 have asked for 16,383 names", daemon.log())

    def test_flood(self) -> None:
        """One program that asks for 70,000 names does not stop another, nor does it take an
        address that is in use."""
        relay = self.understanding()
        self.nameServer4()
        daemon = self.fakes(proxy=f"socks5://{IPV4.proxy}:{relay.port}")
        (before,) = self.lookUp("A")
        server = self.udpServer(udp.echo, IPV4)
        app = self.datagrams(server.port, before)
        self.assertEchoes(app)
        flood = self.datagrams(nameserver.PORT, IPV4.gateway)
        answered = sum(self.names(start, [flood] * 100) for start in range(0, 70_000, 100))
        # As many as one socket may have, and no others.
        self.assertEqual(answered, 4095)
        self.assertTrue(self.lookUp("A", "new.example"))
        self.assertEqual(self.lookUp("A"), [before])
        self.assertEchoes(app)
        self.assertIn("has asked for 4,095 names", daemon.log())


engines(globals(), FakeNamesChecks)
# Otherwise trial would run the base class, too.
del FakeNamesChecks
