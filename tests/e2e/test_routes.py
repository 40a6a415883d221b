"""
C{autoDefaultRoute}: all of a host's traffic goes through the tunnel, and back to normal.
"""

from __future__ import annotations

import os
import socket
import time

from tests.e2e.case import STOP_SLACK
from tests.e2e.lab import curl, toydns
from tests.e2e.lab.daemon import STOP_SECONDS, answers, launch
from tests.e2e.lab.host import (
    DNS4,
    GATEWAY4,
    HOST4,
    HOST6,
    NEIGHBOUR4,
    NEIGHBOUR6,
    UPLINK,
)
from tests.e2e.lab.process import PATIENCE, Child, waitUntil
from tests.e2e.lab.servers import Peer
from tests.e2e.lab.udp import UDPServer
from tests.e2e.routes_case import FAMILIES, RoutesCase

FOREIGN = (
    "rule add pref 7400 to 9.9.9.9 lookup 77 protocol 99",
    "rule add pref 7499 nop",
    "rule add pref 100 to 9.9.9.9 lookup 77",
    "rule add pref 20000 fwmark 0x6e74 lookup 77",
    "route add 9.9.9.9 via 192.168.77.3 table 77",
    "route add 9.9.9.9 via 192.168.77.3 table 28276",
    "-6 rule add pref 7450 to 2a99::9 lookup 77",
)

#: TunnelVision (CVE-2024-3661), and longer prefixes than it used.
PUSHED = (
    *(f"route add {net} via {GATEWAY4} proto dhcp" for net in ("0.0.0.0/1", "128.0.0.0/1")),
    *(f"route add {net} via {GATEWAY4} proto dhcp" for net in ("8.0.0.0/6", "9.77.2.0/24")),
    f"route add {HOST4.world}/32 via {GATEWAY4} proto dhcp",
    "route add 2000::/3 via 2a77::1 proto ra",
    f"route add {HOST6.world}/128 via 2a77::1 proto ra",
)


