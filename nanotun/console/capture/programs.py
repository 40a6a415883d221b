"""
Looks in this process for the programs that flows belong to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nanotun.errors import NanotunError
from nanotun.flow import Flow
from nanotun.linux.cgroups import unitOf
from nanotun.owners.makers import Makers
from nanotun.owners.processes import ProcProcesses
from nanotun.owners.recorder import Recorder
from nanotun.owners.sockets import KernelSockets
from nanotun.owners.syscalls import LinuxBpf
from nanotun.owners.together import FlowProcess, FlowProcesses


class CapturedPrograms:
    """
    Finds the processes of flows of this machine.  Where the kernel records who makes sockets, as
    it does from now on, that of a new flow is found while a short-lived program still runs.

    @param interface: the device's name.
    @param daemon: the daemon's pid: no flow is its own.
    """

    def __init__(self, interface: str, daemon: int) -> None:
        """@raise NanotunError: the kernel does not tell of sockets; with one sentence."""
        self._daemon = daemon
        self._sockets = KernelSockets(interface)
        try:
            self._sockets.start()
        except OSError as error:
            raise NanotunError(
                f"The kernel does not say whose sockets are whose ({error.strerror})."
            ) from None
        self._recorder = Recorder(LinuxBpf())
        self._recorder.start()
        self._processes = ProcProcesses()
        self._makers = Makers(self._recorder.maker, self._processes)
        self._together = FlowProcesses(self._sockets, self._processes)

    def close(self) -> None:
        """Stop."""
        self._recorder.stop()
        self._sockets.close()

    def recorded(self, flows: Iterable[Flow]) -> Mapping[int, Mapping[str, Any]]:
        """
        Find the processes of new flows, in a fraction of a millisecond each.

        @return: by the flows' ids, with all their C{names}; those that are not found are missing.
        """
        found = {}
        for flow in flows:
            process = self._makerOf(flow)
            if process is not None:
                found[flow.id] = process._asdict()
        return found

    def searched(self, flows: Sequence[Flow]) -> Mapping[int, Mapping[str, Any]]:
        """As L{recorded}, among all processes of the machine, which takes some milliseconds."""
        try:
            found = self._together.find(flows, (self._daemon,))
        except OSError:
            # The kernel had no memory for the answer.
            return {}
        return {number: process._asdict() for number, process in found.items()}

    def _makerOf(self, flow: Flow) -> FlowProcess | None:
        try:
            made = self._sockets.find(flow)
        except OSError:
            return None
        pid = 0 if made is None else self._makers.pidOf(made.cookie)
        process = self._processes.process(pid) if pid and pid != self._daemon else None
        if made is None or process is None:
            return None
        unit = unitOf(process.cgroup)
        return FlowProcess(pid, made.uid, process.name, process.path, unit, process.names)
