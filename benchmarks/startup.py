"""
How long a start takes, and how much memory a daemon at rest has:
C{python -m benchmarks.startup [--rounds N] [--tree DIRECTORY]...}.

C{nanotun start} is run with nothing but the URL of a SOCKS5 proxy.  Meanwhile a client tries to
connect through the device, from before it is there, until it has read the first byte of a
server behind the proxy.  Other checkouts, which C{make build} has built, are measured by turns
with this one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import select
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.noise import Noise, waitForQuiet
from benchmarks.report import NOISY
from tests.e2e.case import missing
from tests.e2e.lab.daemon import START_SECONDS, STOP_SECONDS, writeConfig
from tests.e2e.lab.process import PROJECT_ROOT, Child, LabError, run
from tests.e2e.lab.proxies import Microsocks
from tests.e2e.lab.servers import Peer
from tests.e2e.lab.topology import IPV4, TUN_NAME, Lab

ROUNDS = 11

PAUSE = 0.002
"""Seconds between two attempts to connect.  The device drops SYNs while it is being set up."""

REST = 1.0
"""Seconds after the first byte until the daemon counts as being at rest."""

COMMANDS = ("--version", "check", "status")
"""Words of the command line that are timed as well; those about a file are given the daemon's."""


class Figures(NamedTuple):
    """
    One start.

    @ivar first: milliseconds from the start of the program to the first byte.
    @ivar spent: milliseconds of processor time that the daemon had used by then.
    @ivar resident: KB of memory that were resident at rest, as ps(1) says it.
    @ivar proportional: KB of them, with shared pages counted in proportion (PSS).
    @ivar private: KB of them that are backed by no file.
    @ivar noise: the share of the machine that others used meanwhile, 0 to 1.
    @ivar commands: milliseconds for each of L{COMMANDS}.
    """

    first: float
    spent: float
    resident: float
    proportional: float
    private: float
    noise: float
    commands: tuple[float, ...]


class Bench:
    """
    The laboratory.

    @param stack: gets the clean-up.
    @param directory: for configuration, logs and C{runDir}.
    """

    def __init__(self, stack: contextlib.ExitStack, directory: Path) -> None:
        self._lab = Lab()
        stack.callback(self._lab.remove)
        self._proxy = Microsocks(self._lab.proxy, directory)
        stack.callback(self._proxy.stop)
        self._peer = Peer(self._lab.world, lambda connection: connection.sendall(b"x"))
        stack.callback(self._peer.stop)
        self._config = writeConfig(directory, {"proxy": self._proxy.url(), "logLevel": "warn"})
        self._directory = directory

    def start(self, tree: Path) -> Figures:
        """
        Start the daemon of a checkout, measure, and stop it.

        @raise LabError: it did not carry a byte in time; the text has its output.
        """
        program = str(tree / ".venv/bin/nanotun")
        argv = self._lab.app.argv([program, "start", "--config", str(self._config)])
        noise = Noise({os.getpid()})
        began = time.monotonic()
        child = Child(argv, self._directory / "stdout.log", _environment(), cwd=tree)
        try:
            try:
                self._firstByte(child)
            except LabError as error:
                raise LabError(f"{error}\n{child.output()}") from None
            first = time.monotonic() - began
            spent = _cpu(child.pid)
            commands = [self._timed(program, word) for word in COMMANDS]
            time.sleep(REST)
            memory = memoryOf(child.pid)
        finally:
            child.stop(timeout=STOP_SECONDS)
        return Figures(
            first * 1000,
            spent * 1000,
            memory["Rss"],
            memory["Pss"],
            memory["Pss_Anon"],
            noise.share(),
            tuple(commands),
        )

    def _firstByte(self, child: Child) -> None:
        """Return once a byte has come through the device."""
        end = time.monotonic() + START_SECONDS
        tries: list[socket.socket] = []
        try:
            while time.monotonic() < end:
                if child.status() is not None:
                    raise LabError(f"the daemon ended with status {child.status()}")
                attempt = self._attempt()
                if attempt is not None:
                    tries.append(attempt)
                readable, _, _ = select.select(tries, [], [], PAUSE)
                for each in readable:
                    with contextlib.suppress(OSError):
                        if each.recv(1):
                            return
                    tries.remove(each)
                    each.close()
        finally:
            for each in tries:
                each.close()
        raise LabError(f"no byte came through within {START_SECONDS:g} s")

    def _attempt(self) -> socket.socket | None:
        """A socket that connects through the device; L{None} while that is not there."""
        attempt = self._lab.app.makeSocket(socket.AF_INET)
        try:
            # With this it needs no route, which could only be added later.
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, TUN_NAME.encode())
            attempt.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                attempt.connect((IPV4.world, self._peer.port))
        except OSError:
            attempt.close()
            return None
        return attempt

    def _timed(self, program: str, word: str) -> float:
        """Milliseconds that a command takes."""
        argv = [program, word]
        if not word.startswith("-"):
            argv += ["--config", str(self._config)]
        began = time.monotonic()
        run(argv)
        return (time.monotonic() - began) * 1000


