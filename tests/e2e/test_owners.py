"""Processes that go past the proxy, and a proxy on the same machine as the daemon."""

from __future__ import annotations

import os
import re
import shutil
import socket
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.e2e.case import Over4, Over6, TunnelCase
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.e2e.lab.proxies import Dante, Microsocks
from tests.e2e.lab.record import needRecord
from tests.e2e.lab.systemd import cgroups
from tests.e2e.lab.topology import IPV4, IPV6
from tests.e2e.lab.udp import mirror

NOBODY = 65534

#: A user's program: it connects, or sends a datagram, and prints the answer.
SCRIPT = f"""#!{sys.executable} -u
import socket, sys
host, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
with socket.socket(
    socket.AF_INET6 if ":" in host else socket.AF_INET,
    socket.SOCK_DGRAM if kind == "unconnected" else socket.SOCK_STREAM,
) as sock:
    sock.settimeout(60)
    if kind == "unconnected":
        sock.sendto(b"?", (host, port))
    else:
        sock.connect((host, port))
        sock.sendall(b"?")
    print(sock.recv(1000).decode().split()[0].removeprefix("::ffff:"))
"""


def cgroupRoot() -> Path:
    """
    The directory where cgroup version 2 is mounted.

    @raise SkipTest: there is none, or none where groups can be made.
    """
    root = cgroups()
    if root is None:
        raise SkipTest("there are no control groups of version 2 that can be made")
    return root


def tellPeer(connection: socket.socket) -> None:
    """Answer like a web server, with the client's address."""
    connection.recv(4096)
    host = str(connection.getpeername()[0]).removeprefix("::ffff:")
    answer = f"HTTP/1.0 200 OK\r\nContent-Length: {len(host)}\r\n\r\n{host}"
    connection.sendall(answer.encode())


def tellFirst(connection: socket.socket) -> None:
    """Send the client's address to a client that does not speak first."""
    connection.sendall(str(connection.getpeername()[0]).removeprefix("::ffff:").encode() + b"\n")


