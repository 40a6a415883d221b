"""Tests of L{nanotun.cell.command}, L{nanotun.cell.users} and L{nanotun.cell.leftovers}."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from nanotun.cell.command import (
    HIDDEN,
    CommandFailed,
    CommandUser,
    startCommand,
    statusOf,
    visible,
)
from nanotun.cell.leftovers import GRACE, ROUNDS, Resident, endAll, namespaceOf, residents
from nanotun.cell.users import findUser
from nanotun.config.secretfiles import FILE_VARIABLES
from nanotun.errors import ConfigError


class StatusTests(SynchronousTestCase):
    """L{statusOf}."""

    def test_statuses(self) -> None:
        """A status is kept; a signal becomes 128 plus its number."""
        self.assertEqual([statusOf(code) for code in (0, 7, -9, -15)], [0, 7, 137, 143])


class VisibleTests(SynchronousTestCase):
    """L{visible}."""

    def test_proxies(self) -> None:
        """No variable of any case sends the command to a proxy, unless they are to be kept."""
        names = ("http_proxy", "HTTPS_PROXY", "All_Proxy", "no_proxy", "NO_PROXY")
        kept = {"A": "1", "ftp_proxy": "f", "my_http_proxy": "m"}
        given = {**kept, **dict.fromkeys(names, "x")}
        self.assertEqual(visible(given, keepProxies=False), kept)
        self.assertEqual(visible(given, keepProxies=True), given)

    def test_hidden(self) -> None:
        """nanotun's own passwords are never there, nor the names of files with them."""
        self.assertEqual(set(HIDDEN), {*FILE_VARIABLES, *FILE_VARIABLES.values()})
        for keep in (False, True):
            self.assertEqual(visible({**dict.fromkeys(HIDDEN, "x"), "A": "1"}, keep), {"A": "1"})


class StartTests(SynchronousTestCase):
    """L{startCommand}."""

    def failure(self, *argv: str) -> tuple[str, int]:
        """The error of a command that must not start."""
        error = self.assertRaises(CommandFailed, startCommand, argv, None, dict(os.environ))
        return str(error), error.status

    def test_environment(self) -> None:
        """The environment is the caller's, without nanotun's password."""
        code = (
            "import os, sys; sys.exit(os.environ.get('A') != '1' or 'NANOTUN' in str(os.environ))"
        )
        variables = {"A": "1", "NANOTUN_PROXY": "a:x@h", "NANOTUN_PROXY_PASSWORD": "x"}
        process = startCommand([sys.executable, "-c", code], None, variables)
        self.assertEqual(process.wait(20), 0)

    def test_rightless(self) -> None:
        """An ordinary user's command has no capability, whatever the helper has, and gets none."""
        self.patch(os, "geteuid", lambda: 1000)
        user = CommandUser(1000, 1000, (), {"HOME": "/home/ann"})
        out = Path(self.mktemp())
        script = f"grep -E '^(Cap|NoNew)' /proc/self/status >{out}; echo $HOME >>{out}"
        self.assertEqual(startCommand(["sh", "-c", script], user, os.environ).wait(20), 0)
        *sets, home = out.read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1], 16) for line in sets}
        self.assertEqual(home, "/home/ann")
        self.assertEqual((sizes["CapInh"], sizes["CapAmb"], sizes["NoNewPrivs"]), (0, 0, 1))

    def test_notFound(self) -> None:
        """A missing command has status 127."""
        for name in ("/no/such/file", "/etc/passwd/x"):
            text, status = self.failure(name)
            self.assertEqual(status, 127)
            self.assertEqual(text, f"{name}: command not found; check its name and PATH.")

    def test_notExecutable(self) -> None:
        """A file that is not executable, or a directory, has status 126."""
        for name in ("/etc/passwd", "/etc"):
            text, status = self.failure(name)
            self.assertEqual(status, 126)
            self.assertIn(f"{name}: it cannot be executed (Permission denied)", text)

    def test_noInterpreter(self) -> None:
        """A script without its interpreter has status 127 and a sentence that says so."""
        script = Path(self.mktemp())
        script.write_text("#!/no/such/interpreter\n")
        script.chmod(0o755)
        text, status = self.failure(str(script.resolve()))
        self.assertEqual(status, 127)
        self.assertIn("its interpreter is missing", text)

    def test_tooLong(self) -> None:
        """Too long arguments have status 126."""
        self.assertEqual(
            self.failure("/bin/true", "x" * (1 << 18)),
            ("/bin/true: the arguments are too long for the kernel.", 126),
        )


