"""
A flood of SYNs from other machines, and what becomes of this machine's own connections and
cached names meanwhile: C{python -m benchmarks.flood --help}.  Fails if a 99th percentile is
above its limit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import selectors
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nanotun.control.client import Client
from tests.e2e.case import missing
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.nameserver import Unbound
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import Child, run
from tests.e2e.lab.proxies import Microsocks
from tests.e2e.lab.servers import Server
from tests.e2e.lab.topology import IPV4, Lab

CONNECT_LIMIT = 1.0
"""Seconds within which 99 of 100 connects of this machine must be answered."""

NAME_LIMIT = 0.1
"""The same for cached names."""

INTERVAL = 0.05
"""Seconds between two connects, and between two questions."""

PATIENCE = 10.0
"""Seconds after which one has failed."""

WARM = 2.0
"""Seconds of the flood before the first connect counts."""

GOOD_PORT, OPEN_PORT, FILTERED_PORT, CLOSED_PORT = 8088, 8089, 8090, 8091
PORTS = {"closed": CLOSED_PORT, "filtered": FILTERED_PORT, "open": OPEN_PORT}

NAME = b"\x04host\x03lab\x00"


def main() -> int:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, nargs="+", default=[10_000, 50_000])
    parser.add_argument("--ports", choices=PORTS, nargs="+", default=list(PORTS))
    parser.add_argument("--engine", nargs="+", default=["gvisor", "simple"])
    parser.add_argument("--proxy", choices=("microsocks", "direct"), default="microsocks")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--watch", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.watch:
        print(json.dumps(watch(given.watch)))
        return 0
    if reason := missing():
        print(reason, file=sys.stderr)
        return 2
    print(
        "engine, ports, SYNs/s, connect p50, p99 (ms), failed, name p50, p99 (ms), failed, "
        "CPU (%), memory (MiB), most dials, half-open",
        flush=True,
    )
    fine = True
    for engine in given.engine:
        for ports in given.ports:
            for rate in given.rate:
                row = flooded(engine, ports, rate, given.proxy, given.seconds)
                fine = row["connect99"] < CONNECT_LIMIT and row["name99"] < NAME_LIMIT and fine
                print(
                    f"{engine}, {ports}, {row['rate']:,.0f}, "
                    f"{row['connect50'] * 1000:.1f}, {row['connect99'] * 1000:.1f}, "
                    f"{row['connectFailed']} of {row['connects']}, "
                    f"{row['name50'] * 1000:.1f}, {row['name99'] * 1000:.1f}, "
                    f"{row['nameFailed']} of {row['names']}, {row['cpu']:.0f}, "
                    f"{row['rss'] / 2**20:.0f}, {row['dials']}, {row['halfOpen']}",
                    flush=True,
                )
    return 0 if fine else 1


def flooded(engine: str, ports: str, rate: int, proxy: str, seconds: float) -> dict[str, Any]:
    """One row: a new laboratory, and one flood in it."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        program = directory / "flood"
        run(["gcc", "-O2", "-Wall", "-o", str(program), str(Path(__file__).with_name("flood.c"))])
        lab = Lab()
        stack.callback(lab.remove)
        machines = lab.plugMachines()
        lab.openDirectPath()
        lab.filter(FILTERED_PORT, "drop", "drop")
        lab.world.run(["sysctl", "-q", "-w", "net.core.somaxconn=4096"])
        for port in (GOOD_PORT, OPEN_PORT):
            serve(stack, lab.world, port)
        unbound = Unbound(lab.world, directory, [IPV4.direct], log=False)
        stack.callback(unbound.stop)
        url = "direct://"
        if proxy == "microsocks":
            server: Server = Microsocks(lab.proxy, directory)
            stack.callback(server.stop)
            url = f"socks5://{IPV4.proxy}:{server.port}"
        daemon = Daemon(lab.app, directory / "daemon", proxy=url, stackMode=engine, dns=IPV4.direct)
        stack.callback(daemon.kill)
        lab.routeThroughTunnel()
        destination = IPV4.direct if proxy == "direct" else IPV4.world
        if proxy == "direct":
            lab.app.run(["ip", "route", "del", f"{IPV4.direct}/32", "via", "10.77.1.1"])
        mac = lab.app.run(["cat", "/sys/class/net/lan0/address"]).stdout.strip()
        where = [str(program), "lan0", mac, destination, str(PORTS[ports]), str(rate)]
        flood = Child(machines.argv([*where, str(seconds + WARM)]), directory / "flood.log")
        stack.callback(flood.stop)
        time.sleep(WARM)
        watcher = Child(
            lab.app.argv(
                [sys.executable, "-m", "benchmarks.flood", "--watch", str(seconds - WARM)]
                + (["--proxy", "direct"] if proxy == "direct" else [])
            ),
            directory / "watch.log",
        )
        stack.callback(watcher.stop)
        cpu, began, dials, half = daemon.cpu(), time.monotonic(), 0, 0
        while flood.status() is None:
            time.sleep(2)
            with Client(str(daemon.directory / "run")) as client:
                report = client.ask("status")
            dials = max(dials, report["verdicts"]["dialling"])
            half = max(half, report["engine"]["flows"]["halfOpen"])
        used = (daemon.cpu() - cpu) / (time.monotonic() - began) * 100
        watcher.wait(seconds)
        sent = int(flood.output().split()[-1])
        return {
            **json.loads(watcher.output().splitlines()[-1]),
            "rate": sent / (seconds + WARM), "cpu": used, "rss": daemon.rss(),
            "dials": dials, "halfOpen": half,
        }  # fmt: skip


