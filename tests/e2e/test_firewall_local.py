"""
DNS that the firewall leaves alone, with each of its tools: between local networks, published
or cluster servers, excludedIPs.  tcpdump on the uplink says that nothing else gets out.
"""

from __future__ import annotations

import errno
import socket

from tests.e2e.firewall_case import UPLINK, ByIptablesNft, ByLegacy, ByNft, FirewallLabCase
from tests.e2e.lab import toydns, udp
from tests.e2e.lab.nameserver import ask
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.servers import Peer
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6

DNS = 53

TRANSPORTS = ("+notcp", "+tcp")

#: The server behind this machine, and a service address that leads there.
SERVERS = ("10.77.8.2", "fd77:8::2")
SERVICES = ("10.96.0.10", "fd96::10")

#: Servers that do not exist.
NOBODY = ("203.0.113.53", "2001:db8::53")


class LocalChecks(FirewallLabCase):
    """Servers behind this machine, whose answer is another than that of the relay."""

    seconds = 120

    def setUp(self) -> None:
        """Make a client and a server behind the app, each in a network of its own."""
        super().setUp()
        self.client = self.guest()
        server = self.guest("server", 8)
        self.servers = [udp.UDPServer(server, host, toydns.honest, DNS) for host in SERVERS]
        for each in self.servers:
            self.addCleanup(each.stop)
        self.addCleanup(Peer(server, toydns.lateOverTCP(0, "none"), DNS).stop)
        self.relayed = self.nameServer(IPV4.world, IPV6.world)

    def start(self, **settings: str) -> None:
        """Start a daemon, and set up the firewall."""
        self.daemon(proxy=f"socks5://{IPV4.proxy}:9", dns=IPV4.world, dnsCache=False, **settings)
        self.change = self.protect(**settings)

    def redirect(self, source: str, target: str) -> None:
        """Lead DNS from one address to another, as container and cluster programs do."""
        word = "6" if ":" in source else ""
        to = f"[{target}]" if word else target
        if self.firewall == "nft":
            family = f"ip{word}"
            rule = f"{family} daddr {source} meta l4proto {{ tcp, udp }} th dport 53"
            chains = "".join(
                f"chain {hook} {{\n type nat hook {hook} priority -100\n"
                f"{rule} dnat {family} to {target}\n}}\n"
                for hook in ("prerouting", "output")
            )
            self.lab.app.run(["nft", "-f", "-"], stdin=f"table inet other{word} {{\n{chains}}}\n")
            return
        name = f"ip{word}tables{self.firewall.removeprefix('iptables')}"
        for chain in ("PREROUTING", "OUTPUT"):
            for protocol in ("udp", "tcp"):
                words = f"-t nat -I {chain} -d {source} -p {protocol} --dport 53 -j DNAT".split()
                self.lab.app.run([name, *words, "--to-destination", f"{to}:53"])

    def assertServed(self, namespace: Namespace, host: str) -> None:
        """Queries of a machine to this server are answered by the server behind the app."""
        for transport in TRANSPORTS:
            got = ask(namespace, host, transport, "any.lab", "A")
            self.assertEqual((got.data, got.server[: len(host)]), ([toydns.RIGHT], host))

    def test_between(self) -> None:
        """
        A query from one local network to another arrives unchanged; to any other server it is
        answered by the relay, and nothing of it leaves.
        """
        self.start()
        witness = self.witness("port", "53")
        for host in SERVERS:
            self.assertServed(self.client, host)
        self.assertEqual(
            {source for each in self.servers for source, _ in each.sources()},
            {"10.77.9.2", "fd77:9::2"},
        )
        self.assertEqual(witness.destinations(), {})
        for host in (*NOBODY, IPV4.proxy, IPV6.proxy):
            for transport in TRANSPORTS:
                got = ask(self.client, host, transport, "host.lab", "A")
                self.assertEqual(got.data, ["10.1.2.3"], host)
        self.assertEqual(set(witness.destinations()), {f"{IPV4.world}.53"})
        self.assertTrue(self.holds(self.change))

    def test_ownQueries(self) -> None:
        """This machine's own queries to such a server go to the relay, or nowhere."""
        self.start()
        for host in SERVERS:
            self.assertEqual(ask(self.lab.app, host, "host.lab", "A").data, ["10.1.2.3"])
            with self.lab.app.makeSocket(udp.familyOf(host), socket.SOCK_DGRAM) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"server0")
                query = toydns.query("host.lab", 7)
                self.assertRaises(OSError, sock.sendto, query, (host, DNS))
        self.assertEqual([each.heard for each in self.servers], [[], []])

    def test_published(self) -> None:
        """
        A server published on this machine answers its neighbours; one behind a service address
        answers the guests and this machine itself, whose source is one that it can answer.
        """
        self.redirect(IPV4.app, SERVERS[0])
        self.start()
        self.redirect(IPV6.app, SERVERS[1])
        for service, server in zip(SERVICES, SERVERS, strict=True):
            self.redirect(service, server)
        witness = self.witness("port", "53", "and", "not", "src", "port", "53")
        for family in FAMILIES:
            self.assertServed(self.lab.proxy, family.app)
        for service in SERVICES:
            self.assertServed(self.client, service)
            self.assertServed(self.lab.app, service)
        self.assertEqual(self.relayed.queries(), [])
        self.assertEqual(witness.destinations(), {})
        self.assertTrue(self.holds(self.change))

    def test_excluded(self) -> None:
        """
        A server in excludedIPs is asked itself, by this machine and by guests, past the proxy;
        any other is not.
        """
        self.start(excludedIPs=f"{IPV4.world},{IPV6.proxy}")
        server = udp.UDPServer(self.lab.proxy, IPV6.proxy, toydns.honest, DNS)
        self.addCleanup(server.stop)
        witness = self.witness("port", "53")
        for namespace in (self.lab.app, self.client):
            for transport in TRANSPORTS:
                got = ask(namespace, IPV4.world, transport, "host.lab", "A")
                self.assertEqual(got.data, ["10.1.2.3"])
            self.assertEqual(ask(namespace, NOBODY[0], "a.any.lab", "A").data, ["10.9.9.9"])
        self.assertEqual(ask(self.lab.app, IPV6.proxy, "host.lab", "A").data, [toydns.RIGHT])
        gone = {f"{IPV4.world}.53", f"{IPV6.proxy}.53"}
        self.assertEqual(set(witness.destinations()), gone)
        with self.lab.app.makeSocket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, UPLINK.encode())
            query = toydns.query("host.lab", 7)
            error = self.assertRaises(OSError, sock.sendto, query, (NOBODY[0], DNS))
            self.assertEqual(error.errno, errno.EPERM)


class NftLocalTests(ByNft, LocalChecks):
    """nft."""


class LegacyLocalTests(ByLegacy, LocalChecks):
    """The old iptables."""


class IptablesNftLocalTests(ByIptablesNft, LocalChecks):
    """The iptables that makes nft rules."""


# Otherwise trial would run the base classes, too.
del LocalChecks, FirewallLabCase
