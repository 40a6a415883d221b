"""
DNS servers on this machine that would ask nanotun itself.

Under C{autoDefaultRoute} a server here that the relay asks may have its own queries captured, and
the relay would be asked what it has just asked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from nanotun.config.settings import Settings
from nanotun.daemon.localresolvers import listenersIn
from nanotun.errors import ConfigError
from nanotun.flow import Endpoint
from nanotun.linux.cgroups import cgroupMount
from nanotun.linux.users import uidOf
from nanotun.owners.cgroups import CgroupTree
from nanotun.owners.interfaces import IProcesses, ISockets
from nanotun.owners.matching import Matcher
from nanotun.owners.processes import ProcProcesses
from nanotun.owners.sockets import KernelSockets


class Circles:
    """
    Finds the DNS servers of this machine whose own queries would come back to the relay.

    @param device: the name of the tunnel's interface.
    @param inCell: whether only the programs of a cell are in the tunnel.
    @param sockets: the machine's, as are C{processes}.
    @param pathOf: from a control group's number to its path.
    """

    def __init__(
        self,
        device: str,
        inCell: bool,
        sockets: ISockets | None = None,
        processes: IProcesses | None = None,
        pathOf: Callable[[int], str] | None = None,
    ) -> None:
        self._inCell = inCell
        self._sockets = KernelSockets(device) if sockets is None else sockets
        self._processes = ProcProcesses() if processes is None else processes
        self._pathOf = (
            CgroupTree(cgroupMount(), time.monotonic).pathOf if pathOf is None else pathOf
        )

    def among(self, local: Iterable[Endpoint], settings: Settings) -> set[Endpoint]:
        """
        Those of some servers on this machine; all of them if it cannot be found out.

        Past the tunnel go the queries of programs in C{excludedProcesses}, and of those that
        are not in C{onlyProcesses}, if there are any.
        """
        servers = set(local)
        if self._inCell or not settings.autoDefaultRoute or not servers:
            return set()
        try:
            captured = servers
            if settings.onlyProcesses:
                captured = self._listening(Matcher(settings.onlyProcesses, *self._how), servers)
            return captured - self._listening(
                Matcher(settings.excludedProcesses, *self._how), captured
            )
        except (OSError, ConfigError):
            return servers

    @property
    def _how(self) -> tuple[bool, Callable[[str], int], Callable[[str], str]]:
        return False, uidOf, os.path.realpath

    def _listening(self, matcher: Matcher, servers: set[Endpoint]) -> set[Endpoint]:
        matcher.resolvePaths()
        matcher.bindPids(self._startOf)
        return listenersIn(matcher, servers, self._sockets, self._pathOf, self._processes)

    def _startOf(self, pid: int) -> int | None:
        stat = self._processes.stat(pid)
        return None if stat is None else stat.started
