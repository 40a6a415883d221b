"""
The base class of the tests of C{autoDefaultRoute}: a daemon on a host of its own.
"""

from __future__ import annotations

import sys
from subprocess import CompletedProcess

from tests.e2e.case import LabCase
from tests.e2e.lab import curl
from tests.e2e.lab.daemon import START_SECONDS, Daemon, answers, launch
from tests.e2e.lab.host import DNS4, HOST4, HOST6, HostLab, Witness
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PROJECT_ROOT, Child, LabError, waitUntil
from tests.e2e.lab.proxies import Dante
from tests.e2e.lab.servers import WebServer
from tests.e2e.lab.sshd import SshD
from tests.e2e.lab.topology import Family

FAMILIES = (HOST4, HOST6)

#: Seconds; the daemon's promise after a change of the network, on a machine that is not busy.
PROMISE = 3.0

#: Seconds until a change of the network has been followed on one that is.  What keeps the promise,
#: such as the time between two checks, has unit tests.
FOLLOWED = 20.0


class RoutesCase(LabCase):
    """
    A daemon on the host of a small network.

    @ivar lab: the host and the machines around it.
    @ivar before: rules, routes and settings of the host before the test.
    """

    seconds = 120
    lab: HostLab  # type: ignore[assignment]

    def setUp(self) -> None:
        """Make no other laboratory, as it is not needed here."""
        super().setUp()
        self.lab.remove()
        self.lab = HostLab()
        self.addCleanup(self.lab.remove)
        self.before = self.lab.state()
        self._daemons = 0

    def world(self) -> WebServer:
        """Start a web server in the world, which answers with the client's address."""
        server = WebServer(self.lab.world, self.directory)
        self.addCleanup(server.stop)
        return server

    def socks(self) -> Dante:
        """Start dante in its own namespace."""
        server = Dante(
            self.lab.proxy,
            self.directory,
            internal=(HOST4.proxy, HOST6.proxy),
            external=(HOST4.proxyOutside, HOST6.proxyOutside),
        )
        self.addCleanup(server.stop)
        return server

    def settings(self, server: Dante | SshD | None, **settings: object) -> dict[str, object]:
        """The settings of a daemon, whose proxy they name if it does not run yet."""
        return {
            "proxy": server and server.url(HOST4),
            "autoDefaultRoute": True,
            "lan": "direct",
            "dns": DNS4,
            "runDir": str(self.directory / "run"),
            **settings,
        }

    def daemon(self, server: Dante | SshD | None, **settings: object) -> Daemon:
        """Start a daemon and wait until it has set its routes."""
        self._daemons += 1
        directory = self.directory / f"daemon-{self._daemons}"
        daemon = Daemon(self.lab.host, directory, **self.settings(server, **settings))
        # The gateway may answer before any route is set, while the device is tried out.
        waitUntil(lambda: " is up: engine" in daemon.log(), START_SECONDS, "the routes are set")
        waitUntil(lambda: answers(self.lab.host, HOST4), START_SECONDS, "the reactor runs")
        self.addCleanup(self._checkLog, daemon)
        self.addCleanup(daemon.kill)
        return daemon

    def daemonIn(self, prefix: list[str], server: Dante, **settings: object) -> Child:
        """Start a daemon through a command and wait until it has set its routes."""
        self._daemons += 1
        child = launch(
            self.lab.host,
            self.directory / f"daemon-{self._daemons}",
            self.settings(server, **settings),
            prefix=prefix,
        )
        self.addCleanup(child.stop)
        waitUntil(
            lambda: child.status() is not None or " is up: engine" in child.output(),
            START_SECONDS,
            "the routes are set",
        )
        if child.status() is not None:
            raise LabError(f"the daemon has ended: {child.output()}")
        waitUntil(lambda: answers(self.lab.host, HOST4), START_SECONDS, "the reactor runs")
        return child

    def _checkLog(self, daemon: Daemon) -> None:
        for sign in ("Traceback", "Unhandled", "panic:", "fatal error:"):
            self.assertNotIn(sign, daemon.log())

    def asker(self, server: WebServer, family: Family, *options: str, timeout: float = 20) -> str:
        """The host's address as the world sees it; empty if the host gets no answer."""
        try:
            return curl.get(
                self.lab.host, family.url(server.port, "/peer"), *options, timeout=timeout
            )
        except LabError:
            return ""

    def assertThroughProxy(self, server: WebServer) -> None:
        """Both IP versions go through the proxy."""
        for family in FAMILIES:
            self.assertEqual(self.asker(server, family), family.proxyOutside, family.name)

    def assertDirect(self, server: WebServer) -> None:
        """Both IP versions go directly, as before the start."""
        for family in FAMILIES:
            self.assertEqual(self.asker(server, family), family.app, family.name)

    def assertNothingLeft(self) -> None:
        """The host is exactly as it was before."""
        self.assertEqual(self.lab.state(), self.before)
        left = {path.name for path in (self.directory / "run").glob("*")}
        # The next start replaces the socket of a killed daemon.
        self.assertEqual(left - {"lock", "control.sock"}, set())

    def witness(self) -> Witness:
        """Watch what leaves by the uplink from now on."""
        witness = Witness(self.lab.host)
        self.addCleanup(witness.stop)
        return witness

    def assertNoLeak(self, witness: Witness) -> None:
        """No packet went from the host to the world's address."""
        self.assertEqual(witness.to(HOST4.world, HOST6.world), [])

    def recover(self, *arguments: str) -> tuple[int, str]:
        """Run C{nanotun recover} on the host: its exit status and output."""
        done = self.console("recover", "--run-dir", str(self.directory / "run"), *arguments)
        return done.returncode, done.stdout

    def console(self, *arguments: str, space: Namespace | None = None) -> CompletedProcess[str]:
        """Run the command C{nanotun}, on the host by default."""
        program = "import sys; from nanotun.console import main; sys.exit(main())"
        path = f"PYTHONPATH={PROJECT_ROOT}"
        argv = ["env", path, sys.executable, "-c", program, *arguments]
        return (space or self.lab.host).run(argv, check=False)
