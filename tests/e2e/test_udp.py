"""
Datagrams through the tunnel: whole, from one outside address, with answers from anybody.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import time

from nanotun.flow import Endpoint
from tests.e2e.case import TunnelCase, engines, enginesAndFamilies
from tests.e2e.lab import pattern, udp
from tests.e2e.lab.daemon import CONNECT_SECONDS, Daemon
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import Microsocks
from tests.e2e.lab.tcpdump import Tcpdump
from tests.e2e.lab.topology import FAMILIES, IPV4
from tests.e2e.schemes import SAID

SIZES = (0, 1, 1472, 1473, 8000)
"""Sizes in bytes: nothing, something, the most that one packet of 1500 bytes carries, and more."""

BURST_SIZES = (500, 500, 500, 100, 1400)
"""Sizes in bytes: equal ones may be sent as one piece, and these are not all equal."""

HEADER = 22
"""The longest header of RFC 1928, section 7, without names."""

AT_ONCE = CONNECT_SECONDS / 4
"""Seconds within which an app must learn that there is no UDP."""

REFUSED_PORT = 7000

UDP_SEGMENT = 103
"""Linux, linux/udp.h."""


class CarryChecks(TunnelCase):
    """Datagrams of all sizes, in both directions."""

    def _check(self, largest: int) -> None:
        server = self.udpServer(udp.echo, self.family)
        app = self.datagrams(server.port)
        for size in (*SIZES, largest):
            self.assertEchoes(app, pattern.block()[size : 2 * size])
        self._burst(app)

    def _burst(self, app: socket.socket) -> None:
        """Datagrams in quick succession stay separate, even where several are handled at once."""
        for turn in range(5):
            sent = [
                b"%d %d " % (turn, number) + bytes(BURST_SIZES[number % 5]) for number in range(60)
            ]
            for payload in sent:
                app.send(payload)
            heard = [app.recv(65536) for _ in sent]
            self.assertTrue(sorted(heard) == sorted(sent), f"in turn {turn}")

    def test_dante(self) -> None:
        """
        Through dante, datagrams return whole, up to the size that fits behind SOCKS5's
        header.
        """
        self.tunnel()
        self._check(udp.LARGEST - HEADER)

    def test_ownRelay(self) -> None:
        """The same holds for a second SOCKS5 server, which sends datagrams back unchanged."""
        self.daemon(proxy=f"socks5://{IPV4.proxy}:{self.socksRelay().port}")
        self._check(udp.LARGEST - HEADER)

    def test_direct(self) -> None:
        """With C{direct://}, datagrams up to the largest possible size return whole."""
        self.lab.openDirectPath()
        self.daemon(proxy="direct://")
        self._check(udp.LARGEST)

    def test_segments(self) -> None:
        """One piece that an app's kernel is to segment (QUIC) arrives as separate datagrams."""
        server = self.udpServer(udp.sink, self.family)
        self.tunnel()
        app = self.datagrams(server.port)
        app.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
        sent = pattern.block()[:12_500]
        app.send(sent)
        waitUntil(lambda: len(server.heard) == 11, PATIENCE, "11 datagrams arrive")
        self.assertEqual({len(payload) for payload, _ in server.heard}, {1200, 500})
        self.assertTrue(b"".join(payload for payload, _ in server.heard) == sent)

    def test_proxyOverIPv6(self) -> None:
        """The proxy may be reached by the other IP version than the app uses."""
        server = self.udpServer(udp.echo, self.family)
        dante = self.dante()
        for family in FAMILIES:
            daemon = self.daemon(proxy=dante.url(family))
            self.assertEchoes(self.datagrams(server.port))
            self.assertEndsWell(daemon)


class ClosedPortChecks(TunnelCase):
    """Closed ports behind dante, which forwards the ICMP error of the first one."""

    def setUp(self) -> None:
        """Make the laboratory, if that has dante."""
        super().setUp()
        self.needDante()

    def _told(self, daemon: Daemon) -> set[str]:
        self.assertNotIn(" error [", daemon.log())
        return {line for line in daemon.log().splitlines() if SAID in line}

    def _whoAmI(self, app: socket.socket, port: int) -> bytes:
        """
        Who a server thinks that the app is.  Dante hears of a closed port when it sends the next
        datagram, which it throws away: the app asks again, like every program over UDP.
        """
        app.settimeout(1)
        for _ in range(int(PATIENCE)):
            app.sendto(b"who am I", (self.family.world, port))
            with contextlib.suppress(TimeoutError):
                return app.recvfrom(1000)[0]
        self.fail("no answer")

    def test_one(self) -> None:
        """A closed port looks closed to an app that talks to it alone."""
        daemon = self.tunnel()
        app = self.datagrams(9)
        with self.assertRaises(ConnectionRefusedError):
            app.send(b"hello")
            app.recv(100)
        closed = Endpoint(self.family.world, 9)
        waitUntil(
            lambda: any(str(closed) in line for line in self._told(daemon)), PATIENCE, "a line"
        )
        self.assertEndsWell(daemon)

    def test_several(self) -> None:
        """Closed ports cost the others nothing: the outside sees the same address as before."""
        mirror = self.udpServer(udp.mirror, self.family)
        daemon = self.tunnel()
        app = self.lab.app.makeSocket(self.family.af, socket.SOCK_DGRAM)
        self.addCleanup(app.close)
        seen = set()
        for closed in range(4000, 4040):
            app.sendto(b"is anybody there", (self.family.world, closed))
            if closed % 10 == 0:
                seen.add(self._whoAmI(app, mirror.port))
        self.assertEqual(len(seen), 1)
        waitUntil(lambda: bool(self._told(daemon)), PATIENCE, "a line about a closed port")
        self.assertEndsWell(daemon)


class MappingChecks(TunnelCase):
    """Endpoint-independent mapping and filtering (RFC 4787, sections 4.1 and 5)."""

    def _check(self, thirdParty: bool = True) -> None:
        mirrors = [self.udpServer(udp.mirror, self.family) for _ in range(2)]
        third = self.udpServer(udp.sink, self.family)
        introducer = self.udpServer(udp.by(third), self.family)
        app = self.lab.app.makeSocket(self.family.af, socket.SOCK_DGRAM)
        self.addCleanup(app.close)
        app.settimeout(PATIENCE)
        seen = set()
        for server in (*mirrors, *mirrors):
            app.sendto(b"who am I", (self.family.world, server.port))
            answer, source = app.recvfrom(1000)
            self.assertEqual(source[:2], (self.family.world, server.port))
            seen.add(answer)
        self.assertEqual(len(seen), 1, "one outside address for all destinations")
        if not thirdParty:
            return
        app.sendto(b"tell the other", (self.family.world, introducer.port))
        answer, source = app.recvfrom(1000)
        self.assertEqual((answer, source[:2]), (b"tell the other", (self.family.world, third.port)))
        self.assertEqual({source[1] for source in introducer.sources()}, {_port(seen.pop())})

    def test_dante(self) -> None:
        """Through dante, two destinations see the same address and port."""
        self.tunnel()
        # Dante connects its outside socket to the last destination, so no third party gets
        # in.
        self._check(thirdParty=False)

    def test_ownRelay(self) -> None:
        """
        A proxy that lets third parties in has their datagrams reach the app, with their
        addresses.
        """
        self.daemon(proxy=f"socks5://{IPV4.proxy}:{self.socksRelay().port}")
        self._check()

    def test_direct(self) -> None:
        """The same holds for C{direct://}."""
        self.lab.openDirectPath()
        self.daemon(proxy="direct://")
        self._check()


def _port(answer: bytes) -> int:
    """The port in a mirror's answer."""
    return int(answer.split()[1])


class NoUDPChecks(TunnelCase):
    """If datagrams cannot be carried, the app learns so, and QUIC falls back to TCP at once."""

    def _refused(self, sock: socket.socket) -> float:
        """
        Send until the app gets an error.

        @return: the seconds that it took.
        """
        started = time.monotonic()
        sock.settimeout(PATIENCE)
        with self.assertRaises(ConnectionRefusedError):
            sock.send(b"hello")
            sock.recv(100)
        return time.monotonic() - started

    def test_proxyWithoutUDP(self) -> None:
        """With a proxy without UDP each flow is refused at once, and the log has one line."""
        proxy = Microsocks(self.lab.proxy, self.directory)
        self.addCleanup(proxy.stop)
        daemon = self.daemon(proxy=proxy.url())
        for number in range(20):
            self.assertLess(self._refused(self.datagrams(9000 + number)), AT_ONCE)
        sock = self.datagrams(9000)
        for _ in range(5):  # One socket that keeps trying.
            self.assertLess(self._refused(sock), AT_ONCE)
        output = (daemon.directory / "stdout.log").read_text()
        lines = [line for line in output.splitlines() if "UDP" in line and IPV4.proxy in line]
        self.assertEqual(len(lines), 1, output)

    def test_closedPort(self) -> None:
        """With C{direct://} a closed port looks closed."""
        self.lab.openDirectPath()
        self.daemon(proxy="direct://")
        self.assertLess(self._refused(self.datagrams(REFUSED_PORT)), AT_ONCE)

    def test_proxyDown(self) -> None:
        """With a proxy that cannot be reached, flows are refused, and the log says so."""
        daemon = self.daemon(proxy=f"socks5://{IPV4.proxy}:9")
        self.assertLess(self._refused(self.datagrams(9000)), AT_ONCE)
        self.assertIn(f"{IPV4.proxy}:9", daemon.log().partition("is up")[2])


class GatewayChecks(TunnelCase):
    """The gateway's ports without a listener."""

    def test_otherPorts(self) -> None:
        """Datagrams to the gateway's other ports get no answer of any kind."""
        self.tunnel()
        for family in FAMILIES:
            sock = self.datagrams(9, family.gateway, timeout=0.7)
            sock.send(b"hello")
            with self.assertRaises(TimeoutError):
                sock.recv(100)

    def test_pingOfOthers(self) -> None:
        """Pings of other addresses are refused by the gateway at once, and none of them leaves."""
        self.tunnel()
        # Type 8 of ICMP, and 128 of ICMPv6.
        pings = "icmp[0] == 8 or (icmp6 and ip6[40] == 128)"
        left = Tcpdump(self.lab.app, self.directory, "up0", pings)
        self.addCleanup(left.stop)
        hosts = ("192.0.2.99", "2001:db8::99")
        sentences = ("Packet filtered", "Administratively prohibited")
        for family, host, sentence in zip(FAMILIES, hosts, sentences, strict=True):
            for words in ((host,), (family.world,), ("-s", "4000", family.world)):
                argv = ["ping", family.option, "-n", "-c", "2", "-i", "0.2", "-W", "30", *words]
                started = time.monotonic()
                done = self.lab.app.run(argv, check=False)
                self.assertLess(time.monotonic() - started, 20)
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertIn(" 0 received, +2 errors", done.stdout)
                said = rf"(?m)^From {family.gateway}:? icmp_seq=1 .*{sentence}"
                self.assertRegex(done.stdout, said)
        self.assertEqual(left.destinations(), {})


class StopChecks(TunnelCase):
    """The end of the daemon."""

    def test_stopWithAssociations(self) -> None:
        """SIGTERM and SIGINT end it in time though 100 associations are open and busy."""
        server = self.udpServer(udp.echo, IPV4)
        proxy = self.socksRelay()
        for number in (signal.SIGTERM, signal.SIGINT):
            daemon = self.daemon(proxy=f"socks5://{IPV4.proxy}:{proxy.port}")
            apps = [self.datagrams(server.port) for _ in range(100)]
            for app in apps:
                self.assertEchoes(app)
            for app in apps:
                app.send(b"once more")
            self.assertEqual(len(proxy.live), 100)
            self.assertEndsWell(daemon, number)
            waitUntil(lambda: not proxy.live, PATIENCE, "the proxy hears of the end")
            for app in apps:
                app.close()


enginesAndFamilies(globals(), CarryChecks)
enginesAndFamilies(globals(), ClosedPortChecks)
enginesAndFamilies(globals(), MappingChecks)
enginesAndFamilies(globals(), NoUDPChecks)
engines(globals(), GatewayChecks)
engines(globals(), StopChecks)
# Otherwise trial would run the base classes, too.
del ClosedPortChecks, CarryChecks, MappingChecks, NoUDPChecks
del GatewayChecks, StopChecks
