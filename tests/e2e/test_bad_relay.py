"""
Misbehaving UDP relays of SOCKS5 proxies: correct datagrams pass, others do not, and nothing
breaks.
"""

from __future__ import annotations

import socket
import time

from nanotun.flow import Endpoint
from tests.e2e.case import TunnelCase, engines
from tests.e2e.lab import badudp, udp
from tests.e2e.lab.daemon import CONNECT_SECONDS, SHORT, SHORT_SECONDS, Daemon
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.topology import IPV4
from tests.e2e.lab.udprelay import Manners, Relay
from tests.e2e.schemes import SAID

PUBLIC = "203.0.113.77"
"""An address of the proxy's namespace that is in no local network."""

QUIET_SECONDS = 0.3
"""Seconds in which nothing more may arrive."""

FLOOD = 20_000

STORM_SECONDS = 3.0
STORM_PAUSE = 0.002
"""How often, and for how many seconds, an app sends."""

STORM_DIALS = 12
"""Associations that it may cost; without a pause, there are hundreds each second."""


class BadRelayCase(TunnelCase):
    """What all tests need."""

    def _daemon(
        self, manners: Manners, host: str = IPV4.proxy, **settings: object
    ) -> tuple[Relay, Daemon]:
        proxy = self.socksRelay(manners)
        return proxy, self.daemon(proxy=f"socks5://{host}:{proxy.port}", **settings)

    def _app(self) -> socket.socket:
        """A socket that accepts datagrams from every address."""
        app = self.lab.app.makeSocket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(app.close)
        app.settimeout(PATIENCE)
        return app

    def _heard(self, app: socket.socket) -> set[tuple[bytes, udp.Address]]:
        """Everything that arrives until it is quiet."""
        heard = set()
        app.settimeout(PATIENCE)
        while True:
            try:
                heard.add(app.recvfrom(65536))
            except TimeoutError:
                return heard
            app.settimeout(QUIET_SECONDS)


class BadDatagramChecks(BadRelayCase):
    """Datagrams that violate the protocol."""

    def _onlyHonest(self, manners: Manners) -> None:
        server = self.udpServer(udp.echo, IPV4)
        proxy, daemon = self._daemon(manners)
        app = self._app()
        for number in range(5):
            honest = b"honest %d" % number
            app.sendto(honest, (IPV4.world, server.port))
            self.assertEqual(self._heard(app), {(honest, (IPV4.world, server.port))})
        self.assertEqual(proxy.total, 1, "one bad datagram is no reason to start again")
        self.assertEndsWell(daemon)

    def test_short(self) -> None:
        """Datagrams of 0 to 9 bytes, which are shorter than a header, are dropped."""
        self._onlyHonest(badudp.CutShort())

    def test_fragments(self) -> None:
        """Fragments are dropped."""
        self._onlyHonest(badudp.Fragments())

    def test_unknownTypes(self) -> None:
        """Address types that do not exist are dropped."""
        self._onlyHonest(badudp.UnknownTypes())

    def test_lyingNames(self) -> None:
        """Names that extend beyond the datagram are dropped."""
        self._onlyHonest(badudp.LyingNames())

    def test_noise(self) -> None:
        """Bytes that are no SOCKS5 datagram at all are dropped."""
        noise = [bytes([byte]) * length for byte in (0xFF, 0x05, 0x80) for length in (1, 30, 1400)]
        self._onlyHonest(badudp.Prefixed(*noise))

    def test_namesOfPeers(self) -> None:
        """An address that is written as a name is read as that address."""
        self._onlyHonest(badudp.NamesOfPeers())

    def test_nameOfPeer(self) -> None:
        """A name that is no address is taken as the app's only destination."""
        self._onlyHonest(badudp.NamesOfPeers("world.lab"))

    def test_impossibleSenders(self) -> None:
        """Impossible senders, such as loopback and the gateway itself, are dropped."""
        self._onlyHonest(badudp.ImpossibleSenders())

    def test_flood(self) -> None:
        """A flood of replies, half of them bad, kills nothing, and memory does not grow."""
        server = self.udpServer(udp.echo, IPV4)
        _, daemon = self._daemon(badudp.Flood(FLOOD))
        app = self._app()
        memory = daemon.rss()
        app.sendto(b"one", (IPV4.world, server.port))
        self.assertEqual(self._heard(app), {(b"one", (IPV4.world, server.port))})
        self.assertLess(daemon.rss() - memory, 64 * 1024 * 1024)
        self.assertEndsWell(daemon)


