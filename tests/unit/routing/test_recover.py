"""
Tests for L{nanotun.routing.recover} and the commands C{recover} and C{plan}.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from twisted.trial.unittest import SkipTest
from zope.interface.verify import verifyObject

from nanotun.console import COMMANDS, main
from nanotun.console.recover import RecoverOptions
from nanotun.control.lock import InstanceLock
from nanotun.errors import ConfigError, RoutingError, RunningError
from nanotun.interfaces import IPart
from nanotun.routing import preview
from nanotun.routing.applied import Applied
from nanotun.routing.changes import RuleChange
from nanotun.routing.journal import Entry, Journal
from nanotun.routing.netlink import CachedRoutes
from nanotun.routing.place import NetworkPlace
from nanotun.routing.recover import Leftovers, Recovered, recover
from nanotun.routing.unrouted import makeLeftovers
from nanotun.routing.values import Rule
from tests.unit.routing.routing_cases import TUNNEL, RoutesCase
from tests.unit.routing.test_host import settings


class CrashCase(RoutesCase):
    """After a crash."""

    def crash(self, **wishes: Any) -> None:
        """A daemon that was killed."""
        self.kernel.devices["nano0"] = TUNNEL
        self.routes(**wishes).start()
        self.clock.calls.clear()
        self.kernel.removeDevice("nano0")


class LeftoversTests(CrashCase):
    """Tests for L{Leftovers}."""

    def leftovers(self) -> Leftovers:
        """The part that a daemon without routes has."""
        cached = CachedRoutes(self.kernel)
        return Leftovers(cached, Applied(self.journal(), self.changes(cached)))

    def test_takesBack(self) -> None:
        """The changes of a killed daemon are undone, including a kill switch."""
        self.crash(killSwitch=True)
        part = self.leftovers()
        verifyObject(IPart, part)
        part.start()
        self.assertEqual((self.kernel.rules(), self.there, self.written()), ([], [], []))
        self.assertTrue(self.kernel.closed)
        part.stop()
        self.leftovers().start()

    def test_trouble(self) -> None:
        """Changes that cannot be undone, or are of another namespace, do not stop the daemon."""
        self.crash()
        self.fails.add("undo firewall")
        self.leftovers().start()
        self.assertEqual((self.kernel.rules(), self.written()), ([], ["do firewall"]))
        self.fails.clear()
        self.place = NetworkPlace("boot", 8)
        self.leftovers().start()
        self.assertEqual(self.there, ["firewall"])

    def test_made(self) -> None:
        """The part exists only if there is a journal and no routes are set."""
        place = {"runDir": os.path.abspath(self.runDir)}
        self.assertIsNone(makeLeftovers(settings(**place)))
        self.crash()
        self.assertIsInstance(makeLeftovers(settings(**place)), Leftovers)
        self.assertIsNone(makeLeftovers(settings(autoDefaultRoute=True, **place)))


class RecoverTests(CrashCase):
    """Tests for L{recover}."""

    def recover(self, **options: Any) -> Recovered:
        """Recover."""
        return recover(
            str(self.runDir), self.kernel, self.changes(), journal=self.journal(), **options
        )

    def test_nothing(self) -> None:
        """If no daemon was killed, nothing is done."""
        self.assertEqual(self.recover(), Recovered(()))

    def test_crash(self) -> None:
        """The journal's changes are undone in reverse order, and the journal is removed."""
        self.crash()
        done = self.recover()
        self.assertTrue(all(" del " in line or line == "undo firewall" for line in done.undone))
        self.assertEqual(done.undone[-1], "ip -4 rule del pref 7499 nop protocol 110")
        self.assertEqual((self.kernel.rules(), self.there, self.written()), ([], [], []))
        self.assertEqual(self.recover(), Recovered(()))

    def test_killSwitch(self) -> None:
        """A kill switch is kept if that is wanted, and otherwise undone."""
        self.crash(killSwitch=True)
        before = self.kernel.rules()
        self.assertEqual(self.recover(keepKillSwitch=True), Recovered((), True))
        self.assertEqual(self.kernel.rules(), before)
        self.recover()
        self.assertEqual(self.kernel.rules(), [])
        self.crash()
        self.recover(keepKillSwitch=True)
        self.assertEqual(self.kernel.rules(), [])

    def test_running(self) -> None:
        """While a daemon runs nothing is undone, and the error has its pid."""
        self.crash()
        lock = InstanceLock(str(self.runDir), "")
        for pid in (f" (pid {os.getpid()})", ""):
            lock.start()
            if not pid:
                (self.runDir / "lock").write_text("\n")
            error = self.assertRaises(RunningError, self.recover, force=True)
            self.assertIn(f"nanotun runs{pid}: stop it", str(error))
            self.assertTrue(self.kernel.rules())
            lock.stop()
        self.recover()
        self.assertEqual(self.kernel.rules(), [])

    def test_force(self) -> None:
        """With force, everything with our number is undone, even if the journal is damaged."""
        self.crash()
        (self.runDir / "journal.json").write_text("damaged")
        self.assertRaises(RoutingError, self.recover)
        self.assertTrue(self.kernel.rules())
        self.recover(force=True)
        self.assertEqual(self.kernel.rules(), [])
        self.assertEqual(os.listdir(self.runDir), [])

    def test_untrusted(self) -> None:
        """A journal or a lock that others could have written is not obeyed."""
        if os.geteuid() != 0:
            raise SkipTest("only root can give a file away")
        self.crash()
        journal, lock = self.runDir / "journal.json", self.runDir / "lock"
        lock.touch(0o644)
        before = self.kernel.rules()
        for path, mode in ((journal, 0o600), (lock, 0o644), (self.runDir, 0o755)):
            for owner, bits in ((65534, 0), (0, 0o002), (0, 0o020)):
                os.chown(path, owner, owner)
                path.chmod(mode | bits)
                error = self.assertRaises(RoutingError, self.recover)
                self.assertIn(f"{path} is not trusted, because ", str(error))
                self.assertIn(f"'nanotun recover --run-dir {self.runDir} --force'", str(error))
            os.chown(path, 0, 0)
            path.chmod(mode)
        elsewhere = self.directory / "elsewhere"
        journal.rename(elsewhere)
        journal.symlink_to(elsewhere.absolute())
        self.assertRaises(RoutingError, self.recover)
        self.assertEqual(self.kernel.rules(), before)
        os.chown(self.runDir, 65534, 65534)
        self.recover(force=True)
        self.assertEqual(self.kernel.rules(), [])

    def test_left(self) -> None:
        """A change that cannot be undone is an error, and stays in the journal."""
        self.crash()
        self.fails.add("undo firewall")
        error = self.assertRaises(RoutingError, self.recover)
        self.assertIn("as root", str(error))
        self.assertEqual(self.written(), ["do firewall"])


