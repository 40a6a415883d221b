"""
A long run with a proxy on the same machine as the daemon: C{python -m benchmarks.loop}.

All traffic of a namespace is routed into the tunnel, including the proxy's.  Each
connection of an app causes one connection of the proxy, and must not cause more.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import socket
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.case import missing
from tests.e2e.lab.daemon import Daemon
from tests.e2e.lab.process import LabError
from tests.e2e.lab.proxies import Dante, Microsocks
from tests.e2e.lab.servers import Peer
from tests.e2e.lab.topology import IPV4, Lab

SECONDS = 600.0

PAUSE = 0.01
"""Seconds between two connections, because each one is a line in the log."""

LIMITS = {"microsocks": 0.0, "dante": 0.05}
"""Share of surplus flows that is allowed; docs/processes.md says why dante needs some."""


def hello(connection: socket.socket) -> None:
    """Send the server's greeting."""
    connection.sendall(b"hello")


def measure(stack: contextlib.ExitStack, name: str, seconds: float) -> tuple[int, int, int]:
    """
    Connect again and again.

    @return: connections that were opened, how many of them failed, and flows that the
        daemon saw.
    """
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nanotun-loop-")))
    lab = Lab()
    stack.callback(lab.remove)
    lab.openDirectPath()
    proxy: Microsocks | Dante
    if name == "microsocks":
        proxy = Microsocks(lab.app, directory)
    else:
        proxy = Dante(lab.app, directory, internal=("127.0.0.1",), external=(IPV4.app,), log=False)
    stack.callback(proxy.stop)
    peer = Peer(lab.world, hello)
    stack.callback(peer.stop)
    url = f"socks5://127.0.0.1:{proxy.port}"
    daemon = Daemon(lab.app, directory / "daemon", proxy=url, logLevel="debug")
    stack.callback(daemon.kill)
    lab.routeThroughTunnel()
    asked = failed = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        asked += 1
        try:
            with lab.app.connect((IPV4.world, peer.port)) as sock:
                failed += sock.recv(5, socket.MSG_WAITALL) != b"hello"
        except OSError:
            failed += 1
        time.sleep(PAUSE)
    daemon.stop()
    # Standard output has every line, and is not rotated away.
    log = (daemon.directory / "stdout.log").read_text(errors="replace")
    return asked, failed, len(set(re.findall(r"TCP flow (\d+) ", log)))


def main(argv: list[str] | None = None) -> int:
    """
    Measure and print.

    @return: 0, or 1 where there were more flows than were asked for, or some failed.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loop")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--proxy", choices=sorted(LIMITS), default="microsocks")
    given = parser.parse_args(argv)
    reason = missing()
    if reason:
        print(f"loop: {reason}.", file=sys.stderr)
        return 1
    try:
        with contextlib.ExitStack() as stack:
            asked, failed, flows = measure(stack, given.proxy, given.seconds)
    except LabError as error:
        print(f"loop: {error}", file=sys.stderr)
        return 1
    print(
        f"{given.proxy}, {given.seconds:g} s: {asked} connections, of which {failed} failed; "
        f"{2 * asked} flows asked for with the proxy's own, {flows} created"
    )
    return int(failed > 0 or flows > 2 * asked * (1 + LIMITS[given.proxy]))


if __name__ == "__main__":
    sys.exit(main())
