"""Tests of L{nanotun.console}: its words and their error messages."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from rich.console import Console
from twisted.scripts._twistd_unix import ServerOptions
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from nanotun import __version__, console
from nanotun.config.options import Options
from nanotun.console import command, confirm, run, start, status, stop
from nanotun.console.status import showLive
from nanotun.control.lock import InstanceLock
from nanotun.errors import ConfigError, NotRunning, RunningError
from tests import ROOT
from tests.unit.console.status_cases import REPORT

#: Python writes no byte code where this is set.
CACHED = "PYTHONDONTWRITEBYTECODE"

NAMES = "nano0", "/run/nanotun"


class ConsoleCase(SynchronousTestCase):
    """Runs words and collects their output."""

    def say(self, main: Callable[[Sequence[str]], int], *arguments: str) -> tuple[int, str, str]:
        """The exit status, and what was written to stdout and stderr."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            try:
                result = main(list(arguments))
            except SystemExit as error:
                result = int(error.code or 0)
        return result, out.getvalue(), err.getvalue()


class MainTests(ConsoleCase):
    """L{console.main}."""

    def test_help(self) -> None:
        """The help fits a screen, and lists every word and the exit statuses."""
        for word in ("--help", "-h", "help"):
            result, said, error = self.say(console.main, word)
            self.assertEqual((result, error), (0, ""))
        lines = said.splitlines()
        self.assertLessEqual(len(lines), 24)
        self.assertLessEqual(max(map(len, lines)), 80)
        for word in console.COMMANDS:
            self.assertIn(f"\n  {word} ", said)
        self.assertIn("3 nanotun does not run", said)

    def test_light(self) -> None:
        """The help imports neither Twisted nor rich, which take a moment."""
        code = (
            "import sys, nanotun.console as c; c.main(['--help']); "
            "sys.exit(any(name in sys.modules for name in ('twisted', 'rich')))"
        )
        done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0)

    def test_byteCode(self) -> None:
        """
        As root, nothing is written into another user's installation, so that this user can remove
        it; into one of root's, byte code is.
        """
        if os.geteuid() != 0:
            raise SkipTest("only root can give files away")
        for owner, written in ((65534, False), (0, True)):
            place = Path(self.mktemp()).resolve()
            without = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / "nanotun", place / "nanotun", ignore=without)
            for path in (place, *place.rglob("*")):
                os.chown(path, owner, owner)
            code = "import nanotun.console as c; c.main(['check', '--help'])"
            kept = {name: os.environ[name] for name in os.environ if name != CACHED}
            done = subprocess.run(
                [sys.executable, "-c", code],
                env={**kept, "PYTHONPATH": str(place)},
                stdout=subprocess.DEVNULL,
            )
            self.assertEqual(done.returncode, 0)
            made = {path.parent.name for path in place.rglob("__pycache__")}
            self.assertEqual({"nanotun", "console", "config"} <= made, written, made)
            self.assertEqual(bool(made), written, made)

    def test_nothing(self) -> None:
        """Without a word the help goes to stderr, and the status is 2."""
        self.assertEqual(self.say(console.main), (2, "", console.helpText() + "\n"))

    def test_version(self) -> None:
        """The version is one line."""
        self.assertEqual(self.say(console.main, "--version"), (0, f"nanotun {__version__}\n", ""))

    def test_unknown(self) -> None:
        """The error for an unknown word is one sentence that suggests the nearest word."""
        for word, sentence in (
            ("stat", "did you mean 'nanotun status'?"),
            ("chekc", "did you mean 'nanotun check'?"),
            ("STOP", "there is no word 'STOP'; see 'nanotun --help'."),
            ("x\x1b[2J", "there is no word 'x\\x1b[2J'; see 'nanotun --help'."),
        ):
            result, said, error = self.say(console.main, word)
            self.assertEqual((result, said), (2, ""))
            self.assertIn(sentence, error)
            self.assertEqual(error.count("\n"), 1)

    def test_words(self) -> None:
        """Each word has a module and a help on stdout, and rejects unknown options."""
        self.patch(run, "blockSignals", set)
        for word in console.COMMANDS:
            for help in ("--help", "-h"):
                result, said, error = self.say(console.main, word, help)
                self.assertEqual((result, error), (0, ""), word)
                self.assertIn(f"nanotun {word}", said)
            result, said, error = self.say(console.main, word, "--version")
            self.assertEqual((result, said, error), (0, f"nanotun {__version__}\n", ""), word)
            if word == "run":
                continue  # Writes to the descriptor, with an exit status of its own.
            result, said, error = self.say(console.main, word, "--nonsense")
            self.assertEqual((result, said), (64 if word == "doctor" else 2, ""), word)
            self.assertIn(f"nanotun {word}: ", error)
            self.assertIn(f"; see 'nanotun {word} --help'.", error)

    def test_streams(self) -> None:
        """Output that is closed or cannot be written causes no traceback."""
        command = f"exec '{sys.executable}' -c 'import nanotun.console as c; exit(c.main())' --help"
        for redirection, expected in (
            (">&-", (0, "")),
            (">&- 2>&-", (0, "")),
            (
                ">/dev/full",
                (1, "nanotun: the output cannot be written (No space left on device).\n"),
            ),
        ):
            done = subprocess.run(
                ["/bin/sh", "-c", f"{command} {redirection}"], capture_output=True, text=True
            )
            self.assertEqual((done.returncode, done.stderr), expected, redirection)

    def test_interrupted(self) -> None:
        """Ctrl-C causes no traceback, and the status that shells expect of it."""

        def interrupt(arguments: Sequence[str]) -> int:
            raise KeyboardInterrupt

        self.patch(stop, "main", interrupt)
        self.assertEqual(self.say(console.main, "stop"), (130, "", ""))


