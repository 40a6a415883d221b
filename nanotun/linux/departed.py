"""
Ends the connections that cannot go on, because this machine has lost the address that they
come from.  Without that an app would wait for minutes until TCP gives up.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

from twisted.logger import Logger

from nanotun.addresses import SOCKET_MARK
from nanotun.linux.marked import MarkedSocket, destroy, markedSockets
from nanotun.linux.network import addresses, nextHops

#: Seconds for which an address has to be missing: who renews it may take it away for a moment.
GONE_FOR = 1.0

#: Seconds after which a missing address is forgotten: TCP has given up by then.
MEMORY = 900.0


def ownAddresses() -> set[str]:
    """
    All addresses of this machine.

    @raise OSError: the kernel does not answer.
    """
    return {each.host for each in addresses()}


def hasRoute(host: str) -> bool:
    """
    Whether there is a way for marked packets to a literal address.

    @raise OSError: the kernel does not answer.
    """
    return any(nextHops([host], SOCKET_MARK))


class Departed:
    """
    The addresses that were there and are not any more.

    @param seconds: the clock.
    @param own: reads this machine's addresses.
    @param sockets: lists the connections that may have to end.
    @param destroy: ends one.
    @param hasRoute: whether there is a way to an address.  While there is none, the old one
        may come back, and nothing is ended.
    """

    _log = Logger()

    def __init__(
        self,
        seconds: Callable[[], float],
        own: Callable[[], Iterable[str]] = ownAddresses,
        sockets: Callable[[], Iterable[MarkedSocket]] = markedSockets,
        destroy: Callable[[MarkedSocket], None] = destroy,
        hasRoute: Callable[[str], bool] = hasRoute,
    ) -> None:
        self._seconds = seconds
        self._own = own
        self._sockets = sockets
        self._destroy = destroy
        self._hasRoute = hasRoute
        self._known: frozenset[str] = frozenset()
        self._missing: dict[str, float] = {}
        self._able = True

    def look(self) -> None:
        """
        Look at the addresses, and end what has to end.

        @raise OSError: the kernel does not answer.
        """
        now = self._seconds()
        own = frozenset(self._own())
        self._missing.update(dict.fromkeys(self._known - own, now))
        self._known = own
        for host, since in list(self._missing.items()):
            if host in own or now - since > MEMORY:
                del self._missing[host]
        due = {host for host, since in self._missing.items() if now - since >= GONE_FOR}
        if due and self._able:
            self._end(due)

    @property
    def waits(self) -> bool:
        """Whether L{look} should be called again in L{GONE_FOR}."""
        now = self._seconds()
        return any(now - since < GONE_FOR for since in self._missing.values())

    def _end(self, hosts: set[str]) -> None:
        ended = dict.fromkeys(hosts, 0)
        kept = set()
        try:
            for each in self._sockets():
                if each.local in hosts:
                    if self._hasRoute(each.remote):
                        self._destroy(each)
                        ended[each.local] += 1
                    else:
                        kept.add(each.local)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL, errno.ENOENT):
                raise
            self._able = False
            self._log.debug(
                "Connections whose address has left cannot be ended: {error}",
                error=error.strerror,
            )
            return
        for host, count in ended.items():
            if host not in kept:
                del self._missing[host]
            if count:
                self._log.info(
                    "{count} connections ended, because their address {address} has left this "
                    "machine.",
                    count=count,
                    address=host,
                )
