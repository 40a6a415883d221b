"""
L{IOwners}: the table of excluded processes, made anew now and then, and one question
to the kernel for each flow.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from nanotun.addresses import SOCKET_MARK
from nanotun.errors import ConfigError
from nanotun.flow import Endpoint, Flow, Owner
from nanotun.interfaces import IOwners, IPart
from nanotun.log.trouble import TroubleLog
from nanotun.owners.budget import LookupBudget
from nanotun.owners.descriptors import OutOfTime
from nanotun.owners.handover import Handover
from nanotun.owners.interfaces import ICgroups, IProcesses, ISockets
from nanotun.owners.localproxy import LocalProxies
from nanotun.owners.matching import Matcher
from nanotun.owners.schedule import ScanSchedule
from nanotun.owners.search import Search
from nanotun.owners.values import FlowSocket, Table

#: Seconds between two looks at what was started meanwhile, so that little is left to look
#: at when a flow comes.
LOOK_INTERVAL = 0.5

#: Seconds between two short looks at who listens on the proxy's address: two questions
#: of the six microseconds that one takes.
LISTENER_INTERVAL = 0.01

#: What to do where a proxy's own flows cannot be told from others in time.
LOOPS = (
    "The proxy on this machine hands connections on among its processes faster than it can be "
    "found out whose they are, so that they come back, and some are refused; run it as a service "
    "(a cgroup of its own), or exclude it with uid:USER or unit:NAME."
)


@implementer(IOwners, IPart)
class Owners:
    """
    @ivar misses: see L{IOwners}.
    @param scans: not started.
    @param trouble: ended by L{stop}.
    @param spent: see L{LookupBudget}.
    @param ownPid: os.getpid; twistd forks between our making and our start.
    """

    _log = Logger()

    name = "the process table"

    def __init__(
        self,
        processes: IProcesses,
        sockets: ISockets,
        cgroups: ICgroups,
        matcher: Matcher,
        search: Search,
        proxies: LocalProxies,
        scans: ScanSchedule,
        trouble: TroubleLog,
        clock: IReactorTime,
        spent: Callable[[], float],
        ownPid: Callable[[], int],
    ) -> None:
        self.misses = 0
        self._processes = processes
        self._sockets = sockets
        self._cgroups = cgroups
        self._matcher = matcher
        self._search = search
        self._proxies = proxies
        self._schedule = scans
        self._trouble = trouble
        self._clock = clock
        self._ownPid = ownPid
        self._budget = LookupBudget(clock.seconds, spent)
        self._handover = Handover(clock.seconds)
        self._listeners: frozenset[int] = frozenset()
        self._listenersAsked = -LISTENER_INTERVAL
        self._loop = LoopingCall(self._lookAround)
        self._loop.clock = clock

    @property
    def table(self) -> Table:
        """The last scan's."""
        return self._schedule.table

    def start(self) -> None:
        """See L{IPart.start}."""
        if self._matcher.byCgroups and not self._cgroups.mount:
            raise ConfigError(
                "excludedProcesses names a cgroup or a unit, but this machine has no cgroups of "
                "version 2; name processes or users instead."
            )
        try:
            self._sockets.start()
            for text in self._matcher.bindPids(self._startOf):
                self._log.warn("excludedProcesses: there is no process {text}", text=text)
            # For psutil: its import is not to take a flow's time.
            self._processes.process(self._ownPid())
            self._schedule.start(self._swap)
        except OSError as error:
            self._sockets.close()
            raise ConfigError(
                f"It cannot be found out here whose connections are whose ({error}): netlink's "
                "sock_diag and /proc are needed for excludedProcesses, and for a proxy on this "
                "machine."
            ) from None
        self._loop.start(LOOK_INTERVAL, now=False)

    def stop(self) -> None:
        """See L{IPart.stop}.  A scan that is under way ends soon, and is not waited for."""
        self._loop.stop()
        self._schedule.stop()
        self._sockets.close()
        self._trouble.stop()

    def ownerOf(self, flow: Flow) -> Owner | None:
        """See L{IOwners.ownerOf}."""
        owner = None
        try:
            owner = self._find(flow)
        except OutOfTime:
            self._schedule.soon()
        except OSError as error:
            self._trouble.report(f"The owners of flows cannot be found: {error.strerror}.")
        except Exception:
            self._log.failure("The owner of {flow} was not found, by a mistake of ours", flow=flow)
        if owner is None:
            self.misses += 1
        return owner

    def _find(self, flow: Flow) -> Owner | None:
        found = self._sockets.find(flow)
        if found is None:
            return None
        deadline = self._budget.begin()
        try:
            owner = self._judge(found, flow.destination, deadline)
            if owner.excluded and not found.connected:
                # Whose packets these are cannot be told: all have to be excluded.
                for other in self._sockets.sharing(flow):
                    if other.inode != found.inode:
                        sharer = self._judge(other, flow.destination, deadline)
                        if not sharer.excluded:
                            return sharer
            return owner
        finally:
            self._budget.end()

    def _judge(self, found: FlowSocket, destination: Endpoint, deadline: float) -> Owner:
        if found.mark == SOCKET_MARK:
            # Nobody but us sets it, and whoever else does asks for the same.
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
            if self._handover.loops(found, cgroup, destination):
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
        """Who has a socket; no process's name if it is nobody that is excluded."""
        pid, _, excluded = self._search.find(found, cgroup, deadline)
        maker = None if pid else self._handover.maker(found, cgroup, destination)
        if maker is not None:
            pid, _, excluded = self._search.findHolder(found.inode, deadline)
            # It is on its way where nobody has it.
            excluded = excluded if pid else maker
        if excluded is None:
            # What the libraries in us do is not marked, and goes where others' does.
            return Owner(0 if pid == self._ownPid() else pid, found.uid, cgroup=cgroup)
        process = excluded.process
        path = cgroup or process.cgroup
        return Owner(process.pid, found.uid, process.name, process.path, path, excluded.text)

    def _lookAround(self) -> None:
        """See who is new, and who listens, before there is a flow that waits for it."""
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

    def _checkProxies(self, deadline: float) -> None:
        """Notice a proxy that was started, or started again, since the last scan."""
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

    def _startOf(self, pid: int) -> int | None:
        stat = self._processes.stat(pid)
        return None if stat is None else stat.started

    def _swap(self, table: Table, listeners: frozenset[int]) -> None:
        self._search.reset(table)
        self._handover.reset(table)
        # Who listens since the scan began is still to be found.
        self._listeners = listeners
