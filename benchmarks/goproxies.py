"""
The proxies in Go, which are compiled when they are needed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import run
from tests.e2e.lab.servers import Server
from tests.e2e.lab.topology import IPV4

_HERE = Path(__file__).parent


class GoProxy(Server):
    """
    A proxy without a password.

    @cvar folder: of the program's C{main.go}, in this one.
    @cvar listens: the port.
    """

    folder = ""
    listens = 0

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        """@raise tests.e2e.lab.process.LabError: it cannot be compiled, or does not start."""
        program = directory / self.folder
        golang = [sys.executable, str(_HERE.parent / "tools" / "golang.py"), "go"]
        source = _HERE / self.folder / "main.go"
        run([run(golang).stdout.strip(), "build", "-o", str(program), str(source)], timeout=120)
        argv = [str(program), f"{IPV4.proxy}:{self.listens}"]
        super().__init__(namespace, argv, self.listens, directory / f"{self.folder}.log")


class ThreadedSocks(GoProxy):
    """A SOCKS5 proxy with a goroutine for each direction, as proxies in Go usually are."""

    folder, listens = "socks", 1083


class FastSocks(GoProxy):
    """A SOCKS5 proxy that is meant to be no bottleneck."""

    folder, listens = "fastsocks", 1084


class TlsProxy(GoProxy):
    """An HTTP proxy inside TLS."""

    folder, listens = "tlsproxy", 1085