class CommandTests(RoutesCase):
    """The commands C{recover} and C{plan}."""

    def run_(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command: its status, and what it says."""
        out, err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        status = main(arguments)
        return status, out.getvalue(), err.getvalue()

    def test_words(self) -> None:
        """Both are subcommands of nanotun."""
        self.assertTrue({"plan", "recover"} <= set(COMMANDS))

    def test_recover(self) -> None:
        """If there is nothing to undo, recover says so."""
        status, out, _ = self.run_("recover", "--run-dir", str(self.directory.absolute()))
        self.assertEqual((status, out), (0, "There is nothing to take back.\n"))

    def test_kept(self) -> None:
        """A kill switch that is kept is said to be so, with the command that opens it."""
        runDir = self.directory.absolute()
        rule = Rule(4, 7460, "unreachable")
        Journal(str(runDir)).write([Entry(RuleChange.kind, rule._asdict())], True)
        status, out, _ = self.run_("recover", "--run-dir", str(runDir), "--keep-kill-switch")
        self.assertEqual(status, 0)
        self.assertIn("traffic stays in", out)
        self.assertIn(f"'nanotun recover --run-dir {runDir}' lets it out.", out)

    def test_wrong(self) -> None:
        """A wrong command line is 2, also one without a proxy, each with a sentence."""
        for word in ("recover", "plan"):
            status, _, err = self.run_(word, "--unheard")
            self.assertEqual(status, 2)
            self.assertIn(f"nanotun {word} --help", err)
        status, _, err = self.run_("plan")
        self.assertEqual(status, 2)
        self.assertIn("No proxy is set", err)

    def test_planOff(self) -> None:
        """Without autoDefaultRoute there is nothing to print."""
        status, out, _ = self.run_("plan", "--proxy", "socks5://192.0.2.1")
        self.assertEqual(status, 0)
        self.assertIn("nothing is changed", out)

    def test_runDir(self) -> None:
        """The directory comes from the flag, the file, or is the default."""
        config = self.directory / "nanotun.yaml"
        self.directory.mkdir(exist_ok=True)
        config.write_text("proxy: socks5://192.0.2.1\nrunDir: /run/other\n")
        config.chmod(0o600)
        for arguments, expected in (
            ([], "/run/nanotun"),
            (["--config", str(config)], "/run/other"),
            (["--config", str(config), "--run-dir", "/run/third"], "/run/third"),
        ):
            options = RecoverOptions()
            options.parseOptions(arguments)
            self.assertEqual(options.runDir(), expected)
        options = RecoverOptions()
        options.parseOptions(["--run-dir", "\0"])
        self.assertIn("--run-dir", str(self.assertRaises(ConfigError, options.runDir)))

    def test_preview(self) -> None:
        """The plan lists what a start does, in order, and changes nothing."""
        self.patch(preview, "sshPorts", lambda environment: (22,))
        changes = preview.plannedChanges(
            settings(proxy="socks5://9.9.9.9", excludedProcesses="uid:7", killSwitch=True),
            self.kernel,
            {},
            str(self.root),
        )
        self.assertEqual(self.kernel.log, [])
        # The firewall's commands are tested with it.
        commands = [change.describe() for change in changes if change.kind in ("rule", "route")]
        self.routes(killSwitch=True, uids=(7,)).start()
        self.assertEqual(commands, self.kernel.log)