def serve(stack: contextlib.ExitStack, namespace: Namespace, port: int) -> None:
    """Accept connections, and leave them alone until the other side closes them."""
    listener = namespace.makeSocket(socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", port))
    listener.listen(4096)
    listener.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    ended = threading.Event()

    def turns() -> None:
        while not ended.is_set():
            for key, _ in selector.select(0.2):
                sock: Any = key.fileobj
                with contextlib.suppress(BlockingIOError):
                    if sock is listener:
                        selector.register(listener.accept()[0], selectors.EVENT_READ)
                    elif not received(sock):
                        selector.unregister(sock)
                        sock.close()
        for key in list(selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]

    thread = threading.Thread(target=turns)
    thread.start()
    stack.callback(thread.join)
    stack.callback(ended.set)


def received(sock: socket.socket) -> bool:
    """Whether there was something to read, rather than the end."""
    try:
        return bool(sock.recv(4096))
    except ConnectionError:
        return False


def watch(seconds: float) -> dict[str, Any]:
    """In the app's namespace: connect and ask, and time each."""
    connects = repeat(connectOnce, seconds)
    names = repeat(askOnce, seconds)
    connects.join()
    names.join()
    return {**connects.figures("connect"), **names.figures("name")}


class repeat(threading.Thread):
    """Calls something at the pace of L{INTERVAL}, each call in a thread of its own."""

    def __init__(self, once: Callable[[], None], seconds: float) -> None:
        super().__init__()
        self._once = once
        self._seconds = seconds
        self._took: list[float] = []
        self.start()

    def run(self) -> None:
        """See L{threading.Thread.run}."""
        threads = []
        began = time.monotonic()
        for number in range(int(self._seconds / INTERVAL)):
            time.sleep(max(0.0, began + number * INTERVAL - time.monotonic()))
            thread = threading.Thread(target=self._time)
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()

    def _time(self) -> None:
        began = time.monotonic()
        try:
            self._once()
        except OSError:
            self._took.append(float("inf"))
        else:
            self._took.append(time.monotonic() - began)

    def figures(self, name: str) -> dict[str, float]:
        """The percentiles, in seconds, in which a failure counts as L{PATIENCE}."""
        took = sorted(self._took)
        return {
            f"{name}50": min(PATIENCE, took[len(took) // 2]),
            f"{name}99": min(PATIENCE, took[int(len(took) * 0.99)]),
            f"{name}Failed": sum(each == float("inf") for each in took),
            f"{name}s": len(took),
        }


def connectOnce() -> None:
    """Connect to the good port."""
    host = IPV4.direct if "direct" in sys.argv else IPV4.world
    with socket.create_connection((host, GOOD_PORT), PATIENCE):
        pass


def askOnce() -> None:
    """Ask the relay for the one name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect((IPV4.gateway, 53))
        sock.send(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + NAME + b"\x00\x01\x00\x01")
        sock.recv(4096)


if __name__ == "__main__":
    sys.exit(main())
