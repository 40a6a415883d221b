"""
C{nanotun run}, called as a user calls it, in a namespace of the laboratory.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.e2e.lab.daemon import environment
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, LabError, dieWithParent, waitUntil

_OTHERS = re.compile(r"(^|/netns/)(nt|netns-|cni-)")
"""Named namespaces of other tests, and of podman's containers."""

_PLACES = re.compile(r"(\S+ ){4}/(dev|etc|mnt|proc|run|sys)[/ ]")
"""What is mounted where a cell mounts, as opposed to the roots of other systems."""

SECONDS = 100.0
"""Seconds for a command that should take one."""


def nanotun() -> str:
    """The nanotun that is installed beside the Python that runs the tests."""
    return str(Path(sys.executable).with_name("nanotun"))


class Done(NamedTuple):
    """The result of a command; C{err} includes nanotun's own sentences."""

    status: int
    out: str
    err: str


class Running:
    """
    A command that keeps running, with pipes.

    @ivar pid: nanotun's.
    """

    def __init__(self, namespace: Namespace, argv: Sequence[str], cwd: Path) -> None:
        self._process = subprocess.Popen(
            namespace.argv(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            cwd=cwd,
            preexec_fn=dieWithParent,
            start_new_session=True,
        )
        self.pid = self._process.pid

    def line(self) -> str:
        """The next line of its output."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().rstrip("\n")

    def write(self, text: str) -> None:
        """Write to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode())
        self._process.stdin.flush()

    def send(self, number: int) -> None:
        """Send a signal to nanotun alone."""
        self._process.send_signal(number)

    def sendGroup(self, number: int) -> None:
        """Send a signal to its whole process group."""
        os.killpg(self.pid, number)

    def done(self, text: str = "", timeout: float = SECONDS) -> Done:
        """
        Wait for its end.

        @param text: for its standard input.
        """
        out, err = self._process.communicate(text.encode(), timeout)
        # One character per byte, because some output is no text.
        return Done(self._process.returncode, out.decode("latin-1"), err.decode("latin-1"))

    def kill(self) -> None:
        """Send SIGKILL if it still runs, and close the pipes."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Terminal:
    """A shell with job control on a pseudo-terminal, like that of a user who is logged in."""

    PROMPT = "ready> "

    def __init__(self, namespace: Namespace, cwd: Path) -> None:
        self._master, slave = pty.openpty()
        variables = {**environment(), "PS1": self.PROMPT, "TERM": "dumb", "HISTFILE": ""}
        shell = ["bash", "--norc", "--noprofile", "--noediting", "-i"]
        self._process = subprocess.Popen(
            namespace.argv(["setsid", "--ctty", *shell]),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=variables,
            cwd=cwd,
            preexec_fn=dieWithParent,
        )
        os.close(slave)
        self.read(self.PROMPT)

    def type(self, text: str) -> None:
        """Press keys; C{"\\x03"} is Ctrl-C."""
        os.write(self._master, text.encode())

    def read(self, until: str, seconds: float = SECONDS) -> str:
        """
        Read the screen up to a text.

        @raise LabError: the text does not appear.
        """
        screen = b""
        end = time.monotonic() + seconds
        while until.encode() not in screen:
            ready, _, _ = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise LabError(f"{until!r} did not appear: {screen.decode(errors='replace')!r}")
            screen += os.read(self._master, 65536)
        return screen.decode(errors="replace").replace("\r", "")

    def command(self, text: str) -> str:
        """Type a line and read up to the next prompt."""
        self.type(f"{text}\n")
        return self.read(self.PROMPT)

    def close(self) -> None:
        """Close the terminal."""
        os.close(self._master)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Traces(NamedTuple):
    """Everything that a cell could leave on a machine, except for its processes."""

    routes: str
    rules: str
    firewall: str
    links: set[str]
    resolv: bytes
    mounts: list[str]
    named: list[str]


def traces(namespace: Namespace) -> Traces:
    """
    The current state of C{namespace} and this machine.  The laboratories of other tests that
    run at the same time are left out, as are containers and roots that come and go.
    """

    def ip(*words: str) -> str:
        return "".join(namespace.run(["ip", v, *words]).stdout for v in ("-4", "-6"))

    def ours(text: str) -> bool:
        return f"nt{os.getpid()}x" in text or not _OTHERS.search(text)

    named = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return Traces(
        # The kernel notices a moment later that both ends of a link are up.
        ip("route", "show", "table", "all").replace(" linkdown", ""),
        ip("rule"),
        namespace.run(["nft", "list", "ruleset"]).stdout,
        namespace.interfaces(),
        Path("/etc/resolv.conf").read_bytes(),
        [line for line in mounts if _PLACES.match(line) and ours(line)],
        sorted(filter(ours, named)),
    )


def inside(pid: int) -> set[str]:
    """The network and the mount namespace of a process."""
    return {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "mnt")}


def waitForNobody(directory: str, seconds: float = PATIENCE) -> None:
    """
    Wait until no process has a test's directory as its working directory, which everything
    started there inherits.  Then no process holds a namespace either, and namespaces without
    a name are gone.

    @raise LabError: a process still does.
    """
    waitUntil(lambda: not named(directory), seconds, f"nobody is left in {directory}")


def named(directory: str) -> list[int]:
    """The pids of processes that work in a directory, such as a test's own."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{entry}/cwd") == directory:
                found.append(int(entry))
    return found
