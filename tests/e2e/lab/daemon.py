"""
The daemon under test: a real C{twistd nanotun} in the app's namespace.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, PROJECT_ROOT, Child, LabError, alive, waitUntil
from tests.e2e.lab.topology import FAMILIES, TUN_NAME, Family

START_SECONDS = 60.0
"""Seconds for a start, most of them as a reserve for a busy machine."""

STOP_SECONDS = 2.0
"""Seconds that the daemon promises to take after SIGTERM and SIGINT."""

CONNECT_SECONDS = 20.0
"""The C{connectTimeout} of most tests: far more than a busy machine takes for a connection."""

SHORT_SECONDS = 2.0
"""That of tests in which it passes."""

SHORT = f"{SHORT_SECONDS:g}s"

DEFAULTS: Mapping[str, object] = {
    "tunName": TUN_NAME,
    "connectTimeout": f"{CONNECT_SECONDS:g}s",
    # Longer than a busy machine takes from one datagram of a test to the next.
    "udpTimeout": "10m",
    "logLevel": "info",
    # The laboratory's own addresses are private ones.
    "lan": "proxy",
}


def environment() -> dict[str, str]:
    """The environment in which twistd finds this checkout's plugin."""
    path = [str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def twistd() -> str:
    """The twistd that is installed beside the Python that runs the tests."""
    return os.environ.get("LAB_TWISTD") or str(Path(sys.executable).with_name("twistd"))


def writeConfig(directory: Path, settings: Mapping[str, object]) -> Path:
    """
    Write a configuration file with L{DEFAULTS} and C{settings}; a setting of L{None} is left
    out.
    """
    directory.mkdir(parents=True, exist_ok=True)
    merged = {
        "logDir": str(directory / "logs"),
        "runDir": str(directory / "run"),
        **DEFAULTS,
        **settings,
    }
    path = directory / "nanotun.yaml"
    path.touch(mode=0o600)  # It may hold a password.
    path.write_text(
        yaml.safe_dump({key: value for key, value in merged.items() if value is not None})
    )
    return path


def twistdArguments(directory: Path, foreground: bool = True) -> list[str]:
    """The command up to the plugin's name, which is not included."""
    return [
        twistd(),
        *(["-n"] if foreground else ["--logfile", str(directory / "twistd.log")]),
        f"--pidfile={directory / 'twistd.pid'}",
    ]


def launch(
    namespace: Namespace,
    directory: Path,
    settings: Mapping[str, object],
    flags: Sequence[str] = (),
    prefix: Sequence[str] = (),
) -> Child:
    """
    Start C{twistd -n nanotun} without waiting for anything.

    @param flags: further flags of the plugin.
    @param prefix: a command that runs it, such as C{setpriv ...}.
    """
    config = writeConfig(directory, settings)
    argv = [*prefix, *twistdArguments(directory), "nanotun", "--config", str(config), *flags]
    return Child(namespace.argv(argv), directory / "stdout.log", environment(), cwd=directory)


def collectLogs(directory: Path) -> str:
    """The whole output of the daemon with this directory."""
    files = [
        directory / "stdout.log",
        directory / "twistd.log",
        *sorted((directory / "logs").glob("*.log")),
    ]
    return "".join(path.read_text(errors="replace") for path in files if path.exists())


class Daemon:
    """
    A daemon that is up: both gateways answer.

    @ivar directory: its configuration, pidfile and logs.
    """

    def __init__(self, namespace: Namespace, directory: Path, **settings: object) -> None:
        """@raise LabError: it did not come up; the text has its log."""
        self.directory = directory
        self.name = str(settings.get("tunName", TUN_NAME))
        self._namespace = namespace
        self._control = Path(str(settings.get("runDir", directory / "run")), "control.sock")
        started = time.monotonic()
        self._child = self.launched(settings)
        self.pid = self._child.pid
        try:
            waitUntil(self._upOrOver, START_SECONDS, f"{self.name} is up")
            if self._child.status() is not None:
                raise LabError(f"the daemon ended with status {self._child.status()}")
            self.startSeconds = time.monotonic() - started
        except LabError as error:
            self.kill()
            raise LabError(f"{error}\n{self.log()}") from None

    def launched(self, settings: Mapping[str, object]) -> Child:
        """Start it without waiting."""
        return launch(self._namespace, self.directory, settings)

    def _upOrOver(self) -> bool:
        if self._child.status() is not None:
            return True
        if self.name not in self._namespace.interfaces():
            return False
        # The daemon opens this last; a mere ping would also be answered by the offload probe.
        if not self._control.exists():
            return False
        return all(answers(self._namespace, family, self.name) for family in FAMILIES)

    def running(self) -> bool:
        """Whether it still runs."""
        return self._child.status() is None

    def send(self, number: int) -> None:
        """Send it a signal and return at once."""
        self._child.send(number)

    def wait(self, timeout: float) -> int:
        """Wait for its end; return the exit status."""
        return self._child.wait(timeout)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """
        Send it a signal and wait for its end.

        @return: the exit status, and the seconds that it took.
        """
        started = time.monotonic()
        status = self._child.stop(number, timeout=PATIENCE)
        return status, time.monotonic() - started

    def kill(self) -> None:
        """Send SIGKILL if it still runs."""
        self._child.stop(signal.SIGKILL)

    def log(self) -> str:
        """Its output so far."""
        return collectLogs(self.directory)

    def fds(self) -> int:
        """The number of its open files."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        """The number of its threads."""
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def rss(self) -> int:
        """Its resident memory in bytes."""
        found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.M)
        return int(found.group(1)) * 1024 if found else 0

    def cpu(self) -> float:
        """Seconds of CPU time that it has used, in user and kernel mode."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def answers(namespace: Namespace, family: Family, device: str = TUN_NAME, seconds: int = 1) -> bool:
    """Whether the gateway answers one ping from C{namespace} through C{device}."""
    argv = [
        "ping",
        family.option,
        "-n",
        "-c",
        "1",
        "-W",
        str(seconds),
        "-I",
        device,
        family.gateway,
    ]
    return namespace.run(argv, check=False).returncode == 0


class BackgroundDaemon:
    """A daemon that twistd put into the background."""

    def __init__(self, namespace: Namespace, directory: Path, **settings: object) -> None:
        """@raise LabError: it did not come up; the text has its log."""
        self.directory = directory
        self.pidfile = directory / "twistd.pid"
        self._namespace = namespace
        config = writeConfig(directory, settings)
        argv = [*twistdArguments(directory, foreground=False), "nanotun", "--config", str(config)]
        launcher = Child(
            namespace.argv(argv), directory / "stdout.log", environment(), cwd=directory
        )
        status = launcher.wait(START_SECONDS)
        if status != 0:
            raise LabError(f"twistd ended with status {status}\n{collectLogs(directory)}")
        try:
            waitUntil(
                lambda: self.pidfile.exists() and self.pidfile.read_text(),
                PATIENCE,
                "there is a pidfile",
            )
            self.pid = int(self.pidfile.read_text())
            waitUntil(
                lambda: all(answers(namespace, family) for family in FAMILIES),
                START_SECONDS,
                "the gateway answers",
            )
        except LabError as error:
            self.kill()
            raise LabError(f"{error}\n{collectLogs(directory)}") from None

    def running(self) -> bool:
        """Whether the process exists and is no zombie."""
        return alive(self.pid)

    def stop(self, number: int = signal.SIGTERM) -> float:
        """
        Send it a signal and wait for its end.

        @return: the seconds that it took.
        @raise LabError: it did not end within 10 s.
        """
        started = time.monotonic()
        os.kill(self.pid, number)
        waitUntil(lambda: not self.running(), PATIENCE, "the daemon ends")
        return time.monotonic() - started

    def kill(self) -> None:
        """Send SIGKILL if it exists."""
        with contextlib.suppress(AttributeError, ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
