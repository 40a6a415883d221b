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
from nanotun.owners.descriptors import OutOfTime
from nanotun.owners.handover import Handover
from nanotun.owners.interfaces import ICgroups, ISockets
from nanotun.owners.localproxy import LocalProxies
from nanotun.owners.matching import Matcher
from nanotun.owners.schedule import ScanSchedule
from nanotun.owners.search import Search
from nanotun.owners.values import FlowSocket, Table

#: Seconds between two samples of the sockets that listen at the proxy's address: two
#: questions of six microseconds each.
LISTENER_INTERVAL = 0.01

#: What to do if a proxy's own flows cannot be told from others in time.
LOOPS = (
    "The proxy on this machine hands connections on among its processes faster than it can be "
    "found out whose they are, so that they come back, and some are refused; run it as a service "
    "(a cgroup of its own), or exclude it with uid:USER or unit:NAME."
)


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
        self._schedule = schedule
        self._trouble = trouble
        self._clock = clock
        self._ownPid = ownPid
        self._budget = LookupBudget(clock.seconds, spent)
        self._handover = Handover(clock.seconds)
        self._listeners: frozenset[int] = frozenset()
        self._listenersAsked = -LISTENER_INTERVAL

    def prepare(self) -> None:
        """Find new processes and listening proxies before a flow has to wait for that."""
        if not self._matcher.byProcesses and not self._proxies.any:
            return
        deadline = self._budget.begin()
        try:
            self._adopt(self._proxies.listeners(), deadline)
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
        # Proxies that listen since the scan began are still to be found.
        self._listeners = listeners

    def find(self, flow: Flow, last: bool) -> Owner | None:
        """
        Find the owner of a flow.

        @param last: whether there is no other attempt.
        @return: L{None} if the flow has no socket on this machine.
        @raise OutOfTime: there was not enough time.
        @raise OSError: the kernel cannot be asked now, or /proc cannot be read.
        """
        found = self._sockets.find(flow)
        if found is None:
            return None
        deadline = self._budget.begin()
        try:
            owner = self._ownerOf(found, flow.destination, deadline, last)
            if owner.excluded and not found.connected:
                # Any of the sockets may have sent the packets: all have to be excluded.
                for other in self._sockets.sharing(flow):
                    if other.inode != found.inode:
                        sharer = self._ownerOf(other, flow.destination, deadline, last)
                        if not sharer.excluded:
                            return sharer
            return owner
        finally:
            self._budget.end()

    def _ownerOf(
        self, found: FlowSocket, destination: Endpoint, deadline: float, last: bool
    ) -> Owner:
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
            self._schedule.learn(found.inode, self._search.note)
            if last and self._handover.loops(found, cgroup, destination):
                self._trouble.report(LOOPS)
                return Owner(self._ownPid(), found.uid, cgroup=cgroup)
            raise
        finally:
            if self._search.overflowed:
                self._schedule.soon()
        if not owner.pid and self._budget.isLong():
            self._schedule.learn(found.inode, self._search.note)
        if not owner.excluded:
            self._handover.asked(destination)
        return owner

    def _holder(
        self, found: FlowSocket, cgroup: str, destination: Endpoint, deadline: float
    ) -> Owner:
        """Find the process that has a socket; without its name if it is not excluded."""
        pid, _, excluded = self._search.find(found, cgroup, deadline)
        maker = None if pid else self._handover.maker(found, cgroup, destination)
        if maker is not None:
            pid, _, excluded = self._search.findHolder(found.inode, deadline)
            # If nobody has the socket, it is being handed over.
            excluded = excluded if pid else maker
        if excluded is None:
            # Sockets of libraries in our own process are not marked, and are treated like
            # those of any other process.
            return Owner(0 if pid == self._ownPid() else pid, found.uid, cgroup=cgroup)
        process = excluded.process
        path = cgroup or process.cgroup
        return Owner(process.pid, found.uid, process.name, process.path, path, excluded.text)

    def _checkProxies(self, deadline: float) -> None:
        """Notice a proxy that was started or restarted since the last scan."""
        now = self._clock.seconds()
        if 0 <= now - self._listenersAsked < LISTENER_INTERVAL:
            return
        self._listenersAsked = now
        self._adopt(self._proxies.sample(), deadline)

    def _adopt(self, listeners: frozenset[int], deadline: float) -> None:
        new = listeners - self._listeners
        if new:
            self._schedule.soon()
            self._search.adoptProxies(new, deadline)
            self._listeners |= new
