"""
Compiles the load programs when they are needed, and runs them in a namespace.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import LabError, dieWithParent, run
from tests.e2e.lab.servers import Server
from tests.e2e.lab.topology import IPV4

PORT = 5999
UDP_PORT = 5998
IPERF_PORT = 5201
OPEN_SECONDS = 60
"""The longest that opening the idle connections may take."""


class Programs(NamedTuple):
    """The compiled programs: L{tcp} of C{load.c}, L{udp} of C{udp.c}."""

    tcp: Path
    udp: Path


def compiled(directory: Path) -> Programs:
    """
    Compile the programs.

    @raise LabError: there is no gcc, or it failed.
    """
    return Programs(*(_compiled(directory, name) for name in ("load.c", "udp.c")))


def _compiled(directory: Path, name: str) -> Path:
    source = Path(__file__).with_name(name)
    program = directory / source.stem
    try:
        run(["gcc", "-O2", "-Wall", "-o", str(program), str(source)], timeout=60)
    except FileNotFoundError:
        raise LabError(
            "gcc is missing: the load programs are compiled when the run starts"
        ) from None
    return program


def server(namespace: Namespace, programs: Programs, directory: Path) -> Server:
    """Start the server for TCP loads."""
    argv = [str(programs.tcp), "server", str(PORT)]
    return Server(namespace, argv, PORT, directory / "load.log")


def udpServer(namespace: Namespace, programs: Programs, directory: Path) -> Server:
    """Start the server for UDP loads."""
    argv = [str(programs.udp), "server", str(UDP_PORT), IPV4.world, IPV4.direct]
    return Server(namespace, argv, UDP_PORT, directory / "udp.log")


def _figures(output: str) -> dict[str, float]:
    """Parse the lines of the form C{"name value"}."""
    pairs = (line.split() for line in output.splitlines() if line.count(" ") == 1)
    return {name: float(value) for name, value in pairs}


def measure(namespace: Namespace, argv: Sequence[str], seconds: float) -> dict[str, float]:
    """
    Run the program and read its figures.

    @raise LabError: it failed, or some of its connections did.
    """
    done = namespace.run(argv, timeout=seconds + 60)
    figures = _figures(done.stdout)
    if figures.get("failed"):
        raise LabError(f"{figures['failed']:.0f} connections failed")
    return figures


@contextlib.contextmanager
def held(namespace: Namespace, argv: Sequence[str], count: int) -> Iterator[None]:
    """
    Hold idle connections open in the C{with} block.

    @raise LabError: not all of them opened.
    """
    with subprocess.Popen(
        namespace.argv(argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=dieWithParent,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        ready = process.stdout.readline() + process.stdout.readline()
        if f"opened {count}\n" not in ready:
            process.kill()
            raise LabError(f"not all of {count} connections opened: {ready.strip() or 'none'}")
        yield
        process.stdin.close()


def iperf(namespace: Namespace, address: str, streams: int, down: bool, seconds: float) -> float:
    """
    One run of iperf3.

    @return: Gbit/s, as the receiver measured it.
    @raise LabError: iperf3 failed; the text is its own.
    """
    argv = ["iperf3", "-J", "-c", address, "-p", str(IPERF_PORT), "-P", str(streams)]
    argv += ["-t", str(max(1, round(seconds))), *(["-R"] if down else [])]
    output = namespace.run(argv, timeout=seconds + 30, check=False).stdout
    try:
        report = json.loads(output)
        return float(report["end"]["sum_received"]["bits_per_second"]) / 1e9
    except (ValueError, KeyError):
        found = output if not output.startswith("{") else json.loads(output).get("error", "")
        raise LabError(f"iperf3: {str(found).strip()[:200]}") from None