class OwnersChecks(TunnelCase):
    """Each kind of process selector."""

    def setUp(self) -> None:
        """
        Make a laboratory with a path past the proxy, and a server that returns the client's
        address.
        """
        super().setUp()
        self.lab.openDirectPath()
        self.port = self.peer(tellPeer).port
        # `ip netns exec` would hide the machine's cgroups from the daemon.
        app = self.lab.app
        self.patch(app, "argv", lambda argv: ["nsenter", f"--net=/run/netns/{app.name}", *argv])

    def program(self, path: str | None, name: str) -> str:
        """A copy of a program under another name."""
        assert path is not None
        return shutil.copy(os.path.realpath(path), str(self.directory / name))

    def script(self, name: str, text: str = SCRIPT) -> str:
        """A program that is a script."""
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o755)
        return str(path)

    def curl(self, path: str = "curl") -> list[str]:
        """The command that asks the server by curl, or by a copy of it."""
        return [path, "-s", "-m", "60", self.family.url(self.port, "/")]

    def seen(self, argv: list[str]) -> str:
        """The address that the world sees when the app runs this command."""
        return self.lab.app.run(argv).stdout.strip()

    def assertDirect(self, *argv: str) -> None:
        """The world sees the app itself."""
        self.assertEqual(self.seen(list(argv)), self.family.app, argv)

    def assertProxied(self, *argv: str) -> None:
        """The world sees the proxy."""
        self.assertEqual(self.seen(list(argv)), self.family.proxyOutside, argv)

    def test_name(self) -> None:
        """A name stands for programs of this name, whatever else they do, and no others."""
        self.tunnel(excludedProcesses=["MyFetch.exe"], excludeRefresh="1h")
        mine = self.program(shutil.which("curl"), "myfetch")
        for _ in range(5):
            self.assertDirect(*self.curl(mine))
            self.assertProxied(*self.curl())

    def test_path(self) -> None:
        """A path stands for this file only."""
        mine = self.program(shutil.which("curl"), "one")
        other = self.program(shutil.which("curl"), "two")
        self.tunnel(excludedProcesses=[mine], excludeRefresh="1h")
        self.assertDirect(*self.curl(mine))
        self.assertProxied(*self.curl(other))

    def test_script(self) -> None:
        """A script is recognized by its own name: TCP, and UDP by a socket without a peer."""
        self.tunnel(excludedProcesses=["fetch.py"], excludeRefresh="1h")
        mine, other = self.script("fetch.py"), self.script("other.py")
        echo = self.udpServer(mirror, self.family)
        for port, kind in ((self.port, "connected"), (echo.port, "unconnected")):
            arguments = (self.family.world, str(port), kind)
            if kind == "connected":
                arguments = (self.family.world, str(self.peer(tellFirst).port), kind)
            self.assertDirect(mine, *arguments)
            self.assertDirect(sys.executable, "-I", mine, *arguments)
            self.assertProxied(other, *arguments)

    def test_mapped(self) -> None:
        """An IPv6 socket that talks IPv4 has an owner as well."""
        if self.family is IPV6:
            return
        self.tunnel(excludedProcesses=["fetch.py"], excludeRefresh="1h")
        host = f"::ffff:{IPV4.world}"
        port = str(self.peer(tellFirst).port)
        self.assertDirect(self.script("fetch.py"), host, port, "connected")
        self.assertProxied(self.script("other.py"), host, port, "connected")
        port = str(self.udpServer(mirror, IPV4).port)
        self.assertDirect(self.script("fetch.py"), host, port, "unconnected")
        self.assertProxied(self.script("other.py"), host, port, "unconnected")

    def test_user(self) -> None:
        """A user's flows are recognized by their sockets, whatever the program."""
        self.tunnel(excludedProcesses=["uid:nobody"], excludeRefresh="1h")
        prefix = ("setpriv", f"--reuid={NOBODY}", "--clear-groups")
        self.assertDirect(*prefix, *self.curl())
        self.assertProxied(*self.curl())

    def test_cgroup(self) -> None:
        """A cgroup that is made later, and those below it, are recognized by their sockets."""
        name = f"nanotun-test-{os.getpid()}"
        root = cgroupRoot()
        self.tunnel(excludedProcesses=[f"cgroup:/{name}", "unit:x.service"], excludeRefresh="1h")
        for path, excluded in (
            (f"{name}", True),
            (f"{name}/below", True),
            (f"{name}-other", False),
            (f"{name}-other/x.service", True),
        ):
            directory = root / path
            directory.mkdir()
            self.addCleanup(directory.rmdir)
            enter = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
            argv = ["sh", "-c", enter, str(directory), *self.curl()]
            expected = self.family.app if excluded else self.family.proxyOutside
            for _ in range(2):
                self.assertEqual(self.seen(argv), expected, path)

    def test_children(self) -> None:
        """What an excluded process starts is excluded too, if the settings say so."""
        starter = self.script("starter", '#!/bin/sh\n"$@"\nexit $?\n')
        daemon = self.tunnel(excludedProcesses=["starter"], excludeRefresh="1h")
        self.assertProxied(starter, *self.curl())
        self.assertEndsWell(daemon)
        self.tunnel(excludedProcesses=["starter"], excludeRefresh="1h", excludeChildren=True)
        self.assertDirect(starter, *self.curl())
        self.assertDirect(starter, "sh", "-c", '"$@"; exit $?', "sh", *self.curl())
        self.assertProxied(*self.curl())

    def test_lateExec(self) -> None:
        """A process that becomes an excluded program after a second, or leaves one, is seen."""
        needRecord()
        self.tunnel(excludedProcesses=["myfetch"], excludeRefresh="1h")
        mine = self.program(shutil.which("curl"), "myfetch")
        waits = ("sh", "-c", 'sleep 1; exec "$@"', "sh")
        self.assertDirect(*waits, *self.curl(mine))
        shell = self.program(shutil.which("bash"), "myfetch")
        self.assertProxied(shell, *waits[1:], *self.curl())

    def test_atOnce(self) -> None:
        """Programs that connect as soon as they run are recognized, one like the other."""
        self.tunnel(excludedProcesses=["quick"], excludeRefresh="1h")
        bash = shutil.which("bash")
        mine, other = self.program(bash, "quick"), self.program(bash, "other")
        port = self.peer(tellFirst).port
        command = f"exec 3<>/dev/tcp/{self.family.world}/{port}; read -r line <&3; echo $line"
        loop = 'for i in $(seq 60); do "$1" -c "$0"; "$2" -c "$0"; done'
        lines = self.seen(["sh", "-c", loop, command, mine, other]).split()
        self.assertEqual(lines, [self.family.app, self.family.proxyOutside] * 60)


