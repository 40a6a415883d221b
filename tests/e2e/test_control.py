"""
The daemon's lock and control socket, and the words that use it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any

from nanotun.control.client import Client
from nanotun.control.server import CONNECTION_LIMIT, REPLACED
from nanotun.errors import RunningError
from tests.e2e.case import TunnelCase
from tests.e2e.lab.console import say
from tests.e2e.lab.daemon import Daemon, launch, writeConfig
from tests.e2e.lab.ordinary import needReadable
from tests.e2e.lab.process import PATIENCE, waitUntil
from tests.unit.fields import fieldsIn, keysOf

BYTES = 100_000


def echo(sock: socket.socket) -> None:
    """Send back what arrives."""
    while data := sock.recv(65536):
        sock.sendall(data)


class ControlTests(TunnelCase):
    """A daemon and its user."""

    def runDir(self, daemon: Daemon) -> str:
        """The path of the daemon's socket."""
        return str(daemon.directory / "run")

    def status(self, daemon: Daemon) -> Any:
        """The report of C{nanotun status --json}."""
        done = say("status", "--json", "--run-dir", self.runDir(daemon))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return json.loads(done.stdout)

    def assertDocumented(self, report: dict[str, Any]) -> None:
        """docs/command.md has all fields of a report."""
        known = fieldsIn("command.md", "## status")
        verdicts = report["verdicts"]
        found = {*keysOf({**report, "verdicts": None}, ("upstreams",))}
        found |= {*keysOf(verdicts, ("verdicts", "rules", "upstreams"))}
        self.assertGreater(len(found), 90)
        self.assertEqual(found - known, set())

    def test_status(self) -> None:
        """After known traffic the numbers are right, as JSON and as text."""
        peer = self.peer(echo)
        daemon = self.tunnel()
        before = self.status(daemon)
        self.assertEqual(before["engine"]["flows"]["total"], 0)
        socks = [self.connect(peer.port) for _ in range(3)]
        for sock in socks:
            sock.sendall(b"x" * BYTES)
            got = 0
            while got < BYTES:
                got += len(sock.recv(65536))
        open_ = self.status(daemon)
        engine = open_["engine"]
        self.assertEqual(engine["flows"]["open"], 3)
        self.assertEqual(engine["flows"]["total"], 3)
        self.assertEqual(engine["bytes"], {"up": 3 * BYTES, "down": 3 * BYTES})
        for sock in socks:
            sock.close()
        waitUntil(
            lambda: self.status(daemon)["engine"]["flows"]["open"] == 0, PATIENCE, "the flows end"
        )
        report = self.status(daemon)
        self.assertDocumented(report)
        self.assertEqual(report["daemon"]["pid"], daemon.pid)
        self.assertEqual(report["daemon"]["config"], str(daemon.directory / "nanotun.yaml"))
        self.assertEqual(report["device"]["name"], daemon.name)
        self.assertEqual(len(report["upstream"]["proxies"]), 1)
        # The connection that asks is one of them.
        self.assertEqual(report["resources"]["fds"], daemon.fds() + 1)
        self.assertEqual(report["resources"]["threads"], daemon.threads())
        text = say("status", "--config", str(daemon.directory / "nanotun.yaml"))
        self.assertEqual(text.returncode, 0)
        self.assertIn("3 opened", text.stdout)
        self.assertIn("293 KiB up, 293 KiB down", text.stdout)
        self.assertLessEqual(max(map(len, text.stdout.splitlines())), 80)
        self.assertEndsWell(daemon)

    def test_idle(self) -> None:
        """Connections that say nothing, as many as there may be, do not keep status away."""
        daemon = self.tunnel()
        silent = [Client(self.runDir(daemon)) for _ in range(CONNECTION_LIMIT)]
        for client in silent:
            self.addCleanup(client.close)
        for _ in range(3):
            self.assertEqual(self.status(daemon)["daemon"]["pid"], daemon.pid)
        error = self.assertRaises(RunningError, silent[0].ask, "status")
        self.assertEqual(str(error), REPLACED)
        self.assertEqual(silent[-1].ask("status")["daemon"]["pid"], daemon.pid)

    def test_second(self) -> None:
        """A second daemon beside the first changes nothing and names the running one."""
        daemon = self.tunnel()
        links = self.lab.app.interfaces()
        second = self.directory / "second"
        child = launch(
            self.lab.app,
            second,
            {"proxy": "direct://", "tunName": "other0", "runDir": self.runDir(daemon)},
        )
        self.addCleanup(child.stop, signal.SIGKILL)
        self.assertEqual(child.wait(PATIENCE), 1)
        self.assertIn(f"nanotun runs as process {daemon.pid} since ", child.output())
        self.assertIn(str(daemon.directory / "nanotun.yaml"), child.output())
        self.assertEqual(self.lab.app.interfaces(), links)
        self.assertEqual(self.status(daemon)["daemon"]["pid"], daemon.pid)

    def test_stop(self) -> None:
        """
        nanotun stop ends the daemon in order and waits; then nothing is left and nothing
        runs.
        """
        daemon = self.tunnel()
        done = say("stop", "--run-dir", self.runDir(daemon))
        self.assertEqual(
            (done.returncode, done.stdout), (0, f"nanotun has stopped (process {daemon.pid}).\n")
        )
        self.assertEqual(daemon.wait(PATIENCE), 0)
        self.assertNotIn(daemon.name, self.lab.app.interfaces())
        self.assertFalse(os.path.exists(self.runDir(daemon)))
        for word in ("stop", "status", "confirm"):
            done = say(word, "--run-dir", self.runDir(daemon))
            self.assertEqual(done.returncode, 3, word)
            self.assertIn("No nanotun runs with runDir", done.stderr)

    def test_crash(self) -> None:
        """After kill -9 nothing runs, and the next start is an ordinary one."""
        daemon = self.tunnel()
        daemon.kill()
        self.assertEqual(sorted(os.listdir(self.runDir(daemon))), ["control.sock", "lock"])
        self.assertEqual(say("status", "--run-dir", self.runDir(daemon)).returncode, 3)
        again = self.daemon(proxy="direct://", runDir=self.runDir(daemon))
        done = say("status", "--json", "--run-dir", self.runDir(daemon))
        self.assertEqual(json.loads(done.stdout)["daemon"]["pid"], again.pid)
        self.assertEndsWell(again)

    def test_otherUser(self) -> None:
        """Another user cannot ask, and is told so; he may see that the daemon runs."""
        needReadable()
        # Other users may look into runDir, as into /run, but not into trial's own
        # directories.
        runDir = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, runDir, True)
        os.chmod(runDir, 0o755)
        daemon = self.tunnel(runDir=runDir)
        prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        for word in ("status", "stop"):
            done = say(word, "--run-dir", runDir, prefix=prefix)
            self.assertEqual(done.returncode, 1)
            self.assertEqual(
                done.stderr,
                f"nanotun: Only root may ask the nanotun of {runDir}; try it again with sudo.\n",
            )
        self.assertTrue(daemon.running())

    def test_noSocket(self) -> None:
        """Without its socket the daemon can still be stopped, and the tunnel works."""
        runDir = self.directory / "run"
        runDir.mkdir()
        (runDir / "control.sock").write_text("no socket")
        daemon = self.tunnel(runDir=str(runDir))
        self.assertIn("control socket", daemon.log())
        done = say("status", "--run-dir", str(runDir))
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"nanotun runs as process {daemon.pid}", done.stderr)
        self.assertIn("cannot be asked", done.stderr)
        self.assertEqual(say("stop", "--run-dir", str(runDir)).returncode, 0)
        self.assertIn(daemon.wait(PATIENCE), (0, -signal.SIGTERM))

    def test_stopWithFlows(self) -> None:
        """With open flows, a stop takes at most two seconds."""
        peer = self.peer(echo)
        daemon = self.tunnel()
        for _ in range(20):
            self.assertEchoes(self.connect(peer.port))
        self.assertEndsWell(daemon, signal.SIGINT)


