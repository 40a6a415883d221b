"""
Flows by name: what a proxy is asked for, and fake addresses on the wire.
"""

from __future__ import annotations

import errno
import signal
import socket
from pathlib import Path

from twisted.names import dns

from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab import nameserver, toydns, udp
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6
from tests.e2e.lab.udp import Address, UDPServer

NAME = "www.world.example"

FAKES = {IPV4: "198.19.0.1", IPV6: "fdfe:dcba:9876:1::1"}


def world(server: UDPServer, query: bytes, client: Address) -> None:
    """Answer with the world's address of the family that is asked for."""
    message = dns.Message()
    message.fromStr(query)
    kind = message.queries[0].type
    if kind == dns.A:
        server.sock.sendto(toydns.answer(query, IPV4.world), client)
        return
    message.answer = 1
    message.additional = []
    if kind == dns.AAAA:
        record = dns.Record_AAAA(IPV6.world, 300)
        message.answers = [dns.RRHeader(message.queries[0].name.name, kind, dns.IN, 300, record)]
    server.sock.sendto(message.toStr(), client)


def hearSocks(connection: socket.socket) -> bytes:
    """Act as a SOCKS5 server up to the request, which is returned and refused."""
    connection.recv(257)
    connection.sendall(b"\5\0")
    request = connection.recv(300)
    connection.sendall(b"\5\5\0\1\0\0\0\0\0\0")
    return request


