"""
Child processes: started, watched, and ended by pid, never by name.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parents[3]
"""The directory of C{tests} and C{twisted/plugins}."""

PATIENCE = 60.0
"""Seconds to wait for what must happen.  They pass only in a test that fails, so they say nothing
of how long it takes; where it must be quick, what would be slow takes longer still."""

STOP_SECONDS = 10.0
"""Seconds that a child may take to end after a polite signal, before SIGKILL."""

# danted, nft and sysctl are in directories that a plain `su` does not search.
os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def _ownIgnored(number: int, frame: object) -> None:
    """Do what ignoring a signal does.  Unlike SIG_IGN, a handler is not inherited by exec."""


# What nohup and a shell's & have us ignore is not to be ignored by the programs under test.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _ownIgnored)

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class LabError(Exception):
    """The laboratory itself does not work, so nothing was tested."""


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    # One that ends meanwhile is missing at open(2), or at read(2).
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def waitUntil(condition: Callable[[], object], seconds: float, what: str) -> None:
    """
    Check C{condition} every few milliseconds until it is true.

    @raise LabError: it was not true within C{seconds}.
    """
    end = time.monotonic() + seconds
    pause = 0.005
    while not condition():
        if time.monotonic() > end:
            raise LabError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def run(
    argv: Sequence[str],
    timeout: float = PATIENCE,
    check: bool = True,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """
    Run a short program to its end and return its output as text.

    @param timeout: seconds after which it is killed.
    @raise LabError: C{check} is set and the status is not 0; the text has the output.
    """
    done = subprocess.run(
        list(argv),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: status {done.returncode}: {done.stdout.strip()}")
    return done


def dieWithParent() -> None:
    """
    Call this in a child before exec: it is then killed when the thread that made it ends, so a
    killed test run leaves nothing behind.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """
    A program that runs beside the test.  It must be made on the main thread, because it is
    killed with the thread that made it.

    @ivar log: the file with its standard output and standard error.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path = PROJECT_ROOT,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                preexec_fn=dieWithParent,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def status(self) -> int | None:
        """The exit status, or L{None} while it runs."""
        return self._process.poll()

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        self._process.send_signal(number)

    def wait(self, timeout: float) -> int:
        """
        Wait for its end.

        @return: the exit status.
        @raise subprocess.TimeoutExpired: it still runs after C{timeout} seconds.
        """
        return self._process.wait(timeout)

    def stop(self, number: int = signal.SIGTERM, timeout: float = STOP_SECONDS) -> int:
        """
        Send a signal and wait for the end; send SIGKILL after C{timeout} seconds.

        @return: the exit status.
        """
        if self._process.poll() is None:
            self._process.send_signal(number)
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def output(self) -> str:
        """Its output so far."""
        return self.log.read_text(errors="replace")
