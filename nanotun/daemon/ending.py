"""
Knows how the daemon ends: a kill switch opens after an orderly stop only.

systemd sends the same SIGTERM for a stop, for a restart and for the machine's shutdown;
which of them it is, only its queue of jobs says.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping

from nanotun.interfaces import End
from nanotun.routing.firewall.tools import SystemTools, Tools

#: Seconds for systemd's answer; all of the routes' stop has to fit into
#: L{nanotun.daemon.service.UNDO_LIMIT}.
LIMIT = 1.0

#: Its job starts when the machine is about to go down.
SHUTDOWN = "shutdown.target"

#: There if systemd has booted the machine (sd_booted(3)).
_BOOTED = "/run/systemd/system"

_CGROUPS = "/proc/self/cgroup"
_UNIT = re.compile(r"^(?:0:|\d+:name=systemd):/(?:.*/)?([^/\n]+\.service)$", re.M)


class Ending:
    """
    How this daemon ends.

    @param jobs: systemd's jobs as text; empty where there is none.
    @param unit: the name of the daemon's unit; empty if it has none.
    """

    def __init__(self, jobs: Callable[[], str] = str, unit: str = "") -> None:
        self._jobs = jobs
        self._unit = unit
        self._end: End | None = None

    def fail(self) -> None:
        """The device or the engine is lost."""
        self._end = End.FAILED

    def notStarted(self) -> None:
        """A step of the start failed."""
        self._end = End.NOT_STARTED

    def restart(self) -> None:
        """Somebody is about to start the daemon again."""
        self._end = End.RESTART

    def how(self) -> End:
        """How it ends.  If nobody has said so, systemd is asked, which blocks."""
        if self._end is not None:
            return self._end
        return End.RESTART if isRestart(self._jobs(), self._unit) else End.STOP


def isRestart(jobs: str, unit: str) -> bool:
    """
    Whether systemd is about to start a unit again, or to bring the machine down.

    @param jobs: the output of C{systemctl list-jobs}.
    """
    for line in jobs.splitlines():
        _, name, kind, *_ = *line.split(), "", "", ""
        if (name == unit and kind == "restart") or (name == SHUTDOWN and kind == "start"):
            return True
    return False


def makeEnding(
    environment: Mapping[str, str], tools: Tools | None = None, cgroups: str = _CGROUPS
) -> Ending:
    """
    The ending of this process, which may be a unit of systemd's.  One that was started in a
    terminal is none, but ends with the machine as well.

    @param environment: of this process; systemd sets C{INVOCATION_ID}.
    @param cgroups: a file like C{/proc/self/cgroup}.
    """
    found = SystemTools() if tools is None else tools
    systemctl = found.path("systemctl")
    if not systemctl or not found.exists(_BOOTED):
        return Ending()

    def jobs() -> str:
        argv = [systemctl, "list-jobs", "--no-legend", "--no-pager", "--plain"]
        return found.run(argv, limit=LIMIT).output

    unit = None
    if "INVOCATION_ID" in environment:
        with contextlib.suppress(OSError), open(cgroups) as file:
            unit = _UNIT.search(file.read())
    return Ending(jobs, unit[1] if unit else "")
