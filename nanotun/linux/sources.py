"""
Tells whether what a connected UDP socket sends has lost its way: the socket keeps its source
address when addresses and routes change, and answers to the old one may never arrive.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from nanotun.errors import UpstreamError
from nanotun.linux.network import Address, addresses


class LegRoute(NamedTuple):
    """
    Between which addresses a connected socket sends.

    @ivar local: the own address.
    @ivar peer: the other's, as L{socket.socket.connect} takes it.
    """

    family: int
    local: str
    peer: tuple[Any, ...]


def legRoute(fd: int) -> LegRoute | None:
    """Of a socket that somebody else owns; L{None} if it is not connected."""
    try:
        asked = socket.socket(fileno=fd)
    except OSError:
        return None
    try:
        return LegRoute(asked.family, asked.getsockname()[0], asked.getpeername())
    except OSError:
        return None
    finally:
        asked.detach()


def sourceTo(peer: tuple[Any, ...], family: int, makeSocket: Callable[[int], socket.socket]) -> str:
    """
    The address that the kernel would send from; empty if there is no way.  Nothing is sent.

    @param peer: as L{socket.socket.connect} takes it.
    @param makeSocket: from the address family to a marked UDP socket.
    """
    try:
        with makeSocket(family) as asked:
            asked.connect(peer)
            return str(asked.getsockname()[0])
    except (OSError, UpstreamError):
        return ""


class Sources:
    """
    The addresses that the kernel would send from now.  For one look at the network: each peer
    is asked for once, and nothing is sent.

    @param makeSocket: from the address family to a marked UDP socket.
    @param read: reads this machine's addresses.
    """

    def __init__(
        self,
        makeSocket: Callable[[int], socket.socket],
        read: Callable[[], Iterable[Address]] = addresses,
    ) -> None:
        self._makeSocket = makeSocket
        self._read = read
        self._chosen: dict[tuple[Any, ...], str] = {}
        self._links: dict[str, set[str]] | None = None

    def moved(self, route: LegRoute) -> bool:
        """
        Whether a new socket would send by another interface than the one that has the address
        of C{route}.  If there is no way to the peer at all, the old one may come back, so that
        nothing has moved; and another address of the same interface is no reason either.

        @raise OSError: the kernel does not list its addresses.
        """
        key = (route.family, *route.peer)
        chosen = self._chosen.get(key)
        if chosen is None:
            chosen = self._chosen[key] = sourceTo(route.peer, route.family, self._makeSocket)
        if chosen in ("", route.local):
            return False
        if self._links is None:
            self._links = {}
            for address in self._read():
                self._links.setdefault(address.host, set()).add(address.link)
        return not self._links.get(route.local, set()) & self._links.get(chosen, set())
