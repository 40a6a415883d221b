"""
Which of the excluded processes, and of those that rules name, may have made a socket.
"""

from __future__ import annotations

from collections.abc import Collection

from nanotun.owners.interfaces import ICgroups
from nanotun.owners.newcomers import Newcomers
from nanotun.owners.values import EMPTY, FlowSocket, Table


class Candidates:
    """
    Knows them by what the socket has of its maker: the user and the control group.
    """

    def __init__(self, cgroups: ICgroups, newcomers: Newcomers) -> None:
        self._cgroups = cgroups
        self._newcomers = newcomers
        self._table = EMPTY

    def reset(self, table: Table) -> None:
        """Begin anew after a scan."""
        self._table = table

    def of(self, found: FlowSocket, cgroup: str) -> list[int]:
        """
        The pids of the processes that may have made the socket.  It has the user id and the
        cgroup that its maker had then; a process of root may have had any user id.

        @param cgroup: the path of the socket's cgroup; empty if it is unknown.
        """
        candidates = [excluded.process.pid for excluded in self._newcomers.excluded]
        for pid, excluded in self._table.excluded.items():
            process = excluded.process
            if cgroup and excluded.settled and process.cgroup != cgroup:
                continue
            if found.uid in process.uids or 0 in process.uids:
                candidates.append(pid)
        return candidates

    def sole(self, candidates: Collection[int], cgroup: str) -> int:
        """
        One of the candidates, if no other process is in the socket's cgroup: with systemd
        each service and each program of a desktop has its own.  Otherwise 0.
        """
        if not candidates or cgroup in ("", "/"):
            return 0
        members = self._cgroups.members(cgroup)
        return members[0] if members and set(candidates).issuperset(members) else 0
