"""
Where a proxy on this machine passes connections on to without being asked: to a proxy in a
container.  The container's own connections come by this machine as well, and must not go to
the proxy again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Container
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from nanotun.flow import Endpoint, Flow, Owner
from nanotun.owners.descriptors import OutOfTime
from nanotun.owners.localproxy import LocalProxies
from nanotun.policy.rules import LOCAL_PROXY

#: Seconds between two looks without a new listener: each opens some connections to the
#: proxy.
LOOK_INTERVAL = 5.0

#: Seconds for which the start, or a reload, may be held up by proxies on this machine: each
#: takes a third of a second at most.
START_LIMIT = 0.5

#: Hosts that are remembered as no proxies.
CLEARED_LIMIT = 1024

#: What was found out about each endpoint; see L{nanotun.owners.probing.Prober.probe}.
Results = dict[Endpoint, str | None]


class NextHops:
    """
    Looks for next hops when something new listens at a proxy's address, now and then while
    there is one, and when an unknown host sends by way of this machine.

    @ivar hops: their addresses.
    @param probe: see L{nanotun.owners.probing.Prober.probe}.
    @param originalOf: see L{nanotun.linux.conntrack.originalOf}.
    @param relatives: see L{nanotun.linux.neighbours.Relatives.of}.
    @param isOwn: whether a literal address is one of this machine's.
    @param inThread: calls a function on another thread, like C{deferToThread}.
    """

    _log = Logger()

    def __init__(
        self,
        proxies: LocalProxies,
        probe: Callable[[Endpoint, frozenset[int]], str | None],
        originalOf: Callable[[Flow], Flow | None],
        relatives: Callable[[Collection[str]], Container[str]],
        isOwn: Callable[[str], bool],
        clock: IReactorTime,
        inThread: Callable[[Callable[[], Any]], Deferred[Any]],
    ) -> None:
        self.hops: frozenset[str] = frozenset()
        self._changed: Callable[[frozenset[str]], object] = lambda hops: None
        self._proxies = proxies
        self._probe = probe
        self._originalOf = originalOf
        self._relatives = relatives
        self._isOwn = isOwn
        self._clock = clock
        self._inThread = inThread
        self._found: dict[Endpoint, str] = {}
        self._searching = self._again = self._stopped = self._started = False
        self._began = -LOOK_INTERVAL
        self._known = False
        self._cleared: set[str] = set()
        self._listeners: frozenset[int] | None = None
        # Those with which the last look began.
        self._probed: frozenset[int] | None = None
        self._pids: frozenset[int] = frozenset()

    def start(self) -> None:
        """
        Look now: a connection that begins in the tunnel breaks if its sender turns out to be a
        proxy later.  What takes longer than L{START_LIMIT} is left to a thread.
        """
        self._started = True
        self._began = self._clock.seconds()
        endpoints = self._proxies.endpoints
        try:
            results = self._probeAll(endpoints, self._pids, self._began + START_LIMIT)
            self._looked(results, self._listeners)
            if len(results) < len(endpoints):
                self.look()
        except Exception:
            self._failed(Failure())

    def follow(self, changed: Callable[[frozenset[str]], object]) -> None:
        """
        Tell somebody else from now on.

        @param changed: called with L{hops} as soon as they are known, and after each look
            that has changed them.
        """
        self._changed = changed
        if self._known:
            changed(self.hops)

    def notice(self, listeners: frozenset[int], pids: frozenset[int]) -> None:
        """
        Look again if there is a reason; before L{start}, only take note.

        @param listeners: the inodes of the sockets that listen at the proxies' addresses.
        @param pids: the processes that have them.
        """
        if listeners and not pids:
            # The next scan finds the processes.
            return
        unsure = self.hops or not listeners or pids != self._pids
        if listeners != self._listeners or (unsure and self._isDue):
            if listeners != self._listeners:
                self._cleared.clear()
            self._pids = pids
            self._listeners = listeners
            if self._started:
                self.look()

    def look(self) -> None:
        """Look in a thread; once more afterwards if that is under way already."""
        endpoints = self._proxies.endpoints
        if self._stopped or self._searching:
            self._again = not self._stopped
        elif not endpoints:
            self._looked({}, self._listeners)
        else:
            self._searching = True
            self._again = False
            self._began = self._clock.seconds()
            pids = self._pids
            looked = self._inThread(lambda: self._probeAll(endpoints, pids))
            looked.addCallback(self._looked, self._listeners)
            looked.addErrback(self._failed)

    def stop(self) -> None:
        """Look no more.  Does not wait for the end of a look that is under way."""
        self._stopped = True

    def ownerOf(self, flow: Flow) -> Owner | None:
        """
        The proxy, if a flow without a socket on this machine is one of its own: the firewall
        may have given a container's flow this machine's address.

        @raise OutOfTime: it is not known yet.
        """
        foreign = self._proxies.foreign
        if not self._proxies.endpoints and not foreign:
            return None
        original = self._originalOf(flow)
        if original is None or self._isOwn(original.source.host):
            return None
        host = original.source.host
        known = self.hops | foreign
        if host in known or host in self._relatives(known):
            return Owner(0, 0, host, excluded=LOCAL_PROXY)
        if host in self._cleared or self._stopped:
            return None
        if self._proxies.endpoints and self._isDue:
            # The container may have been started anew, with another address.
            self.look()
        if self._searching:
            raise OutOfTime
        if len(self._cleared) >= CLEARED_LIMIT:
            self._cleared.clear()
        self._cleared.add(host)
        return None

    def _probeAll(
        self, endpoints: tuple[Endpoint, ...], pids: frozenset[int], until: float = math.inf
    ) -> Results:
        results: Results = {}
        for endpoint in endpoints:
            if self._stopped or self._clock.seconds() > until:
                break
            results[endpoint] = self._probe(endpoint, pids)
        return results

    @property
    def _isDue(self) -> bool:
        return not 0 <= self._clock.seconds() - self._began < LOOK_INTERVAL

    def _looked(self, results: Results, listeners: frozenset[int] | None) -> None:
        self._searching = False
        if self._stopped:
            return
        before = self._found
        # Where it is not clear, the last answer stays.  The same socket does not become a
        # proxy's: then a helper is just too busy to connect in time.
        same = bool(listeners) and listeners == self._probed
        self._probed = listeners
        found = {
            endpoint: before.get(endpoint, "") if host is None or (same and not host) else host
            for endpoint, host in results.items()
        }
        self._found = {endpoint: host for endpoint, host in found.items() if host}
        for endpoint, host in self._found.items():
            if before.get(endpoint) != host:
                self._log.info(
                    "The proxy at {endpoint} passes connections on to {host}, whose own "
                    "connections go past the tunnel.",
                    endpoint=endpoint,
                    host=host,
                )
        hops = frozenset(self._found.values())
        if self._found != before:
            self._cleared.clear()
        if hops != self.hops or not self._known:
            self.hops = hops
            self._known = True
            self._changed(hops)
        if self._again:
            self.look()

    def _failed(self, reason: Failure) -> None:
        self._searching = False
        # Look again at the next occasion.
        self._listeners = None
        if not reason.check(OSError):
            self._log.failure("Looking for next hops failed: internal error", failure=reason)
        if self._again:
            self.look()
