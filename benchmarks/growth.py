"""
What each further thing costs, in time and memory, when there are many:
C{python -m benchmarks.growth [--only flows,networks,sources,processes]}.

Idle flows, networks in C{excludedIPs} and in a rule, machines whose flows this one forwards, and
processes where a rule is about them.  Times are CPU time, so that a busy machine matters less.
Only flows need root, and the laboratory.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.cases import SETTLE_SECONDS
from benchmarks.rules import SOURCE, Judges, memory
from benchmarks.setups import SETUPS, Opened
from nanotun.config.file import parseFile
from nanotun.config.keys import KEYS
from nanotun.config.settings import makeSettings
from nanotun.flow import Endpoint, Flow, Protocol
from tests.e2e.case import missing
from tests.e2e.lab.process import LabError
from tests.e2e.lab.topology import Lab

FLOWS = (1000, 5000, 15_000)
NETWORKS = (0, 4096, 100_000)
SOURCES = (1, 256, 4096, 16_000)
PROCESSES = (0, 1000, 5000)

DECISIONS = 20_000
"""Decisions in one measurement."""

Row = list[str]


def flows() -> Iterator[Row]:
    """
    Idle flows through the engine: KB and microseconds of the daemon's for each.

    @raise LabError: the laboratory cannot be made, or a flow did not open.
    """
    (setup,) = (each for each in SETUPS if each.name == "gvisor+direct")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nanotun-grow-")))
        programs = load.compiled(directory)
        lab = Lab()
        stack.callback(lab.remove)
        lab.openDirectPath()
        stack.callback(load.server(lab.world, programs, directory).stop)
        for count in FLOWS:
            opened = Opened(setup, lab, {}, directory / f"flows-{count}")
            daemon = opened.daemon
            assert daemon is not None
            try:
                argv = [str(programs.tcp), "idle", opened.address, str(load.PORT), str(count)]
                size, spent = daemon.rss(), daemon.cpu()
                with load.held(lab.app, [*argv, str(load.OPEN_SECONDS)], count):
                    spent = daemon.cpu() - spent
                    time.sleep(SETTLE_SECONDS)
                    each = (daemon.rss() - size) / 1024 / count
                yield [f"{count:,} idle flows", f"{spent / count * 1e6:.0f}", f"{each:.1f}", ""]
            finally:
                opened.close()


def networks() -> Iterator[Row]:
    """Networks in a setting: what reading the file takes, in seconds, and then a decision."""
    for where in ("excludedIPs", "a rule"):
        for count in NETWORKS:
            yield from _apart(_networks, where, count)


def _networks(where: str, count: int) -> list[Row]:
    chance = random.Random(2)
    numbers = chance.sample(range(11 << 16, 220 << 16), count)
    given = [f"{n >> 16}.{n >> 8 & 255}.{n & 255}.0/24" for n in numbers]
    listed = f"[{', '.join(given)}]"
    key = "excludedIPs: " + listed
    if where != "excludedIPs":
        key = f"rules: [{{to: direct, networks: {listed}}}]" if count else "rules: []"
    size, began = memory("VmRSS"), time.process_time()
    makeSettings(parseFile(f"proxy: socks5://192.0.2.1:1080\n{key}\n", "file", KEYS), {}, None)
    read = time.process_time() - began
    values: dict[str, Any] = {"excludedIPs": given}
    if where != "excludedIPs":
        values = {"rules": [{"to": "direct", "networks": given}] if count else []}
    judge = Judges(lambda host: False).make(**values)
    taken = (memory("VmRSS") - size) / 1024 / count if count else 0.0
    new = [f"93.{n >> 16 & 127}.{n >> 8 & 255}.{n & 255}" for n in range(DECISIONS)]
    decided = _decisions(judge.judge, [SOURCE] * DECISIONS, new)
    row = [f"{count:,} networks in {where}: a new address", f"{decided:.1f}"]
    return [[*row, f"{taken:.2f}" if count else "", f"{read:.2f}"]]


def sources() -> Iterator[Row]:
    """Forwarded flows of some machines, each to an address that is new."""
    for count in SOURCES:
        yield from _apart(_sources, "", count)


def _sources(_: str, count: int) -> list[Row]:
    judge = Judges(lambda host: False).make()
    ends = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(1, count + 1)]
    spread = [Endpoint(ends[n % count], 40000) for n in range(DECISIONS)]
    new = [f"93.{n >> 16 & 127}.{n >> 8 & 255}.{n & 255}" for n in range(DECISIONS)]
    first = _decisions(judge.judge, spread, new)
    again = _decisions(judge.judge, spread, [f"94{each[2:]}" for each in new])
    return [
        [f"{count:,} machines: a flow of each by turns", f"{first:.1f}", "", ""],
        ["... once each was seen", f"{again:.1f}", "", ""],
    ]


def processes() -> Iterator[Row]:
    """A rule about processes, by the number of processes: the look-up for a new process's flow."""
    for count in PROCESSES:
        argv = [sys.executable, "-m", "benchmarks.owners", "--connects", "2000", "--sockets", "10"]
        done = subprocess.run(
            [*argv, "--processes", str(count)], stdout=subprocess.PIPE, text=True, check=False
        )
        for line in done.stdout.splitlines():
            if line.startswith(("newcomers, others", "by name, others")):
                median = line[44:].split()[-5]
                yield [f"{count:,} processes: {line[:44].strip()}", median, "", ""]


def _decisions(judge: Callable[[Flow], object], ends: list[Endpoint], hosts: list[str]) -> float:
    """Microseconds for one decision."""
    made = [
        Flow(number, Protocol.TCP, source, Endpoint(host, 443))
        for number, (source, host) in enumerate(zip(ends, hosts, strict=True))
    ]
    began = time.process_time()
    for flow in made:
        judge(flow)
    return (time.process_time() - began) / len(made) * 1e6


def _apart(work: Callable[[str, int], list[Row]], what: str, count: int) -> list[Row]:
    """Do the work in a process of its own, whose memory is nothing else's."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (what, count))


PARTS: dict[str, Callable[[], Iterator[Row]]] = {
    "flows": flows,
    "networks": networks,
    "sources": sources,
    "processes": processes,
}


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth")
    parser.add_argument("--only", default=",".join(PARTS), help="some of these, with commas")
    given = parser.parse_args(argv).only.split(",")
    if set(given) - set(PARTS):
        parser.error(f"there are {', '.join(PARTS)}")
    reason = missing()
    if "flows" in given and reason:
        print(f"growth: {reason}.", file=sys.stderr)
        return 1
    print("| | us | KB | s to read |\n|---|---:|---:|---:|", flush=True)
    try:
        for name in given:
            for row in PARTS[name]():
                print(f"| {' | '.join(row)} |", flush=True)
    except LabError as error:
        print(f"growth: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
