"""
What it costs to look: C{python -m benchmarks.watching [--flows 10000] [--rounds 5]}.

How long it takes to list many open flows, by the control socket and by the command; and the rate
of new connections while nobody looks, while C{nanotun flows --watch} does, and while a page in a
browser is kept up to date, by turns.  The status is 1 where nothing can be measured.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchmarks import load
from benchmarks.goproxies import FastSocks
from nanotun.control.client import Client
from nanotun.rundir import WEB_TOKEN
from tests.e2e.case import missing
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import LabError, dieWithParent, waitUntil
from tests.e2e.lab.topology import IPV4, Lab

#: Seconds of one measurement of the rate, and connections at a time.
SECONDS, AT_A_TIME = 1.5, 64

#: Flows of a page, as the command asks for them.
PAGE = 1000

WEB = "127.0.0.1:8198"


class Watched:
    """
    A daemon, and whoever looks.

    @ivar lab: has both.
    @param proxy: its URL.
    """

    def __init__(self, lab: Lab, directory: Path, proxy: str) -> None:
        self.lab = lab
        self.runDir = directory / "run"
        self.daemon = Daemon(lab.app, directory, proxy=proxy, logLevel="warn", web=WEB)
        lab.routeThroughTunnel()

    def command(self, *words: str) -> list[str]:
        """The command line of C{nanotun}, in the daemon's namespace."""
        code = "import sys; from nanotun.console import main; sys.exit(main())"
        return self.lab.app.argv(
            [sys.executable, "-c", code, *words, "--run-dir", str(self.runDir)]
        )

    def page(self) -> list[str]:
        """The command line of what listens as a page does."""
        token = (self.runDir / WEB_TOKEN).read_text().strip()
        header = f"Authorization: Bearer {token}"
        url = f"http://{WEB}/api/v1/events"
        return self.lab.app.argv(["curl", "-q", "-sSN", "-o", "/dev/null", "-H", header, url])

    def listed(self) -> int:
        """How many flows the control socket lists."""
        count, after = 0, 0
        client = Client(str(self.runDir))
        with client:
            while after is not None:
                answer = client.ask("flows", {"after": after, "limit": PAGE})
                count, after = count + len(answer["flows"]), answer["next"]
        return count


@contextlib.contextmanager
def running(argv: Sequence[str]) -> Iterator[None]:
    """
    Have a program look in the C{with} block.

    @raise LabError: it did not go on for as long.
    """
    null = subprocess.DEVNULL
    with subprocess.Popen(argv, stdin=null, stdout=null, preexec_fn=dieWithParent) as process:
        try:
            yield
            if process.poll() is not None:
                raise LabError(f"{argv[-1]} has ended with {process.returncode}")
        finally:
            process.terminate()


def listings(watched: Watched, program: str, count: int, rounds: int) -> None:
    """
    Print how long it takes to list so many flows.

    @param program: opens them.
    @raise LabError: not all of them are there.
    """
    argv = [program, "idle", IPV4.world, str(load.PORT), str(count), str(load.OPEN_SECONDS)]
    with load.held(watched.lab.app, argv, count):
        waitUntil(lambda: watched.listed() >= count, 10.0, f"{count} flows")
        for what, act in (
            ("the control socket, all pages", watched.listed),
            ("nanotun flows --json", lambda: _run(watched.command("flows", "--json"))),
            ("nanotun flows --help", lambda: _run(watched.command("flows", "--help"))),
        ):
            spent, seconds = [], []
            for _ in range(rounds):
                cpu, began = watched.daemon.cpu(), time.monotonic()
                act()
                seconds.append(time.monotonic() - began)
                spent.append(watched.daemon.cpu() - cpu)
            print(f"| {what} | {median(seconds):.2f} | {median(spent):.2f} |", flush=True)


def _run(argv: Sequence[str]) -> None:
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)


def rates(watched: Watched, program: str, rounds: int) -> None:
    """
    Print the rates of new connections.

    @param program: makes them.
    @raise LabError: some of them failed.
    """
    argv = [program, "crr", IPV4.world, str(load.PORT), str(AT_A_TIME), f"{SECONDS:g}"]
    looking = {
        "nobody": None,
        "nanotun flows --watch 1": watched.command("flows", "--watch", "1"),
        "a page": watched.page(),
    }
    found: dict[str, list[float]] = {each: [] for each in looking}
    for _ in range(rounds):
        for who, command in looking.items():
            with contextlib.nullcontext() if command is None else running(command):
                time.sleep(1.0)  # it starts, which is no part of the cost of looking
                found[who].append(load.measure(watched.lab.app, argv, SECONDS)["rate"])
    alone = median(found["nobody"])
    for who, each in found.items():
        print(f"| {who} | {median(each):,.0f} | {median(each) / alone:.2f} |", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watching")
    parser.add_argument("--flows", type=int, default=10_000, help="how many are open")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each kind")
    given = parser.parse_args(argv)
    reason = missing()
    if reason:
        print(f"watching: {reason}.", file=sys.stderr)
        return 1
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nanotun-watch-")))
        programs = load.compiled(directory)
        lab = Lab()
        stack.callback(lab.remove)
        lab.openDirectPath()
        stack.callback(load.server(lab.world, programs, directory).stop)
        proxy = FastSocks(lab.proxy, directory)
        stack.callback(proxy.stop)
        try:
            # A proxy would need twice as many files as there are flows.
            watched = Watched(lab, directory / "idle", "direct://")
            try:
                print(f"| {given.flows:,} flows | s | the daemon's CPU, s |\n|---|---:|---:|")
                listings(watched, str(programs.tcp), given.flows, given.rounds)
            finally:
                watched.daemon.stop()
            watched = Watched(lab, directory / "busy", f"socks5://{IPV4.proxy}:{proxy.port}")
            stack.callback(watched.daemon.stop)
            print("\n| who looks | connections a second | ratio |\n|---|---:|---:|")
            rates(watched, str(programs.tcp), given.rounds)
        except LabError as error:
            print(f"watching: {error}.", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
