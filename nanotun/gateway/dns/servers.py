"""
Decides which server to ask first.

Servers are asked in the order of the configuration, but one that was silent L{FAILURES} times
in a row is moved to the back.  About every L{BENCH} seconds a single query asks it first;
more would pile up if it is still silent.  Its next answer moves it to its old place.  If all
servers are at the back, the order is that of the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nanotun.interfaces import DnsServer

#: Failures in a row: one lost datagram, or one slow name, is no sign of a dead server.
FAILURES = 3

#: Seconds between two trials of a server at the back, up to a quarter more or less, so that
#: several servers are not tried at once.  The interval does not grow, because a trial only
#: delays one query by L{nanotun.gateway.dns.exchange.ATTEMPT_TIMEOUT}.
BENCH = 30.0


class Servers:
    """
    The servers, and which of them answer.  Times are in seconds, of any one clock.

    @param random: gives numbers from 0 to 1.
    """

    def __init__(self, servers: Sequence[DnsServer], random: Callable[[], float]) -> None:
        self._servers = tuple(servers)
        self._random = random
        self._failures = dict.fromkeys(self._servers, 0)
        self._answered: dict[DnsServer, float] = {}
        self._until: dict[DnsServer, float] = {}
        self._order = self._servers

    def order(self, now: float) -> tuple[DnsServer, ...]:
        """All servers, the one to ask first at the front; called for each query."""
        for server, until in self._until.items():
            if until <= now:
                self._until[server] = self._trial(now)
                return (server, *(each for each in self._order if each != server))
        return self._order

    @property
    def noneAnswers(self) -> bool:
        """Whether all servers are at the back."""
        return len(self._until) == len(self._servers)

    @property
    def down(self) -> tuple[DnsServer, ...]:
        """The servers at the back."""
        return tuple(self._until)

    def failed(self, server: DnsServer, now: float, asked: float) -> bool:
        """
        Note that a server did not answer.  This is ignored if the server has answered another
        query since it was asked: it was away and is back.

        @param asked: the time when it was asked.
        @return: whether this moves the server to the back.
        """
        if asked < self._answered.get(server, asked):
            return False
        self._failures[server] += 1
        if self._failures[server] < FAILURES or server in self._until:
            return False
        self._until[server] = self._trial(now)
        self._sort()
        return True

    def answered(self, server: DnsServer, now: float) -> bool:
        """
        Note that a server answered.

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
