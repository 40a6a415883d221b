"""
The daemon as a service: the init script, systemd's notifications, capabilities, logs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from tests.e2e.case import STOP_SLACK, LabCase, TunnelCase
from tests.e2e.lab import curl
from tests.e2e.lab.daemon import (
    START_SECONDS,
    STOP_SECONDS,
    Daemon,
    answers,
    collectLogs,
    environment,
    launch,
    twistd,
    writeConfig,
)
from tests.e2e.lab.host import HOST4
from tests.e2e.lab.process import PATIENCE, PROJECT_ROOT, Child, waitUntil
from tests.e2e.lab.topology import FAMILIES, IPV4, TUN_NAME
from tests.e2e.routes_case import RoutesCase
from tests.e2e.test_daemon import NOWHERE

SCRIPT = PROJECT_ROOT / "etc" / "init.d" / "nanotun"
NET_ADMIN = 1 << 12


class InitScriptTests(LabCase):
    """etc/init.d/nanotun, with the real twistd, in the app's namespace."""

    seconds = 120

    def setUp(self) -> None:
        """Lay it out as it is installed, but in a directory of its own."""
        super().setUp()
        (self.directory / "bin").mkdir()
        self.pidfile = self.directory / "nanotun.pid"
        # The checkout's plugin is not installed.
        for name, path in (
            ("twistd", twistd()),
            ("nanotun", twistd().removesuffix("twistd") + "nanotun"),
        ):
            program = self.directory / "bin" / name
            program.write_text(f'#!/bin/sh\nPYTHONPATH={PROJECT_ROOT} exec {path} "$@"\n')
            program.chmod(0o755)
        self.config = writeConfig(self.directory, {"proxy": NOWHERE})
        self.defaults = self.directory / "default"
        self.defaults.write_text(
            f"LIBDIR={self.directory}\nCONFIG={self.config}\nPIDFILE={self.pidfile}\n"
            f"DIRECTORY={self.directory}/state\n"
        )
        self.addCleanup(self._end)

    def _end(self) -> None:
        if self.pidfile.exists():
            self.script("stop")

    def script(self, action: str, *variables: str) -> tuple[int, str]:
        """Run the script; return its exit status and output."""
        argv = ["env", f"NANOTUN_DEFAULTS={self.defaults}", *variables, str(SCRIPT), action]
        done = self.lab.app.run(argv, timeout=START_SECONDS, check=False)
        return done.returncode, done.stdout

    def up(self) -> bool:
        """Whether the tunnel works now."""
        return TUN_NAME in self.lab.app.interfaces() and all(
            answers(self.lab.app, family) for family in FAMILIES
        )

    def log(self) -> str:
        """The daemon's log."""
        return collectLogs(self.directory)

    def test_life(self) -> None:
        """start returns once the tunnel works; status, restart and stop do what they say."""
        self.assertEqual(self.script("status"), (3, "nanotun: does not run.\n"))
        status, said = self.script("start")
        self.assertTrue(self.up(), self.log())
        pid = int(self.pidfile.read_text())
        self.assertEqual((status, said), (0, f"nanotun: started, with pid {pid}.\n"))
        self.assertEqual(self.script("status"), (0, f"nanotun: runs, with pid {pid}.\n"))
        self.assertEqual(self.script("start"), (0, f"nanotun: runs already, with pid {pid}.\n"))
        self.assertEqual(os.readlink(f"/proc/{pid}/cwd"), "/")
        status, said = self.script("restart")
        self.assertTrue(self.up(), self.log())
        again = int(self.pidfile.read_text())
        self.assertNotEqual(again, pid)
        self.assertEqual(said, f"nanotun: stopped.\nnanotun: started, with pid {again}.\n")
        started = time.monotonic()
        self.assertEqual(self.script("stop"), (0, "nanotun: stopped.\n"))
        self.assertLess(time.monotonic() - started, STOP_SECONDS + STOP_SLACK)
        self.assertFalse(self.pidfile.exists())
        self.assertNotIn(TUN_NAME, self.lab.app.interfaces())
        self.assertEqual(self.script("status")[0], 3)

    def test_killSwitch(self) -> None:
        """
        A restart keeps a kill switch closed, and so does a stop by init while the machine goes
        down; another stop opens it.
        """
        settings = {"proxy": NOWHERE, "autoDefaultRoute": True, "killSwitch": True}
        self.config = writeConfig(self.directory, settings)
        other = self.directory / "other"
        with self.defaults.open("a") as file:
            file.write(f'OPTIONS="--run-dir {other}"\n')
        self.assertEqual(self.script("start")[0], 0, self.log())
        self.assertEqual(self.script("restart")[0], 0, self.log())
        self.assertEqual(self.log().count("The kill switch stays closed until the next start."), 1)
        for variables, closed in ((["RUNLEVEL=6"], True), ([], False)):
            self.assertEqual(self.script("stop", *variables), (0, "nanotun: stopped.\n"))
            self.assertEqual("unreachable" in self.lab.app.run(["ip", "rule"]).stdout, closed)
            self.assertEqual((other / "journal.json").exists(), closed)
            if closed:
                self.assertEqual(self.script("start")[0], 0, self.log())

    def test_crashed(self) -> None:
        """After kill -9 the status says so, and the next start is an ordinary one."""
        self.script("start")
        os.kill(int(self.pidfile.read_text()), signal.SIGKILL)
        waitUntil(lambda: TUN_NAME not in self.lab.app.interfaces(), PATIENCE, "the device goes")
        self.assertEqual(self.script("status")[0], 1)
        # Another program has the pid by now.
        self.pidfile.write_text(str(os.getpid()))
        self.assertEqual(self.script("status")[0], 1)
        self.assertEqual(self.script("start")[0], 0)
        self.assertTrue(self.up(), self.log())
        self.assertEqual(self.script("stop")[0], 0)

    def test_brokenConfiguration(self) -> None:
        """The user sees the daemon's own sentence and its exit status."""
        self.config.write_text("proxy: socks5://h\nmtuu: 1500\n")
        status, said = self.script("start")
        self.assertEqual(status, 1)
        self.assertIn("mtuu", said)
        self.assertTrue(said.endswith("nanotun: did not start.\n"), said)
        self.assertEqual(len(said.splitlines()), 2, said)
        self.assertFalse(self.pidfile.exists())

    def test_brokenRestart(self) -> None:
        """A running daemon is not stopped for a configuration with a mistake."""
        self.script("start")
        pid = self.pidfile.read_text()
        good = self.config.read_text()
        self.config.write_text("proxy: socks5://h\nmtuu: 1500\n")
        for action in ("restart", "reload"):
            self.assertEqual(
                self.script(action),
                (
                    1,
                    f"nanotun: {self.config}, line 2: there is no setting mtuu; did you mean mtu?\n"
                    f"nanotun: {self.config} has a mistake, and nothing is changed.\n",
                ),
            )
        self.assertEqual(self.pidfile.read_text(), pid)
        self.assertTrue(self.up(), self.log())
        self.config.write_text(good)
        self.assertEqual(self.script("restart")[0], 0)

    def test_failedStart(self) -> None:
        """An error after the fork is reported, too."""
        self.lab.app.ip(f"link add {TUN_NAME} type veth peer name other0")
        status, said = self.script("start")
        self.assertEqual(status, 1)
        self.assertIn(f"nanotun cannot start: an interface named {TUN_NAME} exists", said)
        self.assertTrue(said.endswith("nanotun: did not start.\n"), said)
        self.assertFalse(self.pidfile.exists())


