"""
C{reloadFlows}: what becomes of open connections when the rules change.
"""

from __future__ import annotations

import errno
import socket

from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import Daemon, writeConfig
from tests.e2e.lab.process import waitUntil
from tests.e2e.lab.topology import FAMILIES, Family
from tests.e2e.lab.udp import UDPServer, echo, familyOf
from tests.e2e.test_reload import DOWNLOADS, EARLY, LENGTH, Download, sendPattern
from tests.e2e.test_several import repeat

#: Seconds for an error that comes as soon as the rules have changed.
SOON = 60.0

#: What the kernel makes of "administratively prohibited", IPv4 and IPv6.
PROHIBITED = (errno.EHOSTUNREACH, errno.EACCES)

#: The second network of the world.
NETWORKS = ("10.77.3.0/24", "fd77:3::/64")

#: What the log says of flows that were ended.
ENDED = "The rules have changed: of {} open connections, {} were ended, because they would go "


class ReloadFlowsChecks(TunnelCase):
    """Connections to two networks, of which a reload rejects the second."""

    seconds = 150

    def setUp(self) -> None:
        """The proxy reaches both networks."""
        super().setUp()
        self.lab.proxy.ip("route add 10.77.3.2/32 dev up0", "route add fd77:3::2/128 dev up0")
        self.proxy = self.dante()

    def change(self, daemon: Daemon, **settings: object) -> str:
        """Reload with other settings; return the answer."""
        changed = {"stackMode": self.stackMode, "proxy": self.proxy.url(), **settings}
        writeConfig(daemon.directory, changed)
        done = say("reload", "--run-dir", str(daemon.directory / "run"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout

    def reject(self, daemon: Daemon, **settings: object) -> str:
        """Reload with a rule that rejects the second network; return the answer."""
        rules = [{"to": "reject", "networks": list(NETWORKS)}]
        return self.change(daemon, rules=rules, **settings)

    def flows(self, host: str, port: int, many: int) -> list[socket.socket]:
        """Connections from the app to an address of the world, which take little in advance."""
        socks = []
        for _ in range(many):
            sock = self.lab.app.makeSocket(familyOf(host))
            self.addCleanup(sock.close)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, EARLY // 8)
            sock.settimeout(SOON)
            sock.connect((host, port))
            socks.append(sock)
        return socks

    def downloads(self) -> tuple[list[Download], list[Download]]:
        """Downloads that have begun: those from the first network, and from the second."""
        port = self.peer(sendPattern, timeout=60).port
        found = [
            [
                Download(sock)
                for family in FAMILIES
                for sock in self.flows(
                    family.direct if second else family.world, port, DOWNLOADS // 4
                )
            ]
            for second in (False, True)
        ]
        for download in (*found[0], *found[1]):
            download.read(EARLY)
        return found[0], found[1]

    def assertWhole(self, downloads: list[Download]) -> None:
        """All of them come to their end, undamaged."""
        for download in downloads:
            download.read(LENGTH)
        self.assertEqual([each.whole() for each in downloads], [True] * len(downloads))

    def talks(self, family: Family, host: str) -> tuple[UDPServer, socket.socket]:
        """A UDP server in the world, and a socket of the app that talks to it."""
        server = self.udpServer(echo, family, host)
        sock = self.datagrams(server.port, host)
        self.assertEchoes(sock)
        return server, sock

    def test_judge(self) -> None:
        """
        With judge, of 64 downloads those from the network that a new rule rejects are reset, as
        are UDP flows to there; all others go on as if nothing had happened.
        """
        daemon = self.daemon(proxy=self.proxy.url(), reloadFlows="judge")
        kept, ended = self.downloads()
        near = [self.talks(family, family.world) for family in FAMILIES]
        far = [self.talks(family, family.direct) for family in FAMILIES]
        self.assertEqual(self.reject(daemon, reloadFlows="judge"), "Changed: rules.\n")
        for download in ended:
            self.assertRaises(ConnectionResetError, download.read, LENGTH)
            self.assertLess(download.count, LENGTH)
        for server, sock in far:
            heard = len(server.heard)
            sock.send(b"still there?")
            refused = self.assertRaises(OSError, sock.recv, 100)
            self.assertIn(refused.errno, PROHIBITED)
            self.assertEqual(len(server.heard), heard)
        for server, sock in near:
            self.assertEchoes(sock)
            # The association is the same one.
            self.assertEqual(len(server.sources()), 1)
        self.assertWhole(kept)
        many = DOWNLOADS + len(near) + len(far)
        self.assertIn(ENDED.format(many, len(ended) + len(far)), daemon.log())
        self.assertEndsWell(daemon)

    def test_keep(self) -> None:
        """
        With keep all downloads finish and UDP flows go on, even if judge is set while they are
        open; what begins after the reload meets the new rule.
        """
        daemon = self.daemon(proxy=self.proxy.url())
        near, far = self.downloads()
        talks = [self.talks(family, family.direct) for family in FAMILIES]
        self.assertEqual(self.reject(daemon), "Changed: rules.\n")
        for family in FAMILIES:
            self.assertRaises(OSError, self.flows, family.direct, 9, 1)
        self.assertIn("reloadFlows", self.reject(daemon, reloadFlows="judge"))
        self.assertWhole([*near, *far])
        for _, sock in talks:
            self.assertEchoes(sock)
        self.assertNotIn("were ended", daemon.log())
        self.assertEndsWell(daemon)

    def test_ways(self) -> None:
        """
        A flow stays if the new rules lead it to the same proxy by another name, and ends if
        they lead it to another proxy.
        """
        peer, other = self.peer(repeat), self.dante(port=1082)
        daemon = self.daemon(proxy=self.proxy.url(), reloadFlows="judge")
        open_ = [sock for family in FAMILIES for sock in self.flows(family.world, peer.port, 2)]
        for url, stays in ((self.proxy.url(), True), (other.url(), False)):
            self.change(
                daemon,
                reloadFlows="judge",
                upstreams={"office": url},
                rules=[{"to": "office", "ports": [peer.port], "lan": True}],
            )
            self.assertEchoes(self.flows(FAMILIES[0].world, peer.port, 1)[0])
            for sock in open_:
                if stays:
                    self.assertEchoes(sock)
                else:
                    self.assertRaises(ConnectionResetError, sock.recv, 100)
        # So did the one that was made in the first round.
        waitUntil(lambda: ENDED.format(5, 5) in daemon.log(), SOON, "the log says so")
        self.assertEqual(daemon.log().count("were ended"), daemon.log().count(ENDED.format(5, 5)))


engines(globals(), ReloadFlowsChecks)
del ReloadFlowsChecks
