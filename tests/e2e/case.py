"""
The base classes of the end-to-end tests.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.e2e.lab.daemon import STOP_SECONDS, Daemon
from tests.e2e.lab.nameserver import Unbound
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.servers import Peer, WebServer
from tests.e2e.lab.tlsfront import Certificate
from tests.e2e.lab.topology import IPV4, IPV6, TUN_NAME, Family, Lab
from tests.e2e.lab.udp import Address, UDPServer, familyOf
from tests.e2e.lab.udprelay import Manners, Relay

PROGRAMS = (
    "curl",
    "dnsperf",
    "ip",
    "iperf3",
    "kdig",
    "microsocks",
    "nft",
    "ping",
    "socat",
    "setpriv",
    "sysctl",
    "unbound",
    "unshare",
)

STOP_SLACK = 10.0
"""Seconds by which a busy machine may delay the end of a process."""

TRIES = 8
"""How often L{LabCase.assertQuick} tries."""

BUSY = 4
"""How much longer than on a quiet machine a test may take."""


def missing() -> str:
    """Why end-to-end tests cannot run here; empty if they can."""
    if os.geteuid() != 0:
        return "root is needed for network namespaces and the TUN device"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"these programs are missing: {', '.join(absent)}" if absent else ""


class TestTookTooLong(Exception):
    """A test exceeded its deadline.  It is no OSError, so that no test takes it for one."""


class LabCase(SynchronousTestCase):
    """
    A test with a laboratory of its own.  Tests are synchronous, as everything under test runs
    in other processes.

    @cvar seconds: the deadline, after which the test fails wherever it hangs, on a machine that
        has nothing else to do; a busy one has L{BUSY} times as many.
    """

    seconds = 60

    def setUp(self) -> None:
        """Make the laboratory; skip if something is missing."""
        reason = missing()
        if reason:
            raise SkipTest(reason)
        self._startAlarm()
        self.directory = Path(self.mktemp()).resolve()
        self.directory.mkdir(parents=True)
        self.lab = Lab()
        self.addCleanup(self.lab.remove)

    def _startAlarm(self) -> None:
        def expired(number: int, frame: FrameType | None) -> None:
            raise TestTookTooLong(f"the test took more than {BUSY * self.seconds} s")

        before = signal.signal(signal.SIGALRM, expired)
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        signal.alarm(BUSY * self.seconds)
        self.addCleanup(signal.alarm, 0)

    def assertQuick(self, attempt: Callable[[], object], seconds: float, what: object = "") -> None:
        """
        C{attempt} takes less time than that, once at least: a busy machine delays some attempts,
        and what waits for something is never quick.
        """
        took: list[float] = []
        while not took or took[-1] >= seconds:
            self.assertLess(len(took), TRIES, f"{what} never in less than {seconds:g} s: {took}")
            began = time.monotonic()
            attempt()
            took.append(time.monotonic() - began)

    def webServer(self) -> WebServer:
        """Start a web server in the world."""
        server = WebServer(self.lab.world, self.directory)
        self.addCleanup(server.stop)
        return server

    def dante(self, **options: object) -> Dante:
        """Start dante, or what stands in for it, in the proxy's namespace."""
        server = Dante(self.lab.proxy, self.directory, **options)  # type: ignore[arg-type]
        self.addCleanup(server.stop)
        return server

    def needDante(self) -> None:
        """Skip where something stands in for dante which does not do what this test is about."""
        if not Dante.installed():
            raise SkipTest("dante is not installed")

    def peer(
        self,
        handler: Callable[[socket.socket], object],
        namespace: Namespace | None = None,
        timeout: float = PATIENCE,
        port: int = 0,
    ) -> Peer:
        """Start a server that calls C{handler}, in the world by default."""
        peer = Peer(namespace or self.lab.world, handler, port, timeout)
        self.addCleanup(peer.stop)
        return peer

    def udpServer(
        self,
        handler: Callable[[UDPServer, bytes, Address], object],
        family: Family,
        host: str = "",
        port: int = 0,
    ) -> UDPServer:
        """Start a datagram server in the world, on C{host} or the address of C{family}."""
        server = UDPServer(self.lab.world, host or family.world, handler, port)
        self.addCleanup(server.stop)
        return server

    def socksRelay(self, manners: Manners | None = None) -> Relay:
        """Start a SOCKS5 server for UDP, which may misbehave, in the proxy's namespace."""
        relay = Relay(self.lab.proxy.makeSocket, manners).start()
        self.addCleanup(relay.stop)
        return relay

    def nameServer(
        self,
        *hosts: str,
        log: bool = True,
        shown: Certificate | None = None,
        plain: bool = True,
        more: str = "",
    ) -> Unbound:
        """Start unbound in the world; see L{Unbound}."""
        server = Unbound(self.lab.world, self.directory, hosts, log, shown, plain, more)
        self.addCleanup(server.stop)
        return server


class GVisor:
    """Mixin: the daemon runs the C{gvisor} engine."""

    stackMode = "gvisor"


