"""
L{IOwners}: the table of excluded processes, made anew now and then, and one question
to the kernel for each flow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.addresses import SOCKET_MARK
from nanotun.errors import ConfigError
from nanotun.flow import Endpoint, Flow, Owner
from nanotun.interfaces import IOwners, IPart
from nanotun.owners.allowance import Allowance
from nanotun.owners.descriptors import OutOfTime
from nanotun.owners.localproxy import LocalProxies
from nanotun.owners.matching import Matcher
from nanotun.owners.passing import Passing
from nanotun.owners.scanner import Scanner, ScanStopped
from nanotun.owners.search import Search
from nanotun.owners.system import ICgroups, IProcesses, ISockets
from nanotun.owners.values import EMPTY, FlowSocket, Table
from nanotun.trouble import TroubleLog

#: Seconds between the starts of two scans that are not due yet.
EARLY_INTERVAL = 1.0

#: Seconds between two looks at processes that were started meanwhile, so that few are left
#: to look at when a flow comes.
NEWCOMERS_INTERVAL = 0.5

#: Seconds between two short looks at who listens on the proxy's address: two questions
#: of the six microseconds that one takes.
LISTENER_INTERVAL = 0.01

#: What to do where a proxy's own flows cannot be told from others in time.
BREEDS = (
    "The proxy on this machine hands connections on among its processes faster than it can be "
    "found out whose they are, so that they come back, and some are refused; run it as a service "
    "(a cgroup of its own), or exclude it with uid:USER or unit:NAME."
)


@implementer(IOwners, IPart)
class Owners:
    """
    @ivar misses: see L{IOwners}.
    @ivar table: the last scan's; never changed, but replaced.
    @param proxies: those that may run here.
    @param refresh: seconds between two scans.
    @param inThread: calls a function on another thread; L{deferToThreadPool}.
    @param spent: see L{Allowance}.
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
        scanner: Scanner,
        search: Search,
        proxies: LocalProxies,
        refresh: float,
        clock: IReactorTime,
        inThread: Callable[[Callable[[], Any]], Deferred[Any]],
        ownPid: Callable[[], int],
        spent: Callable[[], float],
    ) -> None:
        self.misses = 0
        self.table = EMPTY
        self._processes = processes
        self._sockets = sockets
        self._cgroups = cgroups
        self._matcher = matcher
        self._scanner = scanner
        self._search = search
        self._proxies = proxies
        self._refresh = refresh
        self._clock = clock
        self._inThread = inThread
        self._ownPid = ownPid
        self._trouble = TroubleLog(clock, self._log)
        self._allowance = Allowance(clock.seconds, spent)
        self._passing = Passing(clock.seconds)
        self._listeners: frozenset[int] = frozenset()
        self._listenersAsked = self._scanBegan = -EARLY_INTERVAL
        self._scanning = self._learning = self._stopped = False
        self._loop = LoopingCall(self._scan)
        self._newcomersLoop = LoopingCall(self._lookAtNewcomers)
        self._loop.clock = self._newcomersLoop.clock = clock
        self._soon: IDelayedCall | None = None

    def start(self) -> None:
        """See L{IPart.start}."""
        if self._matcher.byCgroups and not self._cgroups.mount:
            raise ConfigError(
                "excludedProcesses names a cgroup or a unit, but this machine has no cgroups of "
                "version 2; name processes or users instead."
            )
        try:
            self._sockets.start()
            self._proxies.readAddresses()
            listeners = self._proxies.listeners()
            for text in self._matcher.bindPids(self._startOf):
                self._log.warn("excludedProcesses: there is no process {text}", text=text)
            self._scanBegan = self._clock.seconds()
            self._swap(self._scanner.scan(EMPTY, listeners), listeners)
        except OSError as error:
            self._sockets.close()
            raise ConfigError(
                f"It cannot be found out here whose connections are whose ({error}): netlink's "
                "sock_diag and /proc are needed for excludedProcesses, and for a proxy on this "
                "machine."
            ) from None
        self._loop.start(self._refresh, now=False)
        self._newcomersLoop.start(NEWCOMERS_INTERVAL, now=False)

    def stop(self) -> None:
        """See L{IPart.stop}.  A scan that is under way ends soon, and is not waited for."""
        self._stopped = True
        self._scanner.stop()
        self._loop.stop()
        self._newcomersLoop.stop()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        self._sockets.close()
        self._trouble.stop()

    def ownerOf(self, flow: Flow) -> Owner | None:
        """See L{IOwners.ownerOf}."""
        owner = None
        try:
            owner = self._find(flow)
        except OutOfTime:
            self._scanSoon()
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
        deadline = self._allowance.begin()
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
            self._allowance.end()

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
            self._learnHolder(found.inode)
            if self._passing.breeds(found, cgroup, destination):
                self._trouble.report(BREEDS)
                return Owner(self._ownPid(), found.uid, cgroup=cgroup)
            raise
        finally:
            if self._search.overflowed:
                self._scanSoon()
        if not owner.pid and self._allowance.isLong():
            self._learnHolder(found.inode)
        if not owner.excluded:
            self._passing.asked(destination)
        return owner

    def _holder(
        self, found: FlowSocket, cgroup: str, destination: Endpoint, deadline: float
    ) -> Owner:
        """Who has a socket; no process's name if it is nobody that is excluded."""
        pid, _, excluded = self._search.find(found, cgroup, deadline)
        maker = None if pid else self._passing.maker(found, cgroup, destination)
        if maker is not None:
            pid, _, excluded = self._search.findHolder(found.inode, deadline)
            # It is on its way where nobody has it.
            excluded = excluded if pid else maker
        if excluded is None:
            return Owner(pid, found.uid, cgroup=cgroup)
        process = excluded.process
        path = cgroup or process.cgroup
        return Owner(process.pid, found.uid, process.name, process.path, path, excluded.text)

    def _learnHolder(self, inode: int) -> None:
        """
        Find on the thread who has a socket, which took long in vain: the next one of
        that process is found at once.
        """
        if self._learning or self._stopped:
            return
        self._learning = True
        learned = self._inThread(lambda: self._scanner.holder(inode))
        learned.addBoth(self._learned)

    def _learned(self, result: int | Failure) -> None:
        self._learning = False
        if isinstance(result, Failure):
            if not result.check(OSError, ScanStopped):
                self._scanBroke(result)
        elif result:
            self._search.note(result)

    def _lookAtNewcomers(self) -> None:
        """Have a look at new processes before there is a flow that waits for it."""
        if not self._matcher.byProcesses and not self._proxies.any:
            return
        deadline = self._allowance.begin()
        try:
            self._search.prepare(deadline)
        except OSError as error:
            self._trouble.report(f"New processes cannot be looked at: {error.strerror}.")
        finally:
            self._allowance.end()

    def _checkProxies(self, deadline: float) -> None:
        """Notice a proxy that was started, or started again, since the last scan."""
        now = self._clock.seconds()
        if 0 <= now - self._listenersAsked < LISTENER_INTERVAL:
            return
        self._listenersAsked = now
        new = self._proxies.glance() - self._listeners
        if new:
            self._scanSoon()
            self._search.adoptProxies(new, deadline)
            self._listeners |= new

    def _startOf(self, pid: int) -> int | None:
        glance = self._processes.glance(pid)
        return None if glance is None else glance.started

    def _scanSoon(self) -> None:
        if self._soon is None and not self._stopped:
            wait = max(0.0, self._scanBegan + EARLY_INTERVAL - self._clock.seconds())
            self._soon = self._clock.callLater(min(wait, EARLY_INTERVAL), self._scanNow)

    def _scanNow(self) -> None:
        self._soon = None
        if self._scanning:
            # That one may have begun before what this one is for.
            self._scanSoon()
        else:
            self._scan()

    def _scan(self) -> Deferred[None] | None:
        """One scan; what it returns never fails."""
        if self._scanning:
            return None
        self._scanning = True
        self._scanBegan = self._clock.seconds()
        scan: Deferred[Any] = maybeDeferred(self._beginScan)
        scan.addErrback(self._scanFailed)
        scan.addErrback(self._scanBroke)
        return scan

    def _beginScan(self) -> Deferred[None]:
        self._proxies.readAddresses()
        listeners = self._proxies.listeners()
        table = self.table
        scan = self._inThread(lambda: self._scanner.scan(table, listeners))
        return scan.addCallback(self._swap, listeners)

    def _swap(self, table: Table, listeners: frozenset[int]) -> None:
        self._scanning = False
        if not self._stopped:
            self._search.reset(table)
            self._passing.reset(table)
            # Who listens since the scan began is still to be found.
            self._listeners = listeners
            self.table = table

    def _scanFailed(self, reason: Failure) -> None:
        self._scanning = False
        error = reason.trap(OSError, ScanStopped)
        if error is OSError:
            self._trouble.report(
                f"The processes cannot be looked at ({reason.value}); the last table of excluded "
                "ones stays in use."
            )

    def _scanBroke(self, reason: Failure) -> None:
        self._log.failure("A scan of the processes failed by a mistake of ours", failure=reason)
