"""
C{nanotun start}, in the foreground and in the background.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

from tests.e2e.case import STOP_SLACK, TunnelCase
from tests.e2e.lab.console import endIfThere, nanotun, say
from tests.e2e.lab.daemon import (
    START_SECONDS,
    STOP_SECONDS,
    answers,
    collectLogs,
    environment,
    writeConfig,
)
from tests.e2e.lab.ordinary import needReadable
from tests.e2e.lab.process import PATIENCE, Child, alive, waitUntil
from tests.e2e.lab.topology import FAMILIES, IPV4, TUN_NAME

#: Starts and stops in one test; a benchmark has more.
ROUNDS = 20


class StartTests(TunnelCase):
    """The daemon, started with its own command."""

    seconds = 120

    def setUp(self) -> None:
        """Write a configuration."""
        super().setUp()
        self.place = self.directory / "daemon"
        self.config = writeConfig(self.place, {"proxy": "direct://"})
        self.runDir = self.place / "run"

    def start(self, *arguments: str) -> Child:
        """Start a daemon in the foreground and wait until it is up."""
        argv = nanotun("start", "-c", str(self.config), *arguments)
        child = Child(
            self.lab.app.argv(argv), self.place / "stdout.log", environment(), cwd=self.place
        )
        self.addCleanup(child.stop, signal.SIGKILL)
        waitUntil(
            lambda: child.status() is not None or answers(self.lab.app, FAMILIES[0]),
            START_SECONDS,
            "it is up",
        )
        self.assertIs(child.status(), None, child.output())
        return child

    def background(self, *arguments: str) -> tuple[int, str]:
        """Run C{nanotun start -d}; return its status and output."""
        done = say(
            "start",
            "-d",
            "-c",
            str(self.config),
            *arguments,
            prefix=self.lab.app.argv([]),
            cwd=self.place,
        )
        for file in self.runDir.glob("*.pid"):
            self.addCleanup(endIfThere, int(file.read_text()))
        return done.returncode, done.stdout + done.stderr

    def assertBackground(self, *arguments: str) -> None:
        """C{nanotun start -d} succeeds, and says nothing but that the device is up."""
        status, said = self.background(*arguments)
        self.assertEqual(status, 0, said)
        self.assertEqual(said, f"{TUN_NAME} is up, as process {self.pid()}.\n")

    def pid(self) -> int:
        """The daemon's pid, according to its report."""
        done = say("status", "--json", "--run-dir", str(self.runDir))
        self.assertEqual(done.returncode, 0, done.stderr)
        return int(json.loads(done.stdout)["daemon"]["pid"])

    def stop(self) -> None:
        """Stop the running daemon."""
        done = say("stop", "--run-dir", str(self.runDir))
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_foreground(self) -> None:
        """Either signal ends it with status 0 within two seconds, and no file is left."""
        for number in (signal.SIGTERM, signal.SIGINT):
            child = self.start()
            began = time.monotonic()
            self.assertEqual(child.stop(number, 10), 0, child.output())
            self.assertLess(time.monotonic() - began, STOP_SECONDS + STOP_SLACK)
            self.assertNotIn(TUN_NAME, self.lab.app.interfaces())
            self.assertEqual(sorted(os.listdir(self.place)), ["logs", "nanotun.yaml", "stdout.log"])
        self.assertNotIn("Traceback", collectLogs(self.place))

    def test_background(self) -> None:
        """-d returns once the daemon is up; the pidfile exists while it runs."""
        self.assertBackground()
        self.assertTrue(answers(self.lab.app, FAMILIES[0]))
        pid = self.pid()
        self.assertEqual((self.runDir / "nanotun.pid").read_text(), str(pid))
        status, said = self.background()
        self.assertEqual(status, 1)
        self.assertIn(f"nanotun: nanotun runs as process {pid} since ", said)
        self.assertEqual((self.runDir / "nanotun.pid").read_text(), str(pid))
        self.stop()
        self.assertFalse(alive(pid))
        self.assertFalse(self.runDir.exists())

    def test_warnings(self) -> None:
        """
        In the background and with another log, too, a start says once what does nothing, and
        the log has it.
        """
        line = "killSwitch does nothing without autoDefaultRoute"
        for words in ((), ("--logfile", str(self.place / "own.log")), ("--syslog",)):
            status, said = self.background("--kill-switch", "true", *words)
            self.assertEqual(status, 0, said)
            self.assertEqual(said.count(line), 1, said)
            self.assertIn(line, collectLogs(self.place))
            self.stop()

    def test_deadProxy(self) -> None:
        """-d succeeds without its proxy, but says so; so do status and reload."""
        self.lab.filter(1081, "drop", "drop", self.lab.proxy)
        for port, words in (
            (9, rf"cannot be reached at {IPV4.proxy} \(Connection refused\)"),
            (1081, "(has not answered for|did not answer within|did not answer a check in) 2 s"),
        ):
            proxy = f"socks5://{IPV4.proxy}:{port}"
            began = time.monotonic()
            status, said = self.background("--proxy", proxy)
            self.assertLess(time.monotonic() - began, START_SECONDS)
            self.assertEqual(status, 0)
            first, trouble, rest = said.splitlines()
            self.assertEqual(first, f"{TUN_NAME} is up, as process {self.pid()}.")
            self.assertRegex(trouble, f"^nanotun: The proxy {proxy} {words}")
            self.assertEqual(rest, "nanotun: Connections fail until the proxy answers.")
            where = ("--run-dir", str(self.runDir))
            (one,) = json.loads(say("status", "--json", *where).stdout)["upstream"]["proxies"]
            self.assertEqual((one["health"], one["url"]), ("down", proxy))
            self.assertIn(f"{proxy}, down\n", say("status", *where).stdout)
            done = say("reload", *where)
            self.assertEqual((done.returncode, done.stdout), (0, "Nothing has changed.\n"))
            self.assertIn(f"warning: The proxy {proxy} ", done.stderr)
            self.stop()

    def test_startsAtATime(self) -> None:
        """If several start at once, one wins, and the pidfile is its own."""
        argv = self.lab.app.argv(nanotun("start", "-d", "-c", str(self.config)))
        children = [
            Child(argv, self.place / f"start-{number}.log", environment(), cwd=self.place)
            for number in range(3)
        ]
        statuses = sorted(child.wait(PATIENCE) for child in children)
        self.assertEqual(statuses, [0, 1, 1], [child.output() for child in children])
        self.addCleanup(endIfThere, self.pid())
        self.assertEqual((self.runDir / "nanotun.pid").read_text(), str(self.pid()))
        said = "".join(child.output() for child in children)
        self.assertNotIn("Traceback", said)
        self.stop()
        self.assertFalse(self.runDir.exists())

    def test_logsMentioned(self) -> None:
        """The first start in a directory says that it makes logs/ there, the second nothing."""
        self.config = writeConfig(self.place, {"proxy": "direct://", "logDir": None})
        sentence = f"Log files are written to {self.place}/logs, a new directory that belongs to"
        status, said = self.background()
        self.assertEqual((status, said.count(sentence)), (0, 1), said)
        self.stop()
        self.assertTrue(list((self.place / "logs").iterdir()))
        self.assertBackground()
        self.stop()
        shutil.rmtree(self.place / "logs")
        child = self.start()
        self.assertEqual(child.output().count(sentence), 1)
        self.assertEqual(child.stop(signal.SIGTERM, 10), 0)

    def test_defaultFile(self) -> None:
        """Without --config and --proxy, /etc/nanotun.yaml counts, and the output says so."""
        etc = self.directory / "etc"
        etc.mkdir()
        for name in ("passwd", "group", "hosts", "nsswitch.conf"):
            shutil.copy(f"/etc/{name}", etc / name)
        shutil.copy(self.config, etc / "nanotun.yaml")
        inside = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc && exec "$@"', str(etc)]
        prefix = [*self.lab.app.argv([]), *inside]
        done = say("start", "-d", prefix=prefix, cwd=self.place)
        self.addCleanup(endIfThere, self.pid())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("The configuration is /etc/nanotun.yaml, because neither", done.stderr)
        status = say("status", "--json", prefix=prefix, cwd=self.place)
        self.assertEqual(json.loads(status.stdout)["daemon"]["config"], "/etc/nanotun.yaml")
        self.assertIn("OK: /etc/nanotun.yaml\n", say("check", prefix=prefix).stdout)
        answer = say("explain", "tcp", "192.0.2.1:443", prefix=prefix)
        self.assertIn("by       the daemon that runs", answer.stdout)
        done = say("doctor", prefix=prefix)
        self.assertIn("/etc/nanotun.yaml", " ".join(done.stdout.split()))
        done = say("stop", prefix=prefix)
        self.assertEqual(done.returncode, 0, done.stderr)
        answer = say("explain", "tcp", "192.0.2.1:443", prefix=prefix)
        self.assertIn("by       /etc/nanotun.yaml\n", answer.stdout)

    def test_original(self) -> None:
        """'nanotun --config FILE', without a word, runs the daemon."""
        argv = nanotun("--config", str(self.config))
        child = Child(
            self.lab.app.argv(argv), self.place / "stdout.log", environment(), cwd=self.place
        )
        self.addCleanup(child.stop, signal.SIGKILL)
        waitUntil(lambda: answers(self.lab.app, FAMILIES[0]), START_SECONDS, "it is up")
        self.assertEqual(child.stop(signal.SIGTERM, 10), 0)

    def test_stalePidfile(self) -> None:
        """A pidfile that a crash left is no obstacle, even if its number is in use."""
        self.runDir.mkdir()
        (self.runDir / "nanotun.pid").write_text(str(os.getpid()))
        self.assertBackground()
        self.stop()

    def test_ownPidfile(self) -> None:
        """--pidfile and --logfile say where these files are."""
        pidfile, logfile = self.place / "my.pid", self.place / "my.log"
        self.assertBackground("--pidfile", str(pidfile), "--logfile", str(logfile))
        self.assertEqual(pidfile.read_text(), str(self.pid()))
        self.assertIn(f"{TUN_NAME} is up", logfile.read_text())
        self.stop()
        self.assertFalse(pidfile.exists())

    def test_startFails(self) -> None:
        """A failed start has status 1 and one sentence, and leaves nothing behind."""
        self.lab.app.ip(f"tuntap add {TUN_NAME} mode tap")
        status, said = self.background()
        self.assertEqual(status, 1)
        self.assertIn(TUN_NAME, said)
        self.assertFalse(self.runDir.exists())
        child = Child(
            self.lab.app.argv(nanotun("start", "-c", str(self.config))),
            self.place / "stdout.log",
            environment(),
            cwd=self.place,
        )
        self.addCleanup(child.stop, signal.SIGKILL)
        self.assertEqual(child.wait(PATIENCE), 1)
        self.assertNotIn("Traceback", child.output())

    def test_flags(self) -> None:
        """A flag overrides the file, and --no-auto-route a 'true' in it."""
        self.config = writeConfig(self.place, {"proxy": "h:1", "autoDefaultRoute": "true"})
        child = self.start("--no-auto-route", "--proxy", "direct://", "--mtu", "1400")
        done = say("status", "--json", "--run-dir", str(self.runDir))
        report = json.loads(done.stdout)
        self.assertEqual(report["device"]["mtu"], 1400)
        self.assertEqual(report["upstream"]["proxies"][0]["url"], "direct://")
        self.assertEqual(child.stop(), 0)

    def test_rounds(self) -> None:
        """Any number of starts and stops leaves nothing behind."""
        links = self.lab.app.interfaces()
        for _ in range(ROUNDS):
            self.assertBackground()
            self.stop()
        self.assertEqual(self.lab.app.interfaces(), links)
        self.assertFalse(self.runDir.exists())
        self.assertNotIn("Traceback", collectLogs(self.place))

    def test_notRoot(self) -> None:
        """Another user is told to be root, and nothing changes."""
        needReadable()
        prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        for flag in ((), ("-d",)):
            done = say(
                "start",
                *flag,
                "--proxy",
                "direct://",
                "--log-dir",
                "",
                prefix=prefix,
                cwd=Path("/"),
            )
            self.assertEqual(done.returncode, 1)
            self.assertEqual(
                done.stderr,
                "nanotun: only root may make a TUN device; start it as root, for instance with "
                "sudo.\n",
            )
