"""
Which server to ask first.

In the order of the configuration, but a server that was silent L{FAILURES}
times in a row goes to the back for about L{BENCH} seconds.  After that one more
silence sends it back again; an answer makes it whole.  If all are at the back
the order is the configuration's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nanotun.flow import Endpoint

#: A lost datagram, or one slow name, is no sign of a dead server.
FAILURES = 3

#: Seconds, up to a quarter more or less, so that several do not come back at once.
BENCH = 30.0


class Servers:
    """
    The servers and how they do.

    @param random: gives numbers from 0 to 1.
    """

    def __init__(self, servers: Sequence[Endpoint], random: Callable[[], float]) -> None:
        self._servers = tuple(servers)
        self._random = random
        self._failures = dict.fromkeys(self._servers, 0)
        self._until: dict[Endpoint, float] = {}
        self._order = self._servers

    def order(self, now: float) -> tuple[Endpoint, ...]:
        """All servers, the one to ask first at the front."""
        if self._until and min(self._until.values()) <= now:
            for server in [each for each, until in self._until.items() if until <= now]:
                del self._until[server]
            self._sort()
        return self._order

    def failed(self, server: Endpoint, now: float) -> bool:
        """
        It did not answer.

        @return: whether it goes to the back with this.
        """
        self._failures[server] += 1
        if self._failures[server] < FAILURES or server in self._until:
            return False
        self._until[server] = now + BENCH * (0.75 + self._random() / 2)
        self._sort()
        return True

    def answered(self, server: Endpoint) -> bool:
        """
        It answered.

        @return: whether it was at the back until now, or was about to be again.
        """
        if not self._failures[server]:
            return False
        known = self._failures[server] >= FAILURES
        self._failures[server] = 0
        if self._until.pop(server, None) is not None:
            self._sort()
        return known

    def _sort(self) -> None:
        self._order = tuple(sorted(self._servers, key=self._until.__contains__))
