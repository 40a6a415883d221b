"""
Looks at the daemon's flows: those that are meant, with their programs and rates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from nanotun.console.flows.client import listing
from nanotun.console.flows.ends import flowOf
from nanotun.console.flows.filters import Filter
from nanotun.console.flows.rows import Rates, Row
from nanotun.control.client import Client
from nanotun.errors import RunningError
from nanotun.owners.processes import ProcProcesses
from nanotun.owners.sockets import KernelSockets
from nanotun.owners.together import FlowProcess, FlowProcesses

#: How often a flow's program is looked up that is not found: a machine behind this one has none
#: here.
TRIES = 2


class Look(NamedTuple):
    """
    What is seen at one moment.

    @ivar rows: the flows that are meant.
    @ivar open: how many there are in all.
    @ivar now: seconds since 1970, by the daemon's clock.
    @ivar daemon: its pid.  Another one has other flows by the same ids.
    """

    rows: list[Row]
    open: int
    now: float
    daemon: int


class Programs:
    """
    Remembers whose flows are whose, as long as they are open.

    @param processes: L{None} if they cannot be found here.
    """

    def __init__(self, processes: FlowProcesses | None) -> None:
        self._processes = processes
        self._known: dict[int, FlowProcess] = {}
        self._tries: dict[int, int] = {}

    def fill(self, flows: Collection[dict[str, Any]], apart: int) -> None:
        """
        Add the programs of flows, where the daemon does not say them.

        @param flows: all that matter.
        @param apart: the daemon's pid.
        """
        missing = [flow for flow in flows if not _isKnown(flow["process"])]
        ids = {flow["id"] for flow in missing}
        self._known = {number: each for number, each in self._known.items() if number in ids}
        self._tries = {number: self._tries.get(number, 0) for number in ids}
        sought = [
            flowOf(flow)
            for flow in missing
            if flow["id"] not in self._known and self._tries[flow["id"]] < TRIES
        ]
        if sought and self._processes is not None:
            self._known.update(self._processes.find(sought, (apart,)))
        for each in sought:
            self._tries[each.id] += 1
        for flow in missing:
            found = self._known.get(flow["id"])
            if found is not None:
                flow["process"] = _described(found)

    def namesOf(self, flow: Mapping[str, Any]) -> Collection[str]:
        """More names of a flow's program."""
        found = self._known.get(flow["id"])
        return () if found is None else found.names


def _isKnown(process: Mapping[str, Any] | None) -> bool:
    """Whether the daemon knows which process it is, and not only whose."""
    return process is not None and process["pid"] > 0


def _described(process: FlowProcess) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "uid": process.uid,
        "name": process.name,
        "path": process.path,
        "unit": process.unit or None,
    }


def _unknown(error: OSError) -> str:
    return f"It cannot be found out here whose flows are whose ({error.strerror})."


class Looker:
    """
    Looks again and again.

    @ivar trouble: why programs cannot be found, a sentence; empty if they can.
    """

    def __init__(self, runDir: str, wanted: Filter) -> None:
        self.trouble = ""
        self._runDir = runDir
        self._wanted = wanted
        self._daemon = 0
        self._rates = Rates()
        self._sockets = KernelSockets("")
        found = None
        try:
            self._sockets.start()
            found = FlowProcesses(self._sockets, ProcProcesses())
        except OSError as error:
            self.trouble = _unknown(error)
        self._processes = found
        self._programs = Programs(found)

    def __enter__(self) -> Looker:
        return self

    def __exit__(self, *details: object) -> None:
        self._sockets.close()

    def look(self) -> Look:
        """
        Look once.

        @raise RunningError: the daemon cannot be asked.
        """
        # A connection of its own for each look: the daemon closes those that are silent.
        with Client(self._runDir) as client:
            flows, now = listing(client.ask)
        if client.pid != self._daemon:
            # What is known of flows is known by their ids.
            self._daemon = client.pid
            self._rates, self._programs = Rates(), Programs(self._processes)
        meant = [flow for flow in flows if self._wanted.takes(flow)]
        try:
            self._programs.fill(meant, client.pid)
        except OSError as error:
            # Of one protocol perhaps: the kernel has a module for each.
            if self._wanted.usesProcesses:
                raise RunningError(_unknown(error)) from None
        meant = [
            flow
            for flow in meant
            if self._wanted.takesProcess(flow["process"], self._programs.namesOf(flow))
        ]
        return Look(self._rates.rows(meant), len(flows), now, client.pid)