class UserTests(SynchronousTestCase):
    """L{findUser}."""

    def test_found(self) -> None:
        """A user is found by name and by number, with groups and variables."""
        entry = pwd.getpwuid(0)
        user = findUser("root")
        self.assertEqual(findUser("0"), user)
        self.assertEqual((user.uid, user.gid), (0, 0))
        self.assertIn(0, user.groups)
        self.assertEqual(user.variables["HOME"], entry.pw_dir)
        self.assertEqual((user.variables["USER"], user.variables["LOGNAME"]), ("root", "root"))

    def test_unknown(self) -> None:
        """The error for an unknown user is one sentence."""
        for text in ("no-such-user", "4294967294", "99999999999999", "", "-1"):
            error = self.assertRaises(ConfigError, findUser, text)
            self.assertEqual(
                str(error),
                f"--user: this machine has no user {text!a}; give a name or a number from "
                "/etc/passwd.",
            )
        error = self.assertRaises(ConfigError, findUser, "roott")
        self.assertEqual(str(error), "--user: this machine has no user 'roott'; did you mean root?")


class Village:
    """Imitates the processes of a cell, and the clock."""

    def __init__(self, *pids: int, stubborn: int = 0, immortal: int = 0) -> None:
        self.pids = set(pids)
        self.stubborn = stubborn
        self.immortal = immortal
        self.sent: list[tuple[int, int]] = []
        self.now = 0.0

    def find(self) -> list[Resident]:
        """The processes that still exist."""
        return [Resident(pid, f"p{pid}") for pid in sorted(self.pids)]

    def kill(self, pid: int, number: int) -> None:
        """Send a signal, at which most processes end."""
        self.sent.append((pid, number))
        if pid not in self.pids:
            raise ProcessLookupError
        if pid != self.immortal and (pid != self.stubborn or number == signal.SIGKILL):
            self.pids.discard(pid)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def end(self) -> list[Resident]:
        """L{endAll}."""
        return endAll(self.find, self.kill, self.sleep, lambda: self.now)


class EndTests(SynchronousTestCase):
    """L{endAll}."""

    def test_nobody(self) -> None:
        """Without processes, there is no waiting."""
        village = Village()
        self.assertEqual((village.end(), village.now), ([], 0.0))

    def test_polite(self) -> None:
        """A process that ends after SIGTERM is not killed."""
        village = Village(5, 6)
        self.assertEqual(village.end(), [Resident(5, "p5"), Resident(6, "p6")])
        self.assertNotIn(signal.SIGKILL, [number for _, number in village.sent])
        self.assertLess(village.now, GRACE / 2)

    def test_stubborn(self) -> None:
        """A process that does not end in time is killed."""
        village = Village(5, 6, stubborn=6)
        village.end()
        self.assertEqual(village.pids, set())
        self.assertIn((6, signal.SIGKILL), village.sent)
        self.assertGreaterEqual(village.now, GRACE)

    def test_immortal(self) -> None:
        """Waiting for a process that cannot be killed has a limit."""
        village = Village(5, immortal=5)
        village.end()
        self.assertEqual(village.sent.count((5, signal.SIGKILL)), ROUNDS)


class ResidentTests(SynchronousTestCase):
    """L{residents}, of the real F{/proc}."""

    def test_here(self) -> None:
        """Processes of our namespace are found by name, without zombies and the spared."""
        here = namespaceOf()
        assert here is not None
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        found = {each.pid: each.name for each in residents(here, (os.getpid(),))}
        self.assertIn("python", found[child.pid])
        self.assertNotIn(os.getpid(), found)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        self.assertNotIn(child.pid, [each.pid for each in residents(here)])
        child.communicate()
        self.assertIsNone(namespaceOf(child.pid))

    def test_elsewhere(self) -> None:
        """A namespace that does not exist has no processes."""
        self.assertEqual(residents((0, 0)), [])
