"""
What a decision about a flow costs: C{python -m benchmarks.rules}.  Needs no root.

The flow's process is not looked up here; L{benchmarks.owners} measures that.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable

from nanotun.config.file import Given
from nanotun.config.settings import makeSettings
from nanotun.flow import Endpoint, Flow, Protocol
from nanotun.linux.locality import Locality
from nanotun.linux.markedroute import MarkedRoute
from nanotun.policy.judge import Judge

FLOWS = 20_000
"""Flows in each run of a case; the best of L{RUNS} runs counts."""

RUNS = 5

HOSTS = 200
"""Destinations of the flows of one case."""

SOURCE = Endpoint("127.0.0.1", 40000)
"""An address of this machine, whatever machine it is."""


def judge(leadsIn: Callable[[str], bool], **values: object) -> Judge:
    """A judge with these settings."""
    given = {"proxy": "socks5://192.0.2.1:1080", **values}
    settings = makeSettings({key: Given(value, key) for key, value in given.items()}, {}, None)
    return Judge(settings, None, Locality(time.monotonic).isLocal, leadsIn)


def flows(prefix: str) -> list[Flow]:
    """Flows to L{HOSTS} addresses that begin with C{prefix}."""
    ends = [Endpoint(f"{prefix}.{number}", 443) for number in range(1, HOSTS + 1)]
    return [Flow(number, Protocol.TCP, SOURCE, ends[number % HOSTS]) for number in range(FLOWS)]


def cost(decider: Judge, asked: list[Flow]) -> float:
    """Microseconds for one decision."""

    def decide() -> None:
        for flow in asked:
            decider.judge(flow)

    return min(timeit.repeat(decide, number=1, repeat=RUNS)) / len(asked) * 1e6


def main() -> None:
    """Measure all cases and print them."""
    route = MarkedRoute("lo", time.monotonic)
    networks = [f"11.{number >> 8}.{number & 255}.0/24" for number in range(4000)]
    internet, private = flows("93.184.216"), flows("10.9.8")
    print("| a flow | us |\n|---|---|")
    for name, decider, asked in (
        ("to the Internet", judge(route.leadsIn), internet),
        ("the same, with 4,000 excludedIPs", judge(route.leadsIn, excludedIPs=networks), internet),
        ("to a private network", judge(route.leadsIn), private),
        ("to one that is routed into the tunnel", judge(lambda host: True), private),
    ):
        print(f"| {name} | {cost(decider, asked):.1f} |")
    before = time.perf_counter()
    for number in range(2000):
        route.leadsIn(f"10.{number >> 8}.{number & 255}.1")
    print(f"| the route to a new address | {(time.perf_counter() - before) / 2000 * 1e6:.1f} |")
    route.stop()


if __name__ == "__main__":
    main()
