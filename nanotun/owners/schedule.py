"""
When processes are scanned: periodically, on a thread, and earlier if a flow shows that
something has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.log.trouble import TroubleLog
from nanotun.owners.localproxy import LocalProxies
from nanotun.owners.scanner import Places, Scanner, ScanStopped
from nanotun.owners.values import EMPTY, Table
from nanotun.timer import Timer

#: Seconds that have to pass between the starts of two scans.
EARLY_INTERVAL = 1.0

#: Calls a function on another thread, like C{deferToThread}.
InThread = Callable[[Callable[[], Any]], Deferred[Any]]

#: Called with each new table, and with the inodes of the sockets that listened on the
#: proxy's address when its scan began.
Swapped = Callable[[Table, frozenset[int]], object]

#: Called with what a sweep found; with L{None} if it failed.
Swept = Callable[[Places | None], object]


class ScanSchedule:
    """
    Scans, and holds the result.

    @ivar table: the last scan's table; never modified, only replaced.
    @param refresh: seconds between two scans.
    """

    _log = Logger()

    def __init__(
        self,
        scanner: Scanner,
        proxies: LocalProxies,
        refresh: float,
        clock: IReactorTime,
        inThread: InThread,
        trouble: TroubleLog,
    ) -> None:
        self.table = EMPTY
        self._swapped: Swapped = lambda table, listeners: None
        self._scanner = scanner
        self._proxies = proxies
        self._refresh = refresh
        self._clock = clock
        self._inThread = inThread
        self._trouble = trouble
        self._began = -EARLY_INTERVAL
        self._scanning = self._sweeping = self._stopped = self._again = False
        self._soon = Timer(clock, self._scanNow)
        self._loop = LoopingCall(self._scan)
        self._loop.clock = clock

    def start(self, swapped: Swapped) -> None:
        """
        Do the first scan at once, and begin with the others.

        @param swapped: called with this scan's table, and with each later one.
        @raise OSError: /proc cannot be read, or the kernel cannot be asked.
        """
        self._swapped = swapped
        self._proxies.readAddresses()
        listeners = self._proxies.listeners()
        self._began = self._clock.seconds()
        self._swap(self._scanner.scan(EMPTY, listeners), listeners)
        self._loop.start(self._refresh, now=False)

    def stop(self) -> None:
        """Stop, without waiting for the end of a scan that is under way."""
        self._stopped = True
        self._scanner.stop()
        self._loop.stop()
        self._soon.cancel()

    def soon(self) -> None:
        """Scan as soon as L{EARLY_INTERVAL} allows."""
        if not self._soon.active and not self._stopped:
            wait = max(0.0, self._began + EARLY_INTERVAL - self._clock.seconds())
            self._soon.start(min(wait, EARLY_INTERVAL))

    def sweep(
        self, inodes: Collection[int], suspects: Collection[int] | None, swept: Swept
    ) -> bool:
        """
        Find on the thread which processes have some sockets: see L{Scanner.holders}.

        @param swept: called with the result, unless all is stopped.
        @return: whether it was begun: not while another sweep is under way.
        """
        if self._sweeping or self._stopped:
            return False
        self._sweeping = True
        sweep = self._inThread(lambda: self._scanner.holders(inodes, suspects))
        sweep.addBoth(self._ended, swept)
        sweep.addErrback(self._broke)
        return True

    def _ended(self, result: Places | Failure, swept: Swept) -> None:
        self._sweeping = False
        if isinstance(result, Failure) and not result.check(OSError, ScanStopped):
            self._broke(result)
        if not self._stopped:
            swept(None if isinstance(result, Failure) else result)

    def _scanNow(self) -> None:
        if self._scanning:
            # The scan under way may have begun before the change that this one is for.
            self._again = True
        else:
            self._scan()

    def _scan(self) -> Deferred[None] | None:
        """Scan once; the result never fails."""
        if self._scanning:
            return None
        self._scanning = True
        self._began = self._clock.seconds()
        scan: Deferred[Any] = maybeDeferred(self._begin)
        scan.addErrback(self._failed)
        scan.addErrback(self._broke)
        return scan

    def _begin(self) -> Deferred[None]:
        self._proxies.readAddresses()
        listeners = self._proxies.listeners()
        table = self.table
        scan = self._inThread(lambda: self._scanner.scan(table, listeners))
        return scan.addCallback(self._swap, listeners)

    def _swap(self, table: Table, listeners: frozenset[int]) -> None:
        self._scanned()
        if not self._stopped:
            self.table = table
            self._swapped(table, listeners)

    def _scanned(self) -> None:
        self._scanning = False
        if self._again:
            self._again = False
            self.soon()

    def _failed(self, reason: Failure) -> None:
        self._scanned()
        error = reason.trap(OSError, ScanStopped)
        if error is OSError and not self._stopped:
            self._trouble.report(
                f"The processes cannot be looked at ({reason.value}); the last table of them stays "
                "in use."
            )

    def _broke(self, reason: Failure) -> None:
        self._log.failure("A scan of the processes failed: internal error", failure=reason)
