"""
Notices who begins to listen at the address of a proxy on this machine, between two scans.
"""

from __future__ import annotations

from collections.abc import Callable

from nanotun.owners.hops import NextHops
from nanotun.owners.localproxy import LocalProxies
from nanotun.owners.schedule import ScanSchedule
from nanotun.owners.search import Search

#: Seconds between two samples of the sockets that listen at the proxy's address: two
#: questions of six microseconds each.
LISTENER_INTERVAL = 0.01

#: The same for unix sockets, of which the kernel has a list only.
UNIX_INTERVAL = 0.1


class Listening:
    """
    Knows the sockets at the proxies' addresses, and finds the processes that have new ones.

    @param hops: are told of every change.
    @param schedule: is asked for a scan at every change.
    @param seconds: the clock.
    """

    def __init__(
        self,
        proxies: LocalProxies,
        search: Search,
        hops: NextHops,
        schedule: ScanSchedule,
        seconds: Callable[[], float],
    ) -> None:
        self._proxies = proxies
        self._search = search
        self._hops = hops
        self._schedule = schedule
        self._seconds = seconds
        self._listeners: frozenset[int] = frozenset()
        # Of these nobody knows whose they are.
        self._sought: frozenset[int] = frozenset()
        self._listenersAsked = -LISTENER_INTERVAL
        self._pathsAsked = -UNIX_INTERVAL

    @property
    def unclear(self) -> bool:
        """Whether some have a socket there of which nobody knows whose it is."""
        return bool(self._sought)

    def prepare(self, deadline: float) -> None:
        """
        Find the processes of new proxies before a flow has to wait for that.

        @raise OutOfTime, OSError: see L{check}.
        """
        listeners = self._proxies.listeners()
        self._sought &= listeners
        self._listeners &= listeners
        self._adopt(listeners, deadline)

    def swap(self, listeners: frozenset[int]) -> None:
        """
        Go on after a scan.

        @param listeners: see L{nanotun.owners.schedule.Swapped}.
        """
        # Proxies that listen since the scan began are still to be found.  If the scan has not
        # found who listens, it cannot be seen here, and waiting would not help.
        self._listeners = listeners
        self._sought -= listeners
        self._hops.notice(listeners, self._search.proxyPids())

    def check(self, deadline: float) -> None:
        """
        Notice a proxy that was started or restarted since the last scan.

        @raise OutOfTime: the deadline passed.
        @raise OSError: /proc cannot be read, or the kernel cannot be asked.
        """
        now = self._seconds()
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
