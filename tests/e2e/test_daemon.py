"""
The daemon's life: start, stop, a second daemon, mistakes, a device that disappears.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from tests.e2e.case import STOP_SLACK, LabCase, TunnelCase, engines
from tests.e2e.lab import curl
from tests.e2e.lab.daemon import (
    START_SECONDS,
    STOP_SECONDS,
    BackgroundDaemon,
    Daemon,
    answers,
    collectLogs,
    environment,
    launch,
    writeConfig,
)
from tests.e2e.lab.ordinary import needReadable
from tests.e2e.lab.process import PATIENCE, Child, waitUntil
from tests.e2e.lab.topology import FAMILIES, IPV4, TUN_NAME
from tests.heavy import heavyAmong

CYCLES = 20
OPEN_FLOWS = 100
NOWHERE = "socks5://10.77.1.1:1080"


class CycleChecks(TunnelCase):
    """Starting and stopping."""

    seconds = 180

    def test_startAndStop(self) -> None:
        """20 daemonised starts and stops leave no device, process or pidfile; each works."""
        web = self.webServer()
        dante = self.dante()
        processes = set(self.lab.app.processes())
        for number in range(CYCLES):
            directory = self.directory / f"run-{number}"
            daemon = BackgroundDaemon(
                self.lab.app, directory, stackMode=self.stackMode, proxy=dante.url()
            )
            self.addCleanup(daemon.kill)
            self.lab.routeThroughTunnel()
            family = FAMILIES[number % 2]
            seen = curl.get(self.lab.app, family.url(web.port, "/peer"))
            self.assertEqual(seen, family.proxyOutside)
            self.assertLess(daemon.stop(), STOP_SECONDS + STOP_SLACK)
            self.assertNotIn(TUN_NAME, self.lab.app.interfaces())
            self.assertFalse(daemon.pidfile.exists())
            self.assertNotIn("Traceback", collectLogs(directory))
        self.assertEqual(set(self.lab.app.processes()), processes)

    def test_stopWithOpenFlows(self) -> None:
        """SIGTERM and SIGINT end it within 2 s with status 0, even with 100 busy flows."""
        dante = self.dante()
        for number in (signal.SIGTERM, signal.SIGINT):
            peer = self.peer(_chatter, timeout=60)
            daemon = self.daemon(proxy=dante.url())
            flows = [self.connect(peer.port) for _ in range(OPEN_FLOWS)]
            for flow in flows:
                self.assertEqual(len(flow.recv(1)), 1)
            self.assertEndsWell(daemon, number)
            for flow in flows:
                flow.close()
            peer.stop()

    def test_killed(self) -> None:
        """After kill -9 no device is left, and the next daemon starts."""
        daemon = self.daemon(proxy=NOWHERE)
        daemon.kill()
        waitUntil(lambda: TUN_NAME not in self.lab.app.interfaces(), PATIENCE, "the device goes")
        self.assertEndsWell(self.daemon(proxy=NOWHERE))

    def test_deviceDeleted(self) -> None:
        """If its device is deleted, it ends by itself within 2 s, with a status other than 0."""
        daemon = self.daemon(proxy=NOWHERE)
        self.lab.app.ip(f"link del {TUN_NAME}")
        self.assertNotEqual(daemon.wait(STOP_SECONDS + STOP_SLACK), 0)
        self.assertIn(TUN_NAME, daemon.log())

    def test_linkDownAndUp(self) -> None:
        """If its link is set down and up again, it carries on and does not spin meanwhile."""
        web = self.webServer()
        daemon = self.tunnel()
        self.lab.app.ip(f"link set {TUN_NAME} down")
        before = daemon.cpu()
        time.sleep(1)
        self.assertLess(daemon.cpu() - before, 0.3)
        self.assertTrue(daemon.running(), daemon.log())
        self.lab.app.ip(f"link set {TUN_NAME} up")
        self.lab.routeThroughTunnel()  # The kernel removed all routes together with the link.
        for family in FAMILIES:
            waitUntil(partial(answers, self.lab.app, family), PATIENCE, "an answer")
            seen = curl.get(self.lab.app, family.url(web.port, "/peer"))
            self.assertEqual(seen, family.proxyOutside)
        self.assertEndsWell(daemon)

    def test_second(self) -> None:
        """A second instance on the same device says so and leaves the first alone."""
        web = self.webServer()
        first = self.tunnel()
        status, output = runToEnd(self, "second", {"proxy": NOWHERE, "stackMode": self.stackMode})
        self.assertEqual(status, 1, output)
        assertOneSentence(self, output, TUN_NAME)
        self.assertEqual(curl.get(self.lab.app, IPV4.url(web.port, "/peer")), IPV4.proxyOutside)
        self.assertEndsWell(first)


def _chatter(connection: socket.socket) -> None:
    """Send a little all the time, so that the flow is never idle."""
    try:
        while True:
            connection.sendall(b"x" * 100)
            time.sleep(0.05)
    except OSError:
        pass


def runToEnd(
    case: LabCase,
    name: str,
    settings: Mapping[str, object],
    flags: tuple[str, ...] = (),
    prefix: tuple[str, ...] = (),
) -> tuple[int, str]:
    """
    Run a daemon that must not come up.

    @return: exit status and output.
    """
    directory = case.directory / name
    child = launch(case.lab.app, directory, settings, flags, prefix)
    case.addCleanup(child.stop)
    status = child.wait(START_SECONDS)
    return status, collectLogs(directory)


def assertOneSentence(case: LabCase, output: str, *facts: str) -> None:
    """The user is told C{facts} in one line, without a traceback."""
    case.assertNotIn("Traceback", output)
    lines = [line for line in output.splitlines() if all(fact in line for fact in facts)]
    case.assertTrue(lines, f"no line has {facts}: {output}")


class MistakeTests(LabCase):
    """Mistakes of the user have exit status 1 and one sentence, and leave nothing behind."""

    def _mistake(
        self, settings: Mapping[str, object], *facts: str, **options: tuple[str, ...]
    ) -> None:
        before = self.lab.app.interfaces()
        status, output = runToEnd(self, f"mistake-{facts[0]}", settings, **options)
        self.assertEqual(status, 1, output)
        assertOneSentence(self, output, *facts)
        self.assertEqual(self.lab.app.interfaces(), before)
        self.assertFalse((self.directory / f"mistake-{facts[0]}" / "twistd.pid").exists())

    def test_noProxy(self) -> None:
        """Without a proxy, the error says that one is needed."""
        self._mistake({}, "proxy")

    def test_unknownKey(self) -> None:
        """The error for an unknown key suggests the intended one."""
        self._mistake({"proxy": NOWHERE, "stackmode": "simple"}, "stackmode", "stackMode")

    def test_wrongValues(self) -> None:
        """The error for a value of a wrong type or range names it."""
        self._mistake({"proxy": NOWHERE, "mtu": 100}, "mtu", "1280")
        self._mistake({"proxy": NOWHERE, "stackMode": "best"}, "stackMode", "gvisor")
        self._mistake({"proxy": "gopher://x:1"}, "gopher")
        self._mistake({"proxy": NOWHERE, "connectTimeout": 5}, "connectTimeout")

    def test_unknownFlag(self) -> None:
        """The error for an unknown flag names it."""
        self._mistake({"proxy": NOWHERE}, "fast", flags=("--fast",))

    def test_nameTaken(self) -> None:
        """The error for a device name that is taken names it."""
        self.lab.app.ip("link add taken0 type veth peer name taken1")
        self._mistake({"proxy": NOWHERE, "tunName": "taken0"}, "taken0")

    def test_notRoot(self) -> None:
        """Without root, the error says that root is needed."""
        needReadable()
        directory = self.directory / "mistake-root"
        directory.mkdir()
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
        # In a directory that the user nobody may read and write, with the configuration.
        public = Path("/tmp") / f"nanotun-e2e-{os.getpid()}"
        public.mkdir()
        self.addCleanup(shutil.rmtree, public)
        self.directory = public
        child = launch(
            self.lab.app,
            public / "daemon",
            {"proxy": NOWHERE},
            prefix=("sh", "-c", _AS_NOBODY, "sh", *nobody),
        )
        self.addCleanup(child.stop)
        status = child.wait(START_SECONDS)
        output = collectLogs(public / "daemon")
        self.assertEqual(status, 1, output)
        assertOneSentence(self, output, "root")
        self.assertNotIn(TUN_NAME, self.lab.app.interfaces())


_AS_NOBODY = 'chown -R 65534:65534 . && exec "$@"'


class FlagTests(LabCase):
    """Flags instead of a file."""

    def test_flagsWin(self) -> None:
        """Flags override the file: name, MTU and engine."""
        directory = self.directory / "flags"
        child = launch(
            self.lab.app,
            directory,
            {"proxy": NOWHERE, "mtu": 1500},
            flags=("--tun", "other0", "--mtu", "1400", "--stack", "simple"),
        )
        self.addCleanup(child.stop)
        waitUntil(
            lambda: child.status() is not None or answers(self.lab.app, IPV4, "other0"),
            START_SECONDS,
            "other0 answers",
        )
        self.assertIsNone(child.status(), collectLogs(directory))
        shown = self.lab.app.run(["ip", "link", "show", "other0"]).stdout
        self.assertIn("mtu 1400", shown)
        self.assertNotIn(TUN_NAME, self.lab.app.interfaces())
        self.assertIn(child.stop(), (0, -signal.SIGTERM))


class ImportTests(LabCase):
    """What a daemon imports while it starts and carries its first flow."""

    def test_plain(self) -> None:
        """With nothing but a SOCKS5 proxy it imports nothing that only others need."""
        peer = self.peer(lambda connection: connection.sendall(b"x"))
        config = writeConfig(self.directory, {"proxy": self.dante().url()})
        nanotun = Path(sys.executable).with_name("nanotun")
        daemon = Child(
            self.lab.app.argv([str(nanotun), "start", "--config", str(config)]),
            self.directory / "stdout.log",
            {**environment(), "PYTHONPROFILEIMPORTTIME": "1"},
        )
        self.addCleanup(daemon.stop)
        waitUntil(
            lambda: (self.directory / "run" / "control.sock").exists(), START_SECONDS, "it is up"
        )
        self.lab.routeThroughTunnel()
        with self.lab.app.connect((IPV4.world, peer.port)) as connection:
            self.assertEqual(connection.recv(1), b"x")
        lines = daemon.output().splitlines()
        imported = [line.rpartition("|")[2].strip() for line in lines if "import time:" in line]
        self.assertIn("nanotun.daemon.tap", imported)
        self.assertEqual(heavyAmong(imported), [])


class RestartTests(LabCase):
    """A stop during the start, and two daemons side by side."""

    def test_stopDuringStart(self) -> None:
        """SIGTERM at any moment of the start ends it and leaves no device."""
        for milliseconds in (50, 150, 300, 450, 600, 800):
            directory = self.directory / f"stop-{milliseconds}"
            child = launch(self.lab.app, directory, {"proxy": NOWHERE})
            self.addCleanup(child.stop)
            time.sleep(milliseconds / 1000)
            child.send(signal.SIGTERM)
            child.wait(STOP_SECONDS + STOP_SLACK + 1)
            self.assertNotIn(TUN_NAME, self.lab.app.interfaces())

    def test_twoNames(self) -> None:
        """Two daemons with different device names run side by side."""
        first = Daemon(self.lab.app, self.directory / "a", proxy=NOWHERE)
        self.addCleanup(first.kill)
        second = launch(self.lab.app, self.directory / "b", {"proxy": NOWHERE, "tunName": "nano1"})
        self.addCleanup(second.stop)
        waitUntil(
            lambda: second.status() is not None or "nano1" in self.lab.app.interfaces(),
            START_SECONDS,
            "nano1 is there",
        )
        for device in ("nano0", "nano1"):
            for family in FAMILIES:
                waitUntil(
                    partial(answers, self.lab.app, family, device), START_SECONDS, "it answers"
                )
        self.assertIsNone(second.status(), collectLogs(self.directory / "b"))
        self.assertTrue(first.running())
        for name in ("a", "b"):
            waitUntil(
                lambda name=name: "offload on" in collectLogs(self.directory / name),  # type: ignore[misc]
                START_SECONDS,
                "it is up with offload",
            )


engines(globals(), CycleChecks)
# Otherwise trial would run the base class, too.
del CycleChecks
