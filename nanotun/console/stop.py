"""
C{nanotun stop}: end the daemon, and wait until it has ended.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence

from nanotun.console import GOOD
from nanotun.console.command import AskOptions, run
from nanotun.control.client import Client, notRunning
from nanotun.control.lock import findHolder
from nanotun.errors import NotRunning, RoutingError, RunningError
from nanotun.routing.journal import Journal

#: Seconds to wait for the end.  The daemon promises two; a busy machine needs longer.
WAIT = 10.0


class StopOptions(AskOptions):
    """The command line."""

    synopsis = "Usage: nanotun stop [options]"
    longdesc = "Ends the daemon in order and waits until it has ended. Status 3: none runs."
    optFlags = [
        [
            "keep-kill-switch",
            None,
            "leave traffic in if killSwitch is on, for a start that follows",
        ],
    ]


def stop(runDir: str, keepKillSwitch: bool = False) -> int:
    """
    Stop the daemon of a C{runDir}.

    @param keepKillSwitch: whether a kill switch stays closed until the next start.
    @return: its pid.
    @raise NotRunning: none runs there.
    @raise RunningError: it cannot be asked, or does not end.
    """
    try:
        with Client(runDir) as client:
            process = _watch(client.pid, runDir)
            client.ask("restart" if keepKillSwitch else "stop")
            pid = client.pid
    except NotRunning:
        raise
    except RunningError:
        # There is no socket, or the daemon is an older one, but the lock names the process; a
        # signal has the same effect.  Only SIGKILL leaves a kill switch closed.
        holder = findHolder(runDir)
        if holder is None or not holder.pid or os.geteuid() != 0:
            raise
        pid = holder.pid
        process = _watch(pid, runDir)
        kill = keepKillSwitch and isClosed(runDir)
        signal.pidfd_send_signal(process, signal.SIGKILL if kill else signal.SIGTERM)
    try:
        ended, _, _ = select.select([process], [], [], WAIT)
    finally:
        os.close(process)
    if not ended:
        raise RunningError(
            f"The daemon (process {pid}) was told to stop and has not ended within {WAIT:g} s; "
            f"see its log, or end it with 'kill -9 {pid}'."
        )
    return pid


def isClosed(runDir: str) -> bool:
    """Whether a kill switch is in force, as far as the journal tells."""
    try:
        return Journal(runDir).read()[1]
    except RoutingError:
        return False


def _watch(pid: int, runDir: str) -> int:
    """
    Open a file descriptor that becomes readable when the process ends (pidfd_open(2)).

    @raise NotRunning: it has ended already.
    """
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise notRunning(runDir) from None


def main(arguments: Sequence[str]) -> int:
    """See L{nanotun.console.Command}."""
    options = StopOptions()

    def work() -> int:
        runDir, keep = options.runDir(), bool(options["keep-kill-switch"])
        pid = stop(runDir, keep)
        closed = keep and isClosed(runDir)
        more = "; the kill switch stays closed until the next start" if closed else ""
        print(f"nanotun has stopped (process {pid}){more}.")
        return GOOD

    return run("stop", options, arguments, work)
