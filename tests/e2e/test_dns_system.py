"""
C{dns: system}: the servers of a machine that has an F{/etc} and a F{/run} of its own.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.case import engines
from tests.e2e.lab import nameserver, resolved, toydns
from tests.e2e.lab.daemon import Daemon, launch
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, Child, waitUntil
from tests.e2e.lab.topology import IPV4, IPV6
from tests.e2e.lab.udp import Address, UDPServer
from tests.e2e.schemes import ProgramsCase
from tests.e2e.test_dns import NOWHERE, DNSCase
from tests.e2e.test_resolved import CONFIG

ENTER = """\
mount --bind "$1" /etc
mount --bind "$2" /run
shift 2
exec "$@"
"""

FOLLOWED = 20.0
"""Seconds within which another server is asked."""


def elsewhere(server: UDPServer, query: bytes, client: Address) -> None:
    """Answer as no other server does."""
    server.sock.sendto(toydns.answer(query, "10.7.7.7"), client)


class Apart(Daemon):
    """
    A daemon with an F{/etc} and a F{/run} of its own.

    @param machine: the folder that has both.
    """

    def __init__(
        self, machine: Path, namespace: Namespace, directory: Path, **settings: object
    ) -> None:
        self._machine = machine
        super().__init__(namespace, directory, **settings)

    def launched(self, settings: Mapping[str, object]) -> Child:
        """Start it there."""
        enter = ["unshare", "--mount", "sh", "-ec", ENTER, "sh"]
        prefix = [*enter, str(self._machine / "etc"), str(self._machine / "run")]
        return launch(self._namespace, self.directory, settings, prefix=prefix)


class SystemChecks(DNSCase, ProgramsCase):
    """A server in the world, and another one, which knows other addresses."""

    seconds = 60
    programs = ("unshare", "busctl", "dbus-daemon", resolved.PYTHON)

    def setUp(self) -> None:
        """Start both, and make the machine."""
        super().setUp()
        self.nameServer(IPV4.world)
        self.udpServer(elsewhere, IPV6, port=nameserver.PORT)
        # A unix socket is to be there, whose path may have 107 bytes.
        self.machine = Path(tempfile.mkdtemp(prefix="nanotun-system-"))
        self.addCleanup(shutil.rmtree, self.machine)
        shutil.copytree("/etc", self.etc, symlinks=True)
        self.run_.mkdir()

    @property
    def etc(self) -> Path:
        """The machine's F{/etc}."""
        return self.machine / "etc"

    @property
    def run_(self) -> Path:
        """The machine's F{/run}."""
        return self.machine / "run"

    def names(self, *hosts: str) -> None:
        """Another F{resolv.conf} takes the place of the one before."""
        new = self.etc / "resolv.new"
        new.write_text("".join(f"nameserver {host}\n" for host in hosts))
        new.rename(self.etc / "resolv.conf")

    def asking(self, *servers: object, proxy: str = NOWHERE) -> Daemon:
        """Start a daemon on the machine."""
        self.lab.openDirectPath()
        directory = self.directory / "daemon"
        daemon = Apart(
            self.machine,
            self.lab.app,
            directory,
            stackMode=self.stackMode,
            dns=list(servers),
            proxy=proxy,
        )
        self.addCleanup(self._checkLog, daemon)
        self.addCleanup(daemon.kill)
        self.lab.routeThroughTunnel(daemon.name)
        return daemon

    def address(self, name: str = "host.lab") -> list[str]:
        """What the relay says."""
        return self.ask(name, "A", wait=10).data

    def assertFollowed(self, data: str) -> None:
        """Soon the relay has this answer."""
        began = time.monotonic()
        waitUntil(lambda: self.address() == [data], PATIENCE, f"the answer is {data}")
        self.assertLess(time.monotonic() - began, FOLLOWED)

    def test_followed(self) -> None:
        """The servers in resolv.conf are asked, and soon those of a file in its place."""
        self.names(IPV4.world)
        daemon = self.asking("system")
        self.assertEqual(self.address(), ["10.1.2.3"])
        self.names(IPV6.world)
        self.assertFollowed("10.7.7.7")
        (self.etc / "resolv.conf").write_text(f"search lab\nnameserver {IPV4.world}\n")
        self.assertFollowed("10.1.2.3")
        self.assertIn(f"The DNS servers of this machine are {IPV4.world}:53 now.", daemon.log())
        self.assertEndsWell(daemon)

    def test_gatewayAlone(self) -> None:
        """Where it names only the gateway, a warning says so, and the next server is asked."""
        self.names(IPV4.gateway, IPV6.gateway)
        daemon = self.asking("system", IPV4.world)
        self.assertEqual(self.address(), ["10.1.2.3"])
        self.assertIn("dns: system stands for no server, because /etc/resolv.conf", daemon.log())

    def test_throughTheProxy(self) -> None:
        """With a way of their own they are asked by that one."""
        server = self.udpServer(elsewhere, IPV4, IPV4.direct, nameserver.PORT)
        self.names(IPV4.direct)
        self.asking({"server": "system", "via": "proxy"}, proxy=self.dante().url())
        self.assertEqual(self.address(), ["10.7.7.7"])
        self.assertEqual({host for host, _ in server.sources()}, {IPV4.proxyOutside})

    def test_resolved(self) -> None:
        """Those of systemd-resolved are asked, each link's for its own domains."""
        self.names("127.0.0.53")
        folder = self.run_ / "systemd" / "resolve"
        folder.mkdir(parents=True)
        (folder / "stub-resolv.conf").write_text("nameserver 127.0.0.53\n")
        self.lab.app.ip("tuntap add vpn0 mode tun", "link set vpn0 up")
        self.bus()
        self.link("up0", IPV4.world)
        self.link("vpn0", IPV6.world, "corp.lab", isDefault=False)
        self.asking("system")
        waitUntil(lambda: self.address() == ["10.1.2.3"], PATIENCE, "the uplink's server answers")
        self.assertEqual(self.address("intranet.corp.lab"), ["10.7.7.7"])
        self.assertEqual(self.address("any.lab"), ["10.9.9.9"])

    def bus(self) -> None:
        """Start the machine's bus, and the stand-in for systemd-resolved."""
        path = self.run_ / "dbus" / "system_bus_socket"
        path.parent.mkdir()
        config = self.directory / "bus.conf"
        config.write_text(CONFIG.format(socket=path))
        self.busctl = ["env", f"DBUS_SYSTEM_BUS_ADDRESS=unix:path={path}"]
        bus = self.start("bus", "dbus-daemon", "--nofork", f"--config-file={config}")
        waitUntil(path.exists, PATIENCE, "the bus listens")
        assert resolved.__file__ and bus
        service = self.start("resolved", resolved.PYTHON, resolved.__file__)
        waitUntil(service.output, PATIENCE, "systemd-resolved is there")

    def start(self, name: str, *argv: str) -> Child:
        """Start a program on the machine, whose links it sees."""
        child = Child(self.lab.app.argv([*self.busctl, *argv]), self.directory / f"{name}.log")
        self.addCleanup(child.stop)
        return child

    def link(self, name: str, host: str, domain: str = "", isDefault: bool = True) -> None:
        """Tell systemd-resolved of a link's server."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        packed = [str(byte) for byte in socket.inet_pton(family, host)]
        with self.lab.app.entered():
            index = str(socket.if_nametoindex(name))
        for method, signature, *values in (
            ("SetLinkDNS", "ia(iay)", "1", str(int(family)), str(len(packed)), *packed),
            ("SetLinkDomains", "ia(sb)", *(("1", domain, "true") if domain else ("0",))),
            ("SetLinkDefaultRoute", "ib", str(isDefault).lower()),
        ):
            call = ["busctl", "--system", "call", resolved.NAME, "/org/freedesktop/resolve1"]
            argv = [*self.busctl, *call, resolved.MANAGER, method, signature, index, *values]
            self.lab.app.run(argv)


engines(globals(), SystemChecks)
# Otherwise trial would run the base class, too.
del SystemChecks
