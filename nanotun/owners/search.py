"""
From a socket to the process that has it: an excluded one or one that a rule names, if any, or
whichever it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from nanotun.owners.candidates import Candidates
from nanotun.owners.descriptors import Descriptors, OutOfTime
from nanotun.owners.interfaces import ICgroups, IProcesses
from nanotun.owners.makers import Makers
from nanotun.owners.newcomers import Newcomers
from nanotun.owners.swept import SweptSockets
from nanotun.owners.values import EMPTY, Excluded, FlowSocket, ProcStat, Table
from nanotun.policy.rules import LOCAL_PROXY

#: Processes, excluded or not, that are searched first: those that had a flow recently.
RECENT_LIMIT = 16

#: Processes with more open files than this are searched after the others.
BIG = 256

#: So many open files take as long to read as finding out that a process has not run.
EACH = 4

#: New processes that are searched whether they are excluded or not.
NEWCOMER_LIMIT = 32

#: Sockets whose owner is remembered: those of UDP, which have many flows.
ANSWER_LIMIT = 4096


class Found(NamedTuple):
    """
    The result of a search.

    @ivar pid: of the process that has the socket; 0 if it is not known, or not wanted.
    @ivar descriptor: of the socket in that process; 0 if it was not searched for.
    @ivar excluded: L{None} if the process is neither excluded nor named by a rule.
    """

    pid: int
    descriptor: int
    excluded: Excluded | None


NOT_FOUND = Found(0, 0, None)


class Search:
    """
    Asks for the process that made the socket.  Where that is not recorded, searches excluded
    processes and those that rules name: those of the last scan that may have made it, and those
    that were started later.

    @ivar sweeps: what the thread found out.
    @param spent: see L{nanotun.owners.budget.LookupBudget}.
    @param everybody: whether the process has to be found whichever it is, so that all others
        are searched as well.
    """

    def __init__(
        self,
        processes: IProcesses,
        cgroups: ICgroups,
        newcomers: Newcomers,
        descriptors: Descriptors,
        makers: Makers,
        spent: Callable[[], float],
        everybody: bool = False,
    ) -> None:
        self._processes = processes
        self._candidates = Candidates(cgroups, newcomers)
        self._newcomers = newcomers
        self._descriptors = descriptors
        self._makers = makers
        self._spent = spent
        self._everybody = everybody
        self.sweeps = SweptSockets(processes)
        self._table = EMPTY
        self._answers: dict[int, Found] = {}
        self._recent: list[int] = []

    def reset(self, table: Table) -> None:
        """Begin anew after a scan."""
        before = {*self._table.excluded, *self._newcomers.suspects}
        self._table = table
        self._newcomers.reset(table)
        self._candidates.reset(table)
        self._forget(not before.issuperset(table.excluded))

    def _forget(self, changed: bool) -> None:
        """Forget who has no socket; see L{SweptSockets.forget}."""
        self.sweeps.forget(changed)
        self._answers.clear()

    @property
    def overflowed(self) -> bool:
        """Whether more processes were started since the last scan than are examined."""
        return self._newcomers.overflowed

    def prepare(self, deadline: float) -> None:
        """
        Examine new processes, as far as there is time.

        @raise OSError: /proc cannot be read.
        """
        self._newcomers.look(deadline)

    def excluded(self) -> list[int]:
        """
        The pids of all excluded processes, with those that were started since the last scan.
        Those that a rule names as well are left out, since the rule decides.

        @raise OSError: /proc cannot be read.
        """
        self._newcomers.look(math.inf)
        known = (*self._newcomers.excluded, *self._table.excluded.values())
        return list(
            dict.fromkeys(
                each.process.pid
                for each in known
                if each.text == LOCAL_PROXY or (each.text and not each.selected)
            )
        )

    def stats(self) -> dict[int, ProcStat]:
        """Of all processes of the last scan, and of those that were seen since."""
        return {**self._table.stats, **self._newcomers.stats}

    def find(self, found: FlowSocket, cgroup: str, deadline: float) -> Found:
        """
        Find the process that has a socket.

        @param cgroup: the path of the socket's cgroup; empty if it is unknown.
        @param deadline: as a value of C{spent}.
        @raise OutOfTime: the deadline passed.
        @raise OSError: /proc cannot be read.
        """
        maker = self._makers.find(found.cookie)
        if maker is not None:
            return Found(maker[0], 0, self._newcomers.see(*maker))
        answer = self._answers.get(found.inode)
        if answer is not None:
            pid, descriptor = answer.pid, answer.descriptor
            if not pid or self._processes.socketAt(pid, descriptor) == found.inode:
                if self._everybody:
                    # It may run another program by now.
                    return answer._replace(excluded=self._newcomers.examine(pid))
                return answer
        answer = self._fromSweep(found.inode)
        if answer is not None:
            return self._remember(found, answer)
        inTime = self._newcomers.look(deadline)
        self._recent = [pid for pid in self._recent if not self._newcomers.isGone(pid)]
        candidates = self._candidates.of(found, cgroup)
        if self._everybody:
            # A process that has just ended may have left another one alone in its cgroup.
            candidates = [*self._order(candidates), *self._all()]
        elif inTime and (sole := self._candidates.sole(candidates, cgroup)):
            return Found(sole, 0, self._newcomers.examine(sole))
        else:
            candidates = self._order(candidates)
        answer = self._among(candidates, found.inode, deadline)
        if answer is None and not inTime:
            raise OutOfTime
        return self._remember(found, answer or NOT_FOUND)

    def _remember(self, found: FlowSocket, answer: Found) -> Found:
        if answer.pid or not (found.connected or self._everybody):
            if len(self._answers) >= ANSWER_LIMIT:
                self._answers.clear()
            self._answers[found.inode] = answer
        return answer

    def suspects(self) -> frozenset[int] | None:
        """
        The processes that a sweep has to search: those that may be excluded or that rules may
        name, and those that had a flow recently; L{None} for all.
        """
        if self.overflowed or self._everybody:
            return None
        return frozenset((*self._table.excluded, *self._newcomers.suspects, *self._recent))

    def _fromSweep(self, inode: int) -> Found | None:
        if self.sweeps.absences(inode):
            return NOT_FOUND
        place = self.sweeps.placeOf(inode)
        return None if place is None else Found(*place, self._newcomers.examine(place[0]))

    def _order(self, candidates: list[int]) -> list[int]:
        """
        The processes to search, in order.  If there are many candidates, or they have many
        files, processes that are likely to have the socket come first, excluded or not: if
        one of them has it, the candidates need not be searched.
        """
        sizes = [self._descriptors.size(pid) for pid in candidates]
        if sum(sizes) + len(sizes) * EACH < BIG:
            return candidates
        pids = [*self._recent, *self._newcomers.pids[:NEWCOMER_LIMIT], *candidates]
        return sorted(pids, key=lambda pid: self._descriptors.size(pid) > BIG)

    def note(self, pid: int) -> None:
        """Note that a process has a flow, so that it is searched first for the next one."""
        recent = [pid, *(each for each in self._recent if each != pid)]
        self._recent = recent[:RECENT_LIMIT]

    def findHolder(self, inode: int, deadline: float) -> Found:
        """
        Find the process that has a socket, among all of the last scan and all new ones.

        @raise OutOfTime: the deadline passed.
        """
        if self.sweeps.absences(inode):
            return NOT_FOUND
        return self._among(self._all(), inode, deadline) or NOT_FOUND

    def _all(self) -> list[int]:
        """All processes of the last scan and all new ones, in the order of a search."""
        scanned = sorted(self._table.stats, reverse=True)
        return [*self._recent, *self._newcomers.pids, *scanned]

    def findAmong(self, pids: Iterable[int], inode: int, deadline: float) -> int:
        """
        The pid of that of some processes that has a socket, or 0.

        @raise OutOfTime: the deadline passed.
        """
        found = self._among(pids, inode, deadline)
        return 0 if found is None else found.pid

    def _among(self, pids: Iterable[int], inode: int, deadline: float) -> Found | None:
        for pid in dict.fromkeys(pids):
            if self._spent() > deadline:
                raise OutOfTime
            place = self._descriptors.search(pid, (inode,), deadline)
            if place is not None:
                self.note(pid)
                # The process may run another program by now.
                return Found(pid, place, self._newcomers.examine(pid))
        return None

    def adoptMakers(self, listeners: Iterable[FlowSocket], deadline: float) -> set[int]:
        """
        Take the processes that made some listening sockets, and still have them, for the
        proxy, however old they are.  One that has given its socket away, as dockerd does, only
        started the proxy.

        @return: the inodes of those whose makers are the proxy.
        """
        settled: set[int] = set()
        for listener in listeners:
            pid = self._makers.pidOf(listener.cookie)
            process = self._processes.process(pid) if pid else None
            if process is not None and self._has(pid, listener.inode, deadline):
                self._newcomers.adopt(Excluded(process, LOCAL_PROXY))
                self._forget(True)
                settled.add(listener.inode)
        return settled

    def _has(self, pid: int, inode: int, deadline: float) -> bool:
        """Whether a process has a socket; false if there is no time to find out."""
        try:
            return self._descriptors.search(pid, (inode,), deadline) is not None
        except OutOfTime:
            return False

    def adoptProxies(self, inodes: Collection[int], deadline: float) -> set[int]:
        """
        Find new processes that have one of some listening sockets: a proxy that was started
        since the last scan.

        @return: the inodes of those that were found.
        @raise OutOfTime: the deadline passed.
        @raise OSError: /proc cannot be read.
        """
        if not self._newcomers.look(deadline):
            raise OutOfTime
        settled: set[int] = set()
        for pid in self._newcomers.pids:
            descriptor = self._descriptors.search(pid, inodes, deadline)
            process = None if descriptor is None else self._processes.process(pid)
            if descriptor is not None and process is not None:
                self._newcomers.adopt(Excluded(process, LOCAL_PROXY))
                self._forget(True)
                settled.add(self._processes.socketAt(pid, descriptor))
        return settled

    def proxyPids(self) -> frozenset[int]:
        """The processes that are a proxy on this machine, as far as is known."""
        known = (*self._table.excluded.values(), *self._newcomers.excluded)
        return frozenset(each.process.pid for each in known if each.text == LOCAL_PROXY)
