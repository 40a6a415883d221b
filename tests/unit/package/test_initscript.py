"""
Tests of etc/init.d/nanotun with a shell script in place of twistd; the tests with the real
one are in L{tests.e2e.test_services}.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests import ROOT
from tests.e2e.lab.process import waitUntil

SCRIPT = ROOT / "etc" / "init.d" / "nanotun"

#: Runs in the background with a pidfile, as twistd does, once it can take signals, and records
#: them.
TWISTD = """#!/bin/sh
echo "$@" >>"$0.calls"
[ ! -e "$0.fails" ] || { echo "nanotun: no proxy is set." >&2; exit "$(cat "$0.fails")"; }
[ ! -e "$0.ends" ] || exit 0
pidfile=${1#--pidfile=}
(
    trap 'echo HUP >>"$0.signals"' HUP
    trap 'echo TERM >>"$0.signals"; [ -e "$0.stuck" ] || exit 0' TERM
    : >"$0.traps"
    while :; do sleep 0.02; done
) >/dev/null 2>&1 &
until [ -e "$0.traps" ]; do sleep 0.01; done
rm "$0.traps"
echo $! >"$pidfile"
"""

#: Has the words check, which finds mistakes if told to, stop, which stops the daemon if told
#: to, and recover, which fails.
NANOTUN = """#!/bin/sh
[ "$1" = check ] || echo "$@" >>"$0.calls"
[ "$1" = recover ] && exit 1
if [ "$1" = stop ]; then
    [ -e "$0.stops" ] && kill -TERM "$(cat "$0.stops")" && exit
    exit 1
fi
[ ! -e "$0.mistake" ] || { echo "nanotun: no proxy is set." >&2; exit "$(cat "$0.mistake")"; }
echo "OK: $*"
"""


class InitScriptTests(SynchronousTestCase):
    """The script's exit statuses and sentences."""

    def setUp(self) -> None:
        if os.geteuid() != 0:
            raise SkipTest("the script asks for root")
        self.directory = Path(self.mktemp()).resolve()
        (self.directory / "bin").mkdir(parents=True)
        self.twistd = self.program("twistd", TWISTD)
        self.nanotun = self.program("nanotun", NANOTUN)
        self.pidfile = self.directory / "nanotun.pid"
        self.config = self.directory / "nanotun.yaml"
        self.config.touch()
        self.defaults = self.directory / "default"
        self.set()
        self.addCleanup(self.end)

    def program(self, name: str, text: str) -> Path:
        """Make a program."""
        path = self.directory / "bin" / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def set(self, **more: str) -> None:
        """Write the script's settings."""
        settings = {
            "LIBDIR": self.directory,
            "CONFIG": self.config,
            "PIDFILE": self.pidfile,
            "DIRECTORY": self.directory / "state",
            **more,
        }
        self.defaults.write_text("".join(f"{key}='{value}'\n" for key, value in settings.items()))

    def tell(self, sign: str, text: str = "") -> None:
        """Tell the fake twistd what to do."""
        Path(f"{self.twistd}.{sign}").write_text(text)

    def said(self, sign: str, program: Path | None = None) -> str:
        """The text that the fake twistd has recorded."""
        path = Path(f"{program or self.twistd}.{sign}")
        return path.read_text() if path.exists() else ""

    def pid(self) -> int:
        """The pid in the pidfile."""
        return int(self.pidfile.read_text())

    def end(self) -> None:
        """Stop a daemon that a test has left."""
        Path(f"{self.twistd}.stuck").unlink(missing_ok=True)
        self.run_("stop")

    def run_(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """Run the script; returns its exit status and its output."""
        done = subprocess.run(
            ["/bin/sh", str(SCRIPT), *arguments],
            env={"NANOTUN_DEFAULTS": str(self.defaults), "PATH": "/nowhere", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=20,
        )
        return done.returncode, done.stdout

    def check(self, arguments: str, status: int, *sentences: str) -> None:
        """Run it: it must exit with C{status} and print exactly these sentences."""
        said = "".join(f"{sentence}\n" for sentence in sentences)
        self.assertEqual(self.run_(*arguments.split()), (status, said))

    def start(self) -> int:
        """Start it; returns the pid that it prints."""
        status, said = self.run_("start")
        self.assertEqual((status, said), (0, f"nanotun: started, with pid {self.pid()}.\n"))
        return self.pid()

    def test_life(self) -> None:
        """start, status, reload, restart and stop do what their names say."""
        self.set(OPTIONS="--log-level debug")
        self.check("status", 3, "nanotun: does not run.")
        first = self.start()
        self.assertEqual(
            self.said("calls"),
            f"--pidfile={self.pidfile} --rundir=/ nanotun --config {self.config} "
            "--log-level debug\n",
        )
        self.check("status", 0, f"nanotun: runs, with pid {first}.")
        for action in ("reload", "force-reload"):
            self.check(
                action, 0, f"nanotun: reloads {self.config}; its log says what has become of that."
            )
            # Two signals that are pending at the same time arrive in any order.
            waitUntil(lambda: "HUP" in self.said("signals"), 10, "it has taken the signal")
        for action in ("restart", "try-restart"):
            said = self.run_(action)[1]
            self.assertEqual(said.splitlines()[0], "nanotun: stopped.")
            self.check("status", 0, f"nanotun: runs, with pid {self.pid()}.")
        self.assertNotEqual(self.pid(), first)
        self.check("stop", 0, "nanotun: stopped.")
        self.assertFalse(self.pidfile.exists())
        signals = self.said("signals").split()
        self.assertEqual((set(signals), signals.count("TERM")), ({"HUP", "TERM"}, 3))

    def test_restart(self) -> None:
        """A restart asks the daemon to keep its kill switch closed; a stop does not."""
        for action in ("restart", "try-restart"):
            pid = self.start()
            Path(f"{self.nanotun}.stops").write_text(f"{pid}")
            self.assertEqual(self.run_(action)[0], 0)
            self.assertNotEqual(self.pid(), pid)
            self.run_("stop")
        stops = f"stop --config {self.config} --keep-kill-switch\n"
        self.assertEqual(self.said("calls", self.nanotun), stops * 2)

    def test_shutdown(self) -> None:
        """While init brings the machine down, the kill switch stays closed."""
        for level, keeps in (("0", True), ("6", True), ("1", False), ("", False)):
            Path(f"{self.nanotun}.calls").unlink(missing_ok=True)
            pid = self.start()
            Path(f"{self.nanotun}.stops").write_text(f"{pid}")
            self.assertEqual(self.run_("stop", RUNLEVEL=level)[0], 0)
            said = self.said("calls", self.nanotun)
            self.assertEqual("--keep-kill-switch" in said, keeps, level)

    def test_runDir(self) -> None:
        """A runDir among OPTIONS is that of the daemon to restart, too."""
        for options, given in (
            ("--run-dir /srv/x", "--run-dir=/srv/x"),
            ("--log-level debug --run-dir=/srv/x --mtu 1400", "--run-dir=/srv/x"),
        ):
            self.set(OPTIONS=options, STOP_SECONDS="1")
            Path(f"{self.nanotun}.calls").unlink(missing_ok=True)
            self.tell("stuck")
            self.start()
            self.run_("restart")
            stop, recover = self.said("calls", self.nanotun).splitlines()
            wanted = f"--config {self.config} {given} --keep-kill-switch"
            self.assertEqual((stop, recover), (f"stop {wanted}", f"recover {wanted}"))
            self.end()

    def test_stuckRestart(self) -> None:
        """A restart keeps the kill switch closed even if the daemon has to be killed."""
        self.set(STOP_SECONDS="1")
        self.tell("stuck")
        self.start()
        self.run_("restart")
        self.assertIn(
            f"recover --config {self.config} --keep-kill-switch\n",
            self.said("calls", self.nanotun),
        )

    def test_twice(self) -> None:
        """A second start and a second stop change nothing and succeed."""
        pid = self.start()
        self.check("start", 0, f"nanotun: runs already, with pid {pid}.")
        self.check("stop", 0, "nanotun: stopped.")
        self.check("stop", 0, "nanotun: does not run.")
        self.check("try-restart", 0)
        self.assertEqual(self.said("calls").count("\n"), 1)

    def test_stalePidfile(self) -> None:
        """A stale pidfile, with another process's pid or with nonsense, does no harm."""
        for text in ("999999999", str(os.getpid()), "", "nonsense", "-1", "1 2", "12\nx"):
            self.pidfile.write_text(text)
            self.check(
                "status",
                1,
                f"nanotun: does not run, but {self.pidfile} is there: it ended without a stop.",
            )
            self.check("reload", 7, "nanotun: does not run; start it first.")
            self.start()
            self.check("stop", 0, "nanotun: stopped.")
            self.pidfile.write_text(text)
            self.check("stop", 0, "nanotun: does not run.")
            self.assertFalse(self.pidfile.exists())
        self.assertNotIn("HUP", self.said("signals"))

    def test_failedStart(self) -> None:
        """A failed start shows the daemon's sentence, and returns the daemon's status."""
        self.tell("fails", "3")
        self.check("start", 3, "nanotun: no proxy is set.", "nanotun: did not start.")
        self.check(
            "restart",
            3,
            *("nanotun: does not run.", "nanotun: no proxy is set."),
            *("nanotun: did not start.",),
        )

    def test_mistake(self) -> None:
        """A running daemon is left alone if the configuration or an option has a mistake."""
        pid = self.start()
        sign = Path(f"{self.nanotun}.mistake")
        for status, what in (
            ("1", f"{self.config} has"),
            ("2", f"OPTIONS in {self.defaults} have"),
        ):
            sign.write_text(status)
            for action in ("restart", "try-restart", "reload", "force-reload"):
                self.check(
                    action,
                    1,
                    "nanotun: no proxy is set.",
                    f"nanotun: {what} a mistake, and nothing is changed.",
                )
        self.check("status", 0, f"nanotun: runs, with pid {pid}.")
        self.assertEqual(self.said("signals"), "")

    def test_endedStart(self) -> None:
        """A daemon that ends at once counts as not started."""
        self.tell("ends")
        self.check("start", 1, "nanotun: did not start.")

    def test_stuck(self) -> None:
        """A daemon that does not end in time is killed, and its changes are taken back."""
        self.set(STOP_SECONDS="1")
        self.tell("stuck")
        pid = self.start()
        self.check(
            "stop",
            0,
            "nanotun: did not end within 1 s and is killed.",
            "nanotun: look at what 'nanotun recover' has said.",
        )
        # It may not be reaped yet.
        command = Path(f"/proc/{pid}/cmdline")
        self.assertTrue(not command.exists() or command.read_bytes() == b"")
        self.assertEqual(self.said("calls", self.nanotun), f"recover --config {self.config}\n")
        self.program("nanotun", NANOTUN.replace("exit 1", "echo 'ip rule del' && exit 0"))
        self.start()
        self.check("stop", 0, "nanotun: did not end within 1 s and is killed.", "ip rule del")

    def test_notInstalled(self) -> None:
        """Without the program the script says what to do; status 5."""
        self.twistd.unlink()
        self.check(
            "start",
            5,
            f"nanotun: {self.twistd} is not there; install nanotun with 'make install', or set "
            f"LIBDIR in {self.defaults}.",
        )

    def test_notConfigured(self) -> None:
        """Without the configuration the script says what to do; status 6."""
        self.config.unlink()
        self.check(
            "start",
            6,
            f"nanotun: there is no {self.config}; write it, or set CONFIG in {self.defaults}.",
        )

    def test_notRoot(self) -> None:
        """Without root it refuses with status 4, but anybody may ask for the status."""
        public = Path(f"/tmp/nanotun-init-{os.getpid()}")
        shutil.copytree(self.directory, public)
        self.addCleanup(shutil.rmtree, public)
        self.defaults, self.pidfile = public / "default", public / "nanotun.pid"
        self.set()
        script = public / "script"
        shutil.copy(SCRIPT, script)
        for path in (public, *public.rglob("*")):
            path.chmod(0o755)
        self.patch(self, "run_", lambda *a: self.runAs(script, *a))
        for action in ("start", "stop", "restart", "try-restart", "reload", "force-reload"):
            self.check(action, 4, f"nanotun: only root may do that; try: sudo {script} {action}")
        self.check("status", 3, "nanotun: does not run.")
        self.pidfile.write_text("1")
        self.pidfile.chmod(0o600)
        self.check(
            "status", 4, f"nanotun: {self.pidfile} cannot be read; try: sudo {script} status"
        )
        self.pidfile.unlink()

    def runAs(self, script: Path, *arguments: str) -> tuple[int, str]:
        """Run the script as nobody."""
        done = subprocess.run(
            ["/bin/sh", str(script), *arguments],
            env={"NANOTUN_DEFAULTS": str(self.defaults)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=20,
            user=65534,
            group=65534,
            extra_groups=[],
        )
        return done.returncode, done.stdout

    def test_usage(self) -> None:
        """Any other word is answered with the list of words; status 2."""
        for word in ("", "begin"):
            self.check(
                word,
                2,
                f"usage: {SCRIPT} {{start|stop|restart|try-restart|reload|force-reload|status}}",
            )

    def test_shells(self) -> None:
        """It is plain POSIX shell, and shellcheck has no complaint."""
        subprocess.run(["/bin/sh", "-n", str(SCRIPT)], check=True)
        found = shutil.which("shellcheck")
        if found is None:
            raise SkipTest("there is no shellcheck")
        for path in (SCRIPT, ROOT / "tools" / "install.sh", ROOT / "etc" / "default" / "nanotun"):
            done = subprocess.run([found, "-s", "sh", str(path)], capture_output=True, text=True)
            self.assertEqual(done.stdout, "")

    def test_header(self) -> None:
        """Its header has the fields that LSB and update-rc.d require."""
        text = SCRIPT.read_text()
        header = text[text.index("### BEGIN INIT INFO") : text.index("### END INIT INFO")]
        for field in (
            "Provides:          nanotun",
            "Required-Start:",
            "Required-Stop:",
            "Default-Start:     2 3 4 5",
            "Default-Stop:      0 1 6",
            "Short-Description:",
        ):
            self.assertIn(f"# {field}", header)
