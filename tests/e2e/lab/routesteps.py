"""
Starts and stops the routes, and is killed in between:
C{python -m tests.e2e.lab.routesteps RUNDIR}.

Each change to rules, routes, settings and the journal is a step.  For each number on standard
input, a process is forked that kills itself before the step with that number; for C{recover} it
undoes what is left.  The exit status is printed.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import pyroute2.iproute.linux  # noqa: F401  read once, for all processes
from twisted.internet.defer import succeed
from twisted.internet.task import Clock

from nanotun.interfaces import End
from nanotun.routing import changes
from nanotun.routing.applied import Applied
from nanotun.routing.exceptions import Exceptions
from nanotun.routing.firewall.cgroupwatch import CgroupWatch
from nanotun.routing.host import HostReader
from nanotun.routing.journal import Journal
from nanotun.routing.make import makeChanges
from nanotun.routing.monitor import NetworkMonitor
from nanotun.routing.netlink import CachedRoutes, NetlinkRoutes
from nanotun.routing.reconciler import Reconciler
from nanotun.routing.recover import recover
from nanotun.routing.routes import Routes
from nanotun.routing.values import Wishes


class NoReactor:
    """Does nothing: nothing is read here."""

    def addReader(self, reader: object) -> None:
        """See the reactor's method."""

    def removeReader(self, reader: object) -> None:
        """See the reactor's method."""


class Steps:
    """Counts steps, and kills the process at the last one."""

    def __init__(self, last: int) -> None:
        self._left = last

    def step(self) -> None:
        """Count one step."""
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


def run(runDir: str, last: int) -> None:
    """Start and stop the routes, up to a step."""
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
    exceptions = Exceptions(
        ("9.77.1.2",),
        lambda name: [],
        lambda name: succeed([]),
        lambda: (22,),
        lambda function: succeed(function()),
    )
    reconciler = Reconciler(
        wishes,
        cached,
        HostReader(cached, wishes),
        exceptions,
        made,
        Applied(Journal(runDir), made),
        lambda killSwitch, host: [],
        lambda rules, earlier: [],
    )
    routes = Routes(
        reconciler,
        exceptions,
        lambda changed: NetworkMonitor(NoReactor(), changed),
        Clock(),
        lambda: None,
        0,
        lambda status: None,
        lambda: End.STOP,
        "",
        lambda settings: False,
        lambda made: CgroupWatch(None, "", (), made),
    )
    routes.start()
    steps.step()
    routes.stop()


def takeBack(runDir: str) -> None:
    """Do what C{nanotun recover} does."""
    kernel = NetlinkRoutes()
    recover(runDir, kernel, makeChanges(kernel))


def main() -> None:
    """Serve the requests on standard input, each in a process of its own."""
    runDir = sys.argv[1]
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                if line.strip() == "recover":
                    takeBack(runDir)
                else:
                    run(runDir, int(line))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
