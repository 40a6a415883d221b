"""
C{autoDefaultRoute} while the network changes under it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from tests.e2e.lab.daemon import START_SECONDS, launch
from tests.e2e.lab.host import DNS4, HOST4, HOST6, SECOND_PROXY4, UPLINK
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.servers import WebServer
from tests.e2e.lab.toydns import answer
from tests.e2e.lab.udp import Address, UDPServer
from tests.e2e.routes_case import FOLLOWED, RoutesCase

FLAPS = 10
"""How often the uplink goes down and up; benchmarks/crash.py does it more often."""


class FollowTests(RoutesCase):
    """The same daemon follows changes within 3 s."""

    seconds = 180

    def assertSoon(self, condition: Callable[[], object], what: str) -> None:
        """The condition is true soon."""
        waitUntil(condition, FOLLOWED, what)

    def carries(self, server: WebServer) -> bool:
        """Whether both IP versions go through the proxy."""
        return all(
            self.asker(server, family, timeout=5) == family.proxyOutside
            for family in (HOST4, HOST6)
        )

    def test_flushed(self) -> None:
        """
        Rules and routes that somebody flushes are restored, again and again, without
        spinning.
        """
        server = self.world()
        daemon = self.daemon(self.socks(), killSwitch=True)
        there = self.lab.state()
        for _ in range(4):
            for version in ("-4", "-6"):
                self.lab.host.run(["ip", version, "rule", "flush", "protocol", "110"])
                self.lab.host.run(["ip", version, "route", "flush", "table", "28276"])
            self.assertSoon(lambda: self.lab.state() == there, "the rules are back")
        self.assertTrue(self.carries(server))
        self.assertIn("Something keeps removing", daemon.log())
        before = daemon.cpu()
        time.sleep(3)
        self.assertLess(daemon.cpu() - before, 0.3)
        daemon.stop()
        self.assertNothingLeft()

    def test_flaps(self) -> None:
        """After each flap of the uplink traffic flows again, and a neighbour's session survives."""
        server = self.world()
        daemon = self.daemon(self.socks())

        def echo(sock: socket.socket) -> None:
            while data := sock.recv(100):
                sock.sendall(data)

        peer = self.peer(echo, self.lab.world, timeout=120)
        flow = self.lab.host.connect((HOST4.world, peer.port), 20)
        self.addCleanup(flow.close)
        for _ in range(FLAPS):
            self.lab.flap()
            self.assertSoon(lambda: self.carries(server), "traffic flows")
            flow.sendall(b"still here")
            self.assertEqual(flow.recv(100), b"still here")
        self.assertTrue(daemon.running())
        daemon.stop()
        # Routes have another order after a flap, but ours are gone nevertheless.
        self.assertNotIn("110", self.lab.host.run(["ip", "rule"]).stdout)

    def test_tunnelDownAndUp(self) -> None:
        """After a device is set down and up again, traffic flows."""
        server = self.world()
        daemon = self.daemon(self.socks())
        self.lab.host.ip("link set nano0 down")
        time.sleep(1)
        self.lab.host.ip("link set nano0 up")
        self.assertSoon(lambda: self.carries(server), "traffic flows")
        daemon.stop()
        self.assertNothingLeft()

    def test_newUplink(self) -> None:
        """Another uplink takes over from one that is gone, and nothing leaks through it."""
        server = self.world()
        self.lab.host.ip(
            f"link add wlan0 type veth peer name lan-wlan netns {self.lab.gateway.name}"
        )
        self.lab.gateway.ip(
            "addr add 192.168.78.1/24 dev lan-wlan",
            "addr add 2a78::1/64 dev lan-wlan nodad",
            "link set lan-wlan up",
        )
        self.daemon(self.socks())
        self.assertTrue(self.carries(server))
        self.lab.host.ip(
            f"link set {UPLINK} down",
            "link set wlan0 up",
            "addr add 192.168.78.2/24 dev wlan0",
            "addr add 2a78::2/64 dev wlan0 nodad",
            "route add default via 192.168.78.1",
            "route add default via 2a78::1",
        )
        self.assertSoon(lambda: self.carries(server), "traffic flows")

        def followed() -> bool:
            rules = self.lab.host.run(["ip", "-6", "rule"]).stdout
            return "2a78::/64" in rules and "2a77::/64" not in rules

        self.assertSoon(followed, "what is connected now has its rule")

    def test_strictUplink(self) -> None:
        """
        An uplink that becomes strict about reverse paths is made loose, and restored at the
        end.
        """
        server = self.world()
        daemon = self.daemon(self.socks(), proxy="direct://")
        name = f"net.ipv4.conf.{UPLINK}.rp_filter"

        def value() -> str:
            return self.lab.host.run(["sysctl", "-n", name]).stdout.strip()

        self.lab.host.run(["sysctl", "-q", "-w", f"{name}=1"])
        self.lab.host.ip(f"addr add 192.168.77.9/24 dev {UPLINK}")
        self.assertSoon(lambda: value() == "2", "the setting is made")
        self.assertEqual(self.asker(server, HOST4), HOST4.app)
        daemon.stop()
        self.assertEqual(value(), "1")

    def test_proxyMoves(self) -> None:
        """A proxy's name is looked up past the proxy, and its rules follow its addresses."""
        self.proxyMoves()

    def test_proxyMovesBehindItself(self) -> None:
        """The same holds where all other names are looked up through the proxy."""
        self.proxyMoves(dnsVia="proxy")

    def proxyMoves(self, **settings: object) -> None:
        """The two proxies of one name change its address."""
        server, proxy = self.world(), self.socks()
        leads = [HOST4.proxy]

        def name(server: UDPServer, query: bytes, client: Address) -> None:
            server.sock.sendto(answer(query, leads[0], ttl=1), client)

        dns = UDPServer(self.lab.world, DNS4, name, 53)
        self.addCleanup(dns.stop)
        second = Dante(
            self.lab.proxy,
            self.directory,
            port=1081,
            internal=(SECOND_PROXY4,),
            external=(SECOND_PROXY4, HOST6.proxyOutside),
        )
        self.addCleanup(second.stop)
        resolv = self.directory / "resolv.conf"
        resolv.write_text(f"nameserver {DNS4}\n")
        daemon = self.daemonIn(
            [
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-ec",
                f'mount --bind {resolv} /etc/resolv.conf; exec "$@"',
                "sh",
            ],
            proxy,
            proxy=[f"socks5://proxy.test:{proxy.port}", f"socks5://proxy.test:{second.port}"],
            proxyCheckInterval="1s",
            **settings,
        )
        self.assertTrue(self.carries(server), daemon.output())

        def rules() -> str:
            return self.lab.host.run(["ip", "rule"]).stdout

        self.assertIn(f"to {HOST4.proxy} ", rules())
        witness = self.witness()
        proxy.stop()
        leads[0] = SECOND_PROXY4
        # A new address of the uplink is a change of the network.
        self.lab.host.ip(
            f"addr add 192.168.77.9/24 dev {UPLINK}", f"addr add 192.168.79.9/24 dev {UPLINK}"
        )
        self.assertSoon(
            lambda: f"to {SECOND_PROXY4} " in rules() and f"to {HOST4.proxy} " not in rules(),
            "the rule follows",
        )
        waitUntil(
            lambda: self.asker(server, HOST4, timeout=5) == SECOND_PROXY4, PATIENCE, "flows follow"
        )
        # Only the DNS relay asked for the name.
        self.assertTrue(all(seen.ports[1] == 53 for seen in witness.to(DNS4)))


class ConfirmTests(RoutesCase):
    """C{--confirm}."""

    def test_notConfirmed(self) -> None:
        """Without a confirmation everything is undone, and the daemon ends with status 1."""
        proxy, server = self.socks(), self.world()
        child = launch(
            self.lab.host,
            self.directory / "confirm",
            self.settings(proxy, killSwitch=True),
            ["--confirm", "5"],
        )
        self.addCleanup(child.stop)
        waitUntil(
            lambda: self.asker(server, HOST4, timeout=5) == HOST4.proxyOutside,
            START_SECONDS,
            "the routes are set",
        )
        self.assertNotIn("unreachable", self.lab.host.run(["ip", "rule"]).stdout)
        self.assertEqual(child.wait(PATIENCE), 1, child.output())
        self.assertIn("Nobody called 'nanotun confirm --run-dir ", child.output())
        self.assertNothingLeft()
        self.assertDirect(server)