class NamesChecks(TunnelCase):
    """Fake addresses, and the names of real ones."""

    def relay(self, **settings: object) -> Daemon:
        """Start a daemon that asks a server of ours in the world."""
        self.lab.openDirectPath()
        self.udpServer(world, IPV4, IPV4.world, nameserver.PORT)
        state: Path = self.directory / "fakeip.json"
        settings.setdefault("dnsStateFile", str(state))
        return self.daemon(dns=[IPV4.world], **settings)

    def lookUp(self, kind: str, name: str = NAME) -> list[str]:
        """Ask the gateway."""
        return nameserver.ask(self.lab.app, IPV4.gateway, name, kind).data

    def test_direct(self) -> None:
        """TCP and UDP to a fake address reach the address that its name is looked up as."""
        self.relay(dnsMode="fake-ip", proxy="direct://")
        kinds = {IPV4: "A", IPV6: "AAAA"}
        for family in FAMILIES:
            fake = FAKES[family]
            self.assertEqual(self.lookUp(kinds[family]), [fake])
            peer = self.peer(lambda connection: connection.sendall(b"hello"))
            with self.lab.app.connect((fake, peer.port), 10.0) as sock:
                self.assertEqual(sock.recv(10), b"hello")
            server = self.udpServer(udp.echo, family)
            app = self.datagrams(server.port, fake)
            # The socket is connected, so a reply from any other address would be dropped.
            for size in (10, 5000):
                self.assertEchoes(app, bytes(size))
            self.assertEchoes(self.datagrams(server.port, fake))
        # Nothing but the SOA record of a denial.
        self.assertEqual(self.lookUp("HTTPS"), [f"{NAME}. {NAME}. 1 3600 600 86400 10"])
        self.assertEqual(self.lookUp("PTR", "1.0.19.198.in-addr.arpa"), [f"{NAME}."])

    def test_dante4(self) -> None:
        """The same holds for a proxy that is sent addresses."""
        url = self.dante().url().replace("socks5://", "socks4://")
        self.relay(dnsMode="fake-ip", proxy=url)
        self.assertEqual(self.lookUp("A"), [FAKES[IPV4]])
        peer = self.peer(lambda connection: connection.sendall(b"hello"))
        with self.lab.app.connect((FAKES[IPV4], peer.port), 10.0) as sock:
            self.assertEqual(sock.recv(10), b"hello")

    def test_pastTheProxy(self) -> None:
        """For a port that never reaches the proxy a name is refused, and nobody is asked for it."""
        dante = self.dante()
        ports = "tcp:8445,udp:8445"
        daemon = self.relay(dnsMode="fake-ip", proxy=dante.url(), lanOnlyPorts=ports)
        self.assertEqual(self.lookUp("A"), [FAKES[IPV4]])
        self.assertEqual(self.lookUp("AAAA"), [FAKES[IPV6]])
        asked = Tcpdump(self.lab.app, self.directory, "any", "port", str(nameserver.PORT))
        self.addCleanup(asked.stop)
        for family in FAMILIES:
            with self.assertRaises(OSError) as raised:
                self.lab.app.connect((FAKES[family], 8445), 10.0)
            self.assertIn(raised.exception.errno, (errno.EHOSTUNREACH, errno.EACCES))
            app = self.datagrams(8445, FAKES[family])
            app.send(b"anybody?")
            with self.assertRaises(OSError) as raised:
                app.recv(100)
            self.assertIn(raised.exception.errno, (errno.EHOSTUNREACH, errno.EACCES))
        self.assertEqual(asked.destinations(), {})
        self.assertEqual(dante.connects(), [])
        self.assertIn("put local domains into fakeIpExclude", daemon.log())

    def test_byName(self) -> None:
        """A proxy that is sent names gets the name, for real addresses and for fake ones."""
        proxy = self.peer(hearSocks, self.lab.proxy)
        for mode, address in (("normal", IPV4.world), ("fake-ip", FAKES[IPV4])):
            start = self.relay if mode == "normal" else self.again
            daemon = start(dnsMode=mode, proxy=f"socks5h://{IPV4.proxy}:{proxy.port}")
            self.assertEqual(self.lookUp("A"), [address])
            with self.assertRaises(ConnectionRefusedError):
                self.lab.app.connect((address, 8080), 10.0)
            expected = b"\5\1\0\3" + bytes((len(NAME),)) + NAME.encode() + b"\x1f\x90"
            self.assertEqual(proxy.request(), expected)
            self.assertEndsWell(daemon)

    def again(self, **settings: object) -> Daemon:
        """Another daemon in the same laboratory."""
        state = str(self.directory / "fakeip.json")
        return self.daemon(dns=[IPV4.world], dnsStateFile=state, **settings)

    def test_restart(self) -> None:
        """
        An address from before a restart still leads to its name; an unassigned one is
        refused.
        """
        first = self.relay(dnsMode="fake-ip", proxy="direct://")
        self.assertEqual(self.lookUp("A"), [FAKES[IPV4]])
        self.assertEndsWell(first, signal.SIGTERM)
        second = self.again(dnsMode="fake-ip", proxy="direct://")
        peer = self.peer(lambda connection: connection.sendall(b"hello"))
        with self.lab.app.connect((FAKES[IPV4], peer.port), 10.0) as sock:
            self.assertEqual(sock.recv(10), b"hello")
        with self.assertRaises(ConnectionRefusedError):
            self.lab.app.connect(("198.19.7.7", peer.port), 10.0)
        app = self.datagrams(peer.port, "198.19.7.7")
        app.send(b"anybody?")
        with self.assertRaises(ConnectionRefusedError):
            app.recv(100)
        self.assertIn("198.19.7.7 stands for no name", second.log())

    def test_crash(self) -> None:
        """An address that was answered a moment before a crash leads to its name, never to that
        of the next answer."""
        proxy = self.peer(hearSocks, self.lab.proxy)
        url = f"socks5h://{IPV4.proxy}:{proxy.port}"
        first = self.relay(dnsMode="fake-ip", proxy=url)
        self.assertEqual(self.lookUp("A"), [FAKES[IPV4]])
        first.kill()
        self.again(dnsMode="fake-ip", proxy=url)
        self.assertNotIn(self.lookUp("A", "other.example"), ([], [FAKES[IPV4]]))
        with self.assertRaises(ConnectionRefusedError):
            self.lab.app.connect((FAKES[IPV4], 8080), 10.0)
        self.assertIn(NAME.encode(), proxy.request())


engines(globals(), NamesChecks)
# Otherwise trial would run the base class, too.
del NamesChecks
