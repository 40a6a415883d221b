"""
tcpdump, as a witness of what leaves by an interface.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import PATIENCE, Child, LabError, waitUntil

SETTLE_SECONDS = 0.3
"""Seconds for a sent packet to be written down."""


# With whole packets, the kernel's buffer has places for eight, and a burst is lost.
_TCPDUMP = ("tcpdump", "-Q", "out", "-n", "--immediate-mode", "-s", "512")


def _start(namespace: Namespace, argv: list[str], log: Path) -> Child:
    """
    Start tcpdump and wait until it listens.

    @raise LabError: it does not start.
    """
    child = Child(namespace.argv(argv), log)
    try:
        waitUntil(
            lambda: "listening on" in child.output() or child.status() is not None,
            PATIENCE,
            "tcpdump listens",
        )
        if child.status() is not None:
            raise LabError(f"tcpdump ended at once: {child.output().strip()}")
    except BaseException:
        child.stop()
        raise
    return child


def _log(directory: Path) -> Path:
    return directory / f"tcpdump-{len(list(directory.glob('tcpdump-*.log')))}.log"


class Tcpdump:
    """Records what a namespace sends by an interface, from its construction on."""

    def __init__(self, namespace: Namespace, directory: Path, device: str, *what: str) -> None:
        """
        @param what: a pcap-filter(7) expression.
        @raise LabError: it does not start.
        """
        argv = [*_TCPDUMP, "-i", device, "-l", *what]
        self._child = _start(namespace, argv, _log(directory))

    def destinations(self) -> dict[str, set[str]]:
        """The sources of packets, by destination address and port (C{HOST.PORT})."""
        time.sleep(SETTLE_SECONDS)
        found: dict[str, set[str]] = {}
        for source, destination in re.findall(r" IP6? (\S+) > (\S+):", self._child.output()):
            found.setdefault(destination, set()).add(source)
        return found

    def stop(self) -> None:
        """End it; may be called twice."""
        self._child.stop()


class Capture:
    """
    Keeps every packet that a namespace sends by an interface, from its construction on, and
    finds packets among them later.
    """

    def __init__(self, namespace: Namespace, directory: Path, device: str) -> None:
        """@raise LabError: tcpdump does not start."""
        log = _log(directory)
        self._path = log.with_suffix(".pcap")
        argv = [*_TCPDUMP, "-i", device, "-U", "-Z", "root", "-w", str(self._path)]
        self._child = _start(namespace, argv, log)

    def stop(self) -> None:
        """Stop keeping packets; may be called twice."""
        time.sleep(SETTLE_SECONDS)
        self._child.stop()

    def packets(self, what: str, word: str = "") -> list[str]:
        """
        The packets that fit, one line of text each.

        @param what: a pcap-filter(7) expression.
        @param word: a part of the line.
        """
        argv = ["tcpdump", "-n", "-t", "-r", str(self._path), what]
        shown = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        return [line for line in shown.splitlines() if line[:1].strip() and word in line]