class BadAssociationChecks(BadRelayCase):
    """Answers to UDP ASSOCIATE that are unusual or wrong."""

    def _works(self, manners: Manners, host: str = IPV4.proxy) -> None:
        server = self.udpServer(udp.echo, IPV4)
        _, daemon = self._daemon(manners, host)
        self.assertEchoes(self.datagrams(server.port))
        self.assertEndsWell(daemon)

    def test_unspecified(self) -> None:
        """0.0.0.0 and :: mean the proxy's own address."""
        self._works(badudp.SaysItIsAt("0.0.0.0"))
        self._works(badudp.SaysItIsAt("::"))

    def test_loopback(self) -> None:
        """The loopback address means the proxy's own address."""
        self._works(badudp.SaysItIsAt("127.0.0.1"))
        self._works(badudp.SaysItIsAt("::1"))

    def test_behindNAT(self) -> None:
        """A private address of a proxy with a public one means the proxy's own address."""
        self.lab.proxy.ip(f"addr add {PUBLIC}/32 dev lo")
        self.lab.app.ip(f"route add {PUBLIC}/32 via {IPV4.proxy}")
        self._works(badudp.SaysItIsAt("192.168.55.55"), PUBLIC)

    def test_name(self) -> None:
        """A name means the proxy's own address."""
        self._works(badudp.SaysItsName())

    def test_portZero(self) -> None:
        """Without a port there is no association: the app is refused, and the log says why."""
        self._useless(badudp.SaysPortZero(), CONNECT_SECONDS / 2)

    def test_refused(self) -> None:
        """If the proxy does not support the command, the app is refused, and the log says why."""
        self._useless(badudp.Refuses(), CONNECT_SECONDS / 2)

    def test_silent(self) -> None:
        """If the proxy never answers, the app is refused at the deadline, and the log says why."""
        self._useless(badudp.Silent(), SHORT_SECONDS + 10, connectTimeout=SHORT)

    def _useless(self, manners: Manners, deadline: float, **settings: object) -> None:
        proxy, daemon = self._daemon(manners, IPV4.proxy, **settings)
        fds = daemon.fds()
        app = self.datagrams(9000)
        before = len(daemon.log())
        started = time.monotonic()
        with self.assertRaises(ConnectionRefusedError):
            app.send(b"hello")
            app.recv(100)
        self.assertLess(time.monotonic() - started, deadline)
        waitUntil(lambda: not proxy.live and daemon.fds() <= fds, PATIENCE, "nothing stays open")
        waitUntil(lambda: IPV4.proxy in daemon.log()[before:], PATIENCE, "the log says why")
        self.assertEndsWell(daemon)


class DeadRelayChecks(BadRelayCase):
    """UDP relays that are granted, but useless."""

    def _storm(self, manners: Manners) -> tuple[Relay, Daemon]:
        """Send for a while; the app hears of it, and few associations are asked for."""
        proxy, daemon = self._daemon(manners)
        app = self.datagrams(9000)
        refused = 0
        end = time.monotonic() + STORM_SECONDS
        while time.monotonic() < end:
            try:
                app.send(b"hello")
            except ConnectionRefusedError:
                refused += 1
            time.sleep(STORM_PAUSE)
        self.assertGreater(refused, 0, "the app does not hear of it")
        self.assertLess(proxy.total, STORM_DIALS)
        return proxy, daemon

    def _lines(self, daemon: Daemon, level: str) -> set[str]:
        # The daemon's output and its file have the same lines.
        return {line for line in daemon.log().splitlines() if f" {level}" in line}

    def test_closedPort(self) -> None:
        """
        If the UDP relay's port is closed, the app is refused, on one association; the log
        names the destination, and no proxy's fault, as a closed port there looks the same.
        """
        proxy, daemon = self._storm(badudp.SaysAClosedPort())
        self.assertEqual(proxy.total, 1)
        self.assertEqual(self._lines(daemon, "error ["), set())
        (line,) = {each for each in self._lines(daemon, SAID) if " more in " not in each}
        self.assertIn(f"UDP to {Endpoint(IPV4.world, 9000)} was refused behind", line)
        self.assertEndsWell(daemon)

    def test_hangsUp(self) -> None:
        """The same holds if the proxy closes the control connection at once."""
        _, daemon = self._storm(badudp.HangsUp())
        lines = self._lines(daemon, "error ")
        self.assertEqual(["closed the connection" in line for line in lines], [True], lines)
        self.assertEndsWell(daemon)


engines(globals(), BadDatagramChecks)
engines(globals(), BadAssociationChecks)
engines(globals(), DeadRelayChecks)
# Otherwise trial would run the base classes, too.
del BadDatagramChecks, BadAssociationChecks, DeadRelayChecks
