"""
A proxy that runs on this machine: which sockets its address leads to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nanotun.addresses import isAddress, isLoopback
from nanotun.flow import Endpoint
from nanotun.interfaces import ProxyURL
from nanotun.owners.interfaces import ISockets
from nanotun.owners.values import FlowSocket

_LOOPBACKS = ("127.0.0.1", "::1")


class LocalProxies:
    """
    The sockets of the proxies on this machine.

    @ivar free: the ports of their addresses at which nobody listened at the last sample.
    @param proxies: of the settings.
    @param ownAddresses: reads this machine's current addresses.
    """

    def __init__(
        self,
        proxies: Iterable[ProxyURL],
        sockets: ISockets,
        ownAddresses: Callable[[], frozenset[str]],
    ) -> None:
        self._sockets = sockets
        self._ownAddresses = ownAddresses
        dialled = [proxy for proxy in proxies if proxy.host]
        self._paths = tuple(proxy.socketPath for proxy in dialled if proxy.socketPath)
        places = [Endpoint(each.host, each.port) for each in dialled if not each.socketPath]
        self._loopback = tuple(
            Endpoint(address, place.port)
            for place in places
            if isLoopback(place.host)
            for address in ((place.host,) if isAddress(place.host) else _LOOPBACKS)
        )
        self._others = tuple(
            place for place in places if not isLoopback(place.host) and isAddress(place.host)
        )
        self._endpoints = self._loopback
        self.free: frozenset[int] = frozenset()

    @property
    def any(self) -> bool:
        """Whether any proxy's address currently belongs to this machine."""
        return bool(self._endpoints or self._paths)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The proxies' addresses that currently belong to this machine."""
        return self._endpoints

    @property
    def foreign(self) -> frozenset[str]:
        """The proxies' literal addresses that currently belong to another machine."""
        return frozenset(each.host for each in self._others if each not in self._endpoints)

    def readAddresses(self) -> None:
        """
        See which proxies' addresses belong to this machine now: a machine gains and loses
        addresses.

        @raise OSError: the kernel cannot be asked now.
        """
        if self._others:
            own = self._ownAddresses()
            mine = tuple(place for place in self._others if place.host in own)
            self._endpoints = self._loopback + mine

    def sample(self) -> frozenset[FlowSocket]:
        """
        Some of the sockets that listen at the proxies' addresses, at the cost of one question
        for each.  They change when a proxy was started anew.

        @raise OSError: the kernel cannot be asked now.
        """
        found = {place: self._sockets.listener(place) for place in self._endpoints}
        taken = {place.port for place, listener in found.items() if listener is not None}
        self.free = frozenset(place.port for place in found) - taken
        return frozenset(each for each in found.values() if each is not None)

    def atPaths(self) -> frozenset[int]:
        """The inodes of the unix sockets among L{listeners}."""
        return frozenset(inode for path in self._paths for inode in self._sockets.listeningAt(path))

    def listeners(self) -> frozenset[int]:
        """
        The inodes of the sockets that listen at the proxies' addresses; none while no proxy
        runs.

        @raise OSError: the kernel cannot be asked now.
        """
        found: set[int] = set()
        for endpoint in self._endpoints:
            found.update(self._sockets.listening(endpoint))
        return self.atPaths().union(found)
