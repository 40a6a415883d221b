"""
What a decision about a flow costs, and what lists take: C{python -m benchmarks.rules}.  Needs no
root.

Everything is measured in CPU time, so that a busy machine matters less.  A flow's process is
known here without being looked up; L{benchmarks.owners} measures that.
"""

from __future__ import annotations

import os
import random
import re
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from twisted.internet.task import Clock

from nanotun.config.file import Given
from nanotun.config.settings import Settings, makeSettings
from nanotun.daemon.lists import NOTHING_READ, ReadLists, readLists
from nanotun.daemon.scripts import scriptFor
from nanotun.flow import Endpoint, Flow, Known, Owner, Protocol
from nanotun.linux.locality import Locality
from nanotun.linux.markedroute import MarkedRoute
from nanotun.policy.judge import Judge
from nanotun.testing import FakeOwners
from tests.countryfile import countries

FLOWS = 20_000
"""Flows in each run of a case; the best of L{RUNS} runs counts."""

RUNS = 5

HOSTS = 200
"""Destinations of the flows of one case, where it is not about new ones."""

NAMES = 1_000_000
"""Names on the list."""

NETWORKS = 100_000
"""Networks on the list."""

SITES = 5000
"""Networks in the file of countries."""

SOURCE = Endpoint("127.0.0.1", 40000)
"""An address of this machine, whatever machine it is."""


SCRIPTS = {
    "a script": """\
def flow(flow):
    return "direct" if flow.isBelow("example.net") else None
""",
    "a script that looks at the process": """\
def flow(flow):
    return "direct" if flow.process and flow.process.name == "updater" else None
""",
    "a script that is a coroutine": """\
async def flow(flow):
    return "direct" if flow.isBelow("example.net") else None
""",
}
"""Scripts that answer at once, by the name of the case."""


class Case(NamedTuple):
    """
    One row of the table: a judge, and the flows that it is asked about.

    @ivar name: what a flow is like, or what the rules are.
    """

    name: str
    judge: Judge
    flows: Sequence[Flow]


class Files(NamedTuple):
    """The files that rules name."""

    names: Path
    networks: Path
    countries: Path
    script: Path


def makeNames(many: int) -> list[str]:
    """Names as block lists have them: pronounceable, 17 characters on average."""
    chance = random.Random(1)
    syllables = [c + v for c in "bcdfghklmnprstvwz" for v in "aeiou"]
    ends = ("com", "net", "org", "de", "co.uk", "info", "io", "ru", "xyz")
    hosts = ("ads", "track", "cdn", "metrics", "pixel", *(f"x{number}" for number in range(99)))
    found: dict[str, None] = {}
    while len(found) < many:
        name = "".join(chance.choices(syllables, k=chance.randint(3, 6)))
        host = f"{chance.choice(hosts)}." if chance.random() < 0.55 else ""
        found[f"{host}{name}.{chance.choice(ends)}"] = None
    return list(found)


def makeFiles(files: Files) -> None:
    """Write a list of names, one of networks, and a file of countries."""
    chance = random.Random(2)
    files.names.write_text("\n".join(makeNames(NAMES)) + "\n")
    numbers = chance.sample(range(11 << 16, 220 << 16), NETWORKS)
    files.networks.write_text(
        "".join(f"{n >> 16}.{n >> 8 & 255}.{n & 255}.0/24\n" for n in numbers)
    )
    sites = chance.sample(range(11 << 8, 220 << 8), SITES)
    codes = ("DE", "AT", "US", "FR", "JP")
    files.countries.write_bytes(
        countries({f"{n >> 8}.{n & 255}.0.0/16": codes[n % len(codes)] for n in sites})
    )


def settingsOf(**values: object) -> Settings:
    """Settings with these values."""
    given = {"proxy": "socks5://192.0.2.1:1080", **values}
    return makeSettings({key: Given(value, key) for key, value in given.items()}, {}, None)


class Judges:
    """
    Makes judges that know the names of flows.

    @ivar names: what is known of the flows' names, by their numbers; empty for nothing.
    @param leadsIn: whether the route to a host leads into the tunnel.
    """

    def __init__(self, leadsIn: Callable[[str], bool]) -> None:
        self.leadsIn = leadsIn
        self.read = NOTHING_READ

    def make(self, names: Sequence[str] = (), **values: object) -> Judge:
        """
        Make one.

        @param names: those of the flows, in turn; without any, no name is known.
        """
        settings = settingsOf(**values)
        script = scriptFor(settings, Clock())
        if script is not None:
            script.start()
        owners = FakeOwners()
        owners.known[SOURCE.port] = Owner(4711, 1000, "curl", "/usr/bin/curl")
        self.read = readLists(settings, os.geteuid(), self.read)
        known = [Known((name,), True) for name in names]
        nothing = Known((), True)
        return Judge(
            settings,
            owners,
            Locality(time.monotonic).isLocal,
            self.leadsIn,
            namesOf=(lambda flow: known[flow.id % len(known)]) if known else lambda flow: nothing,
            script=script,
            lists=self.read.lists,
            now=lambda: (0, 0),
        )


def flows(prefix: str, hosts: int = HOSTS) -> list[Flow]:
    """Flows to some addresses that begin with two numbers of C{prefix}."""
    ends = [Endpoint(f"{prefix}.{n >> 8}.{n & 255}", 443) for n in range(1, hosts + 1)]
    return [Flow(number, Protocol.TCP, SOURCE, ends[number % hosts]) for number in range(FLOWS)]


