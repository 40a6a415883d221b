"""
What goes to port 53 and is no query: updates, notifications, zone transfers, and programs that
speak something else there.  The firewall redirects queries to the relay; the rest goes where it
was sent, and tcpdump on the uplink says that it goes nowhere else.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from tests.e2e.case import engines
from tests.e2e.firewall_case import ByIptablesNft, ByLegacy, FirewallLabCase
from tests.e2e.lab import toydns, udp
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import PATIENCE
from tests.e2e.lab.servers import Peer
from tests.e2e.lab.topology import FAMILIES, IPV4, Family

DNS = 53

#: The port of the server that C{dns} names.
PUBLIC = 5300

UPDATE, NOTIFY = 0x28, 0x20

AXFR, IXFR = 252, 251

#: As long as a WireGuard handshake, and begins like one.
VPN = b"\1\0\0\0" + bytes(144)


def withOpcode(opcode: int, number: int = 7) -> bytes:
    """A message like a query, but for its opcode."""
    query = toydns.query("corp.lab", number)
    return query[:2] + bytes((opcode,)) + query[3:]


def transfer(kind: int) -> bytes:
    """The question for a zone."""
    return toydns.query("corp.lab", 8)[:-4] + struct.pack("!HH", kind, 1)


def answerTwice(connection: socket.socket) -> tuple[bytes, str]:
    """Send a message back twice, as the parts of a zone; tells it and the client's address."""
    message = toydns.readFramed(connection)
    connection.sendall(toydns.framed(message) * 2)
    return message, connection.getpeername()[0].removeprefix("::ffff:")


