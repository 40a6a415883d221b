"""
Where an upstream's host is: its name looked up without blocking, and not for each flow.
"""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from nanotun.addresses import isFake
from nanotun.errors import ProxyError

#: Seconds that an answer is used.  Long enough to cost nothing, short enough to
#: follow a proxy that moves.
MAX_AGE = 60.0

#: Seconds that an answer is used although nobody answers at its addresses.  Less
#: would be a lookup for each flow while a proxy is down.
DOUBTED_AGE = 5.0


class SocketAddress(NamedTuple):
    """
    Where to connect to.

    @ivar family: C{AF_INET}, C{AF_INET6} or C{AF_UNIX}.
    @ivar address: as L{socket.socket.connect} takes it: a tuple, or a path.
    """

    family: int
    address: Any


def literalAddress(host: str, port: int) -> SocketAddress | None:
    """C{host} as an address, which a path is too, or L{None} if it is a name."""
    if host.startswith("/"):
        return SocketAddress(socket.AF_UNIX, host)
    if ":" in host:
        return SocketAddress(socket.AF_INET6, (host, port))
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        return None
    return SocketAddress(socket.AF_INET, (host, port))


class HostAddresses:
    """
    The addresses of one host, IPv6 and IPv4, in the order to try them.

    @param reactor: gives C{nameResolver} and the time.
    """

    def __init__(self, reactor: Any, host: str, port: int) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        literal = literalAddress(host, port)
        self._literal = literal is not None
        self._known: list[SocketAddress] = [] if literal is None else [literal]
        self._asOf = 0.0
        self._waiting: list[Deferred[list[SocketAddress]]] = []

    def known(self) -> list[SocketAddress] | None:
        """The addresses if there is no need to wait for them."""
        if self._literal:
            return self._known
        if self._known and self._reactor.seconds() - self._asOf < MAX_AGE:
            return self._known
        return None

    def include(self, host: str, port: int) -> bool:
        """Whether an address is one of those that were found last."""
        return any(each.address[:2] == (host, port) for each in self._known)

    def prefer(self, address: SocketAddress) -> None:
        """This one answered: try it first from now on."""
        if self._known[:1] != [address] and address in self._known:
            # A new list: others may walk through the old one.
            self._known = [address, *(each for each in self._known if each != address)]

    def doubt(self) -> None:
        """Nobody answered at any of them: the host may have moved."""
        if self._reactor.seconds() - self._asOf >= DOUBTED_AGE:
            self._asOf = -MAX_AGE

    def get(self) -> Deferred[list[SocketAddress]]:
        """
        Look the host up, or wait for the lookup that is under way.

        @return: fires with at least one address, or fails with L{ProxyError}.
            Cancelling it leaves the lookup to the others.
        """
        known = self.known()
        if known is not None:
            return succeed(known)
        waiter: Deferred[list[SocketAddress]] = Deferred(self._forget)
        self._waiting.append(waiter)
        if len(self._waiting) == 1:
            self._reactor.nameResolver.resolveHostName(_Receiver(self), self._host, self._port)
        return waiter

    def _forget(self, waiter: Deferred[list[SocketAddress]]) -> None:
        # The list may be empty while a lookup is under way.  A second lookup
        # then does no harm.
        self._waiting.remove(waiter)

    def resolved(self, found: list[SocketAddress]) -> None:
        """Called by the receiver with all that was found."""
        waiting, self._waiting = self._waiting, []
        # The system's resolver may have put a domain of its search list behind the
        # name, and then asked our own relay.
        real = [each for each in found if not isFake(each.address[0])]
        if real:
            self._known = real
            self._asOf = self._reactor.seconds()
            for waiter in waiting:
                waiter.callback(real)
            return
        error = "has no address that can be found; check its spelling and this machine's DNS"
        if found:
            error = (
                "leads to an address that nanotun itself made up for a name; write its full "
                "name, with the domain"
            )
        for waiter in waiting:
            waiter.errback(ProxyError(f"The name {self._host} {error}."))


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects one lookup's addresses."""

    def __init__(self, owner: HostAddresses) -> None:
        self._owner = owner
        self._found: list[SocketAddress] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Nothing to do yet."""

    def addressResolved(self, address: IAddress) -> None:
        """See L{IResolutionReceiver.addressResolved}."""
        if isinstance(address, IPv4Address):
            self._found.append(SocketAddress(socket.AF_INET, (address.host, address.port)))
        elif isinstance(address, IPv6Address):
            self._found.append(
                SocketAddress(
                    socket.AF_INET6,
                    (address.host, address.port, address.flowInfo, address.scopeID),
                )
            )

    def resolutionComplete(self) -> None:
        """See L{IResolutionReceiver.resolutionComplete}."""
        self._owner.resolved(self._found)
