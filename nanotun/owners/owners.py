"""
Provides L{IOwners}: from a table of excluded processes, which is replaced now and then,
and one question to the kernel for each flow.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from nanotun.errors import ConfigError
from nanotun.flow import Flow, Owner
from nanotun.interfaces import IOwners, IPart
from nanotun.log.trouble import TroubleLog
from nanotun.owners.descriptors import OutOfTime
from nanotun.owners.established import Established
from nanotun.owners.hops import NextHops
from nanotun.owners.interfaces import ICgroups, IProcesses, ISockets
from nanotun.owners.lookup import OwnerLookup
from nanotun.owners.matching import Matcher
from nanotun.owners.options import OwnerOptions
from nanotun.owners.schedule import ScanSchedule
from nanotun.owners.values import Table
from nanotun.owners.waiting import WaitingFlows

#: Seconds between two searches for new processes, so that little is left to examine when a
#: flow begins.
LOOK_INTERVAL = 0.5


@implementer(IOwners, IPart)
class Owners:
    """
    @ivar lookups: how many flows' owners were asked for.
    @ivar misses: see L{IOwners}.
    @ivar options: what they are made of.
    @ivar established: keeps connections that are older than the daemon.
    @ivar hops: where a proxy on this machine passes connections on to.
    @param schedule: not started.
    @param trouble: stopped by L{stop}.
    @param spent: see L{nanotun.owners.budget.LookupBudget}.
    @param ownPid: os.getpid: twistd forks after this is made and before it is started.
    """

    _log = Logger()

    name = "the process table"

    def __init__(
        self,
        processes: IProcesses,
        sockets: ISockets,
        cgroups: ICgroups,
        matcher: Matcher,
        lookup: OwnerLookup,
        hops: NextHops,
        schedule: ScanSchedule,
        trouble: TroubleLog,
        clock: IReactorTime,
        spent: Callable[[], float],
        ownPid: Callable[[], int],
        established: Established,
        options: OwnerOptions,
    ) -> None:
        self.lookups = 0
        self.misses = 0
        self.options = options
        self.established = established
        self._processes = processes
        self._sockets = sockets
        self._cgroups = cgroups
        self._matcher = matcher
        self._lookup = lookup
        self.hops = hops
        self._schedule = schedule
        self._trouble = trouble
        self._ownPid = ownPid
        self._waiting = WaitingFlows(
            self._attempt, clock, spent, lambda: lookup.mayGuess, lookup.sweep
        )
        self._loop = LoopingCall(lookup.prepare)
        self._loop.clock = clock

    @property
    def waiting(self) -> int:
        """How many flows wait for their owner."""
        return len(self._waiting)

    @property
    def table(self) -> Table:
        """The last scan's table."""
        return self._schedule.table

    def start(self) -> None:
        """See L{IPart.start}."""
        matcher = self._matcher
        if matcher.byCgroups and not self._cgroups.mount:
            what = "A rule" if matcher.seeksCgroups else "excludedProcesses"
            raise ConfigError(
                f"{what} names a cgroup or a unit, but this machine has no cgroups of version 2; "
                "name processes or users instead."
            )
        try:
            self._sockets.start()
            for notice in matcher.bindPids(self._startOf):
                self._log.warn("{notice}", notice=notice)
            self._schedule.start(self._lookup.swap)
            self.hops.start()
        except OSError as error:
            self._sockets.close()
            raise ConfigError(
                f"It cannot be found out here whose connections are whose ({error}): netlink's "
                "sock_diag and /proc are needed where processes are excluded, where rules or a "
                "script ask for them, and for a proxy on this machine."
            ) from None
        self._loop.start(LOOK_INTERVAL, now=False)

    def stop(self) -> None:
        """See L{IPart.stop}.  Does not wait for the end of a scan that is under way."""
        self._loop.stop()
        # Before the last attempts, which would ask it for more.
        self._schedule.stop()
        self.hops.stop()
        self._waiting.stop()
        self._sockets.close()
        self._trouble.stop()

    def handOver(self, successor: Owners | None) -> None:
        """
        Leave everything to the owners of another configuration: nothing is decided by a guess
        because of a reload.

        @param successor: started; L{None} if no rule is about processes any more.
        """
        self.established.handOver(None if successor is None else successor.established)
        self._waiting.handOver((lambda flow: None) if successor is None else successor.ownerOf)

    def ownerOf(self, flow: Flow) -> Owner | Deferred[Owner | None] | None:
        """See L{IOwners.ownerOf}."""
        self.lookups += 1
        try:
            return self._attempt(flow, last=self._waiting.full)
        except OutOfTime as late:
            return self._waiting.add(flow, late.inode)

    def _attempt(self, flow: Flow, last: bool) -> Owner | None:
        """
        Look up an owner, and count a miss.

        @raise OutOfTime: there was not enough time, and this was not the C{last} attempt.
        """
        owner = None
        try:
            # If others wait, there will be a sweep anyway, which costs less for all together.
            owner = self._lookup.find(flow, brief=self.waiting > 0)
        except OutOfTime:
            self._schedule.soon()
            if not last:
                raise
            self.misses += 1
            return self._guess(flow)
        except OSError as error:
            self._trouble.report(f"The owners of flows cannot be found: {error.strerror}.")
            if not last and not self._lookup.mayGuess:
                raise OutOfTime from None
        except Exception:
            self._log.failure("The owner of {flow} was not found: internal error", flow=flow)
        if owner is None:
            self.misses += 1
        return owner

    def _guess(self, flow: Flow) -> Owner | None:
        try:
            return self._lookup.guess(flow)
        except OSError:
            return None

    def _startOf(self, pid: int) -> int | None:
        stat = self._processes.stat(pid)
        return None if stat is None else stat.started
