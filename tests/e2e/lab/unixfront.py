"""
A unix socket in front of a proxy: socat.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.e2e.lab.namespace import Namespace
from tests.e2e.lab.process import Child, LabError, waitUntil

START_SECONDS = 60.0


class UnixFront:
    """
    Listens on a path and forwards to TCP port C{behind} of C{namespace}.

    Its queue is short, which is socat's default.

    @ivar path: short enough for a socket, wherever the tests run.
    """

    def __init__(self, namespace: Namespace, behind: int, log: Path) -> None:
        """@raise LabError: it does not listen in time."""
        self._directory = tempfile.mkdtemp(prefix="nanotun-")
        self.path = f"{self._directory}/proxy.sock"
        listen = f"UNIX-LISTEN:{self.path},fork,backlog=5"
        argv = ["socat", "-t", "30", listen, f"TCP:127.0.0.1:{behind},nodelay"]
        self._child = Child(namespace.argv(argv), log)
        try:
            waitUntil(
                lambda: self._child.status() is not None or Path(self.path).exists(),
                START_SECONDS,
                f"socat listens on {self.path}",
            )
            if self._child.status() is not None:
                raise LabError(f"socat ended at once: {self._child.output().strip()}")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it; may be called twice."""
        self._child.stop()
        shutil.rmtree(self._directory, ignore_errors=True)
