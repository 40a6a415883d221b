"""
Proxies that are dialled through other proxies, by real clients and servers.
"""

from __future__ import annotations

import os
import time

from tests.e2e.case import engines
from tests.e2e.lab import tlsfront
from tests.e2e.lab.daemon import CONNECT_SECONDS
from tests.e2e.lab.httpproxies import Tinyproxy
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import Microsocks
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.tlsfront import Stunnel
from tests.e2e.lab.topology import FAMILIES
from tests.e2e.lab.udp import echo
from tests.e2e.schemes import ProgramsCase
from tests.e2e.test_several import repeat

UPLINK = "up0"

AT_ONCE = CONNECT_SECONDS / 4
"""Seconds within which an app must learn that there is no UDP."""


class ChainChecks(ProgramsCase):
    """Chains of two and three proxies."""

    programs = ("openssl", "stunnel", "tcpdump", "tinyproxy")

    def microsocks(self) -> Microsocks:
        """Start one."""
        return self.started(Microsocks(self.lab.proxy, self.directory))

    def test_two(self) -> None:
        """
        The first proxy alone is dialled by this machine, and the second one alone is asked for
        destinations, of both IP versions; UDP is refused at once.
        """
        port = self.peer(repeat).port
        silent = self.udpServer(echo, self.family)
        # Its address is that of the first proxy's own loopback interface.
        gate, second = self.microsocks(), self.dante(internal=("127.0.0.1",))
        witness = Tcpdump(self.lab.app, self.directory, UPLINK, "tcp or udp")
        self.addCleanup(witness.stop)
        daemon = self.daemon(
            proxy=f"socks5://127.0.0.1:{second.port}",
            proxyVia="gate",
            upstreams={"gate": gate.url()},
        )
        for family in FAMILIES:
            sock = self.lab.app.connect((family.world, port), 10)
            self.addCleanup(sock.close)
            self.assertEchoes(sock)
        self.assertEqual(len(second.connects()), len(FAMILIES))
        app = self.datagrams(silent.port)
        began = time.monotonic()
        with self.assertRaises(ConnectionRefusedError):
            app.send(b"hello")
            app.recv(100)
        self.assertLess(time.monotonic() - began, AT_ONCE)
        self.assertEqual(silent.heard, [])
        host = gate.url().rpartition("//")[2].replace(":", ".")
        self.assertEqual(set(witness.destinations()), {host})
        self.assertIn("dialled through gate, and a chain carries no UDP", daemon.log())
        self.assertEndsWell(daemon)

    def test_names(self) -> None:
        """A proxy whose name only the first proxy knows is dialled by that name."""
        port = self.peer(repeat).port
        second = self.microsocks()
        gate = self.dante(hosts={"second.example": ["127.0.0.1"]})
        self.daemon(
            proxy=f"socks5://second.example:{second.port}",
            proxyVia="gate",
            upstreams={"gate": gate.url()},
        )
        self.assertEchoes(self.connect(port))
        # No other machine knows it.
        self.assertTrue(any(f".{second.port}" in line for line in gate.connects()))

    def test_three(self) -> None:
        """HTTPS through SOCKS5 through HTTP carries many bytes whole, with connections in stock."""
        port = self.peer(repeat).port
        ca = tlsfront.authority(self.directory)
        shown = tlsfront.certificate(self.directory, ca, ("IP:127.0.0.1",))
        inner = self.started(Tinyproxy(self.lab.proxy, self.directory, port=8889))
        front = self.started(Stunnel(self.lab.proxy, self.directory, inner.port, shown))
        outer = self.started(Tinyproxy(self.lab.proxy, self.directory))
        host = self.microsocks().url()
        daemon = self.daemon(
            proxy=f"https://127.0.0.1:{front.port}?ca={ca.cert}",
            proxyVia="middle",
            upstreamPool=2,
            upstreams={
                "middle": {"proxy": host, "via": "outer"},
                "outer": host.replace("socks5://", "http://").replace(":1081", f":{outer.port}"),
            },
        )
        data = os.urandom(1_000_000)
        for _ in range(3):
            sock = self.connect(port)
            sock.settimeout(20)
            heard = b""
            for at in range(0, len(data), 50_000):
                sock.sendall(data[at : at + 50_000])
                while len(heard) < min(at + 50_000, len(data)):
                    heard += sock.recv(65536)
            self.assertTrue(heard == data)
            sock.close()
        self.assertEndsWell(daemon)

    def test_down(self) -> None:
        """Whichever proxy of a chain is missing, the app is refused and the log names it."""
        port = self.peer(repeat).port
        gate, second = self.microsocks(), self.dante(internal=("127.0.0.1",))
        name = f"socks5://127.0.0.1:{second.port}"
        daemon = self.daemon(proxy=name, proxyVia="gate", upstreams={"gate": gate.url()})
        self.assertEchoes(self.connect(port))
        second.stop()
        self.connectError(port)
        through = f"The proxy {name} cannot be reached through gate: "
        waitUntil(lambda: through in daemon.log(), PATIENCE, through)
        before = f"The proxy {gate.url()} cannot be reached at "
        self.assertNotIn(before, daemon.log())
        gate.stop()
        self.connectError(port)
        waitUntil(lambda: before in daemon.log(), PATIENCE, before)
        self.assertEndsWell(daemon)


engines(globals(), ChainChecks)
# Otherwise trial would run the base class, too.
del ChainChecks
