"""
The cases: what is measured in each setup.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from benchmarks import load, names
from benchmarks.setups import Opened

SETTLE_SECONDS = 1.0
"""Time after opening idle connections for the memory that opening them took to be freed."""


RAMP_SHARE = 0.2
"""Share of a measurement's seconds for each of the rates that are tried."""

Measure = Callable[[Opened, load.Programs, float], float | None]


class Case(NamedTuple):
    """
    One figure to measure.

    @ivar measure: takes an open setup, the load programs and the seconds; returns
        the figure, or L{None} if it has no meaning in this setup.
    @ivar what: a description for the notes.
    @ivar higherIsBetter: how to read a ratio.
    """

    name: str
    unit: str
    measure: Measure
    what: str
    higherIsBetter: bool = True


def _load(figure: str, mode: str, count: int) -> Measure:
    def measure(opened: Opened, programs: load.Programs, seconds: float) -> float | None:
        argv = [str(programs.tcp), mode, opened.address, str(load.PORT), str(count), f"{seconds:g}"]
        return load.measure(opened.lab.app, [*argv, *opened.socks], seconds)[figure]

    return measure


def _costed(figure: str, name: str, mode: str, count: int, scale: float) -> Measure:
    """
    Like L{_load}; notes the daemon's CPU time for what was measured.

    @param scale: what the seconds of CPU time for one unit of the figure are multiplied by.
    """
    plain = _load(figure, mode, count)

    def measure(opened: Opened, programs: load.Programs, seconds: float) -> float | None:
        before = opened.daemon.cpu() if opened.daemon else 0.0
        found = plain(opened, programs, seconds)
        if opened.daemon and found:
            opened.figures[name] = (opened.daemon.cpu() - before) * scale / (found * seconds)
        return found

    return measure


def _counted(name: str, mode: str, count: int) -> Measure:
    """Like L{_load} of a rate; notes microseconds for each of what was counted."""
    return _costed("rate", name, mode, count, 1e6)


def _perGigabyte(name: str, mode: str, count: int) -> Measure:
    """Like L{_load} of gigabits; notes seconds for a gigabyte."""
    return _costed("gigabits", name, mode, count, 8.0)


def _cpu(name: str) -> Measure:
    """The daemon's CPU time that the measurement before has noted."""

    def measure(opened: Opened, programs: load.Programs, seconds: float) -> float | None:
        return opened.figures.get(name)

    return measure


def _udp(mode: str, count: int, share: float = 1.0) -> Measure:
    def measure(opened: Opened, programs: load.Programs, seconds: float) -> float | None:
        argv = [str(programs.udp), mode, opened.address, str(load.UDP_PORT), str(count)]
        argv += [f"{seconds * share:g}", *opened.socks]
        return load.measure(opened.lab.app, argv, seconds)["rate"]

    return measure


def _iperf(streams: int, down: bool) -> Measure:
    def measure(opened: Opened, programs: load.Programs, seconds: float) -> float | None:
        if opened.setup.speaksSocks:
            return None  # iperf3 does not speak SOCKS
        return load.iperf(opened.lab.app, opened.address, streams, down, seconds)

    return measure


def _idle(count: int) -> Measure:
    def measure(opened: Opened, programs: load.Programs, seconds: float) -> float | None:
        if opened.daemon is None:
            return None
        argv = [str(programs.tcp), "idle", opened.address, str(load.PORT), str(count)]
        before = opened.daemon.rss()
        with load.held(opened.lab.app, [*argv, str(load.OPEN_SECONDS)], count):
            time.sleep(SETTLE_SECONDS)
            return (opened.daemon.rss() - before) / 1024 / count

    return measure


IDLE_FLOWS = 1000

CASES = (
    # First, because the other cases leave the daemon with memory to spare.
    Case("idle", "KiB/flow", _idle(IDLE_FLOWS), f"{IDLE_FLOWS} idle flows", False),
    Case("up_1", "Gbit/s", _perGigabyte("up_1", "up", 1), "one stream from the app"),
    Case("up_1_cpu", "s/GB", _cpu("up_1"), "the daemon's CPU for that", False),
    Case("down_1", "Gbit/s", _perGigabyte("down_1", "down", 1), "one stream to the app"),
    Case("down_1_cpu", "s/GB", _cpu("down_1"), "the daemon's CPU for that", False),
    Case("up_8", "Gbit/s", _perGigabyte("up_8", "up", 8), "eight streams from the app"),
    Case("up_8_cpu", "s/GB", _cpu("up_8"), "the daemon's CPU for that", False),
    Case("down_8", "Gbit/s", _perGigabyte("down_8", "down", 8), "eight streams to the app"),
    Case("down_8_cpu", "s/GB", _cpu("down_8"), "the daemon's CPU for that", False),
    Case("iperf3_up_1", "Gbit/s", _iperf(1, False), "iperf3 -P 1"),
    Case("iperf3_down_1", "Gbit/s", _iperf(1, True), "iperf3 -P 1 -R"),
    Case("iperf3_up_8", "Gbit/s", _iperf(8, False), "iperf3 -P 8"),
    Case("iperf3_down_8", "Gbit/s", _iperf(8, True), "iperf3 -P 8 -R"),
    Case("rr", "1/s", _counted("rr", "rr", 1), "a byte each way on one open connection"),
    Case("rr_cpu", "us", _cpu("rr"), "the daemon's CPU for each of those", False),
    Case("crr_1", "1/s", _counted("crr_1", "crr", 1), "connect, a byte each way, close"),
    Case("crr_1_cpu", "us", _cpu("crr_1"), "the daemon's CPU for each of those", False),
    Case("crr_64", "1/s", _counted("crr_64", "crr", 64), "the same, 64 at a time"),
    Case("crr_64_cpu", "us", _cpu("crr_64"), "the daemon's CPU for each of those", False),
    Case("udp_rr_1", "1/s", _udp("rr", 1), "64 bytes each way, one datagram at a time"),
    Case("udp_rr_64", "1/s", _udp("rr", 64), "the same from 64 sockets"),
    Case("udp_up", "1/s", _udp("up", 1, RAMP_SHARE), "datagrams one way, loss below 1 %"),
    Case("udp_down", "1/s", _udp("down", 1, RAMP_SHARE), "the same towards the app"),
    Case("dns_new", "1/s", names.rate("dns_new", False), "queries that the cache cannot answer"),
    Case("dns_new_cpu", "us", _cpu("dns_new"), "the daemon's CPU for each of those", False),
    Case("dns_cached", "1/s", names.rate("dns_cached", True), "queries that the cache answers"),
    Case("dns_cached_cpu", "us", _cpu("dns_cached"), "the daemon's CPU for each", False),
)
