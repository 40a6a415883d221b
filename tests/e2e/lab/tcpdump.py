"""
tcpdump, as a witness of what leaves by an interface.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import Child, LabError, waitUntil

SETTLE_SECONDS = 0.3
"""Seconds for a sent packet to be written down."""


class Tcpdump:
    """Records what a namespace sends by an interface, from its construction on."""

    def __init__(self, namespace: Namespace, directory: Path, device: str, *what: str) -> None:
        """
        @param what: a pcap-filter(7) expression.
        @raise LabError: it does not start.
        """
        argv = ["tcpdump", "-i", device, "-Q", "out", "-n", "-l", "--immediate-mode", *what]
        number = len(list(directory.glob("tcpdump-*.log")))
        self._child = Child(namespace.argv(argv), directory / f"tcpdump-{number}.log")
        try:
            waitUntil(
                lambda: "listening on" in self._child.output() or self._child.status() is not None,
                10,
                "tcpdump listens",
            )
            if self._child.status() is not None:
                raise LabError(f"tcpdump ended at once: {self._child.output().strip()}")
        except BaseException:
            self.stop()
            raise

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