class CommandTests(ConsoleCase):
    """L{command}."""

    def runDir(self, *arguments: str) -> str:
        """The runDir that the options result in."""
        options = command.AskOptions()
        options.parseOptions(list(arguments))
        return options.runDir()

    def test_runDir(self) -> None:
        """The directory comes from the flag, else the variable, the file or the default."""
        self.assertEqual(self.runDir(), "/run/nanotun")
        self.assertEqual(self.runDir("--run-dir", "/a"), "/a")
        path = Path(self.mktemp())
        path.write_text("proxy: h\n")
        self.assertEqual(self.runDir("-c", str(path)), "/run/nanotun")
        path.write_text("proxy: h\nrunDir: /b\n")
        self.assertEqual(self.runDir("-c", str(path)), "/b")
        self.assertEqual(self.runDir("-c", str(path), "--run-dir", "/a"), "/a")
        self.patch(os, "environ", {"NANOTUN_RUNDIR": "/c"})
        self.assertEqual(self.runDir("-c", str(path)), "/c")
        self.assertEqual(self.runDir("--run-dir", "/a"), "/a")
        self.patch(os, "environ", {"NANOTUN_RUNDIR": ""})
        self.assertEqual(self.runDir("-c", str(path)), "/b")
        self.patch(os, "environ", {"NANOTUN_RUNDIR": "c"})
        error = self.assertRaises(ConfigError, self.runDir)
        self.assertTrue(str(error).startswith("NANOTUN_RUNDIR must be a directory's path"), error)

    def test_errors(self) -> None:
        """An error is one sentence, and the status says of which kind it is."""
        options = command.AskOptions()

        def fail(error: Exception) -> Callable[[], int]:
            def work() -> int:
                raise error

            return work

        for error, expected in ((NotRunning("None runs."), 3), (RunningError("No."), 1)):
            result = self.say(lambda a, e=error: command.run("x", options, a, fail(e)))  # type: ignore[misc]
            self.assertEqual(result, (expected, "", f"nanotun: {error}\n"))

    def test_arguments(self) -> None:
        """An argument is an error."""
        result, _, error = self.say(stop.main, "now")
        self.assertEqual(result, 2)
        self.assertIn("there is no argument 'now'; see 'nanotun stop --help'.", error)

    def test_badDirectory(self) -> None:
        """The error for a bad file or directory is one sentence."""
        for runDir in ("", "run"):
            result, _, error = self.say(stop.main, "--run-dir", runDir)
            self.assertEqual((result, error.count("\n")), (2, 1))
            self.assertIn("--run-dir must be a directory's path that begins with /", error)
        result, _, error = self.say(stop.main, "-c", "/nowhere/n.yaml")
        self.assertIn("/nowhere/n.yaml cannot be read", error)
        self.assertEqual(result, 1)

    def test_nobody(self) -> None:
        """Without a daemon there is one sentence, and the status is 3."""
        for main in (status.main, stop.main, confirm.main):
            for runDir in (os.path.realpath(self.mktemp()), "/"):
                result = self.say(main, "--run-dir", runDir)
                self.assertEqual(
                    result, (3, "", f"nanotun: No nanotun runs with runDir {runDir}.\n")
                )


