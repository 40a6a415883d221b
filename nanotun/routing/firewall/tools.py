"""
Runs the machine's own tools: to their end, or for as long as the daemon runs.

No shell and no PATH are used, and the environment makes the tools speak English and write
no history.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from nanotun.errors import RoutingError
from nanotun.routing.firewall.generation import generation

#: Where tools are searched for, in order.
FOLDERS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin")

#: Seconds; a swapping machine takes a hundred times longer than usual.
TIME_LIMIT = 10.0

#: Seconds in which a held tool has to end after its input has ended.
END_LIMIT = 2.0

#: Bytes of a held tool's answer; nft's errors quote the whole script.
ANSWER_LIMIT = 1 << 20

ENVIRONMENT = {"LC_ALL": "C", "HOME": "/nonexistent", "PATH": ":".join(FOLDERS)}


class Ran(NamedTuple):
    """
    How a tool ended.

    @ivar status: its exit status; -1 if it could not be started, or took too long.
    @ivar output: its standard output.
    @ivar error: its standard error, or why it could not be started.
    """

    status: int
    output: str
    error: str


class ToolError(RoutingError):
    """A tool could not be run, or not to its end, so that its result is unknown."""


def firstLine(said: str) -> str:
    """The line of a tool's error that says what is wrong; the other lines are quotations."""
    return said.strip().partition("\n")[0].rpartition("Error: ")[2]


class Held(Protocol):
    """A tool that keeps running, and ends when the daemon ends, however that happens."""

    def ask(self, line: str, question: str, answer: str) -> str:
        """
        Write a line of input, and then a question.

        @param question: makes the tool write C{answer} to its standard output.
        @return: what it wrote to its standard error before; empty if there was no error.
        @raise RoutingError: it has ended, or does not answer.
        """

    def isRunning(self) -> bool:
        """Whether it still runs."""

    def close(self) -> None:
        """End it, and wait for its end."""


class Tools(Protocol):
    """What changes to the firewall need of the operating system."""

    def path(self, name: str) -> str:
        """A tool's absolute path; empty if it is not installed."""

    def exists(self, path: str) -> bool:
        """Whether there is such a file or folder."""

    def generation(self) -> int:
        """See L{nanotun.routing.firewall.generation.generation}."""

    def run(self, argv: Sequence[str], text: str = "", limit: float = TIME_LIMIT) -> Ran:
        """
        Run a tool to its end.

        @param argv: begins with an absolute path.
        @param text: its standard input.
        @param limit: seconds after which it is killed.
        """

    def hold(self, argv: Sequence[str]) -> Held:
        """
        Start a tool that reads commands from its standard input.

        @raise RoutingError: it cannot be started.
        """


class SystemTools:
    """
    See L{Tools}.  May be used in any thread.

    @param environment: additional variables for the tools.
    """

    def __init__(
        self, folders: Sequence[str] = FOLDERS, environment: Mapping[str, str] | None = None
    ) -> None:
        self._folders = folders
        self._environment = {**ENVIRONMENT, **(environment or {})}

    def path(self, name: str) -> str:
        """See L{Tools.path}."""
        for folder in self._folders:
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK):
                return path
        return ""

    def exists(self, path: str) -> bool:
        """See L{Tools.exists}."""
        return os.path.exists(path)

    def generation(self) -> int:
        """See L{Tools.generation}."""
        return generation()

    def run(self, argv: Sequence[str], text: str = "", limit: float = TIME_LIMIT) -> Ran:
        """See L{Tools.run}."""
        try:
            done = subprocess.run(
                list(argv),
                input=text,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit,
                env=self._environment,
                cwd="/",
            )
        except subprocess.TimeoutExpired:
            return Ran(-1, "", f"it took more than {limit:g} s")
        except OSError as error:
            return Ran(-1, "", os.strerror(error.errno or 0))
        return Ran(done.returncode, done.stdout, done.stderr)

    def hold(self, argv: Sequence[str]) -> Held:
        """See L{Tools.hold}."""
        return HeldProcess(argv, self._environment)


class HeldProcess:
    """
    See L{Held}.  Its input is a pipe whose other end only the daemon has, so that it reads
    an end of file when the daemon has ended, even by SIGKILL.
    """

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """
        Start it.

        @raise RoutingError: it cannot be started.
        """
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment),
                cwd="/",
                # A signal to the terminal's foreground, such as Ctrl-C, must not end it: the
                # daemon undoes its changes in order.
                start_new_session=True,
            )
        except OSError as error:
            raise RoutingError(
                f"{argv[0]} cannot be started: {os.strerror(error.errno or 0)}."
            ) from None
        self._name = argv[0]
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)

    def ask(self, line: str, question: str, answer: str) -> str:
        """See L{Held.ask}."""
        process = self._process
        assert process.stdin and process.stdout and process.stderr
        out, error = process.stdout.fileno(), process.stderr.fileno()
        said = {out: b"", error: b""}
        pending = f"{line}\n{question}\n".encode()
        end = time.monotonic() + TIME_LIMIT
        try:
            while answer.encode() not in said[out]:
                pending = self._exchange(process.stdin.fileno(), pending, said, end)
        except OSError:
            # It may have closed one pipe before its error arrives by the other.
            self._drain(error, said, end)
            raise RoutingError(self._ended(said[error])) from None
        # Errors about the line precede the answer to the question.
        self._drain(error, said, 0)
        return said[error].decode(errors="replace").strip()

    def _exchange(self, fd: int, pending: bytes, said: dict[int, bytes], end: float) -> bytes:
        """Write and read once, as far as possible; returns what is left to write."""
        # Not select(2), which does not accept an fd above 1023.
        poller = select.poll()
        for each in said:
            poller.register(each, select.POLLIN)
        if pending:
            poller.register(fd, select.POLLOUT)
        ready = poller.poll(max(end - time.monotonic(), 0) * 1000)
        if not ready:
            raise RoutingError(f"{self._name} does not answer.")
        for each, _ in ready:
            if each == fd:
                pending = pending[os.write(fd, pending) :]
            else:
                self._read(each, said)
        return pending

    def _drain(self, fd: int, said: dict[int, bytes], end: float) -> None:
        """Read until the end of file, or until nothing arrives before the time C{end}."""
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        while poller.poll(max(end - time.monotonic(), 0) * 1000):
            try:
                self._read(fd, said)
            except OSError:
                return

    def _read(self, fd: int, said: dict[int, bytes]) -> None:
        """
        Read once.

        @raise OSError: it is the end of file, or there is too much.
        """
        data = os.read(fd, 65536)
        if not data or len(said[fd]) > ANSWER_LIMIT:
            raise BrokenPipeError
        said[fd] += data

    def _ended(self, error: bytes) -> str:
        said = firstLine(error.decode(errors="replace"))
        return f"{self._name} has ended{': ' if said else ''}{said}."

    def isRunning(self) -> bool:
        """See L{Held.isRunning}."""
        return self._process.poll() is None

    def close(self) -> None:
        """See L{Held.close}."""
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._process.stdin.close()
        try:
            self._process.wait(END_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._process.stderr.close()
