"""
C{autoDefaultRoute} and a daemon that is killed.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time

from tests.e2e.lab.daemon import environment
from tests.e2e.lab.host import HOST4, HOST6
from tests.e2e.lab.process import PROJECT_ROOT
from tests.e2e.routes_case import RoutesCase

TIMES = 10
"""How often a daemon is killed under load; benchmarks/crash.py does it more often."""


class CrashTests(RoutesCase):
    """SIGKILL, and its consequences."""

    seconds = 240

    def test_underLoad(self) -> None:
        """
        After repeated kills under load, the next start works, and recover leaves nothing
        behind.
        """
        server, proxy = self.world(), self.socks()
        stop = threading.Event()

        def load() -> None:
            while not stop.is_set():
                self.asker(server, HOST4, timeout=1)

        threads = [threading.Thread(target=load, daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for number in range(TIMES):
                daemon = self.daemon(proxy, lan=("proxy", "direct")[number % 2])
                self.assertThroughProxy(server)
                daemon.kill()
                self.assertTrue(self.journal()["changes"])
                if number % 3 == 2:
                    status, said = self.recover()
                    self.assertEqual(status, 0, said)
                    self.assertNothingLeft()
        finally:
            stop.set()
            for thread in threads:
                thread.join(5)
        # Without a kill switch, traffic can leave at once.
        self.assertDirect(server)
        self.assertEqual(self.recover()[0], 0)
        self.assertNothingLeft()
        self.assertEqual(self.recover(), (0, "There is nothing to take back.\n"))

    def journal(self) -> dict[str, list[object]]:
        """The output of C{nanotun recover}."""
        path = self.directory / "run" / "journal.json"
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        said: dict[str, list[object]] = json.loads(path.read_text())
        return said

    def test_killSwitch(self) -> None:
        """
        With killSwitch nothing leaves between a crash and the next start, nor during the
        start.
        """
        server, proxy = self.world(), self.socks()
        daemon = self.daemon(proxy, killSwitch=True)
        witness = self.witness()
        for _ in range(2):
            self.assertThroughProxy(server)
            daemon.kill()
            stop = threading.Event()

            def load(stop: threading.Event = stop) -> None:
                while not stop.is_set():
                    for family in (HOST4, HOST6):
                        try:
                            self.lab.host.connect((family.world, server.port), 0.2).close()
                        except OSError:
                            time.sleep(0.01)

            thread = threading.Thread(target=load, daemon=True)
            thread.start()
            for family in (HOST4, HOST6):
                self.assertRaises(OSError, self.lab.host.connect, (family.world, server.port), 2)
            status, said = self.recover("--keep-kill-switch")
            self.assertEqual(status, 0)
            self.assertIn("kill switch", said)
            daemon = self.daemon(proxy, killSwitch=True)
            stop.set()
            thread.join(5)
        self.assertThroughProxy(server)
        self.assertNoLeak(witness)
        daemon.kill()
        self.assertEqual(self.recover()[0], 0)
        self.assertNothingLeft()
        self.assertDirect(server)

    def test_turnedOff(self) -> None:
        """The next start undoes what is left, kill switch or not, even if it changes no routes."""
        server, proxy = self.world(), self.socks()
        for killSwitch in (True, False):
            self.daemon(proxy, killSwitch=killSwitch).kill()
            daemon = self.daemon(proxy, autoDefaultRoute=False)
            self.assertDirect(server)
            self.assertIn("as autoDefaultRoute is off", daemon.log())
            daemon.stop()
            self.assertNothingLeft()

    def test_lostJournal(self) -> None:
        """Without its journal, --force finds our changes, and the next start takes them over."""
        server, proxy = self.world(), self.socks()
        for force in (True, False):
            self.daemon(proxy, killSwitch=True).kill()
            (self.directory / "run" / "journal.json").unlink()
            if force:
                self.assertEqual(self.recover("--force")[0], 0)
            else:
                daemon = self.daemon(proxy)
                self.assertThroughProxy(server)
                daemon.stop()
            self.assertNothingLeft()

    def test_otherNamespace(self) -> None:
        """A journal about another network namespace is not followed."""
        proxy = self.socks()
        self.daemon(proxy).kill()
        self.lab.neighbour.ip("rule add pref 7499 nop protocol 110")
        runDir = str(self.directory / "run")
        done = self.console("recover", "--run-dir", runDir, space=self.lab.neighbour)
        self.assertEqual(done.returncode, 1)
        self.assertIn("another network namespace", done.stdout)
        self.assertIn("7499", self.lab.neighbour.run(["ip", "rule"]).stdout)
        self.assertEqual(self.recover()[0], 0)
        self.assertNothingLeft()


class StepTests(RoutesCase):
    """A daemon that is killed at each step of start and stop."""

    seconds = 300

    def test_everyStep(self) -> None:
        """Whichever step is the last, recover and the next start leave nothing behind."""
        self.lab.host.run(["sysctl", "-q", "-w", "net.ipv4.conf.all.rp_filter=1"])
        self.lab.host.ip(
            "tuntap add nano0 mode tun",
            "link set nano0 up",
            "addr add 198.18.0.2/30 dev nano0",
            "addr add fdfe:dcba:9876::2/126 dev nano0 nodad",
        )
        self.before = self.lab.state()
        steps = 0
        while (status := self.ask(str(steps + 1))) != "0":
            self.assertEqual(status, str(-signal.SIGKILL))
            steps += 1
            # In turn: recover, and a start that is not killed, with its stop.
            self.assertEqual(self.ask("recover" if steps % 2 else "1000000"), "0")
            self.assertNothingLeft()
        self.assertGreater(steps, 50)
        self.assertNothingLeft()

    def ask(self, line: str) -> str:
        """Have the helper do something; return the exit status."""
        assert self.helper.stdin is not None and self.helper.stdout is not None
        self.helper.stdin.write(f"{line}\n")
        self.helper.stdin.flush()
        return self.helper.stdout.readline().strip()

    def setUp(self) -> None:
        """Start the helper."""
        super().setUp()
        argv = [sys.executable, "-m", "tests.e2e.lab.routesteps", str(self.directory / "run")]
        self.helper = subprocess.Popen(
            self.lab.host.argv(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd=PROJECT_ROOT,
        )
        self.addCleanup(self.helper.communicate)
