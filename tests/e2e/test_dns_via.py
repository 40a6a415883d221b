"""
The DNS relay with C{dnsVia: proxy}: what leaves, which way.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import subprocess
from itertools import count

from tests.e2e.case import engines
from tests.e2e.lab import nameserver, toydns
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import Daemon, writeConfig
from tests.e2e.lab.httpproxies import FORBIDDEN, Tinyproxy
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import Microsocks
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import FAMILIES, IPV4, IPV6
from tests.e2e.test_dns import NOWHERE, DNSCase

LOST_SECONDS = 3.5
"""Seconds for an answer although UDP is lost: one attempt of 1.5 s by UDP, then TCP."""


class ViaChecks(DNSCase):
    """
    A direct path to the servers is open in every test, so that a leak would succeed, and is
    watched.
    """

    seconds = 90

    def setUp(self) -> None:
        """Open the path."""
        super().setUp()
        self.lab.openDirectPath()

    def via(self, *hosts: str, **settings: object) -> Daemon:
        """Start a daemon that asks C{hosts} through its proxy, and watch what leaves past it."""
        watch = Tcpdump(self.lab.app, self.directory, "up0", "port", "53")
        self.addCleanup(watch.stop)
        self.watch = watch
        return self.daemon(dns=list(hosts), **{"dnsVia": "proxy"} | settings)

    def assertNoLeak(self) -> None:
        """No packet to or from port 53 was sent past the proxy."""
        self.assertEqual(self.watch.destinations(), {})

    def tinyproxy(self) -> str:
        """Start tinyproxy, and return its URL."""
        server = Tinyproxy(self.lab.proxy, self.directory)
        self.addCleanup(server.stop)
        return f"http://{IPV4.proxy}:{server.port}"

    def test_both(self) -> None:
        """Over UDP and TCP, IPv4 and IPv6, answers arrive, and the server sees the proxy."""
        server = self.nameServer(IPV4.world, IPV6.world)
        proxy = self.dante()
        for host in (IPV4.world, IPV6.world):
            daemon = self.via(host, proxy=proxy.url(), dnsCache=False)
            for family in FAMILIES:
                for transport in ("+notcp", "+tcp"):
                    got = self.ask(transport, "host.lab", "A", family=family)
                    self.assertEqual((got.status, got.data), ("NOERROR", ["10.1.2.3"]))
            self.assertEqual(len(self.ask("+tcp", "big.lab", "TXT").records), 10)
            self.assertNoLeak()
            self.assertEndsWell(daemon)
        outside = {IPV4.proxyOutside, IPV6.proxyOutside}
        self.assertEqual({asker for asker, _ in server.queries()}, outside)
        self.assertIn("udpassociate", proxy.journal.read_text())

    def test_oneConnection(self) -> None:
        """Through proxies without UDP, many names are looked up on one connection each."""
        ended: queue.Queue[int] = queue.Queue()

        def serve(connection: socket.socket) -> None:
            heard = 0
            with contextlib.suppress(OSError, EOFError, ValueError):
                while True:
                    message = toydns.readFramed(connection)
                    heard += 1
                    connection.sendall(toydns.framed(toydns.answer(message)))
            ended.put(heard)

        self.peer(serve, port=53, timeout=60)
        microsocks = Microsocks(self.lab.proxy, self.directory)
        self.addCleanup(microsocks.stop)
        queries = nameserver.writeQueries(self.directory / "queries", 100)
        for proxy in (microsocks.url(), self.tinyproxy()):
            daemon = self.via(IPV4.world, proxy=proxy)
            nameserver.dnsperf(self.lab.app, IPV4.gateway, queries, 1, "-Q", "100", "-c", "4")
            self.assertNoLeak()
            self.assertEndsWell(daemon)
            self.assertGreater(ended.get(timeout=10), 80)
        self.assertTrue(ended.empty(), "there was a second connection")

    def test_lostDatagrams(self) -> None:
        """If the proxy grants UDP and loses it, the answer comes by TCP, the next one at once."""
        self.nameServer(IPV4.world)
        proxy = self.dante()
        rules = (
            "table inet lossy {\nchain in {\ntype filter hook input priority 0\n"
            f"ip saddr {IPV4.app} meta l4proto udp drop\n}}\n}}\n"
        )
        subprocess.run(self.lab.proxy.argv(["nft", "-f", "-"]), input=rules.encode(), check=True)
        daemon = self.via(IPV4.world, proxy=proxy.url(), dnsCache=False)
        self.assertEqual(self.ask("host.lab", "A", wait=30).data, ["10.1.2.3"])
        self.assertQuick(
            lambda: self.assertEqual(self.ask("host.lab", "A").data, ["10.1.2.3"]), 1.4
        )
        self.assertIn("go over TCP for ten minutes", daemon.log())
        self.assertNoLeak()

    def test_forbidden(self) -> None:
        """A proxy that forbids the server gives SERVFAIL at once, and one line says what to do."""
        daemon = self.via(FORBIDDEN[IPV4], proxy=self.tinyproxy())
        names = (f"a{number}.lab" for number in count())
        for _ in range(5):
            self.assertQuick(
                lambda: self.assertEqual(self.ask(next(names), "A").status, "SERVFAIL"), 1.4
            )
        # The log is in two places.
        lines = {line for line in daemon.log().splitlines() if "dnsVia sends" in line}
        (line,) = lines
        for words in ("does not allow connections", "dnsMode: fake-ip", "dnsVia: direct"):
            self.assertIn(words, line)
        self.assertNoLeak()

    def test_down(self) -> None:
        """If the proxy is down, names are not asked past it; once it is up, there are answers."""
        self.nameServer(IPV4.world)
        daemon = self.via(IPV4.world, proxy=f"socks5://{IPV4.proxy}:1081")
        self.assertEqual(self.ask("host.lab", "A", wait=10).status, "SERVFAIL")
        self.assertIn("because dnsVia sends them through the proxy", daemon.log())
        server = Microsocks(self.lab.proxy, self.directory)
        self.addCleanup(server.stop)
        waitUntil(
            lambda: self.ask("host.lab", "A").data == ["10.1.2.3"],
            PATIENCE,
            "the relay answers again",
        )
        self.assertNoLeak()

    def test_several(self) -> None:
        """Of several proxies the queries take one that works, and another once that is gone."""
        server = self.nameServer(IPV4.world)
        dante = self.dante()
        microsocks = Microsocks(self.lab.proxy, self.directory)
        self.addCleanup(microsocks.stop)
        urls = [NOWHERE, microsocks.url(), dante.url()]
        self.via(IPV4.world, proxy=urls, dnsCache=False)
        for gone in (microsocks, None):
            for transport in ("+notcp", "+tcp"):
                got = self.ask(transport, "host.lab", "A", wait=10)
                self.assertEqual(got.data, ["10.1.2.3"], gone)
            if gone is not None:
                gone.stop()
        self.assertEqual({asker for asker, _ in server.queries()}, {IPV4.proxyOutside})
        self.assertNoLeak()

    def test_trap(self) -> None:
        """A name with the server's own address does not lead the queries astray."""

        def serve(connection: socket.socket) -> None:
            # One answer for each connection, so that the next query needs another.
            message = toydns.readFramed(connection)
            connection.sendall(toydns.framed(toydns.answer(message, IPV4.world)))

        self.peer(serve, port=53)
        self.via(IPV4.world, proxy=self.tinyproxy())
        # The proxy is sent names, and would be asked for this one.
        for name in ("trap.lab", "other.lab", "third.lab"):
            self.assertEqual(self.ask(name, "A").data, [IPV4.world])
        self.assertNoLeak()

    def test_bootstrap(self) -> None:
        """
        Where the machine's resolver asks the relay, the proxy's own name is asked past the
        proxy, and it alone.
        """
        server = self.nameServer(IPV4.world)
        proxy = self.dante()
        self.via(IPV4.world, proxy=f"socks5://any.lab:{proxy.port}")
        self.assertEqual(self.ask("any.lab", "A").data, ["10.9.9.9"])
        self.assertEqual({asker for asker, _ in server.queries()}, {IPV4.app})
        self.ask("host.lab", "A", wait=10)
        self.assertEqual(server.queries("host.lab"), [])

    def test_reload(self) -> None:
        """A reload from direct to proxy and back takes effect with the next query."""
        server = self.nameServer(IPV4.world)
        settings: dict[str, object] = {
            "proxy": self.dante().url(),
            "dnsCache": False,
            "stackMode": self.stackMode,
        }
        daemon = self.via(IPV4.world, dnsVia="direct", **settings)
        settings["dns"] = [IPV4.world]
        expected = []
        for way, asker in (
            ("direct", IPV4.app),
            ("proxy", IPV4.proxyOutside),
            ("direct", IPV4.app),
        ):
            writeConfig(daemon.directory, {**settings, "dnsVia": way})
            done = say("reload", "--run-dir", str(daemon.directory / "run"))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.ask("host.lab", "A").data, ["10.1.2.3"])
            expected.append(asker)
            self.assertEqual([asker for asker, _ in server.queries()], expected)


engines(globals(), ViaChecks)
# Otherwise trial would run the base class, too.
del ViaChecks