class FakeClient:
    """Answers with the report."""

    asked: list[str] = []
    pid = 1

    def __init__(self, runDir: str) -> None:
        self.asked = FakeClient.asked = []

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *details: object) -> None:
        return None

    def ask(self, name: str) -> Any:
        """Answer one request."""
        self.asked.append(name)
        return REPORT


class TroubleTests(SynchronousTestCase):
    """Whether the tunnel works: C{nanotun status --check}."""

    def trouble(self, *healths: str, routes: str = "", named: bool = True) -> str:
        """What is said about proxies with these healths."""
        proxies = [
            {"url": f"socks5://p{n}:1080", "health": health, "trouble": f"p{n} is down."}
            for n, health in enumerate(healths)
        ]
        upstream = {"policy": None, "proxies": proxies}
        report: dict[str, Any] = {"upstream": upstream, "routes": {"trouble": routes}}
        if named:
            report["upstreams"] = {"proxy": upstream}
        return status.trouble(report)

    def test_proxies(self) -> None:
        """It does not once all proxies are down; one that nobody has asked may well work."""
        for named in (True, False):
            for healths in ((), ("up",), ("unknown",), ("down", "up")):
                self.assertEqual(self.trouble(*healths, named=named), "")
            self.assertEqual(self.trouble("down", "down", named=named), "p0 is down.")

    def test_routes(self) -> None:
        """Nor does it if something is wrong with the routes."""
        self.assertEqual(self.trouble("up", routes="No IPv6."), "No IPv6.")
        self.assertEqual(status.trouble({"upstream": None, "routes": None}), "")


class StatusTests(ConsoleCase):
    """L{status} and the live table."""

    def setUp(self) -> None:
        self.patch(status, "Client", FakeClient)

    def test_json(self) -> None:
        """With --json the report is printed as it is."""
        result, said, _ = self.say(status.main, "--json")
        self.assertEqual((result, json.loads(said)), (0, REPORT))

    def test_text(self) -> None:
        """Without --json the report is printed as text."""
        result, said, _ = self.say(status.main)
        self.assertEqual(result, 0)
        self.assertTrue(said.startswith("nanotun    "))

    def test_watchPlain(self) -> None:
        """Without a terminal, reports are printed one after another at the given interval."""
        pauses: list[float] = []

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                raise KeyboardInterrupt

        for flags, count in ((["--json"], 3), ([], 3)):
            pauses.clear()
            options = status.StatusOptions()
            options.parseOptions([*flags, "--watch", "0.5"])

            def watch(arguments: Sequence[str], options: Any = options) -> int:
                status.watch(lambda: REPORT, options, sleep)
                return 0

            out = io.StringIO()
            with redirect_stdout(out):
                self.assertRaises(KeyboardInterrupt, watch, [])
            self.assertEqual(pauses, [0.5] * 3)
            self.assertEqual(out.getvalue().count("192.0.2.1"), count)

    def test_seconds(self) -> None:
        """The error for wrong seconds, or for seconds without --watch, is one sentence."""
        for arguments, sentence in (
            (("5",), "there is no argument '5'"),
            (("--watch", "5", "6"), "there is no argument '6'"),
            (("--watch", "0"), "--watch takes 0.2 to 3600 seconds, not '0'"),
            (("--watch", "x"), "not 'x'"),
        ):
            result, _, error = self.say(status.main, *arguments)
            self.assertEqual(result, 2)
            self.assertIn(sentence, error)

    def test_live(self) -> None:
        """On a terminal the table is redrawn, with the current rates."""
        output = io.StringIO()
        screen = Console(file=output, force_terminal=True, width=80)
        later = json.loads(json.dumps(REPORT))
        later["engine"]["bytes"]["down"] += 2 * 1024 * 1024
        later["upstream"]["proxies"][0]["url"] = "socks5://[bold]\x1b[2J"
        reports, times = iter([REPORT, later]), iter([0.0, 2.0])
        left = [1.0]

        def sleep(seconds: float) -> None:
            if not left:
                raise KeyboardInterrupt
            left.pop()

        self.assertRaises(
            KeyboardInterrupt,
            showLive,
            lambda: next(reports),
            2.0,
            sleep,
            lambda: next(times),
            screen,
        )
        said = output.getvalue()
        self.assertIn("1.0 MiB/s down", said)
        self.assertIn("[bold]\\x1b[2J", said)


