"""
The C{nanotun} command, run as by a user.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.e2e.lab.daemon import environment
from tests.e2e.lab.process import PATIENCE


def nanotun(*arguments: str) -> list[str]:
    """The command line of C{nanotun}, with the Python that runs the tests."""
    code = "import sys; from nanotun.console import main; sys.exit(main())"
    return [sys.executable, "-c", code, *arguments]


def say(
    *arguments: str, prefix: Sequence[str] = (), cwd: Path | None = None, timeout: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    """
    Run it to its end.

    @param prefix: a command that runs it, such as C{setpriv ...}.
    @return: C{stdout}, C{stderr} and the status.
    """
    return subprocess.run(
        [*prefix, *nanotun(*arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
        cwd=cwd,
    )


def endIfThere(pid: int) -> None:
    """Kill a daemon that a test put into the background, unless it has ended."""
    with contextlib.suppress(OSError):
        if b"nanotun.console" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
