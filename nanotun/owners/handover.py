"""
Sockets that one process of a proxy hands over to another.

Dante's children open connections and hand them over while they are still connecting
(unix(7), SCM_RIGHTS).  In between no process has the socket, and a search finds nobody.
Such a flow must not go to the proxy, which would open it again, in an endless loop.  It is
the proxy's if the proxy was asked for its destination; otherwise all processes are searched
again, because a connection is on its way for a moment only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from nanotun.flow import Endpoint
from nanotun.owners.values import Excluded, FlowSocket, Table
from nanotun.policy.rules import LOCAL_PROXY

#: Seconds in which a proxy connects to a destination that it was asked for, or gives up.
ASKED_TIME = 30.0

#: So many sweeps have to meet a socket nowhere before it is said to be none of the proxy's,
#: which was not asked for its destination.
HANDOVER_TRIES = 3

#: Destinations that are remembered; the oldest are forgotten first.
ASKED_LIMIT = 4096


class Handover:
    """
    Knows which flows may belong to a socket that is being handed over.

    @param seconds: the clock.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._asked: OrderedDict[Endpoint, float] = OrderedDict()
        self._proxyProcesses: tuple[Excluded, ...] = ()

    def reset(self, table: Table) -> None:
        """Begin anew after a scan."""
        processes = [each for each in table.excluded.values() if each.text == LOCAL_PROXY]
        # It takes two processes to hand a socket over.
        self._proxyProcesses = tuple(processes) if len(processes) > 1 else ()

    def asked(self, destination: Endpoint) -> None:
        """Note that the proxy is about to be asked for a destination."""
        if self._proxyProcesses:
            self._asked[destination] = self._seconds()
            self._asked.move_to_end(destination)
            if len(self._asked) > ASKED_LIMIT:
                self._asked.popitem(last=False)

    def maker(self, found: FlowSocket, cgroup: str, destination: Endpoint) -> Excluded | None:
        """
        The process of the proxy that may have made a socket, if the proxy was asked for
        the destination within L{ASKED_TIME}.

        @param cgroup: the path of the socket's cgroup; empty if it is unknown.
        """
        asked = self._asked.get(destination)
        if asked is None or self._seconds() - asked > ASKED_TIME:
            return None
        return self._suspect(found, cgroup)

    def mayHave(self, found: FlowSocket, cgroup: str) -> bool:
        """Whether a socket that no process has may be on its way between the proxy's processes."""
        return self._suspect(found, cgroup) is not None

    def _suspect(self, found: FlowSocket, cgroup: str) -> Excluded | None:
        for excluded in self._proxyProcesses:
            process = excluded.process
            if cgroup in ("", process.cgroup) and (found.uid in process.uids or 0 in process.uids):
                return excluded
        return None

    @property
    def possible(self) -> bool:
        """Whether the proxy has more than one process."""
        return bool(self._proxyProcesses)
