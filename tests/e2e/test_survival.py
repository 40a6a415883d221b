"""Connections that are open when the daemon starts, with C{autoDefaultRoute}."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.e2e.case import engines
from tests.e2e.lab.host import HOST4, HOST6, HostLab
from tests.e2e.lab.process import PROJECT_ROOT, waitUntil
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.servers import Peer, WebServer
from tests.e2e.lab.sshd import SshD, Sshd
from tests.e2e.lab.topology import Family
from tests.e2e.lab.udp import UDPServer, mirror
from tests.e2e.routes_case import FAMILIES, RoutesCase
from tests.e2e.test_owners import cgroupRoot

NOBODY = 65534

#: Seconds for an answer on a connection that works.
SOON = 30.0


def tellSource(connection: socket.socket) -> None:
    """Answer each line with the client's address and port."""
    host, port = connection.getpeername()[:2]
    while connection.recv(4096):
        connection.sendall(f"{str(host).removeprefix('::ffff:')} {port}".encode())


class Talker:
    """
    A program on the host with one connection, or one datagram socket, to the world.

    @ivar name: for messages.
    """

    def __init__(self, lab: HostLab, name: str, argv: list[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            lab.host.argv(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )

    def ask(self) -> str:
        """The address and the port that the server sees; empty without an answer."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(b"?\n")
        except BrokenPipeError:
            return ""
        ready, _, _ = select.select([self._process.stdout], [], [], SOON)
        return self._process.stdout.read(100).decode() if ready else ""

    def stop(self) -> None:
        """End it; may be called twice."""
        self._process.kill()
        self._process.communicate()


class SurvivalChecks(RoutesCase):
    """What goes on, and what ends."""

    stackMode = "gvisor"

    def setUp(self) -> None:
        """Make a lab with servers that tell who asks."""
        super().setUp()
        self.tcp = self.peer(tellSource, timeout=100)
        self.udp = {family: self.udpServer(mirror, family) for family in FAMILIES}
        self.excluded = shutil.copy(
            os.path.realpath(shutil.which("socat") or ""), str(self.directory / "stay")
        )

    def settings(self, server: Dante | SshD | None, **settings: object) -> dict[str, object]:
        """With this class's engine."""
        return super().settings(server, **{"stackMode": self.stackMode, **settings})

    def talker(self, kind: str, family: Family, *prefix: str, program: str = "") -> Talker:
        """
        Start a program that talks to the world.

        @param kind: C{TCP}, C{UDP} with a peer, or C{UDP-DATAGRAM} without one.
        @param prefix: a command that runs it.
        @param program: socat by default.
        """
        server: Peer | UDPServer = self.tcp if kind == "TCP" else self.udp[family]
        host = f"[{family.world}]" if ":" in family.world else family.world
        version = family.option.removeprefix("-")
        place = f"{kind.replace('P', f'P{version}', 1)}:{host}:{server.port}"
        talker = Talker(self.lab, place, [*prefix, program or "socat", "-t99", "-", place])
        self.addCleanup(talker.stop)
        return talker

    def talkers(self, *prefix: str, program: str = "") -> dict[Talker, str]:
        """One of each kind and family, with what it is told at first."""
        made = [
            self.talker(kind, family, *prefix, program=program)
            for kind in ("TCP", "UDP", "UDP-DATAGRAM")
            for family in FAMILIES
        ]
        told = {talker: talker.ask() for talker in made}
        for talker, answer in told.items():
            self.assertIn(answer.split(" ")[0], (HOST4.app, HOST6.app), talker.name)
        return told

    def assertGoOn(self, told: dict[Talker, str]) -> None:
        """Nothing has changed for any of them."""
        self.assertEqual(
            {talker.name: talker.ask() for talker in told},
            {talker.name: answer for talker, answer in told.items()},
        )

    def test_excluded(self) -> None:
        """
        Sockets of an excluded process work as before at the start, at the stop, at a second
        start, and after a crash: TCP and UDP, with and without a peer.
        """
        server, world = self.socks(), self.world()
        told = self.talkers(program=self.excluded)
        for end in (signal.SIGTERM, signal.SIGKILL):
            daemon = self.daemon(server, excludedProcesses=["stay"])
            self.assertGoOn(told)
            self.assertThroughProxy(world)
            self.assertGoOn(told)
            daemon.stop(end)
            self.assertGoOn(told)

    def test_killSwitch(self) -> None:
        """With a kill switch they go on too, also when the daemon has been killed."""
        server = self.socks()
        told = self.talkers(program=self.excluded)
        daemon = self.daemon(server, excludedProcesses=["stay"], killSwitch=True)
        self.assertGoOn(told)
        daemon.kill()
        self.assertGoOn(told)
        self.recover()
        self.assertGoOn(told)

    def test_user(self) -> None:
        """Sockets of an excluded user work as before."""
        server = self.socks()
        prefix = ("setpriv", f"--reuid={NOBODY}", "--clear-groups")
        told = self.talkers(*prefix)
        daemon = self.daemon(server, excludedProcesses=["uid:nobody"])
        self.assertGoOn(told)
        daemon.stop()
        self.assertGoOn(told)

    def test_cgroup(self) -> None:
        """Sockets that were made in an excluded cgroup work as before."""
        # `ip netns exec` would hide the machine's cgroups.
        host = self.lab.host
        self.patch(host, "argv", lambda argv: ["nsenter", f"--net=/run/netns/{host.name}", *argv])
        directory = cgroupRoot() / f"nanotun-test-{os.getpid()}"
        directory.mkdir()
        self.addCleanup(waitUntil, lambda: removed(directory), 5, "the cgroup is empty")
        server = self.socks()
        enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
        told = self.talkers("sh", "-c", enter, str(directory))
        daemon = self.daemon(server, excludedProcesses=[f"cgroup:/{directory.name}"])
        self.assertGoOn(told)
        daemon.stop()
        self.assertGoOn(told)

    def test_other(self) -> None:
        """Another program's connection ends, and nothing of it leaves past the tunnel."""
        server = self.socks()
        told = self.talkers()
        ports = {int(answer.split(" ")[1]) for answer in told.values()}
        self.daemon(server, excludedProcesses=["stay"])
        witness = self.witness()
        for talker, before in told.items():
            self.assertNotEqual(talker.ask(), before, talker.name)
        seen = witness.to(HOST4.world, HOST6.world)
        self.assertEqual([each for each in seen if each.ports[0] in ports], [])

    def test_changed(self) -> None:
        """
        A process that is not excluded any more at the next start is like any other: nothing of
        what it had open leaves past the tunnel.
        """
        server = self.socks()
        told = self.talkers(program=self.excluded)
        ports = {int(answer.split(" ")[1]) for answer in told.values()}
        daemon = self.daemon(server, excludedProcesses=["stay"])
        self.assertGoOn(told)
        daemon.stop()
        self.daemon(server, excludedProcesses=["other"])
        witness = self.witness()
        for talker, before in told.items():
            self.assertNotEqual(talker.ask(), before, talker.name)
        seen = witness.to(HOST4.world, HOST6.world)
        self.assertEqual([each for each in seen if each.ports[0] in ports], [])

    def test_rights(self) -> None:
        """What the unit's capabilities allow is enough."""
        server = self.socks()
        told = self.talkers(program=self.excluded)
        bounds = allowed(PROJECT_ROOT / "etc" / "systemd" / "nanotun.service")
        self.daemonIn(["setpriv", "--bounding-set", bounds], server, excludedProcesses=["stay"])
        self.assertGoOn(told)

    def sshd(self) -> Sshd:
        """Start sshd in the world."""
        server = Sshd(self.lab.world, self.directory, addresses=(HOST4.world, HOST6.world))
        self.addCleanup(server.stop)
        return server

    def ssh(self, server: Sshd, family: Family, *more: str) -> SshD:
        """Start C{ssh -D} on the host."""
        client = SshD(self.lab.host, self.directory, server, host=family.world, more=more)
        self.addCleanup(client.stop)
        return client

    def assertThroughSsh(self, world: WebServer, *options: str) -> None:
        """Both IP versions go through sshd, which is where the web server is."""
        for family in FAMILIES:
            self.assertEqual(self.asker(world, family, *options), family.world, family.name)

    def test_ssh(self) -> None:
        """C{ssh -D} that was started first goes on, and flows take it."""
        server, world = self.sshd(), self.world()
        for family in FAMILIES:
            client = self.ssh(server, family)
            daemon = self.daemon(client)
            self.assertThroughSsh(world)
            daemon.stop()
            self.assertThroughSsh(world, "--proxy", client.url(family))
            client.stop()

    def test_later(self) -> None:
        """C{ssh -D} can be started after the daemon, and again, over either IP version."""
        server, world = self.sshd(), self.world()
        self.daemon(None, proxy="socks5://127.0.0.1:1082", logLevel="debug")
        for family in FAMILIES:
            client = self.ssh(server, family)
            self.assertThroughSsh(world)
            client.stop()

    def test_helper(self) -> None:
        """So can one that reaches its server by a command."""
        server, world = self.sshd(), self.world()
        self.daemon(None, proxy="socks5://127.0.0.1:1082")
        self.ssh(server, HOST4, "-o", "ProxyCommand=socat - TCP:%h:%p")
        self.assertThroughSsh(world)


def removed(directory: Path) -> bool:
    """Remove a cgroup, if its processes have ended."""
    with contextlib.suppress(OSError):
        directory.rmdir()
    return not directory.exists()


def allowed(unit: Path) -> str:
    """The unit's capabilities, as setpriv has them."""
    for line in unit.read_text().splitlines():
        if line.startswith("CapabilityBoundingSet="):
            names = line.partition("=")[2].lower().replace("cap_", "+").split()
            return ",".join(["-all", *names])
    raise AssertionError(f"{unit} has no CapabilityBoundingSet")


engines(globals(), SurvivalChecks)
del SurvivalChecks
