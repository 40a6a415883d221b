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
from nanotun.owners.descriptors import OutOfTime
from nanotun.owners.handover import HANDOVER_TRIES, Handover
from nanotun.owners.hops import NextHops
from nanotun.owners.interfaces import ICgroups, ISockets
from nanotun.owners.localproxy import LocalProxies
from nanotun.owners.matching import Matcher
from nanotun.owners.scanner import Places
from nanotun.owners.schedule import ScanSchedule
from nanotun.owners.search import Search
from nanotun.owners.values import Excluded, FlowSocket, Table

#: Seconds between two samples of the sockets that listen at the proxy's address: two
#: questions of six microseconds each.
LISTENER_INTERVAL = 0.01

#: The same for unix sockets, of which the kernel has a list only.
UNIX_INTERVAL = 0.1


class OwnerLookup:
    """
    Looks up one owner at a time.

    @param schedule: is asked for scans, and for searches on its thread.
    @param trouble: reports what goes wrong with a lookup.
    @param spent: see L{LookupBudget}.
    @param ownPid: os.getpid.
    """

    def __init__(
        self,
        sockets: ISockets,
        cgroups: ICgroups,
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
    ) -> None:
        self._sockets = sockets
        self._cgroups = cgroups
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
        self._listeners: frozenset[int] = frozenset()
        # Sockets at the proxies' addresses of which nobody knows whose they are.
        self._sought: frozenset[int] = frozenset()
        self._listenersAsked = -LISTENER_INTERVAL
        self._pathsAsked = -UNIX_INTERVAL

    def prepare(self) -> None:
        """Find new processes and listening proxies before a flow has to wait for that."""
        if not self._matcher.byProcesses and not self._proxies.any:
            return
        deadline = self._budget.begin()
        try:
            listeners = self._proxies.listeners()
            self._sought &= listeners
            self._listeners &= listeners
            self._adopt(listeners, deadline)
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
        # Proxies that listen since the scan began are still to be found.  If the scan has not
        # found who listens, it cannot be seen here, and waiting would not help.
        self._listeners = listeners
        self._sought -= listeners
        self._hops.notice(listeners, self._search.proxyPids())

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
            machine sends for a proxy behind it.
        @raise OutOfTime: there was not enough time.
        @raise OSError: the kernel cannot be asked now, or /proc cannot be read.
        """
        found = self._sockets.find(flow)
        if found is None:
            return self._hops.ownerOf(flow)
        deadline = self._budget.begin(brief)
        try:
            owner = self._ownerOf(found, flow.destination, deadline)
            if owner.excluded and not found.connected:
                # Any of the sockets may have sent the packets: all have to be excluded.
                for other in self._sockets.sharing(flow):
                    if other.inode != found.inode:
                        sharer = self._ownerOf(other, flow.destination, deadline)
                        if not sharer.excluded:
                            return sharer
            return owner
        finally:
            self._budget.end()

    def _ownerOf(self, found: FlowSocket, destination: Endpoint, deadline: float) -> Owner:
        if found.mark == SOCKET_MARK:
            # Only we set this mark; another program that sets it wants the same.
            return Owner(self._ownPid(), found.uid)
        cgroup = self._cgroups.pathOf(found.cgroup)
        text = self._matcher.socketText(found.uid, cgroup)
        if text:
            return Owner(0, found.uid, cgroup=cgroup, excluded=text)
        if self._proxies.any:
            self._checkProxies(deadline)
        elif not self._matcher.byProcesses:
            return Owner(0, found.uid, cgroup=cgroup)
        try:
            owner = self._holder(found, cgroup, destination, deadline)
        except OutOfTime:
            raise OutOfTime(found.inode) from None
        finally:
            if self._search.overflowed:
                self._schedule.soon()
        if self._sought and not owner.excluded:
            # It may be a flow of the proxy that has just begun to listen.
            raise OutOfTime
        if not owner.pid and self._budget.isLong():
            self._learn(found.inode)
        if not owner.excluded:
            self._handover.asked(destination)
        return owner

    def _holder(
        self, found: FlowSocket, cgroup: str, destination: Endpoint, deadline: float
    ) -> Owner:
        """Find the process that has a socket; without its name if it is not excluded."""
        pid, _, excluded = self._search.find(found, cgroup, deadline)
        if excluded is None and self._proxies.free:
            pid, excluded = self._claimant(pid, found.inode, deadline)
        if not pid and self._handover.mayHave(found, cgroup):
            pid, _, excluded = self._search.findHolder(found.inode, deadline)
            if not pid:
                # It is being handed over, or its process cannot be seen.
                excluded = self._handover.maker(found, cgroup, destination)
                tries = self._search.sweeps.absences(found.inode)
                if excluded is None and tries < HANDOVER_TRIES:
                    raise OutOfTime
        if excluded is None:
            # Sockets of libraries in our own process are not marked, and are treated like
            # those of any other process.
            return Owner(0 if pid == self._ownPid() else pid, found.uid, cgroup=cgroup)
        process = excluded.process
        path = cgroup or process.cgroup
        return Owner(process.pid, found.uid, process.name, process.path, path, excluded.text)

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

    def _checkProxies(self, deadline: float) -> None:
        """Notice a proxy that was started or restarted since the last scan."""
        now = self._clock.seconds()
        if 0 <= now - self._listenersAsked < LISTENER_INTERVAL:
            return
        self._listenersAsked = now
        sample = self._proxies.sample()
        known = self._listeners - self._sought
        unknown = [each for each in sample if each.inode not in known]
        if unknown:
            # What listens no longer is forgotten now, or else the next scan would be news, too.
            self._listeners &= self._proxies.listeners()
        settled = self._search.adoptMakers(unknown, deadline)
        if settled:
            # Others may have the same sockets.
            self._schedule.soon()
            self._listeners |= settled
            self._sought -= settled
            self._hops.notice(self._listeners, self._search.proxyPids())
        listeners = frozenset(found.inode for found in sample)
        if not 0 <= now - self._pathsAsked < UNIX_INTERVAL:
            self._pathsAsked = now
            listeners |= self._proxies.atPaths()
        self._adopt(listeners, deadline)

    def _adopt(self, listeners: frozenset[int], deadline: float) -> None:
        """Find the processes of new proxies; flows wait for those that are not found at once."""
        self._sought |= listeners - self._listeners
        self._listeners |= listeners
        if self._sought:
            self._schedule.soon()
            found = self._search.adoptProxies(self._sought, deadline)
            self._sought -= found
            if found:
                self._hops.notice(self._listeners, self._search.proxyPids())
