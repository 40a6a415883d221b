"""
Finds out whether a flow belongs to the process that carries another VPN: the one that has the
VPN's TUN device open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from nanotun.flow import Flow, Owner, Protocol
from nanotun.owners.interfaces import IProcesses, ISockets
from nanotun.owners.values import Process

#: Seconds between two searches among all processes while nobody has the device open.
RESCAN = 1.0


class TunnelOwners:
    """
    Searches all processes for those with the device, in a thread, and remembers them as long as
    one of them has it.

    @param sockets: started here at the first question, and open to the end of the process.
    @param inThread: calls a function in a thread.
    @param seconds: the clock.
    """

    _log = Logger()

    def __init__(
        self,
        sockets: ISockets,
        processes: IProcesses,
        inThread: Callable[[Callable[[], Any]], Deferred[Any]],
        seconds: Callable[[], float],
    ) -> None:
        self._sockets = sockets
        self._processes = processes
        self._inThread = inThread
        self._seconds = seconds
        self._started = False
        self._device = ""
        self._pids: list[int] = []
        self._searched = -RESCAN
        self._waiting: list[Deferred[None]] | None = None

    def ownerOf(self, flow: Flow, device: str) -> Owner | Deferred[Owner | None] | None:
        """
        The process that has C{device} open, if it is the only one that sends the flow's packets.

        @param flow: of this machine.
        @param device: the name of another VPN's TUN device.
        @return: L{None} if it is another process's flow, or that cannot be found out.
        """
        if self._known(device) or not self._maySearch(device):
            return self._match(flow)
        return self._search(device).addCallback(lambda ignored: self._match(flow))

    def holders(self, device: str) -> Deferred[list[Process]]:
        """
        The processes that have a TUN device open.

        @param device: its name.
        """

        def processes(ignored: None) -> list[Process]:
            found = map(self._processes.process, self._pids)
            return [process for process in found if process is not None]

        return self._search(device).addCallback(processes)

    def _known(self, device: str) -> bool:
        """Whether a process is known that has the device open."""
        if device != self._device:
            return False
        self._pids = [pid for pid in self._pids if device in self._processes.devicesAt(pid)]
        return bool(self._pids)

    def _maySearch(self, device: str) -> bool:
        recent = self._seconds() - self._searched < RESCAN
        return device != self._device or not recent or self._waiting is not None

    def _search(self, device: str) -> Deferred[None]:
        """Search all processes, or wait for the search that is under way."""
        found: Deferred[None] = Deferred()
        if self._waiting is not None:
            self._waiting.append(found)
            return found
        self._waiting = [found]
        self._device = device
        processes = self._processes

        def scan() -> list[int]:
            return [pid for pid in processes.pids() if device in processes.devicesAt(pid)]

        searching = self._inThread(scan)
        searching.addCallbacks(self._found, self._failed).addErrback(self._failed)
        return found

    def _found(self, pids: list[int]) -> None:
        self._pids = pids
        self._end()

    def _failed(self, failure: Any) -> None:
        self._log.failure("The processes with another VPN's device cannot be found", failure)
        self._pids = []
        self._end()

    def _end(self) -> None:
        self._searched = self._seconds()
        waiting, self._waiting = self._waiting, None
        for each in waiting or ():
            each.callback(None)

    def _match(self, flow: Flow) -> Owner | None:
        try:
            inodes = self._inodes(flow)
        except OSError:
            return None
        held: dict[int, int] = {}
        for pid in self._pids:
            for descriptor in self._processes.descriptors(pid):
                held.setdefault(self._processes.socketAt(pid, descriptor), pid)
        if not inodes or not all(inode in held for inode in inodes):
            return None
        process = self._processes.process(held[inodes[0]])
        if process is None:
            return None
        return Owner(process.pid, process.uids[1], process.name, process.path, process.cgroup)

    def _inodes(self, flow: Flow) -> list[int]:
        """
        The sockets that may have sent the flow's packets.

        @raise OSError: the kernel cannot be asked.
        """
        if not self._started:
            self._sockets.start()
            self._started = True
        found = self._sockets.find(flow)
        if found is None:
            return []
        if flow.protocol is Protocol.UDP and not found.connected:
            return [each.inode for each in self._sockets.sharing(flow)]
        return [found.inode]