class OwnersOver4Tests(Over4, OwnersChecks):
    """Over IPv4."""


class OwnersOver6Tests(Over6, OwnersChecks):
    """Over IPv6."""


del OwnersChecks


class LocalProxyTests(TunnelCase):
    """A proxy in the app's namespace, from which all routes lead into the tunnel."""

    seconds = 120

    FLOWS = 200

    def setUp(self) -> None:
        """Make a laboratory where only marked packets can leave past the tunnel."""
        super().setUp()
        self.lab.openDirectPath()

    def flows(self, daemon: Daemon) -> int:
        """The number of flows so far, according to the daemon's log."""
        return len(set(re.findall(r"TCP flow (\d+) ", daemon.log())))

    def load(self, daemon: Daemon, times: int) -> None:
        """Each flow of an app causes one flow of the proxy, and no other."""
        port = self.peer(tellFirst).port
        for _ in range(times):
            with self.lab.app.connect((IPV4.world, port)) as sock:
                self.assertEqual(sock.recv(100).decode().strip(), IPV4.app)
        waitUntil(lambda: self.flows(daemon) >= 2 * times, PATIENCE, "all flows are logged")
        self.assertEqual(self.flows(daemon), 2 * times)

    def test_microsocks(self) -> None:
        """The proxy's own flows go past the tunnel and cause no others."""
        proxy = Microsocks(self.lab.app, self.directory)
        self.addCleanup(proxy.stop)
        daemon = self.daemon(proxy=f"socks5://127.0.0.1:{proxy.port}", logLevel="debug")
        self.load(daemon, self.FLOWS)
        self.assertIn("(rule local-proxy", daemon.log())
        self.assertEndsWell(daemon)

    def test_dante(self) -> None:
        """A proxy whose processes hand connections over to each other causes no other flows."""
        self.needDante()
        proxy = Dante(
            self.lab.app,
            self.directory,
            internal=("127.0.0.1",),
            external=(IPV4.app,),
        )
        self.addCleanup(proxy.stop)
        daemon = self.daemon(proxy=f"socks5://127.0.0.1:{proxy.port}", logLevel="debug")
        self.load(daemon, self.FLOWS)
        self.assertEndsWell(daemon)

    def test_later(self) -> None:
        """A proxy that is started after the daemon, and restarted, is recognized at once."""
        daemon = self.daemon(proxy="socks5://localhost:1081", logLevel="debug", excludeRefresh="1h")
        self.connectError(self.peer(tellFirst).port)
        before = self.flows(daemon)
        self.assertEqual(before, 1)
        for run in (1, 2):
            proxy = Microsocks(self.lab.app, self.directory)
            self.addCleanup(proxy.stop)
            port = self.peer(tellFirst).port
            for _ in range(5):
                with self.lab.app.connect((IPV4.world, port)) as sock:
                    self.assertEqual(sock.recv(100).decode().strip(), IPV4.app)
            proxy.stop()
            self.assertEqual(self.flows(daemon), before + 10 * run)
