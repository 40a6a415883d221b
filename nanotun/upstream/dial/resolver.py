"""
Finds the addresses of an upstream's host, without blocking and without a lookup for each
flow.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from zope.interface import implementer

from nanotun.addresses import isFake
from nanotun.errors import ProxyError
from nanotun.flow import LiteralEndpoint
from nanotun.timer import Timer

#: Seconds that an answer is used: long enough to make lookups cheap, short enough to
#: follow a proxy that moves.
MAX_AGE = 60.0

#: Seconds that an answer is used although none of its addresses can be reached.  Less
#: would mean a lookup for each flow while a proxy is down.
DOUBTED_AGE = 5.0


class SocketAddress(NamedTuple):
    """
    An address to connect to.

    @ivar family: C{AF_INET}, C{AF_INET6} or C{AF_UNIX}.
    @ivar address: as L{socket.socket.connect} takes it: a tuple, or a path.
    """

    family: int
    address: Any


def literalAddress(host: str, port: int) -> SocketAddress | None:
    """
    @return: the address that C{host} spells out, or L{None} if it is a name.  A path
        counts as the address of a unix socket.
    """
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

    @ivar endpoint: the host, a name or an address, and the port.

    @param reactor: for its C{nameResolver} and the time.
    @param changed: called once after L{hold} when that would give something else.
    """

    def __init__(
        self, reactor: Any, host: str, port: int, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.endpoint = LiteralEndpoint(host, port)
        self._reactor = reactor
        self._host = host
        self._port = port
        literal = literalAddress(host, port)
        self._literal = literal is not None
        self._known: list[SocketAddress] = [] if literal is None else [literal]
        self._asOf = 0.0
        self._waiting: list[Deferred[list[SocketAddress]]] = []
        self._changed = changed
        self._held = False
        self._expiry: Timer | None = None

    def known(self) -> list[SocketAddress] | None:
        """The addresses, or L{None} if they have to be looked up."""
        if self._literal:
            return self._known
        if self._known and self._reactor.seconds() - self._asOf < MAX_AGE:
            return self._known
        return None

    def hold(self) -> list[SocketAddress] | None:
        """As L{known}, for a caller who will be told as soon as it is no longer so."""
        known = self.known()
        if known is not None and not self._held:
            self._held = True
            if not self._literal:
                if self._expiry is None:
                    self._expiry = Timer(self._reactor, self._tell)
                self._expiry.start(MAX_AGE - (self._reactor.seconds() - self._asOf))
        return known

    def _tell(self) -> None:
        if self._held:
            self._held = False
            if self._expiry is not None:
                self._expiry.cancel()
            self._changed()

    def include(self, host: str, port: int) -> bool:
        """Whether this address and port were among those found last."""
        return any(each.address[:2] == (host, port) for each in self._known)

    def prefer(self, address: SocketAddress) -> None:
        """Try this address first from now on, because it worked."""
        if self._known[:1] != [address] and address in self._known:
            # A new list, because dials may be iterating over the old one.
            self._known = [address, *(each for each in self._known if each != address)]
            self._tell()

    def doubt(self) -> None:
        """None of the addresses could be reached: the host may have moved."""
        if self._reactor.seconds() - self._asOf >= DOUBTED_AGE:
            self._asOf = -MAX_AGE
            if not self._literal:
                self._tell()

    def get(self) -> Deferred[list[SocketAddress]]:
        """
        Look the host up, or wait for the lookup that is under way.

        @return: fires with at least one address, or fails with L{ProxyError}.
            Cancelling it does not cancel the lookup, which others may wait for.
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
        # The list may become empty while a lookup is under way.  The second lookup
        # that may follow does no harm.
        self._waiting.remove(waiter)

    def resolved(self, found: list[SocketAddress]) -> None:
        """Take the result of a lookup: all addresses, perhaps none."""
        waiting, self._waiting = self._waiting, []
        # The system's resolver may have appended a domain of its search list to the
        # name, and then asked our own relay.
        real = [each for each in found if not isFake(each.address[0])]
        if real:
            self._known = real
            self._asOf = self._reactor.seconds()
            self._tell()
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


class AddressBook:
    """
    The addresses of several hosts, each looked up once for all who dial it.

    @param changed: as for each L{HostAddresses}.
    """

    def __init__(self, reactor: Any, changed: Callable[[], None] = lambda: None) -> None:
        self._reactor = reactor
        self._changed = changed
        self._hosts: dict[tuple[str, int], HostAddresses] = {}

    def of(self, host: str, port: int) -> HostAddresses:
        """The addresses of one host."""
        key = host, port
        if key not in self._hosts:
            self._hosts[key] = HostAddresses(self._reactor, host, port, self._changed)
        return self._hosts[key]


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects one lookup's addresses."""

    def __init__(self, addresses: HostAddresses) -> None:
        self._addresses = addresses
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
        self._addresses.resolved(self._found)