class ConfigurationTests(TunnelCase):
    """C{nanotun check}, which needs no daemon."""

    def test_check(self) -> None:
        """A good file is OK; a bad one gives one sentence that names file, line and key."""
        good = writeConfig(Path(self.directory, "good"), {"proxy": "socks5://u:pw@h:1"})
        done = say("check", str(good))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(f"OK: {good}\n  proxy    socks5://u:***@h:1\n", done.stdout)
        bad = writeConfig(Path(self.directory, "bad"), {"proxy": "h:1", "mtu": 12})
        done = say("check", str(bad))
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertRegex(done.stderr, rf"^nanotun: {bad}, line \d+: mtu must be .*\.\n$")
        good.chmod(0o644)
        done = say("check", str(good))
        self.assertEqual(done.returncode, 0)
        self.assertIn("warning: The configuration file", done.stderr)

    def test_needs(self) -> None:
        """A file whose settings need another one is OK, with one warning for each."""
        needy = {"killSwitch": True, "ipv6": "block", "dnsMode": "fake-ip"}
        path = writeConfig(Path(self.directory, "needy"), {"proxy": "h:1", **needy})
        done = say("check", str(path))
        self.assertEqual(done.returncode, 0)
        self.assertRegex(
            done.stderr,
            r"^warning: killSwitch .*\nwarning: ipv6: block .*\nwarning: dnsMode: fake-ip .*\n$",
        )
