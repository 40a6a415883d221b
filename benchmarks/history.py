"""
A day of recording in some minutes: C{python -m benchmarks.history [--hours 24] [--rate 100]
[--size 256] [--days 30]}.

Writes as many flows as the daemon would in that time, in the batches that it would write, with a
clock of its own, and looks at the size of all files after each.  The status is 1 if they ever
took more than the limit, or if a flow is missing in the totals.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import NamedTuple

from nanotun.history.reader import SUMMED, HistoryFilter, HistoryReader
from nanotun.history.recorder import INTERVAL, TIDY
from nanotun.history.schema import FlowRecord
from nanotun.history.store import BATCH, BUSY, Store

#: When the day begins, in seconds since 1970.
BEGIN = 1_796_000_000.0

PROGRAMS = ("firefox", "thunderbird", "curl", "apt", "python3", "ssh", "node", "steam")

#: Names that are asked for: some of them often, most of them seldom.
DOMAINS = 20_000

#: The share of flows to addresses without a name.
NAMELESS = 0.1


class Outcome(NamedTuple):
    """
    What a run has shown.

    @ivar largest: bytes of all files, at most.
    @ivar slowest: seconds for one batch.
    @ivar seconds: for all.
    @ivar cpu: seconds of processor time for writing.
    """

    flows: int
    largest: int
    slowest: float
    seconds: float
    cpu: float


def flows(count: int, start: float, seconds: float, chance: random.Random) -> Iterator[FlowRecord]:
    """
    Flows as programs make them.

    @param start: when the first one ended, in seconds since 1970.
    @param seconds: from that to the end of the last one.
    """
    for number in range(count):
        nameless = chance.random() < NAMELESS
        name = chance.choice(PROGRAMS)
        host = int(chance.paretovariate(0.7)) % DOMAINS
        direct = host % 7 == 0
        yield FlowRecord(
            ended=start + seconds * number / count,
            seconds=chance.expovariate(0.2),
            protocol="udp" if chance.random() < 0.2 else "tcp",
            source="198.18.0.2",
            sourcePort=chance.randrange(32768, 60999),
            destination=f"203.0.{host >> 8 & 255}.{host & 255}",
            port=443,
            domain="" if nameless else f"host-{host}.some-content-network.example",
            verdict="direct" if direct else "proxy",
            rule=f"#{host % 5}" if direct else "default",
            upstream="direct" if direct else "proxy",
            proxy="direct" if direct else "socks5://proxy.example:1080",
            pid=chance.randrange(1000, 90000),
            uid=1000,
            name=name,
            path=f"/usr/lib/{name}/{name}",
            unit=f"app-{name}-4711.scope",
            up=chance.randrange(500, 5000),
            down=int(chance.paretovariate(0.9) * 1000),
            ending="closed",
        )


def place(path: str) -> int:
    """Bytes of the file and of those beside it."""
    found = (f"{path}{end}" for end in ("", "-wal", "-shm"))
    return sum(os.stat(each).st_size for each in found if os.path.exists(each))


def record(path: str, hours: float, rate: float, size: int, days: int) -> Outcome:
    """
    Record.

    @param rate: flows per second.
    @param size: bytes that the files may take.
    """
    now = BEGIN
    store = Store(path, size, days, lambda: now)
    store.makeFile()
    connection = sqlite3.connect(path, timeout=BUSY)
    store.prepare(connection)
    chance = random.Random(18)
    each = max(1, min(BATCH, round(rate * INTERVAL)))
    step = each / rate
    began, largest, slowest, written, tidied, cpu = time.monotonic(), 0, 0.0, 0, BEGIN, 0.0
    while written < hours * 3600 * rate:
        batch = list(flows(each, now, step, chance))
        now += step
        before, spent = time.monotonic(), time.process_time()
        store.write(connection, batch)
        if now - tidied >= TIDY:
            store.tidy(connection)
            tidied = now
        cpu += time.process_time() - spent
        slowest = max(slowest, time.monotonic() - before)
        written += each
        largest = max(largest, place(path))
    connection.close()
    return Outcome(written, largest, slowest, time.monotonic() - began, cpu)


def main() -> int:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--rate", type=float, default=100.0, help="flows per second")
    parser.add_argument("--size", type=int, default=256, help="flowLogSize in MiB")
    parser.add_argument("--days", type=int, default=30, help="flowLogDays")
    given = parser.parse_args()
    limit = given.size << 20
    with tempfile.TemporaryDirectory(prefix="nanotun-history-") as directory:
        path = os.path.join(directory, "flows.db")
        done = record(path, given.hours, given.rate, limit, given.days)
        print(f"{done.flows:,} flows of {given.hours:g} h in {done.seconds:.0f} s")
        print(f"{done.cpu / done.flows * 1e6:.1f} us of CPU time for writing a flow")
        print(f"{done.slowest * 1000:.0f} ms for the slowest batch")
        print(f"{done.largest / (1 << 20):.1f} MiB at most, of {given.size}")
        with HistoryReader(path) as reader:
            for by in SUMMED:
                began = time.monotonic()
                sums, _ = reader.sums(HistoryFilter(), by)
                counted = sum(each.flows for each in sums)
                took = time.monotonic() - began
                print(f"by {by}: {len(sums):,} sums of {counted:,} flows in {took:.2f} s")
                if counted != done.flows:
                    return 1
            began = time.monotonic()
            reader.flows(HistoryFilter(isDomain=lambda name: name == "none.example"), 50)
            print(f"a search through all single flows: {time.monotonic() - began:.2f} s")
        with sqlite3.connect(path) as connection:
            kept, oldest = connection.execute("SELECT count(*), min(ended) FROM flows").fetchone()
        connection.close()
        lasting = (BEGIN + given.hours * 3600 - oldest) / 3600
        print(f"{kept:,} single flows, of the last {lasting:.1f} h")
    return 0 if done.largest <= limit else 1


if __name__ == "__main__":
    sys.exit(main())