class RoutesTests(RoutesCase):
    """A daemon that starts, works and stops."""

    def test_wholeLife(self) -> None:
        """Both IP versions go through the proxy while it runs, and nothing is left afterwards."""
        server = self.world()
        self.assertDirect(server)
        daemon = self.daemon(self.socks())
        witness = self.witness()
        self.assertThroughProxy(server)
        self.assertNoLeak(witness)
        status, seconds = daemon.stop()
        self.assertIn(status, (0, -15), daemon.log())
        self.assertLess(seconds, STOP_SECONDS + STOP_SLACK)
        self.assertNothingLeft()
        self.assertDirect(server)

    def test_second(self) -> None:
        """A second daemon with a runDir of its own does not affect the first, and says why."""
        proxy = self.socks()
        daemon = self.daemon(proxy)
        before = self.lab.state()
        runDir = str(self.directory / "second")
        settings = self.settings(proxy, tunName="nano1", runDir=runDir)
        child = launch(self.lab.host, self.directory / "daemon-second", settings)
        self.addCleanup(child.stop)
        self.assertRefused(child, "sends this machine's traffic into its device nano0")
        self.assertEqual(self.lab.state(), before)
        self.assertNotIn("had been taken away", daemon.log())
        daemon.stop()
        self.assertNothingLeft()

    def assertRefused(self, child: Child, sentence: str) -> None:
        """A second daemon did not start, said why, and blamed nobody else."""
        self.assertEqual(child.wait(PATIENCE), 1)
        self.assertIn(f"Another nanotun {sentence}", child.output())
        self.assertNotIn("offload", child.output())

    def test_secondDevice(self) -> None:
        """
        Beside a daemon with autoDefaultRoute no other one starts, and beside another one none
        with it does; neither affects the first.
        """
        proxy = self.socks()
        runDir = str(self.directory / "second")
        for first, sentence in (
            (True, "sends this machine's traffic into its device nano0"),
            (False, "has the device nano0, which would get no packets any more"),
        ):
            daemon = self.daemon(proxy, autoDefaultRoute=first)
            before = self.lab.state()
            settings = self.settings(
                proxy, tunName="nano1", runDir=runDir, autoDefaultRoute=not first
            )
            child = launch(self.lab.host, self.directory / f"second-{first}", settings)
            self.addCleanup(child.stop)
            self.assertRefused(child, sentence)
            self.assertEqual(self.lab.state(), before)
            for family in FAMILIES:
                self.assertTrue(answers(self.lab.host, family))
            daemon.stop()
            self.assertNothingLeft()

    def test_foreign(self) -> None:
        """Other people's rules and routes, even ones like ours, do not change."""
        self.lab.host.ip(*(line for line in FOREIGN if not line.startswith("-6")))
        self.lab.host.ip(*(line[3:] for line in FOREIGN if line.startswith("-6")), version="-6")
        self.before = self.lab.state()
        server, proxy = self.world(), self.socks()
        daemon = self.daemon(proxy)
        self.assertThroughProxy(server)
        daemon.stop()
        self.assertNothingLeft()
        self.daemon(proxy).kill()
        self.assertEqual(self.recover()[0], 0)
        self.assertNothingLeft()

    def test_pushedRoutes(self) -> None:
        """Routes that a network pushes have no effect, whatever their length, before and after."""
        server = self.world()
        self.lab.host.ip(*PUSHED[:2])
        daemon = self.daemon(self.socks())
        witness = self.witness()
        self.assertThroughProxy(server)
        self.lab.host.ip(*PUSHED[2:])
        self.assertThroughProxy(server)
        time.sleep(1.0)
        self.assertThroughProxy(server)
        self.assertNoLeak(witness)
        daemon.stop()

    def test_largeLink(self) -> None:
        """A link that claims half of the Internet as its network is not believed."""
        server = self.world()
        self.lab.gateway.run(["sysctl", "-q", "-w", "net.ipv4.conf.all.proxy_arp=1"])
        self.lab.gateway.ip("route add 9.1.2.3/32 dev lan")
        self.lab.host.ip(f"addr add 9.1.2.3/8 dev {UPLINK}", f"addr add 2a77:9::2/16 dev {UPLINK}")
        self.daemon(self.socks())
        witness = self.witness()
        self.assertThroughProxy(server)
        self.assertNoLeak(witness)

    def test_lan(self) -> None:
        """With lan: direct, neighbours are reached as before; with lan: proxy they are not."""
        neighbour = self.peer(
            lambda sock: sock.sendall(sock.getpeername()[0].encode()), self.lab.neighbour
        )
        proxy = self.socks()
        self.daemon(proxy).stop()
        for lan, direct in (("direct", True), ("proxy", False)):
            daemon = self.daemon(proxy, lan=lan)
            witness = self.witness()
            for host, own in ((NEIGHBOUR4, HOST4.app), (NEIGHBOUR6, HOST6.app)):
                try:
                    with self.lab.host.connect((host, neighbour.port), 3) as sock:
                        said = sock.recv(100).decode().removeprefix("::ffff:")
                except OSError:
                    said = ""
                self.assertEqual(said == own, direct, (lan, host, said))
                if direct:
                    # A thread reads the packets.
                    waitUntil(lambda: witness.to(host), PATIENCE, f"a packet to {host}")  # noqa: B023
                self.assertEqual(bool(witness.to(host)), direct, (lan, host))
            daemon.stop()

    def test_withoutNft(self) -> None:
        """Without nft, iptables takes its place."""
        server = self.world()
        names = UDPServer(self.lab.world, DNS4, toydns.honest, 53)
        self.addCleanup(names.stop)
        hide = 'mount --bind /dev/null $(command -v nft); exec "$@"'
        daemon = self.daemonIn(
            ["unshare", "--mount", "--propagation", "private", "sh", "-ec", hide, "sh"],
            self.socks(),
        )
        self.assertThroughProxy(server)
        self.assertIn("NANOTUN_", self.lab.host.run(["iptables-save"]).stdout)
        witness = self.witness()
        # Whichever server is asked, the DNS relay answers.
        asked = self.lab.host.run(["kdig", "+short", "host.lab", f"@{NEIGHBOUR4}"]).stdout
        self.assertEqual(asked.strip(), toydns.RIGHT)
        self.assertEqual([seen for seen in witness.to(NEIGHBOUR4) if seen.ports[1] == 53], [])
        daemon.stop()
        saved = self.lab.host.run(["sh", "-c", "iptables-save; ip6tables-save; ip rule"]).stdout
        self.assertNotIn("NANOTUN_", saved)
        self.assertNotIn("110", saved)

    def test_machineBehind(self) -> None:
        """A machine for which this one forwards is behind the tunnel, too, whatever lan says."""
        self.lab.host.run(
            ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        )
        self.lab.neighbour.ip(
            f"route replace default via {HOST4.app}", f"route replace default via {HOST6.app}"
        )
        self.before = self.lab.state()
        server, proxy = self.world(), self.socks()
        for lan in ("proxy", "direct"):
            daemon = self.daemon(proxy, lan=lan)
            witness = self.witness()
            for family in FAMILIES:
                url = family.url(server.port, "/peer")
                said = curl.get(self.lab.neighbour, url)
                self.assertEqual(said, family.proxyOutside, lan)
            self.assertNoLeak(witness)
            daemon.stop()
            self.assertNothingLeft()

    def test_neighbourProbes(self) -> None:
        """A neighbour that probes the gateway and the tunnel's own networks gets no answer."""
        self.lab.host.run(
            ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"]
        )
        self.lab.neighbour.ip(
            f"route add 198.18.0.0/15 via {HOST4.app}",
            f"route add fdfe:dcba:9876::/48 via {HOST6.app}",
        )
        self.daemon(self.socks())
        for family in FAMILIES:
            ping = ["ping", family.option, "-n", "-c", "2", "-i", "0.2", "-W", "1", family.gateway]
            self.assertNotEqual(self.lab.neighbour.run(ping, check=False).returncode, 0)
            for port in (53, 80):
                self.assertRaises(OSError, self.lab.neighbour.connect, (family.gateway, port), 1.5)
            query = self.lab.neighbour.makeSocket(family.af, socket.SOCK_DGRAM)
            self.addCleanup(query.close)
            query.settimeout(1.5)
            query.sendto(toydns.query("host.lab", 7), (family.gateway, 53))
            self.assertRaises(OSError, query.recv, 1000)

    def test_blockedIPv6(self) -> None:
        """With ipv6: block, IPv6 is unreachable at once, and none of it leaks."""
        server = self.world()
        self.daemon(self.socks(), ipv6="block")
        witness = self.witness()
        started = time.monotonic()
        self.assertRaises(OSError, self.lab.host.connect, (HOST6.world, server.port), 30)
        self.assertLess(time.monotonic() - started, 20)
        bound = self.lab.host.makeSocket(socket.AF_INET6)
        self.addCleanup(bound.close)
        bound.settimeout(3)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, UPLINK.encode())
        self.assertRaises(OSError, bound.connect, (HOST6.world, server.port))
        self.assertEqual(self.asker(server, HOST4), HOST4.proxyOutside)
        self.assertNoLeak(witness)

    def test_excludedUser(self) -> None:
        """What an excluded user's processes send goes past the tunnel, from the host's address."""
        server = self.world()
        self.daemon(self.socks(), excludedProcesses="uid:65534")
        argv = ["setpriv", "--reuid=65534", "--clear-groups", "curl", "-q", "-sS", "-m", "60"]
        for family in FAMILIES:
            url = family.url(server.port, "/peer")
            self.assertEqual(self.lab.host.run([*argv, url]).stdout, family.app)
        self.assertThroughProxy(server)

    def test_strictReversePaths(self) -> None:
        """Strict reverse path filtering does not cut the daemon off, and is restored afterwards."""
        names = ("all", UPLINK, "default")
        self.lab.host.run(
            ["sysctl", "-q", "-w", *(f"net.ipv4.conf.{name}.rp_filter=1" for name in names)]
        )
        self.before = self.lab.state()
        server = self.world()
        # The proxy's own address has a rule; direct traffic has none.
        daemon = self.daemon(self.socks(), proxy="direct://")
        self.assertDirect(server)
        daemon.stop()
        self.assertNothingLeft()

    def test_uplinkWithoutGateway(self) -> None:
        """An uplink without a next hop, like that of ppp, works like any other."""
        self.lab.gateway.run(["sysctl", "-q", "-w", "net.ipv4.conf.all.proxy_arp=1"])
        self.lab.host.ip("route del default", f"route add default dev {UPLINK}")
        self.before = self.lab.state()
        server = self.world()
        daemon = self.daemon(self.socks(), ipv6="block")
        self.assertEqual(self.asker(server, HOST4), HOST4.proxyOutside)
        daemon.stop()
        self.assertNothingLeft()

    def test_plan(self) -> None:
        """What plan prints is what a start does, and what it prints as the undo undoes it."""
        self.lab.host.run(["sysctl", "-q", "-w", "net.ipv4.conf.all.rp_filter=1"])
        self.before = self.lab.state()
        proxy = self.socks()
        arguments = [
            "--proxy",
            proxy.url(HOST4),
            "--auto-route",
            "--kill-switch",
            "true",
            "--run-dir",
            str(self.directory / "run"),
            "--exclude",
            "uid:7",
        ]
        done = self.console("plan", *arguments)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(self.lab.state(), self.before)
        does, undoes = done.stdout.split("\n\n")
        daemon = self.daemon(proxy, killSwitch=True, excludedProcesses="uid:7")
        running = self.lab.state()
        daemon.stop()
        self.lab.host.ip(
            "tuntap add nano0 mode tun",
            "link set nano0 up",
            "addr add 198.18.0.2/30 dev nano0",
            "addr add fdfe:dcba:9876::2/126 dev nano0 nodad",
        )
        # There is no systemd-resolved to tell.
        quiet = "resolvectl() { :; }\n"
        self.lab.host.run(["sh", "-ec", quiet + does])
        self.assertEqual(self.lab.state(), running)
        self.lab.host.run(["sh", "-ec", quiet + undoes])
        self.assertNothingLeft()