class Systemd:
    """What systemd is to a service: a socket, and the variables that name it."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path.replace("@", "\0", 1))
        self.variables = {"NOTIFY_SOCKET": path}

    def hear(self, timeout: float) -> str:
        """The next message."""
        self._socket.settimeout(timeout)
        return self._socket.recv(4096).decode()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class NotifyTests(LabCase):
    """sd_notify and the watchdog, with a real daemon."""

    def launch(self, path: str, **variables: str) -> tuple[Systemd, int]:
        """Start a daemon as systemd would; return it and its pid."""
        systemd = Systemd(path)
        self.addCleanup(systemd.close)
        prefix = ["env", *(f"{k}={v}" for k, v in {**systemd.variables, **variables}.items())]
        self.child = launch(
            self.lab.app, self.directory / "daemon", {"proxy": NOWHERE}, prefix=prefix
        )
        self.addCleanup(self.child.stop)
        return systemd, self.child.pid

    def test_life(self) -> None:
        """systemd is told of the start once the tunnel works, of life, and of the stop."""
        path = str(self.directory / "notify")
        systemd, pid = self.launch(path, WATCHDOG_USEC="400000")
        self.assertEqual(systemd.hear(START_SECONDS), f"READY=1\nSTATUS={TUN_NAME} is up")
        self.assertTrue(all(answers(self.lab.app, family) for family in FAMILIES))
        for _ in range(3):
            self.assertEqual(systemd.hear(1), "WATCHDOG=1")
        # A reactor that does not run sends nothing.
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.1)
        with self.assertRaises(TimeoutError):
            for _ in range(3):
                systemd.hear(0.6)
        os.kill(pid, signal.SIGCONT)
        self.assertEqual(systemd.hear(1), "WATCHDOG=1")
        self.child.send(signal.SIGTERM)
        heard = systemd.hear(1)
        while heard == "WATCHDOG=1":
            heard = systemd.hear(1)
        self.assertEqual(heard, "STOPPING=1")
        self.child.wait(STOP_SECONDS + STOP_SLACK)

    def test_clockSet(self) -> None:
        """A time of day that is set back, or forward, stops neither the watchdog nor the stop."""
        shift = self.directory / "shift"
        shift.write_text("0")
        (self.directory / "sitecustomize.py").write_text(
            "import time\nreal = time.time\n"
            f"time.time = lambda: real() + float(open({str(shift)!r}).read() or 0)\n"
        )
        systemd, _ = self.launch(
            str(self.directory / "notify"),
            WATCHDOG_USEC="400000",
            PYTHONPATH=os.pathsep.join([str(self.directory), environment()["PYTHONPATH"]]),
        )
        self.assertTrue(systemd.hear(START_SECONDS).startswith("READY=1"))
        self.assertEqual(systemd.hear(1), "WATCHDOG=1")
        for seconds in ("-3600", "0", "3600"):
            # Until the next beat is scheduled, and before its time has come.
            time.sleep(0.1)
            # Written at once: an empty file would be no shift.
            fresh = shift.with_suffix(".new")
            fresh.write_text(seconds)
            fresh.rename(shift)
            for _ in range(4):
                self.assertEqual(systemd.hear(1), "WATCHDOG=1")
        self.child.send(signal.SIGTERM)
        self.child.wait(STOP_SECONDS + STOP_SLACK)

    def test_failedStart(self) -> None:
        """A failed start never reports that it is ready."""
        self.lab.app.ip(f"link add {TUN_NAME} type veth peer name other0")
        systemd, _ = self.launch(f"@nanotun-{os.getpid()}")
        self.assertEqual(self.child.wait(START_SECONDS), 1)
        self.assertRaises(TimeoutError, systemd.hear, 0.1)

    def test_noSystemd(self) -> None:
        """A socket without a listener costs a warning and nothing else."""
        systemd, _ = self.launch(f"@nanotun-{os.getpid()}")
        systemd.close()
        waitUntil(partial(answers, self.lab.app, IPV4), START_SECONDS, "the gateway answers")
        waitUntil(
            lambda: "systemd does not hear nanotun" in collectLogs(self.directory / "daemon"),
            PATIENCE,
            "a warning",
        )


class CapabilityTests(TunnelCase):
    """The privileges that a daemon keeps."""

    def capabilities(self, daemon: Daemon) -> set[tuple[str, ...]]:
        """Permitted, effective, inheritable, bounding and ambient set of each thread."""
        found = set()
        for task in Path(f"/proc/{daemon.pid}/task").iterdir():
            text = (task / "status").read_text()
            names = ("CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb", "NoNewPrivs")
            found.add(tuple(re.findall(rf"^{name}:\t(\w+)$", text, re.M)[0] for name in names))
        return found

    def check(self, daemon: Daemon, expected: int) -> None:
        """Every thread has C{expected}, and can gain no more."""
        kept = f"{expected:016x}"
        none = f"{0:016x}"
        self.assertEqual(self.capabilities(daemon), {(kept, kept, none, kept, none, "1")})

    def test_threads(self) -> None:
        """Under load every thread has NET_ADMIN and nothing else, and the stop is orderly."""
        web = self.webServer()
        daemon = self.tunnel(logLevel="debug")
        urls = [family.url(web.port, "/peer") for family in FAMILIES for _ in range(10)]
        for url in urls:
            curl.get(self.lab.app, url)
        self.assertGreater(daemon.threads(), 3)
        self.check(daemon, NET_ADMIN)
        self.assertEndsWell(daemon)
        self.assertFalse((daemon.directory / "twistd.pid").exists())

    def test_foreignFiles(self) -> None:
        """In a directory of another user it may override modes, and its files are made."""
        directory = self.directory / "foreign"
        directory.mkdir()
        os.chown(directory, 1000, 1000)
        directory.chmod(0o700)
        self.patch(self, "_daemonDirectory", lambda: directory)
        daemon = self.daemon(proxy=NOWHERE)
        self.check(daemon, NET_ADMIN | 1 << 1)
        self.assertTrue(list((directory / "logs").glob("*.log")))
        self.assertEndsWell(daemon)
        self.assertFalse((directory / "twistd.pid").exists())

    def test_noNewCode(self) -> None:
        """
        The daemon runs if no memory may become code (MemoryDenyWriteExecute= of systemd),
        also with a TLS proxy, whose library is the most likely one to need that.
        """
        script = (
            "import ctypes, os, sys\n"
            "assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0\n"  # PR_SET_MDWE
            "os.execv(sys.argv[1], sys.argv[1:])\n"
        )
        probe = subprocess.run([sys.executable, "-c", script, "/bin/true"])
        if probe.returncode != 0:
            self.skipTest("this kernel has no PR_SET_MDWE (Linux 6.3)")
        directory = self.directory / "daemon"
        child = launch(
            self.lab.app,
            directory,
            {"proxy": "https://10.77.1.1:1?insecure=1"},
            prefix=(sys.executable, "-c", script),
        )
        self.addCleanup(child.stop)
        waitUntil(
            lambda: child.status() is not None or answers(self.lab.app, IPV4),
            START_SECONDS,
            "the gateway answers",
        )
        self.lab.routeThroughTunnel()
        self.connectError(80)
        self.assertIsNone(child.status(), collectLogs(directory))
        self.assertNotIn("Traceback", collectLogs(directory))
        child.stop()


class RoutesCapabilityTests(RoutesCase):
    """The privileges that a daemon with autoDefaultRoute keeps."""

    def test_servers(self) -> None:
        """It finds SSH servers on any port, root's and users', and their sessions survive."""
        # In a directory that everybody can read, and with the name of an SSH server.
        directory = Path(f"/tmp/nanotun-ssh-{os.getpid()}")
        directory.mkdir(mode=0o755)
        self.addCleanup(shutil.rmtree, directory)
        program = directory / "sshd"
        shutil.copy(shutil.which("socat") or "", program)
        user = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups")
        sessions = []
        for port, prefix in ((2222, ()), (2223, user)):
            argv = [*prefix, str(program), f"TCP4-LISTEN:{port},fork,reuseaddr", "EXEC:/bin/cat"]
            server = Child(self.lab.host.argv(argv), self.directory / f"ssh-{port}.log")
            self.addCleanup(server.stop)
            waitUntil(partial(self.lab.host.listening, port), PATIENCE, "the server listens")
            session = self.lab.world.connect((HOST4.app, port), 3)
            self.addCleanup(session.close)
            sessions.append(session)
        daemon = self.daemon(self.socks())
        for session in sessions:
            session.sendall(b"still here")
            self.assertEqual(session.recv(100), b"still here")
        kept = f"{1 << 12 | 1 << 13 | 1 << 19 | 1 << 2:016x}"
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        self.assertIn(f"CapPrm:\t{kept}\n", status)
        daemon.stop()
        self.assertNothingLeft()


class LogTests(TunnelCase):
    """The logs of a real daemon."""

    def test_json(self) -> None:
        """
        Every line of stderr and of the files is a JSON object, including Twisted's own
        events.
        """
        web = self.webServer()
        daemon = self.tunnel(logFormat="json", logLevel="debug")
        curl.get(self.lab.app, self.family.url(web.port, "/peer"))
        self.assertEndsWell(daemon)
        lines = [json.loads(line) for line in daemon.log().splitlines()]
        self.assertTrue(all({"time", "level", "namespace", "text"} <= set(line) for line in lines))
        (up,) = {
            json.dumps(line["fields"], sort_keys=True)
            for line in lines
            if f"{TUN_NAME} is up" in line["text"]
        }
        self.assertEqual(json.loads(up)["mtu"], 1500)

    def test_fullDisk(self) -> None:
        """A full disk is one sentence; flows continue, and so do lines once there is space."""
        web = self.webServer()
        directory = self.directory / "daemon"
        logs = directory / "logs"
        logs.mkdir(parents=True)
        child = launch(
            self.lab.app,
            directory,
            {"proxy": self.dante().url(), "logLevel": "debug"},
            # In a mount namespace of its own, as 'ip netns exec' makes one.
            prefix=("sh", "-c", f'mount -t tmpfs -o size=16k logs {logs} && exec "$@"', "sh"),
        )
        self.addCleanup(child.stop)
        waitUntil(partial(answers, self.lab.app, IPV4), START_SECONDS, "the gateway answers")
        self.lab.routeThroughTunnel()
        inside = Path(f"/proc/{child.pid}/root{logs}")
        (inside / "filler").write_bytes(bytes(3 * 4096))

        def flows(count: int) -> None:
            for _ in range(count):
                seen = curl.get(self.lab.app, self.family.url(web.port, "/peer"))
                self.assertEqual(seen, self.family.proxyOutside)

        sign = f"Log files cannot be written to {logs} (No space left on device)"
        for _ in range(10):
            flows(5)
            if sign in child.output():
                break
        flows(5)
        self.assertEqual(child.output().count(sign), 1, child.output()[-2000:])
        (inside / "filler").unlink()
        time.sleep(10.5)  # logfile.RETRY
        flows(1)
        self.assertIn(f"Log files are written to {logs} again; lines lost: ", child.output())
        (file,) = inside.glob("*.log")
        lines = file.read_text().splitlines()
        self.assertTrue(re.match(r"\S+ (debug|error) \[", lines[-1]), lines[-1])
        self.assertNotIn("Traceback", child.output())
        self.assertIn(child.stop(), (0, -signal.SIGTERM))

    def test_lostDirectory(self) -> None:
        """A removed directory is made again."""
        daemon = self.daemon(proxy=NOWHERE, logLevel="debug")
        logs = daemon.directory / "logs"
        for path in logs.iterdir():
            path.unlink()
        logs.rmdir()
        time.sleep(1.1)  # logfile.CHECK
        self.connectError(80)
        waitUntil(lambda: list(logs.glob("*.log")), PATIENCE, "there are logs again")
        self.assertEndsWell(daemon)

    def test_stalledTerminal(self) -> None:
        """A reader of stderr that stops reading delays no flow."""
        web = self.webServer()
        dante = self.dante()
        directory = self.directory / "daemon"
        # sleep never reads what the daemon writes.
        shell = 'exec 2> >(exec sleep 1000); exec "$@"'
        child = launch(
            self.lab.app,
            directory,
            {"proxy": dante.url(), "logLevel": "debug"},
            prefix=("bash", "-c", shell, "bash"),
        )
        self.addCleanup(child.stop)
        waitUntil(partial(answers, self.lab.app, IPV4), START_SECONDS, "the gateway answers")
        self.lab.routeThroughTunnel()
        # About 150 KB of lines, where a pipe holds 64.
        for _ in range(300):
            seen = curl.get(self.lab.app, self.family.url(web.port, "/peer"))
            self.assertEqual(seen, self.family.proxyOutside)
        size = sum(path.stat().st_size for path in (directory / "logs").iterdir())
        self.assertGreater(size, 1 << 16)
        self.assertIn(child.stop(), (0, -signal.SIGTERM))
