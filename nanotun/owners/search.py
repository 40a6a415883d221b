"""
From a socket to the excluded process that has it, if one has.
"""

from __future__ import annotations

from collections.abc import Callable

from nanotun.owners.descriptors import Descriptors, OutOfTime
from nanotun.owners.newcomers import Newcomers
from nanotun.owners.system import ICgroups, IProcesses
from nanotun.owners.values import EMPTY, Excluded, FlowSocket, Table
from nanotun.policy.rules import LOCAL_PROXY

#: Sockets whose answer is remembered: those of UDP, which have many flows.
ANSWER_LIMIT = 4096


class Search:
    """
    Looks at excluded processes only: at those of the last scan that can have made
    the socket, and at those that came later.

    @param seconds: the clock.
    """

    def __init__(
        self,
        processes: IProcesses,
        cgroups: ICgroups,
        newcomers: Newcomers,
        seconds: Callable[[], float],
    ) -> None:
        self._processes = processes
        self._cgroups = cgroups
        self._newcomers = newcomers
        self._descriptors = Descriptors(processes, seconds)
        self._table = EMPTY
        self._answers: dict[int, tuple[Excluded, int] | None] = {}

    def reset(self, table: Table) -> None:
        """Begin anew after a scan."""
        self._table = table
        self._newcomers.reset(table)
        self._answers.clear()

    @property
    def overflowed(self) -> bool:
        """Whether more processes were started since the last scan than are looked at."""
        return self._newcomers.overflowed

    def find(self, found: FlowSocket, cgroup: str, deadline: float) -> Excluded | None:
        """
        Find whose socket it is.

        @param cgroup: the path of the socket's cgroup; empty if it is not known.
        @param deadline: when to stop, by the clock.
        @return: L{None} for a process that is not excluded.
        @raise OutOfTime: the deadline passed.
        @raise OSError: there is no /proc to look at.
        """
        if found.inode in self._answers:
            answer = self._answers[found.inode]
            if answer is None:
                return None
            excluded, descriptor = answer
            if self._processes.socketAt(excluded.process.pid, descriptor) == found.inode:
                return excluded
        inTime = self._newcomers.look(deadline)
        candidates = self._candidates(found, cgroup)
        if inTime and (sole := self._soleCrowd(candidates, cgroup)):
            return self._newcomers.examine(sole)
        for pid in candidates:
            place = self._descriptors.search(pid, (found.inode,), deadline)
            if place is None:
                continue
            # It may be another program by now.
            holder = self._newcomers.examine(pid)
            if holder is not None:
                self._remember(found.inode, (holder, place))
            return holder
        if not inTime:
            raise OutOfTime
        if not found.connected:
            self._remember(found.inode, None)
        return None

    def adoptProxies(self, inodes: frozenset[int], deadline: float) -> None:
        """
        Find those newcomers that have one of some listening sockets: a proxy that
        was started since the last scan.

        @raise OutOfTime: the deadline passed.
        @raise OSError: there is no /proc to look at.
        """
        if not self._newcomers.look(deadline):
            raise OutOfTime
        for pid in self._newcomers.pids:
            if self._descriptors.search(pid, inodes, deadline) is not None:
                process = self._processes.process(pid)
                if process is not None:
                    self._newcomers.adopt(Excluded(process, LOCAL_PROXY))

    def _candidates(self, found: FlowSocket, cgroup: str) -> list[int]:
        """
        The pids of who can have made the socket.  It has the user id and the cgroup
        that its maker had then; root can have been anybody.
        """
        candidates = [excluded.process.pid for excluded in self._newcomers.excluded]
        for pid, excluded in self._table.excluded.items():
            process = excluded.process
            if cgroup and excluded.settled and process.cgroup != cgroup:
                continue
            if found.uid in process.uids or 0 in process.uids:
                candidates.append(pid)
        return candidates

    def _soleCrowd(self, candidates: list[int], cgroup: str) -> int:
        """
        One of the candidates, if nobody else is in the socket's cgroup: with systemd
        each service and each program of a desktop has its own.  Else 0.
        """
        if not candidates or cgroup in ("", "/"):
            return 0
        members = self._cgroups.members(cgroup)
        return members[0] if members and set(candidates).issuperset(members) else 0

    def _remember(self, inode: int, answer: tuple[Excluded, int] | None) -> None:
        if len(self._answers) >= ANSWER_LIMIT:
            self._answers.clear()
        self._answers[inode] = answer
