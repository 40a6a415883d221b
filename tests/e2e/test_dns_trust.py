"""
The DNS relay under attack; and C{dnsOverride}.
"""

from __future__ import annotations

import contextlib
import random
import resource
import socket
import time

from tests.e2e.case import engines
from tests.e2e.lab import curl, nameserver, toydns, udp
from tests.e2e.lab.nameserver import ask, kdig
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6
from tests.e2e.test_dns import DNSCase

FORGED_PER_QUERY = 50_000
FLOODED_QUERIES = 2

GARBAGE = 4000
CONNECTIONS = 150

IDLE_SECONDS = 15
"""Seconds within which a silent connection must be closed."""

FILES_UNDER_WAY = 6200
"""The relay's limit of 2,000 queries, each of which may wait for three attempts."""

FEW_FILES = 256

STRANGER = "192.0.2.53"
"""A DNS server that some app is configured to ask; nothing has this address."""

STRANGER6 = "2001:db8::53"


class ForgeryChecks(DNSCase):
    """Answers that are not from the server, or not to this question."""

    seconds = 90

    def test_lies(self) -> None:
        """
        Answers with another ID, question, sender or direction are ignored; the relay waits
        for the right one.
        """
        stranger = self.lab.world.makeSocket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(stranger.close)
        stranger.bind((IPV4.world, 0))
        server = self.toy(toydns.liesFirst(stranger))
        self.relayTo(IPV4.world)
        for number in range(20):
            got = self.ask(f"n{number}.lab", "A")
            self.assertEqual(got.data, [toydns.RIGHT])
        # None of them is in the cache.
        self.assertEqual(self.ask("n0.lab", "A").data, [toydns.RIGHT])
        self.assertEqual(len(server.heard), 20)
        self.ask("other.lab", "A")
        self.assertEqual(len(server.heard), 21, "an answer to another question was believed")
        # Random numbers may coincide, but not often.
        self.assertGreater(len(server.sources()), 18, "ports are not random")
        ids = [toydns.idOf(query) for query, _ in server.heard]
        self.assertGreater(len(set(ids)), 18, "ids are not random")

    def test_otherAddress(self) -> None:
        """An answer from another address of the same host is ignored."""
        stranger = self.lab.world.makeSocket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(stranger.close)
        stranger.bind((IPV4.direct, nameserver.PORT))
        self.toy(toydns.liesFirst(stranger))
        self.relayTo(IPV4.world)
        self.assertEqual(self.ask("host.lab", "A").data, [toydns.RIGHT])

    def test_flood(self) -> None:
        """A forger that knows port and question and tries every ID except the right one fails."""
        forger = toydns.Forger(FORGED_PER_QUERY)
        self.toy(forger)
        daemon = self.relayTo(IPV4.world)
        memory = daemon.rss()
        seen = set()
        for number in range(FLOODED_QUERIES):
            for answer in kdig(self.lab.app, IPV4.gateway, f"n{number}.lab", "A", wait=10):
                seen.add((answer.status, tuple(answer.data)))
        self.assertLessEqual(seen, {("NOERROR", (toydns.RIGHT,)), ("SERVFAIL", ())})
        self.assertGreaterEqual(forger.sent, FORGED_PER_QUERY)
        self.assertLess(daemon.rss() - memory, 16 * 1024 * 1024)


class HostileClientChecks(DNSCase):
    """Malicious programs of this host, or a server that fails under load."""

    seconds = 90

    def test_garbage(self) -> None:
        """Bytes that are no queries, over UDP and TCP, disturb nobody."""
        self.nameServer(IPV4.world, log=False)
        daemon = self.relayTo(IPV4.world)
        fds = daemon.fds()
        dice = random.Random(53)
        question = toydns.query("host.lab", 1)
        app = self.datagrams(nameserver.PORT, IPV4.gateway)
        for number in range(GARBAGE):
            if number % 2:
                wrong = dice.randbytes(dice.randrange(600))
            else:
                mutated = bytearray(question)
                for _ in range(dice.randrange(1, 4)):
                    mutated[dice.randrange(len(mutated))] = dice.randrange(256)
                wrong = bytes(mutated[: dice.randrange(len(mutated) + 1)])
            app.send(wrong)
            if number % 100 == 0:
                with self.lab.app.connect((IPV4.gateway, nameserver.PORT), 5) as stream:
                    stream.sendall(dice.choice([wrong, toydns.framed(wrong), b"\x00\x00", b"\xff"]))
        for transport in ("+notcp", "+tcp"):
            self.assertEqual(self.ask(transport, "host.lab", "A").data, ["10.1.2.3"])
        waitUntil(lambda: daemon.fds() <= fds + 2, PATIENCE, "the connections are closed")

    def test_idleConnections(self) -> None:
        """Hundreds of silent connections are limited and closed; others are served meanwhile."""
        self.nameServer(IPV4.world, log=False)
        daemon = self.relayTo(IPV4.world)
        fds = daemon.fds()
        silent = []
        for _ in range(CONNECTIONS):
            with contextlib.suppress(OSError):
                silent.append(self.lab.app.connect((IPV4.gateway, nameserver.PORT), 1))
        self.assertLess(len(silent), CONNECTIONS, "there is no limit")
        self.assertEqual(self.ask("host.lab", "A").data, ["10.1.2.3"])
        for sock in silent:
            sock.settimeout(IDLE_SECONDS)
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(sock.recv(1), b"")
        waitUntil(lambda: daemon.fds() <= fds + 2, PATIENCE, "nothing is left of them")
        for sock in silent:
            sock.close()
        self.assertEqual(self.ask("+tcp", "host.lab", "AAAA").data, ["fd00::123"])

    def test_serverGoneUnderLoad(self) -> None:
        """While the server is silent, queries do not pile up; when it is back, it is used."""
        silent = self.toy(udp.sink)
        daemon = self.relayTo(IPV4.world, dnsCache=False)
        fds, memory = daemon.fds(), daemon.rss()
        queries = nameserver.writeQueries(self.directory / "queries", 20_000)
        argv = ["-Q", "3000", "-q", "20000", "-c", "10"]
        nameserver.dnsperf(self.lab.app, IPV4.gateway, queries, 4, *argv)
        self.assertTrue(silent.heard)
        self.assertLess(daemon.fds(), fds + FILES_UNDER_WAY)
        self.assertLess(daemon.rss() - memory, 32 * 1024 * 1024)
        waitUntil(lambda: daemon.fds() <= fds + 2, PATIENCE, "nothing is under way any more")
        silent.stop()
        self.toy(toydns.honest)
        self.assertEqual(self.ask("host.lab", "A", wait=10).data, [toydns.RIGHT])

    def test_fewFiles(self) -> None:
        """
        Without file descriptors nothing ends and nothing spins; with them, everything works
        again.
        """
        silent = self.toy(udp.sink)
        daemon = self.relayTo(IPV4.world, dnsCache=False)
        fds = daemon.fds()
        limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (FEW_FILES, limits[1]))
        queries = nameserver.writeQueries(self.directory / "queries", 20_000)
        argv = ["-Q", "1000", "-q", "20000", "-c", "10"]
        nameserver.dnsperf(self.lab.app, IPV4.gateway, queries, 3, *argv)
        self.assertTrue(daemon.running(), daemon.log())
        silent.stop()
        self.toy(toydns.honest)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
        waitUntil(lambda: daemon.fds() <= fds + 2, PATIENCE, "nothing is under way any more")
        before = daemon.cpu()
        time.sleep(1)
        self.assertLess(daemon.cpu() - before, 0.3)
        self.assertEqual(self.ask("host.lab", "A").data, [toydns.RIGHT])