def _environment() -> Mapping[str, str]:
    """The environment, with byte code written and read as usual."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


def _cpu(pid: int) -> float:
    """Seconds of processor time that a process has used, as exactly as the kernel knows."""
    nanoseconds = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def memoryOf(pid: int) -> dict[str, int]:
    """What C{smaps_rollup} says about a process: KB by the names that it has there."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB$", text, re.M)}


def table(found: Mapping[str, Sequence[Figures]]) -> str:
    """Medians of the quiet rounds, or of all if none was quiet; one line for each checkout."""
    heads = ["first byte, ms", "fastest", "CPU, ms", "RSS, MB", "PSS", "of no file"]
    heads += [f"{word.removeprefix('--')}, ms" for word in COMMANDS]
    lines = [f"| | {' | '.join(heads)} |", "|---" + "|---:" * len(heads) + "|"]
    for name, all_ in found.items():
        quiet = [each for each in all_ if each.noise < NOISY]
        mark = "" if quiet else "!"
        used = quiet or all_
        first = [each.first for each in used]
        cells = [f"{statistics.median(first):.0f}{mark}", f"{min(first):.0f}"]
        cells.append(f"{statistics.median(each.spent for each in used):.0f}{mark}")
        for memory in ("resident", "proportional", "private"):
            median = statistics.median(getattr(each, memory) for each in used)
            cells.append(f"{median / 1024:.1f}")
        for column in zip(*(each.commands for each in used), strict=True):
            cells.append(f"{statistics.median(column):.0f}{mark}")
        lines.append(f"| {name} ({len(quiet)} of {len(all_)} quiet) | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--tree", type=Path, action="append", default=[], help="another checkout")
    parser.add_argument("--wait", type=float, default=0.0, help="seconds to wait for quiet")
    given = parser.parse_args(argv)
    reason = missing()
    if reason:
        print(f"startup: {reason}.", file=sys.stderr)
        return 1
    trees = [PROJECT_ROOT, *(each.resolve() for each in given.tree)]
    found: dict[str, list[Figures]] = {str(tree): [] for tree in trees}
    try:
        for tree in trees:
            folders = [folder for folder in ("nanotun", "twisted") if (tree / folder).is_dir()]
            python = str(tree / ".venv/bin/python")
            run([python, "-m", "compileall", "-qq", *(str(tree / each) for each in folders)])
        with contextlib.ExitStack() as stack:
            directory = Path(tempfile.mkdtemp(prefix="nanotun-startup-"))
            stack.callback(shutil.rmtree, directory)
            bench = Bench(stack, directory)
            for tree in trees:
                bench.start(tree)  # Its files are then in the page cache.
            for _ in range(given.rounds):
                for tree in trees:
                    waitForQuiet(given.wait)
                    found[str(tree)].append(bench.start(tree))
    except LabError as error:
        print(f"startup: {error}", file=sys.stderr)
        return 1
    print(table(found))
    print(
        f"\nMedians of the quiet among {given.rounds} rounds; ! marks those of rounds during all "
        f"of which others used\nat least {NOISY:.0%} of the machine.  first byte: from the start "
        "of the program.  of no file: the part of PSS\nthat the process has for itself alone."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
