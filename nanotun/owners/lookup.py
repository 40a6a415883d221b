"""
From a flow to its owner: what its socket says, and which process has it.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from nanotun.addresses import SOCKET_MARK
from nanotun.flow import Endpoint, Flow, Owner
from nanotun.log.trouble import TroubleLog
from nanotun.owners.budget import LookupBudget
from nanotun.owners.claims import Claims
from nanotun.owners.described import Descriptions, matched, together
from nanotun.owners.descriptors import OutOfTime
from nanotun.owners.handover import HANDOVER_TRIES, Handover
from nanotun.owners.hops import NextHops
from nanotun.owners.interfaces import ISockets
from nanotun.owners.listening import Listening
from nanotun.owners.localproxy import LocalProxies
from nanotun.owners.matching import Matcher
from nanotun.owners.scanner import Places
from nanotun.owners.schedule import ScanSchedule
from nanotun.owners.search import Search
from nanotun.owners.values import Excluded, FlowSocket, Table
from nanotun.policy.rules import LOCAL_PROXY


class OwnerLookup:
    """
    Looks up one owner at a time.

    @param schedule: is asked for scans, and for searches on its thread.
    @param trouble: reports what goes wrong with a lookup.
    @param spent: see L{LookupBudget}.
    @param ownPid: os.getpid.
    @param everybody: see L{nanotun.owners.options.OwnerOptions}, as for C{overruled}.
    """

    def __init__(
        self,
        sockets: ISockets,
        matcher: Matcher,
        search: Search,
        proxies: LocalProxies,
        claims: Claims,
        hops: NextHops,
        schedule: ScanSchedule,
        trouble: TroubleLog,
        clock: IReactorTime,
        spent: Callable[[], float],
        ownPid: Callable[[], int],
        descriptions: Descriptions,
        everybody: bool = False,
        overruled: bool = False,
    ) -> None:
        self._sockets = sockets
        self._matcher = matcher
        self._search = search
        self._proxies = proxies
        self._claims = claims
        self._hops = hops
        self._schedule = schedule
        self._trouble = trouble
        self._clock = clock
        self._ownPid = ownPid
        self._budget = LookupBudget(clock.seconds, spent)
        self._handover = Handover(clock.seconds)
        self._listening = Listening(proxies, search, hops, schedule, clock.seconds)
        self._descriptions = descriptions
        self._everybody = everybody
        self._overruled = overruled

    def prepare(self) -> None:
        """Find new processes and listening proxies before a flow has to wait for that."""
        if not (self._matcher.byProcesses or self._proxies.any or self._everybody):
            return
        deadline = self._budget.begin()
        try:
            self._listening.prepare(deadline)
            self._search.prepare(deadline)
        except OutOfTime:
            pass
        except OSError as error:
            self._trouble.report(f"New processes cannot be looked at: {error.strerror}.")
        finally:
            self._budget.end()

    def swap(self, table: Table, listeners: frozenset[int]) -> None:
        """
        Go on with the table of a new scan.

        @param listeners: see L{nanotun.owners.schedule.Swapped}.
        """
        self._search.reset(table)
        self._handover.reset(table)
        self._listening.swap(listeners)

    def excluded(self) -> list[int]:
        """
        The pids of all processes whose flows are excluded now.

        @raise OSError: /proc cannot be read, or the kernel cannot be asked.
        """
        self._proxies.sample()
        excluded = self._search.excluded()
        return [*excluded, *self._claims.pids(self._search.stats())]

    @property
    def mayGuess(self) -> bool:
        """
        Whether a flow without a known owner may be proxied: not with a proxy on this machine,
        whose own flows would come back.
        """
        return not self._proxies.any

    def sweep(self, inodes: frozenset[int], swept: Callable[[], object]) -> bool:
        """
        Have the thread find whose sockets these are.

        @param swept: called when it is done, well or not.
        @return: whether it was begun; otherwise try again soon.
        """
        search = self._search
        version = search.sweeps.version

        def done(places: Places | None) -> None:
            if places is not None:
                search.sweeps.take(inodes, places, version)
                self._note(places)
            swept()

        suspects = None if self._handover.possible else search.suspects()
        return self._schedule.sweep(inodes, suspects, done)

    def find(self, flow: Flow, brief: bool = False) -> Owner | None:
        """
        Find the owner of a flow.

        @param brief: whether a long search is left to the next sweep.
        @return: L{None} if the flow has no socket on this machine, and is not one that this
            machine sends for a proxy behind it; likewise if several users share its socket.
        @raise OutOfTime: there was not enough time.
        @raise OSError: the kernel cannot be asked now, or /proc cannot be read.
        """
        found = self._sockets.find(flow)
        if found is None:
            return self._hops.ownerOf(flow)
        deadline = self._budget.begin(brief)
        try:
            owner = self._ownerOf(found, flow.destination, deadline)
            exactly = self._everybody or self._matcher.seeks
            if not found.connected and (owner.excluded or exactly):
                # Any of the sockets may have sent the packets.
                for other in self._sockets.sharing(flow):
                    if other.inode != found.inode:
                        sharer = self._ownerOf(other, flow.destination, deadline)
                        both = together(owner, sharer, exactly)
                        if both is None:
                            return None
                        owner = both
                        if not (owner.excluded or exactly):
                            break
            return owner
        finally:
            self._budget.end()

    def guess(self, flow: Flow) -> Owner | None:
        """
        What a flow's socket alone says of the owner, for one that cannot be found in time.

        @return: L{None} if that would be of no use, too.
        @raise OSError: the kernel cannot be asked now.
        """
        found = self._sockets.find(flow) if self._everybody or self._matcher.seeks else None
        if found is None:
            return None
        known = self._descriptions.bySocket(found)
        return known._replace(whole=known.whole and not self._matcher.seeksPrograms)

    def _ownerOf(self, found: FlowSocket, destination: Endpoint, deadline: float) -> Owner:
        if found.mark == SOCKET_MARK:
            # Only we set this mark; another program that sets it wants the same.
            return Owner(self._ownPid(), found.uid)
        known = self._descriptions.bySocket(found)
        proxies = self._proxies.any
        further = self._everybody or self._matcher.seeksPrograms or not known.whole
        if known.excluded and not further and not (proxies and self._overruled):
            return known
        if not (proxies or further or self._matcher.byProcesses):
            return known
        if proxies:
            self._listening.check(deadline)
        try:
            owner = self._holder(found, known, destination, deadline)
        except OutOfTime:
            raise OutOfTime(found.inode) from None
        finally:
            if self._search.overflowed:
                self._schedule.soon()
        if not self._letsPast(owner.excluded):
            if self._listening.unclear:
                # It may be a flow of the proxy that has just begun to listen.
                raise OutOfTime
            self._handover.asked(destination)
        if not owner.pid and self._budget.isLong():
            self._learn(found.inode)
        return owner

    def _letsPast(self, text: str) -> bool:
        """
        Whether a flow of a process will go past the proxy, whatever else decides.

        @param text: by which it is excluded; empty for none.
        """
        return text == LOCAL_PROXY or (bool(text) and not self._overruled)

    def _holder(
        self, found: FlowSocket, known: Owner, destination: Endpoint, deadline: float
    ) -> Owner:
        """
        Find the process that has a socket.  Its name is told if it is wanted.

        @param known: what the socket says.
        """
        cgroup = known.cgroup
        pid, _, excluded = self._search.find(found, cgroup, deadline)
        if self._proxies.free and not self._letsPast("" if excluded is None else excluded.text):
            pid, claimant = self._claimant(pid, found.inode, deadline)
            excluded = claimant or excluded
        if not pid and self._handover.mayHave(found, cgroup):
            pid, _, excluded = self._search.findHolder(found.inode, deadline)
            if not pid:
                # It is being handed over, or its process cannot be seen.
                excluded = self._handover.maker(found, cgroup, destination)
                tries = self._search.sweeps.absences(found.inode)
                if excluded is None and tries < HANDOVER_TRIES:
                    raise OutOfTime
        if excluded is not None:
            pid = excluded.process.pid
        if not known.whole:
            known = self._descriptions.byProcess(known, pid)
        process = None if excluded is None else excluded.process
        if self._everybody or self._matcher.seeksPrograms:
            # One that is ending is read in part only, and may match more than is known.
            current = self._descriptions.processOf(pid) if pid else None
            process = process or (current if self._everybody else None)
            whole = current is not None and bool(current.path)
            known = known._replace(whole=known.whole and (whole or not self._matcher.seeksPrograms))
        if process is not None:
            path = known.cgroup or process.cgroup
            known = known._replace(name=process.name, path=process.path, cgroup=path)
        if excluded is not None:
            known = matched(known, excluded)
        # Sockets of libraries in our own process are not marked, and are treated like those of
        # any other process.
        return known._replace(pid=0 if pid == self._ownPid() else pid)

    def _claimant(self, pid: int, inode: int, deadline: float) -> tuple[int, Excluded | None]:
        """
        See whether the process that has a socket will be the proxy.

        @param pid: 0 if the process is not known.
        """
        if not pid:
            claimants = self._claims.pids(self._search.stats())
            pid = self._search.findAmong(claimants, inode, deadline)
        return pid, self._claims.find(pid) if pid else None

    def _learn(self, inode: int) -> None:
        """Have the thread find out who has such sockets, to be searched first next time."""

        self._schedule.sweep((inode,), (), lambda places: self._note(places or {}))

    def _note(self, places: Places) -> None:
        for pid in {pid for pid, _ in places.values()}:
            self._search.note(pid)