class OutsideChecks(DNSCase):
    """Another host, for which this one forwards."""

    def test_notAnswered(self) -> None:
        """A query from another host gets no answer; what the host forwards passes."""
        server = self.nameServer(IPV4.world)
        web = self.webServer()
        behind = Namespace(self.lab.app.name.replace("-app", "-behind"))
        self.addCleanup(behind.remove)
        self.lab.app.ip(f"link add side0 type veth peer name up0 netns {behind.name}")
        self.lab.app.ip(
            "link set side0 up",
            "addr add 10.77.9.1/24 dev side0",
            "addr add fd77:9::1/64 dev side0 nodad",
        )
        behind.ip(
            "link set up0 up",
            "addr add 10.77.9.2/24 dev up0",
            "addr add fd77:9::2/64 dev up0 nodad",
            "route add default via 10.77.9.1",
            "route add default via fd77:9::1",
        )
        self.lab.app.run(
            ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        )
        self.relayTo(IPV4.world, proxy=self.dante().url(), dnsOverride=True)
        for family in FAMILIES:
            self.assertEqual(curl.get(behind, family.url(web.port, "/peer")), family.proxyOutside)
            self.assertEqual(kdig(behind, family.gateway, "host.lab", "A", wait=1), [])
            self.assertEqual(kdig(behind, family.gateway, "+tcp", "host.lab", "A", wait=1), [])
        self.assertEqual(server.queries(), [])
        self.assertEqual(self.ask("host.lab", "A").data, ["10.1.2.3"])


class OverrideChecks(DNSCase):
    """The C{dnsOverride} setting."""

    def test_answered(self) -> None:
        """
        A query to any server's address is answered by the relay under that address, without
        the proxy.
        """
        server = self.nameServer(IPV4.world)
        proxy = self.socksRelay()
        self.relayTo(IPV4.world, proxy=f"socks5://{IPV4.proxy}:{proxy.port}", dnsOverride=True)
        for host in (STRANGER, STRANGER6):
            for kind, data in (("A", "10.1.2.3"), ("AAAA", "fd00::123")):
                got = ask(self.lab.app, host, "host.lab", kind)
                self.assertEqual((got.data, got.server), ([data], f"{host}@53(UDP)"))
        self.assertEqual(proxy.total, 0)
        self.assertEqual({asker for asker, _ in server.queries()}, {IPV4.app})

    def test_off(self) -> None:
        """Without it, such a query goes through the proxy, and the world sees the proxy."""
        server = self.nameServer(IPV4.world, IPV6.world)
        proxy = self.socksRelay()
        self.relayTo(IPV4.direct, proxy=f"socks5://{IPV4.proxy}:{proxy.port}")
        for family in FAMILIES:
            got = ask(self.lab.app, family.world, "host.lab", "A")
            self.assertEqual(got.server, f"{family.world}@53(UDP)")
        askers = {asker for asker, _ in server.queries()}
        self.assertEqual(askers, {IPV4.proxyOutside, IPV6.proxyOutside})

    def test_sharedAssociation(self) -> None:
        """DNS queries of many sockets through the proxy take few associations."""
        self.nameServer(IPV4.world)
        proxy = self.socksRelay()
        self.relayTo(IPV4.direct, proxy=f"socks5://{IPV4.proxy}:{proxy.port}")
        for number in range(30):
            got = ask(self.lab.app, IPV4.world, f"n{number}.any.lab", "A")
            self.assertEqual(got.data, ["10.9.9.9"])
        self.assertLess(proxy.total, 5)


engines(globals(), ForgeryChecks)
engines(globals(), HostileClientChecks)
engines(globals(), OutsideChecks)
engines(globals(), OverrideChecks)
del (
    ForgeryChecks,
    HostileClientChecks,
    OutsideChecks,
    OverrideChecks,
)  # Otherwise trial would run the base classes, too.
