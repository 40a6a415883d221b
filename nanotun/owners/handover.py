"""
Sockets on their way from one process of a proxy to another.

Dante's children open connections and hand them on while they are still connecting
(unix(7), SCM_RIGHTS).  In between no process has the socket, and a search finds nobody.
Such a flow must not go to the proxy, which would ask for it once more, and so on.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from nanotun.flow import Endpoint
from nanotun.owners.values import Excluded, FlowSocket, Table
from nanotun.policy.rules import LOCAL_PROXY

#: Seconds in which a proxy connects to what it was asked for, or gives up.
ASKED_TIME = 30.0

#: Flows to one destination whose owner was not found, within L{LOOP_TIME} seconds, from
#: which on one is taken for the proxy's that comes back again and again.
LOOP_COUNT = 8
LOOP_TIME = 1.0

#: Destinations that are remembered; the oldest are forgotten first.
ASKED_LIMIT = 4096


class Handover:
    """
    Knows which flows may be such.

    @param seconds: the clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._asked: OrderedDict[Endpoint, float] = OrderedDict()
        self._unknown: OrderedDict[Endpoint, deque[float]] = OrderedDict()
        self._proxyProcesses: tuple[Excluded, ...] = ()

    def reset(self, table: Table) -> None:
        """Begin anew after a scan."""
        crowd = [each for each in table.excluded.values() if each.text == LOCAL_PROXY]
        # It takes two to hand something on.
        self._proxyProcesses = tuple(crowd) if len(crowd) > 1 else ()

    def asked(self, destination: Endpoint) -> None:
        """The proxy is going to be asked for this."""
        if self._proxyProcesses:
            self._asked[destination] = self._seconds()
            self._asked.move_to_end(destination)
            if len(self._asked) > ASKED_LIMIT:
                self._asked.popitem(last=False)

    def maker(self, found: FlowSocket, cgroup: str, destination: Endpoint) -> Excluded | None:
        """
        The process of the proxy that can have made a socket, if the proxy was asked
        for its destination not long ago.

        @param cgroup: the path of the socket's cgroup; empty if it is not known.
        """
        asked = self._asked.get(destination)
        if asked is None or self._seconds() - asked > ASKED_TIME:
            return None
        for excluded in self._proxyProcesses:
            process = excluded.process
            if cgroup in ("", process.cgroup) and (found.uid in process.uids or 0 in process.uids):
                return excluded
        return None

    def loops(self, found: FlowSocket, cgroup: str, destination: Endpoint) -> bool:
        """
        Whether a flow, whose owner could not be found in time, is one too many to its
        destination.  If not the proxy is going to be asked for it.
        """
        now = self._seconds()
        times = self._unknown.setdefault(destination, deque(maxlen=LOOP_COUNT))
        self._unknown.move_to_end(destination)
        if len(self._unknown) > ASKED_LIMIT:
            self._unknown.popitem(last=False)
        many = len(times) == LOOP_COUNT and now - times[0] < LOOP_TIME
        if many and self.maker(found, cgroup, destination) is not None:
            return True
        times.append(now)
        self.asked(destination)
        return False