def manyRules(names: Sequence[str], many: int) -> list[dict[str, object]]:
    """Rules about three names each."""
    return [
        {"to": "direct", "domains": list(names[3 * number : 3 * number + 3])}
        for number in range(many)
    ]


def cases(files: Files, names: Sequence[str], judges: Judges) -> Iterator[Case]:
    """
    All rows of the table; another one is another C{yield}.

    @param names: some of those on the list.
    """
    internet, private = flows("93.184"), flows("10.9")
    fresh = flows("93.184", FLOWS)
    unlisted = [f"www{number}.cdn.example.com" for number in range(FLOWS)]
    few = unlisted[:HOSTS]

    yield Case("no rules, to the Internet", judges.make(), internet)
    networks = [f"11.{number >> 8}.{number & 255}.0/24" for number in range(4000)]
    yield Case("4,000 excludedIPs", judges.make(excludedIPs=networks), internet)
    yield Case("to a private network", judges.make(), private)
    routed = Judges(lambda host: True)
    yield Case("to one that is routed into the tunnel", routed.make(), private)

    for many in (10, 1000):
        rules = manyRules(names, many)
        yield Case(f"{many:,} rules, no name", judges.make(rules=rules), internet)
        yield Case(f"{many:,} rules, a name seen before", judges.make(few, rules=rules), internet)
        yield Case(f"{many:,} rules, a new name", judges.make(unlisted, rules=rules), internet)

    rule: list[dict[str, object]] = [{"to": "reject", "domains": f"file:{files.names}"}]
    listed = [f"www.{name}" for name in names]
    yield Case("1,000,000 names, one seen before", judges.make(few, rules=rule), internet)
    yield Case("1,000,000 names, a new one", judges.make(unlisted, rules=rule), internet)
    yield Case("1,000,000 names, a new one on the list", judges.make(listed, rules=rule), internet)

    rule = [{"to": "direct", "networks": f"file:{files.networks}"}]
    yield Case("100,000 networks, an address seen before", judges.make(rules=rule), internet)
    yield Case("100,000 networks, a new address", judges.make(rules=rule), fresh)
    rule = [{"to": "direct", "countries": ["DE", "AT"]}]
    country = judges.make(rules=rule, countryFile=str(files.countries))
    yield Case("countries, an address seen before", country, internet)
    yield Case("countries, a new address", country, fresh)

    for name, text in SCRIPTS.items():
        files.script.write_text(text)
        yield Case(name, judges.make(few, script=str(files.script)), internet)


def cost(case: Case) -> float:
    """Microseconds for one decision."""

    def decide() -> None:
        for flow in case.flows:
            case.judge.judge(flow)

    best = min(timeit.repeat(decide, timer=time.thread_time, number=1, repeat=RUNS))
    return best / len(case.flows) * 1e6


def memory(what: str) -> int:
    """Bytes of this process's memory: C{VmRSS} now, or C{VmHWM} at its highest."""
    found = re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def timed(
    what: str, settings: Settings, entries: int, before: ReadLists = NOTHING_READ
) -> ReadLists:
    """Read the lists of some settings, and print the row about it."""
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM is VmRSS again.
    size, begun = memory("VmRSS"), time.thread_time()
    read = readLists(settings, os.geteuid(), before)
    spent = (time.thread_time() - begun) * 1000
    kept, peak = (max(memory(each) - size, 0) / entries for each in ("VmRSS", "VmHWM"))
    print(f"| {what} | {spent:.1f} | {kept:.0f} | {peak:.0f} |", flush=True)
    return read


def readings(files: Files) -> None:
    """Measure how long the files take to be read, and what they take in memory."""
    print("| reading | ms | bytes an entry | at the most |\n|---|---|---|---|")
    names = settingsOf(rules=[{"to": "reject", "domains": f"file:{files.names}"}])
    networks = settingsOf(rules=[{"to": "direct", "networks": f"file:{files.networks}"}])
    countryFile = settingsOf(countryFile=str(files.countries))
    read = timed("1,000,000 names", names, NAMES)
    timed("the same file again, unchanged", names, NAMES, read)
    with files.names.open("a") as file:
        file.write("one-more.example\n")
    timed("the same file again, changed", names, NAMES, read)
    timed("100,000 networks", networks, NETWORKS)
    timed(f"{SITES:,} networks with their countries", countryFile, SITES)


def main() -> None:
    """Measure all cases and print them."""
    route = MarkedRoute("lo", time.monotonic)
    with TemporaryDirectory() as directory:
        files = Files(*(Path(directory, name) for name in Files._fields))
        # In a process of its own, whose memory does not become that of the lists.
        maker = get_context("fork").Process(target=makeFiles, args=(files,))
        maker.start()
        maker.join()
        readings(files)
        names = files.names.read_text().split()[:: NAMES // FLOWS]
        print("\n| a decision | us |\n|---|---|")
        for case in cases(files, names, Judges(route.leadsIn)):
            print(f"| {case.name} | {cost(case):.1f} |", flush=True)
    before = time.perf_counter()
    for number in range(2000):
        route.leadsIn(f"10.{number >> 8}.{number & 255}.1")
    print(f"\nThe route to a new address: {(time.perf_counter() - before) / 2000 * 1e6:.1f} us.")
    route.stop()


if __name__ == "__main__":
    main()
