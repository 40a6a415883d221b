"""
C{nanotun capture}, and tshark, which reads what it writes.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.e2e.lab.console import nanotun
from tests.e2e.lab.daemon import Daemon, environment
from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, Child, LabError, waitUntil

_FIELDS = (
    "frame.comment",
    "ip.src",
    "ipv6.src",
    "tcp.srcport",
    "udp.srcport",
    "tcp.dstport",
    "udp.dstport",
    "tcp.payload",
    "udp.payload",
)


class Shown(NamedTuple):
    """
    A packet, as tshark shows it.

    @ivar comment: empty for none.
    @ivar source: its address.
    @ivar ports: its sender's and its receiver's; 0 if it has none.
    """

    comment: str
    source: str
    ports: tuple[int, int]
    payload: bytes


class NanotunCapture:
    """
    The command, which captures from its construction on.

    @ivar path: of its file.
    """

    def __init__(self, namespace: Namespace, directory: Path, daemon: Daemon, *words: str) -> None:
        """@raise LabError: it does not begin to capture."""
        self.path = directory / f"{len(list(directory.glob('*.pcapng')))}.pcapng"
        runDir = str(daemon.directory / "run")
        argv = nanotun("capture", "-w", str(self.path), "--run-dir", runDir, *words)
        self._child = Child(namespace.argv(argv), self.path.with_suffix(".log"), environment())
        try:
            waitUntil(
                lambda: "Capturing" in self.output() or self._child.status() is not None,
                PATIENCE,
                "it captures",
            )
            if self._child.status() is not None:
                raise LabError(f"nanotun capture ended at once: {self.output()}")
        except BaseException:
            self.stop()
            raise

    def output(self) -> str:
        """What it has said."""
        return self._child.output()

    def send(self, number: int) -> None:
        """Send it a signal."""
        self._child.send(number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; return the status."""
        return self._child.wait(seconds)

    def stop(self) -> None:
        """End it; may be called twice."""
        self._child.stop()


def packets(path: Path) -> list[Shown]:
    """
    Read a file.

    @raise LabError: it is not whole, or no capture.
    """
    argv = [
        "tshark",
        "-n",
        "-r",
        str(path),
        "-T",
        "fields",
        "-E",
        "separator=|",
        "-E",
        "occurrence=f",
    ]
    for field in _FIELDS:
        argv += ["-e", field]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise LabError(f"tshark: {done.stderr}")
    return [_shown(line.split("|")) for line in done.stdout.splitlines()]


def _shown(fields: list[str]) -> Shown:
    comment, source4, source6, tcpFrom, udpFrom, tcpTo, udpTo, *payloads = fields
    ports = int(tcpFrom or udpFrom or 0), int(tcpTo or udpTo or 0)
    return Shown(comment, source4 or source6, ports, bytes.fromhex("".join(payloads)))
