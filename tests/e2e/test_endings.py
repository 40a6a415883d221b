"""
Every way to end, as the table in docs/routes.md has them: whether anything leaves the machine
meanwhile and afterwards, and that an SSH session survives.
"""

from __future__ import annotations

import signal

from tests.e2e.case import engines
from tests.e2e.endings_case import EndingCase
from tests.e2e.lab.daemon import Daemon, launch
from tests.e2e.lab.process import PATIENCE, PROJECT_ROOT, Child, waitUntil

#: Makes a daemon whose engine fails at SIGUSR2, as it does when the library says so.
FAILING = """\
import errno, os, signal

def breakIt(number, frame):
    from nanotun.engine.native import NativeEngine

    def pump(self, budget):
        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))

    NativeEngine.pump = pump

signal.signal(signal.SIGUSR2, breakIt)
"""


class EndingChecks(EndingCase):
    """The ends of a daemon with killSwitch."""

    stackMode: str

    def switched(self) -> Daemon:
        """A daemon with a kill switch; from now on the host sends."""
        daemon = self.daemon(self.proxy, killSwitch=True, stackMode=self.stackMode)
        self.watch()
        self.assertThroughProxy(self.server)
        return daemon

    def ended(self, daemon: Daemon | Child) -> int:
        """Wait until it has ended; return its status."""
        return daemon.wait(20)

    def test_stop(self) -> None:
        """After 'nanotun stop' and after SIGTERM everything is open again, and undone."""
        for number in (0, signal.SIGTERM, signal.SIGINT):
            daemon = self.switched()
            if number:
                daemon.send(number)
            else:
                done = self.console("stop", "--run-dir", str(self.directory / "run"))
                self.assertEqual(done.returncode, 0, done.stdout)
            self.ended(daemon)
            self.assertOpen()
            self.senders.stop()

    def test_restart(self) -> None:
        """A restart keeps it closed, between the stop and the start and while it starts."""
        daemon = self.switched()
        runDir = str(self.directory / "run")
        for socket in (True, False):
            if not socket:
                # As with a daemon that is too old to be asked.
                (self.directory / "run" / "control.sock").unlink()
            done = self.console("stop", "--run-dir", runDir, "--keep-kill-switch")
            self.assertEqual(done.returncode, 0, done.stdout)
            self.assertIn("; the kill switch stays closed until the next start.", done.stdout)
            self.ended(daemon)
            self.assertClosed()
            daemon = self.daemon(self.proxy, killSwitch=True, stackMode=self.stackMode)
            self.assertThroughProxy(self.server)
            self.assertClosed()
        daemon.stop()
        self.assertOpen()

    def test_restartOpen(self) -> None:
        """Without killSwitch, a stop that keeps the kill switch is a stop."""
        daemon = self.daemon(self.proxy, stackMode=self.stackMode)
        runDir = str(self.directory / "run")
        done = self.console("stop", "--run-dir", runDir, "--keep-kill-switch")
        self.assertEqual(done.stdout, f"nanotun has stopped (process {daemon.pid}).\n")
        self.watch()
        self.assertOpen()

    def test_unconfirmed(self) -> None:
        """A start that nobody confirms opens everything again, killSwitch or not."""
        settings = self.settings(self.proxy, killSwitch=True, stackMode=self.stackMode)
        child = launch(self.lab.host, self.directory / "unconfirmed", settings, ["--confirm", "10"])
        self.addCleanup(child.stop)
        waitUntil(lambda: " is up: engine" in child.output(), PATIENCE, "it is up")
        self.watch()
        self.assertThroughProxy(self.server)
        self.assertEqual(self.ended(child), 1)
        self.assertOpen()

    def test_killed(self) -> None:
        """SIGKILL, which is also what a lack of memory and systemd's watchdog end in."""
        daemon = self.switched()
        daemon.kill()
        self.assertClosed()
        # Without the rules, the second layer alone holds.
        for version in ("-4", "-6"):
            self.lab.host.run(["ip", version, "rule", "flush", "protocol", "110"])
        self.assertClosed()
        self.assertRecovers()

    def test_panic(self) -> None:
        """SIGABRT, in which a panic of the engine ends."""
        daemon = self.switched()
        daemon.send(signal.SIGABRT)
        self.assertNotEqual(self.ended(daemon), 0)
        self.assertClosed()
        self.assertRecovers()

    def test_deviceDeleted(self) -> None:
        """Somebody deletes the device."""
        daemon = self.switched()
        self.lab.host.ip("link del nano0")
        self.assertEqual(self.ended(daemon), 1)
        self.assertClosed()
        self.assertIn("The kill switch stays closed: only the local network", daemon.log())
        self.assertRecovers()

    def test_engineFails(self) -> None:
        """The engine reports a failure."""
        (self.directory / "sitecustomize.py").write_text(FAILING)
        path = f"PYTHONPATH={self.directory}:{PROJECT_ROOT}"
        child = self.daemonIn(["env", path], self.proxy, killSwitch=True, stackMode=self.stackMode)
        self.watch()
        child.send(signal.SIGUSR2)
        self.assertEqual(self.ended(child), 1)
        self.assertIn("The packet engine failed", child.output())
        self.assertClosed()
        self.assertRecovers()

    def test_withoutSwitch(self) -> None:
        """Without killSwitch, packets leave directly after every loss, and nothing stays."""
        for kill in (True, False):
            daemon = self.daemon(self.proxy, stackMode=self.stackMode)
            self.watch()
            if kill:
                daemon.kill()
                self.senders.wait()
                self.assertNotEqual(self.leaked(), [])
                self.assertRecovers()
            else:
                self.lab.host.ip("link del nano0")
                self.assertEqual(self.ended(daemon), 1)
                self.assertNotIn("kill switch", daemon.log())
                self.assertOpen()
            self.senders.stop()

    def test_startFails(self) -> None:
        """A start that fails leaves a switch closed that was closed before."""
        daemon = self.switched()
        daemon.kill()
        # Somebody else has taken our routing table.
        self.lab.host.ip("route add default dev lo table 28276 proto static")
        settings = self.settings(self.proxy, killSwitch=True, stackMode=self.stackMode)
        child = launch(self.lab.host, self.directory / "failing", settings)
        self.addCleanup(child.stop)
        self.assertEqual(self.ended(child), 1)
        self.assertIn("28276", child.output())
        self.lab.host.ip("route del default dev lo table 28276 proto static")
        self.assertClosed()
        self.assertRecovers()

    def test_firstStartFails(self) -> None:
        """A start that fails undoes everything where nothing was closed before."""
        self.lab.host.ip("route add default dev lo table 28276 proto static")
        self.before = self.lab.state()
        self.watch()
        settings = self.settings(self.proxy, killSwitch=True, stackMode=self.stackMode)
        child = launch(self.lab.host, self.directory / "failing", settings)
        self.addCleanup(child.stop)
        self.assertEqual(self.ended(child), 1)
        self.assertOpen()


engines(globals(), EndingChecks)
# Otherwise trial would run the base class, too.
del EndingChecks