class Simple:
    """Mixin: the daemon runs the C{simple} engine."""

    stackMode = "simple"


class Over4:
    """Mixin: the app talks IPv4."""

    family = IPV4


class Over6:
    """Mixin: the app talks IPv6."""

    family = IPV6


class TunnelCase(LabCase):
    """
    A test with a daemon.  Its subclasses mix in an engine and an IP version.
    """

    stackMode = "gvisor"
    family: Family = IPV4

    #: What L{tunnel} goes through.
    _tunnelDante: Dante | None = None

    def daemon(self, **settings: object) -> Daemon:
        """
        Start a daemon and wait until it is up; add default routes through it, as a user would
        by hand.
        """
        name = str(settings.get("tunName", TUN_NAME))
        settings.setdefault("stackMode", self.stackMode)
        daemon = Daemon(self.lab.app, self._daemonDirectory(), **settings)
        self.addCleanup(self._checkLog, daemon)
        self.addCleanup(daemon.kill)
        self.lab.routeThroughTunnel(name)
        return daemon

    def _daemonDirectory(self) -> Path:
        """A separate directory for each daemon of a test."""
        return self.directory / f"daemon-{len(list(self.directory.glob('daemon-*')))}"

    def _checkLog(self, daemon: Daemon) -> None:
        log = daemon.log()
        for sign in ("Traceback", "Unhandled", "panic:", "fatal error:"):
            self.assertNotIn(sign, log)

    def tunnel(self, **settings: object) -> Daemon:
        """Start a daemon whose upstream is a dante without password."""
        if self._tunnelDante is None:
            # A second one could not listen at the same port.
            self._tunnelDante = self.dante()
        return self.daemon(proxy=self._tunnelDante.url(), **settings)

    def connect(self, port: int, timeout: float = PATIENCE) -> socket.socket:
        """A connection from the app to the world, through the tunnel."""
        sock = self.lab.app.connect((self.family.world, port), timeout)
        self.addCleanup(sock.close)
        return sock

    def datagrams(self, port: int, host: str = "", timeout: float = PATIENCE) -> socket.socket:
        """A datagram socket in the app, connected to the world, through the tunnel."""
        host = host or self.family.world
        sock = self.lab.app.makeSocket(familyOf(host), socket.SOCK_DGRAM)
        self.addCleanup(sock.close)
        sock.settimeout(timeout)
        sock.connect((host, port))
        return sock

    def assertEchoes(self, sock: socket.socket, payload: bytes = b"are you there") -> None:
        """C{sock} gets back what it sends."""
        sock.send(payload)
        self.assertTrue(sock.recv(65536) == payload, f"{len(payload)} bytes did not come back")

    def assertArrives(self, sock: socket.socket, size: int) -> None:
        """That many bytes arrive before an end or a reset does."""
        left = size
        while left:
            data = sock.recv(65536)
            self.assertTrue(data, f"an end before the last {left} bytes")
            left -= len(data)

    def connectError(
        self, port: int, timeout: float = PATIENCE, mark: int = 0
    ) -> tuple[int, float]:
        """
        Connect from the app to the world, which must fail.

        @return: the errno, and the seconds that it took.
        """
        started = time.monotonic()
        try:
            sock = self.lab.app.connect((self.family.world, port), timeout, mark)
        except OSError as error:
            return error.errno or 0, time.monotonic() - started
        sock.close()
        self.fail(f"the app saw an accepted connection to {self.family.name} port {port}")

    def assertEndsWell(self, daemon: Daemon, number: int = signal.SIGTERM) -> None:
        """C{daemon} ends in time and in order, and leaves no device behind."""
        status, seconds = daemon.stop(number)
        # After an orderly stop, twistd kills itself with the signal that asked for it.
        self.assertIn(status, (0, -number), daemon.log())
        self.assertLess(seconds, STOP_SECONDS + STOP_SLACK, daemon.log())
        self.assertNotIn(daemon.name, self.lab.app.interfaces())


def engines(namespace: dict[str, object], case: type[LabCase]) -> None:
    """
    Add to a module one subclass of C{case} per engine.

    @param namespace: the module's C{globals()}.
    """
    for engine in (GVisor, Simple):
        addTests(namespace, case, engine)


def enginesAndFamilies(namespace: dict[str, object], case: type[TunnelCase]) -> None:
    """Add to a module one subclass of C{case} per engine and IP version."""
    for engine in (GVisor, Simple):
        for version in (Over4, Over6):
            addTests(namespace, case, engine, version)


def addTests(namespace: dict[str, object], case: type[LabCase], *mixins: type) -> None:
    """
    Add to a module one subclass of a case with mixins, whose names are part of its own.

    @param namespace: the module's C{globals()}.
    """
    name = (
        case.__name__.removesuffix("Checks") + "".join(mixin.__name__ for mixin in mixins) + "Tests"
    )
    made = type(
        name, (*mixins, case), {"__module__": namespace["__name__"], "__doc__": case.__doc__}
    )
    namespace[name] = made
