"""
The laboratory's datagram servers without the daemon: the foundation of the other tests of UDP
and DNS.
"""

from __future__ import annotations

import socket

from tests.e2e.case import LabCase
from tests.e2e.lab import badudp, nameserver, toydns, udp, udprelay
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE
from tests.e2e.lab.proxies import Microsocks
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6, Family


class Associated:
    """An association, asked for as by an app that speaks SOCKS5 itself."""

    def __init__(self, namespace: Namespace, port: int, family: Family) -> None:
        self.control = namespace.connect((family.proxy, port), 5)
        self.control.sendall(b"\x05\x01\x00")
        assert self.control.recv(2) == b"\x05\x00"
        nobody = udprelay.encodeAddress("::" if family is IPV6 else "0.0.0.0", 0)
        self.control.sendall(b"\x05\x03\x00" + nobody)
        reply = self.control.recv(100)
        self.code = reply[1]
        self.sock = namespace.makeSocket(family.af, socket.SOCK_DGRAM)
        self.sock.settimeout(PATIENCE)
        if self.code == 0:
            self.relay, _ = udprelay.decodeAddress(reply[3:])
            self.sock.connect(self.relay)

    def ask(self, peer: udp.Address, payload: bytes) -> tuple[udp.Address, bytes]:
        """Send to C{peer}; return who answered, and what."""
        self.sock.send(udprelay.wrap(peer, payload))
        return udprelay.decodeAddress(self.sock.recv(65536)[3:])

    def close(self) -> None:
        """Close the association."""
        self.control.close()
        self.sock.close()


class ProxyTests(LabCase):
    """The SOCKS5 servers and UDP."""

    def _associated(self, port: int, family: Family) -> Associated:
        made = Associated(self.lab.app, port, family)
        self.addCleanup(made.close)
        return made

    def test_relays(self) -> None:
        """Dante and our own server carry datagrams of all sizes that fit behind a header."""
        own = self.socksRelay()
        for port in (self.dante().port, own.port):
            for family in FAMILIES:
                server = self.udpServer(udp.echo, family)
                there = self._associated(port, family)
                for size in (0, 1, 1472, 1473, 8000, 65_000):
                    payload = bytes(size)
                    got = there.ask((family.world, server.port), payload)
                    self.assertEqual(got, ((family.world, server.port), payload))
                there.close()
        self.assertEqual(own.total, 2)

    def test_mapping(self) -> None:
        """Our own server has one outside address for two destinations, and admits a third party."""
        third = self.udpServer(udp.sink, IPV4)
        servers = [self.udpServer(udp.mirror, IPV4) for _ in range(2)]
        introducer = self.udpServer(udp.by(third), IPV4)
        there = self._associated(self.socksRelay().port, IPV4)
        seen = {there.ask((IPV4.world, server.port), b"x")[1] for server in servers}
        self.assertEqual(len(seen), 1)
        peer, _ = there.ask((IPV4.world, introducer.port), b"x")
        self.assertEqual(peer, (IPV4.world, third.port))

    def test_withoutUDP(self) -> None:
        """Microsocks, and our own server in its refusing form, answer with reply 7."""
        microsocks = Microsocks(self.lab.proxy, self.directory)
        self.addCleanup(microsocks.stop)
        refusing = self.socksRelay(badudp.Refuses())
        for proxy in (microsocks, refusing):
            self.assertEqual(self._associated(proxy.port, IPV4).code, 7)


class DNSTests(LabCase):
    """The DNS servers, over the direct path."""

    def test_unbound(self) -> None:
        """Unbound serves the zone, cut to the client's size over UDP and whole over TCP."""
        server = self.nameServer(IPV4.direct, IPV6.direct)
        self.lab.openDirectPath()
        for family in FAMILIES:
            address = nameserver.ask(self.lab.app, family.direct, "host.lab", "A")
            self.assertEqual((address.status, address.data), ("NOERROR", ["10.1.2.3"]))
            self.assertEqual(address.server, f"{family.direct}@53(UDP)")
            self.assertEqual(address.records[0].ttl, nameserver.TTL)
            cut = nameserver.ask(self.lab.app, family.direct, "+ignore", "big.lab", "TXT")
            self.assertIn("tc", cut.flags)
            huge = nameserver.ask(self.lab.app, family.direct, "+tcp", "huge.lab", "TXT")
            self.assertEqual(len(huge.records), nameserver.HUGE_RECORDS)
            self.assertGreater(huge.size, 60_000)
            absent = nameserver.ask(self.lab.app, family.direct, "absent.lab", "A")
            self.assertEqual(absent.status, "NXDOMAIN")
            self.assertIn((family.app, "host.lab"), server.queries())

    def test_several(self) -> None:
        """kdig asks several questions on one connection, and all answers are parsed."""
        self.nameServer(IPV4.direct)
        self.lab.openDirectPath()
        names = ("host.lab", "A", "host.lab", "AAAA", "x.any.lab", "A")
        answers = nameserver.kdig(self.lab.app, IPV4.direct, "+tcp", "+keepopen", *names)
        self.assertEqual([one.data for one in answers], [["10.1.2.3"], ["fd00::123"], ["10.9.9.9"]])

    def test_dnsperf(self) -> None:
        """dnsperf's figures are parsed, and unbound on the direct path loses nothing."""
        self.nameServer(IPV4.direct, log=False)
        self.lab.openDirectPath()
        queries = nameserver.writeQueries(self.directory / "queries", 100)
        found = nameserver.dnsperf(self.lab.app, IPV4.direct, queries, 1, "-Q", "1000")
        self.assertGreater(found.sent, 800)
        self.assertEqual(found.loss, 0)

    def test_toys(self) -> None:
        """Our own servers answer kdig, which checks the ID."""
        self.lab.openDirectPath()
        forger = toydns.Forger(100)
        for handler in (toydns.honest, forger, toydns.late(0.2)):
            server = self.udpServer(handler, IPV4, IPV4.direct)
            got = nameserver.ask(self.lab.app, IPV4.direct, "-p", str(server.port), "host.lab", "A")
            self.assertEqual(got.data, [toydns.RIGHT])
        self.assertEqual(forger.sent, 100)