class OddCase(FirewallLabCase):
    """A server in the world, one in the local network, and the one that C{dns} names."""

    seconds = 120

    def setUp(self) -> None:
        """Start the servers, by UDP and TCP."""
        super().setUp()
        self.public = self.udpServer(toydns.honest, IPV4, port=PUBLIC)
        self.publicStreams = self.peer(answerTwice, port=PUBLIC)
        self.worldStreams = self.peer(answerTwice, port=DNS)
        self.localStreams = Peer(self.lab.proxy, answerTwice, DNS)
        self.addCleanup(self.localStreams.stop)
        self.world = [self.udpServer(udp.echo, family, port=DNS) for family in FAMILIES]
        self.local = [
            udp.UDPServer(self.lab.proxy, family.proxy, udp.echo, DNS) for family in FAMILIES
        ]
        for server in self.local:
            self.addCleanup(server.stop)

    def start(self, proxy: str = "", **settings: object) -> Daemon:
        """Start a daemon, and set up the firewall."""
        dns = f"{IPV4.world}:{PUBLIC}"
        url = proxy or self.dante().url()
        daemon = self.daemon(proxy=url, dns=dns, dnsCache=False, **settings)
        self.protect()
        return daemon

    def sent(self, host: str, payload: bytes, timeout: float = PATIENCE) -> bytes:
        """The answer to a datagram from a new socket."""
        with self.lab.app.makeSocket(udp.familyOf(host), socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            sock.connect((host, DNS))
            sock.send(payload)
            return sock.recv(4096)

    def assertPassedOn(self, family: Family, host: str, server: Peer, source: str) -> None:
        """Transfers and updates by TCP get to their server; queries before are the relay's."""
        for message in (transfer(AXFR), transfer(IXFR), withOpcode(UPDATE)):
            with self.lab.app.connect((host, DNS)) as connection:
                connection.sendall(toydns.framed(toydns.query("host.lab", 7)))
                self.assertEqual(toydns.readFramed(connection)[-4:], bytes((10, 1, 2, 3)))
                connection.sendall(toydns.framed(message))
                for _ in range(2):
                    self.assertEqual(toydns.readFramed(connection), message)
                self.assertEqual(connection.recv(1), b"")
            self.assertEqual(server.results.get(timeout=PATIENCE), (message, source), family.name)

    def test_streams(self) -> None:
        """
        A transfer or an update by TCP reaches the server that was asked, by the proxy, as the
        rules say of both servers here.
        """
        self.start()
        witness = self.witness("port", "53")
        for family in FAMILIES:
            self.assertPassedOn(family, family.world, self.worldStreams, family.proxyOutside)
            self.assertPassedOn(family, family.proxy, self.localStreams, family.proxyOutside)
        self.assertTrue(self.publicStreams.results.empty())
        self.assertEqual(witness.destinations(), {})

    def test_excludedProgram(self) -> None:
        """The rules know the program that asked: an excluded one goes past the proxy."""
        self.start(excludedProcesses=["kdig"])
        for family in FAMILIES:
            words = ["kdig", "+time=2", "+retry=0", f"@{family.world}", "corp.lab", "AXFR"]
            self.lab.app.run(words, check=False)
            message, source = self._heard(self.worldStreams)
            # Behind the header; what else kdig sends depends on its version.
            question = message[12:26]
            self.assertEqual((question, source), (b"\4corp\3lab\0\0\xfc\0\1", family.app))

    def _heard(self, server: Peer) -> tuple[bytes, str]:
        heard: Any = server.results.get(timeout=PATIENCE)
        message, source = heard
        return message, source

    def test_noWay(self) -> None:
        """If the proxy cannot be reached, the app's connection ends, and nothing goes elsewhere."""
        daemon = self.start(f"socks5://{IPV4.proxy}:9")
        witness = self.witness("port", "53")
        for family in FAMILIES:
            with self.lab.app.connect((family.world, DNS), 5) as connection:
                connection.sendall(toydns.framed(transfer(AXFR)))
                self.assertIn(self._end(connection), (b"", b"reset"))
        self.assertIn("does not get to its server", daemon.log())
        self.assertEqual(witness.destinations(), {})
        self.assertTrue(self.publicStreams.results.empty())

    def _end(self, connection: socket.socket) -> bytes:
        try:
            return connection.recv(1)
        except ConnectionResetError:
            return b"reset"


class NftChecks(OddCase):
    """nft tells queries from the rest."""

    def test_datagrams(self) -> None:
        """
        Updates, notifications and what is no DNS go where they were sent, by UDP: by the proxy
        in the world, past it in the local network.  Queries go to the relay.
        """
        self.start()
        witness = self.witness("port", "53")
        for family, world, local in zip(FAMILIES, self.world, self.local, strict=True):
            for payload in (withOpcode(UPDATE), withOpcode(NOTIFY), VPN, b"hello"):
                self.assertEqual(self.sent(family.world, payload), payload)
                self.assertEqual(self.sent(family.proxy, payload), payload)
            self.assertEqual({host for host, _ in world.sources()}, {family.proxyOutside})
            self.assertEqual({host for host, _ in local.sources()}, {family.app})
            self.assertEqual(self.public.heard, [])
        for family, world in zip(FAMILIES, self.world, strict=True):
            before = len(world.heard)
            answer = self.sent(family.world, toydns.query("host.lab", 7))
            self.assertEqual(answer[-4:], bytes((10, 1, 2, 3)))
            self.assertEqual(len(world.heard), before)
        self.assertEqual(len(self.public.heard), 2)
        self.assertEqual(set(witness.destinations()), {f"{each.proxy}.53" for each in FAMILIES})

    def test_afterQuery(self) -> None:
        """An update on a socket that has sent a query is refused, and goes nowhere else."""
        self.start()
        with self.lab.app.makeSocket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE)
            sock.connect((IPV4.world, DNS))
            sock.send(toydns.query("host.lab", 7))
            self.assertEqual(sock.recv(4096)[-4:], bytes((10, 1, 2, 3)))
            sock.send(withOpcode(UPDATE))
            self.assertEqual(sock.recv(4096)[3] & 15, 4)
        self.assertEqual((len(self.public.heard), self.world[0].heard), (1, []))


class IptablesChecks(OddCase):
    """iptables cannot look into datagrams."""

    def test_datagrams(self) -> None:
        """
        Updates and notifications are refused at once; what is no DNS is dropped, and the log
        says so.  Nothing is sent elsewhere.
        """
        daemon = self.start()
        witness = self.witness("port", "53")
        for family in FAMILIES:
            for host in (family.world, family.proxy):
                for opcode in (UPDATE, NOTIFY):
                    self.assertEqual(self.sent(host, withOpcode(opcode))[3] & 15, 4)
        self.assertRaises(TimeoutError, self.sent, IPV4.world, VPN[:8], 3)
        self.assertIn(f"to port 53 of {IPV4.world} that are no DNS queries", daemon.log())
        heard = [each.heard for each in (self.public, *self.world, *self.local)]
        self.assertEqual(heard, [[]] * 5)
        self.assertEqual(witness.destinations(), {})


engines(globals(), NftChecks)


class LegacyTests(ByLegacy, IptablesChecks):
    """The old iptables."""


class IptablesNftTests(ByIptablesNft, IptablesChecks):
    """The iptables that makes nft rules."""


# Otherwise trial would run the base classes, too.
del OddCase, NftChecks, IptablesChecks, FirewallLabCase