class StartTests(ConsoleCase):
    """L{start}, without actually starting a daemon."""

    def options(self, *arguments: str) -> start.StartOptions:
        """Options with their settings read."""
        options = start.StartOptions()
        options.parseOptions(["--proxy", "h", "--run-dir", "/run/x", *arguments])
        options.readSettings(0, {})
        return options

    def test_twistd(self) -> None:
        """twistd is told everything except the pidfile, which is ours to write."""
        for arguments, pidfile, expected in (
            ((), "", ["--prefix=nanotun", "--nodaemon"]),
            (("-d",), "/run/x/nanotun.pid", ["--prefix=nanotun"]),
            (("-d", "--pidfile="), "", ["--prefix=nanotun"]),
            (
                ("-d", "--pidfile", "p", "--logfile", "-", "--syslog", "--prefix", "q"),
                os.path.abspath("p"),
                ["--prefix=q", "--syslog", "--logfile=-"],
            ),
        ):
            options = self.options(*arguments)
            self.assertEqual(options.twistdArguments(), ["--no_save", "--pidfile=", *expected])
            self.assertEqual(options.pidfile, pidfile)

    def test_second(self) -> None:
        """If a daemon runs already, another one does not even begin to start."""
        runDir = os.path.realpath(self.mktemp())
        lock = InstanceLock(runDir, "/etc/n.yaml")
        lock.start()
        self.addCleanup(lock.stop)
        result, _, error = self.say(start.main, "--proxy", "h", "--run-dir", runDir)
        self.assertEqual(result, 1)
        self.assertIn(f"nanotun: nanotun runs as process {os.getpid()} since ", error)

    def test_pidfile(self) -> None:
        """The error for an impossible pidfile is one sentence, before anything is made."""
        runDir = os.path.realpath(self.mktemp())
        self.patch(os, "geteuid", lambda: 0)
        for pidfile in ("/nonexistent/x", "/"):
            result, _, error = self.say(
                start.main, "-d", "--proxy", "h", "--run-dir", runDir, "--pidfile", pidfile
            )
            self.assertEqual((result, error.count("\n")), (2, 1))
            self.assertIn(f"--pidfile {pidfile} cannot be written", error)
        self.assertFalse(os.path.exists(runDir))

    def test_failed(self) -> None:
        """The waiting parent of a failed daemon prints no fragment of an exception."""
        self.patch(start, "tell", lambda tunName, runDir: 0 if (tunName, runDir) == NAMES else 9)
        for arguments, answer, expected in (
            ((), b"0", (0, "")),
            ((), b"1 builtins.ValueError", (1, "")),
            (("--syslog",), b"1 x", (1, "nanotun: it did not start; its log says why.\n")),
        ):
            config = ServerOptions()
            config.parseOptions(["--no_save", *arguments])
            reading, writing = os.pipe()
            self.addCleanup(os.close, reading)
            os.write(writing, answer)
            os.close(writing)
            err = io.StringIO()
            self.patch(sys, "__stderr__", err)
            runner = start.TwistdRunner.__new__(start.TwistdRunner)
            runner.config = config
            settings = SimpleNamespace(tunName=NAMES[0], runDir=NAMES[1])
            runner._options = cast(Any, SimpleNamespace(settings=settings))
            self.assertEqual((runner._waitForStart(reading), err.getvalue()), expected)

    def test_notRoot(self) -> None:
        """Without root, a sentence says so before anything is made."""
        runDir = os.path.realpath(self.mktemp())
        self.patch(os, "geteuid", lambda: 1000)
        result, _, error = self.say(start.main, "-d", "--proxy", "h", "--run-dir", runDir)
        self.assertEqual(result, 1)
        self.assertIn("only root may make a TUN device", error)
        self.assertFalse(os.path.exists(runDir))

    def test_badConfiguration(self) -> None:
        """The error for a bad configuration is one sentence."""
        result, said, error = self.say(start.main)
        self.assertEqual((result, said), (2, ""))
        self.assertTrue(error.startswith("nanotun: No proxy is set"))

    def test_seedFlags(self) -> None:
        """Every flag of 'twistd nanotun' is also a flag of 'nanotun start'."""
        ours = set(start.StartOptions().longOpt)
        self.assertEqual(set(Options().longOpt) - ours, set())
