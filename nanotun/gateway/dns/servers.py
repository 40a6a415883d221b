"""
Which server to ask first.

In the order of the configuration, but a server that was silent L{FAILURES}
times in a row goes to the back.  About every L{BENCH} seconds one query tries it
first, not all: they would pile up if it is still silent.  An answer makes it
whole.  If all are at the back the order is the configuration's.
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
        self._answered: dict[Endpoint, float] = {}
        self._until: dict[Endpoint, float] = {}
        self._order = self._servers

    def order(self, now: float) -> tuple[Endpoint, ...]:
        """All servers, the one to ask first at the front; called for each query."""
        for server, until in self._until.items():
            if until <= now:
                self._until[server] = self._trial(now)
                return (server, *(each for each in self._order if each != server))
        return self._order

    def failed(self, server: Endpoint, now: float, asked: float) -> bool:
        """
        It did not answer.  That says nothing if it has answered another query since
        it was asked: it was away and is back.

        @param asked: when.
        @return: whether it goes to the back with this.
        """
        if asked < self._answered.get(server, asked):
            return False
        self._failures[server] += 1
        if self._failures[server] < FAILURES or server in self._until:
            return False
        self._until[server] = self._trial(now)
        self._sort()
        return True

    def answered(self, server: Endpoint, now: float) -> bool:
        """
        It answered.

        @return: whether it was at the back until now.
        """
        self._answered[server] = now
        self._failures[server] = 0
        if server not in self._until:
            return False
        del self._until[server]
        self._sort()
        return True

    def _trial(self, now: float) -> float:
        return now + BENCH * (0.75 + self._random() / 2)

    def _sort(self) -> None:
        self._order = tuple(sorted(self._servers, key=self._until.__contains__))