class SSHTests(RoutesCase):
    """A user who is logged in remotely stays connected."""

    def test_session(self) -> None:
        """A session from the Internet survives start, crash, start and stop."""
        port = 2222

        def echo(sock: socket.socket) -> None:
            while data := sock.recv(100):
                sock.sendall(data)

        server = Peer(self.lab.host, echo, port)
        self.addCleanup(server.stop)
        os.environ["SSH_CONNECTION"] = f"{HOST4.world} 50000 {HOST4.app} {port}"
        self.addCleanup(os.environ.pop, "SSH_CONNECTION", None)
        proxy = self.socks()
        sessions = [self.lab.world.connect((family.app, port), 3) for family in FAMILIES]
        sessions.append(self.lab.neighbour.connect((HOST4.app, port), 3))
        for session in sessions:
            self.addCleanup(session.close)

        def alive() -> None:
            for session in sessions:
                session.sendall(b"still here")
                self.assertEqual(session.recv(100), b"still here")

        alive()
        daemon = self.daemon(proxy)
        alive()
        # A new session can be opened, too.
        sessions.append(self.lab.world.connect((HOST4.app, port), 3))
        self.addCleanup(sessions[-1].close)
        daemon.kill()
        alive()
        daemon = self.daemon(proxy, killSwitch=True)
        alive()
        daemon.kill()
        alive()
        self.daemon(proxy).stop()
        alive()
        self.assertNothingLeft()
