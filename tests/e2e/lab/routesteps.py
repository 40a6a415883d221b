"""
Starts and stops the routes, and is killed on the way:
C{python -m tests.e2e.lab.routesteps RUNDIR STEP}.

Each change to rules, routes, settings and the journal is a step; before the one with
this number, and in the middle of writing a journal, the process kills itself.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import succeed
from twisted.internet.task import Clock

from nanotun.routing import changes
from nanotun.routing.cached import CachedRoutes
from nanotun.routing.host import HostReader
from nanotun.routing.journal import Journal
from nanotun.routing.ledger import Ledger
from nanotun.routing.monitor import NetworkMonitor
from nanotun.routing.netlink import NetlinkRoutes
from nanotun.routing.parts import makeChanges
from nanotun.routing.routes import Routes
from nanotun.routing.surroundings import Surroundings
from nanotun.routing.values import Wishes


class NoReactor:
    """Nothing is read here."""

    def addReader(self, reader: object) -> None:
        """See the reactor."""

    def removeReader(self, reader: object) -> None:
        """See the reactor."""


class Steps:
    """Counts, and kills at the last one."""

    def __init__(self, last: int) -> None:
        self._left = last

    def step(self) -> None:
        """One more."""
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(self, owner: Any, name: str) -> None:
        """Make each call of a function a step."""
        function: Callable[..., Any] = getattr(owner, name)

        def stepped(*arguments: Any, **more: Any) -> Any:
            self.step()
            return function(*arguments, **more)

        setattr(owner, name, stepped)


def main() -> None:
    """Do it."""
    runDir, last = sys.argv[1], int(sys.argv[2])
    steps = Steps(last)
    kernel = NetlinkRoutes()
    for name in ("addRule", "deleteRule", "addRoute", "deleteRoute"):
        steps.before(kernel, name)
    steps.before(changes.SysctlChange, "_write")
    for name in ("rename", "unlink", "fsync"):
        steps.before(os, name)
    cached = CachedRoutes(kernel)
    made = makeChanges(cached)
    wishes = Wishes("nano0", killSwitch=True)
    surroundings = Surroundings(
        ("9.77.1.2",),
        lambda name: [],
        lambda name: succeed([]),
        lambda: (22,),
        lambda function: succeed(function()),
    )
    routes = Routes(
        wishes,
        cached,
        HostReader(cached, wishes),
        surroundings,
        made,
        Ledger(Journal(runDir), made),
        lambda killSwitch: [],
        lambda changed: NetworkMonitor(NoReactor(), changed),
        Clock(),
        lambda: None,
        0,
        lambda status: None,
    )
    routes.start()
    steps.step()
    routes.stop()


if __name__ == "__main__":
    main()
