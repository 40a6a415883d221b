"""
Several upstreams by name, which rules send flows to.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import CONNECT_SECONDS, Daemon, writeConfig
from tests.e2e.lab.proxies import Dante, Microsocks
from tests.e2e.lab.servers import Peer
from tests.e2e.lab.topology import FAMILIES
from tests.e2e.lab.udp import echo
from tests.e2e.routes_case import RoutesCase
from tests.e2e.test_several import repeat

#: Seconds for an error that comes at once.
QUICK = CONNECT_SECONDS / 4


class UpstreamChecks(TunnelCase):
    """Rules that send flows to one of two proxies, which both count."""

    seconds = 90

    def setUp(self) -> None:
        """Two proxies, and two servers."""
        super().setUp()
        self.usual, self.office = self.dante(), self.dante(port=1082)
        self.here, self.there = self.peer(repeat), self.peer(repeat)

    def settings(self) -> dict[str, object]:
        """The second server is for the second proxy."""
        return {
            "proxy": self.usual.url(),
            "upstreams": {"office": self.office.url()},
            "rules": [{"to": "office", "ports": [self.there.port], "lan": True}],
        }

    def status(self, daemon: Daemon) -> dict[str, Any]:
        """What C{nanotun status --json} says."""
        done = say("status", "--json", "--run-dir", str(daemon.directory / "run"))
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def asked(self, proxy: Dante) -> list[int]:
        """How often a proxy was asked for the first server, the second one, and any other."""
        lines = proxy.connects()
        found = [sum(f".{peer.port}" in line for line in lines) for peer in (self.here, self.there)]
        return [*found, len(lines) - sum(found)]

    def assertCarried(self, peer: Peer) -> socket.socket:
        """A new connection to a server works."""
        sock = self.connect(peer.port)
        self.assertEchoes(sock)
        return sock

    def test_rules(self) -> None:
        """Each proxy carries the flows of its own rule and no other, and status counts them."""
        daemon = self.daemon(**self.settings())
        for family in FAMILIES:
            self.family = family
            for peer in (self.here, self.there):
                self.assertCarried(peer)
            server = self.udpServer(echo, family, port=self.there.port)
            self.assertNotIn("udpassociate", self.usual.journal.read_text())
            self.assertEchoes(self.datagrams(self.there.port))
            server.stop()
        self.assertIn("udpassociate", self.office.journal.read_text())
        self.assertNotIn("udpassociate", self.usual.journal.read_text())
        self.assertEqual(self.asked(self.usual), [2, 0, 0])
        self.assertEqual(self.asked(self.office), [0, 2, 0])
        counted = self.status(daemon)["verdicts"]["upstreams"]
        self.assertEqual((counted["proxy"], counted["office"]), (2, 4))
        self.assertEndsWell(daemon)

    def test_down(self) -> None:
        """A proxy that is killed takes its own flows only, and status says which it is."""
        daemon = self.daemon(**self.settings())
        self.office.stop()
        for _ in range(3):
            self.assertLess(self.connectError(self.there.port)[1], QUICK)
            self.assertCarried(self.here)
        self.assertEqual(self.asked(self.usual), [3, 0, 0])
        reports = self.status(daemon)["upstreams"]
        health = {name: report["proxies"][0]["health"] for name, report in reports.items()}
        self.assertEqual(health, {"proxy": "up", "office": "down"})
        self.assertIn(f"The proxy {self.office.url()}", daemon.log())

    def test_reload(self) -> None:
        """A reload that swaps the two changes new flows only, TCP and UDP."""
        daemon = self.daemon(**self.settings())
        open_ = [self.assertCarried(peer) for peer in (self.here, self.there)]
        servers = [self.udpServer(echo, family, port=self.there.port) for family in FAMILIES]
        talks = [self.datagrams(self.there.port, family.world) for family in FAMILIES]
        for talk in talks:
            self.assertEchoes(talk)
        self.assertNotIn("udpassociate", self.usual.journal.read_text())
        swapped = {
            **self.settings(),
            "proxy": self.office.url(),
            "upstreams": {"office": self.usual.url()},
        }
        writeConfig(daemon.directory, {"stackMode": self.stackMode, **swapped})
        done = say("reload", "--run-dir", str(daemon.directory / "run"))
        self.assertIn("proxy, upstreams", done.stdout)
        for peer in (self.here, self.there):
            self.assertCarried(peer)
        for proxy in (self.usual, self.office):
            self.assertEqual(self.asked(proxy), [1, 1, 0])
        for sock in (*open_, *talks):
            self.assertEchoes(sock)
        # Each still has its port at the proxy that it had.
        self.assertEqual([len(server.sources()) for server in servers], [1, 1])
        self.assertNotIn("udpassociate", self.usual.journal.read_text())
        for family in FAMILIES:
            self.assertEchoes(self.datagrams(self.there.port, family.world))
        self.assertIn("udpassociate", self.usual.journal.read_text())


class LocalUpstreamChecks(RoutesCase):
    """An upstream on a machine whose traffic all enters the tunnel."""

    stackMode = "gvisor"

    def test_local(self) -> None:
        """
        A proxy on this machine is recognised although only a rule sends flows there, and a
        reload has brought it: its own connections leave directly, and none comes back.
        """
        usual, world = self.socks(), self.world()
        local = Microsocks(self.lab.host, self.directory)
        self.addCleanup(local.stop)
        daemon = self.daemon(usual, stackMode=self.stackMode)
        self.assertThroughProxy(world)
        changed = self.settings(
            usual,
            stackMode=self.stackMode,
            upstreams={"local": f"socks5://127.0.0.1:{local.port}"},
            rules=[{"to": "local", "ports": [world.port]}],
        )
        writeConfig(daemon.directory, changed)
        where = "--run-dir", str(self.directory / "run")
        done = self.console("reload", *where)
        self.assertIn("upstreams, rules", done.stdout)
        self.assertDirect(world)
        counted = json.loads(self.console("status", "--json", *where).stdout)["verdicts"]
        self.assertEqual(counted["upstreams"]["local"], len(FAMILIES))
        self.assertEqual(counted["rules"]["local-proxy"], len(FAMILIES))
        self.assertEqual(counted["rules"].get("loop", 0), 0)


engines(globals(), UpstreamChecks)
engines(globals(), LocalUpstreamChecks)
del UpstreamChecks, LocalUpstreamChecks
