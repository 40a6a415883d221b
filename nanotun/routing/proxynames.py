"""
Looks up proxies' names without the help of the proxy.

Once the routes are set, the queries of the system's resolver take the tunnel, which
needs the proxy.  The DNS relay's own sockets are marked and bypass the tunnel, so the
relay's servers are asked instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any, Literal

from twisted.internet import address as addresses
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from zope.interface import implementer

from nanotun.addresses import isAddress, isFake

#: Names whose last addresses are kept; there are not more proxies.
_REMEMBERED_LIMIT = 64

HOSTS_FILE = "/etc/hosts"


def inHostsFile(name: str, path: str = HOSTS_FILE) -> bool:
    """Whether the hosts file (hosts(5)) has an entry for a name."""
    try:
        with open(path, errors="replace") as file:
            lines = [line.partition("#")[0].lower().split() for line in file]
    except OSError:
        return False
    return any(name in words[1:] for words in lines)


@implementer(IHostResolution)
class _Resolution:
    """A lookup under way, as receivers see it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Not possible: others may wait for the same lookup."""
        raise NotImplementedError("a lookup of a proxy's name cannot be cancelled")


@implementer(IResolutionReceiver)
class _Collector:
    """Collects the addresses that the system's resolver finds."""

    def __init__(self) -> None:
        self.done: Deferred[list[str]] = Deferred()
        self._found: dict[str, None] = {}

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Nothing to do."""

    def addressResolved(self, address: Any) -> None:
        """See L{IResolutionReceiver.addressResolved}."""
        if not isFake(address.host):
            self._found[address.host] = None

    def resolutionComplete(self) -> None:
        """See L{IResolutionReceiver.resolutionComplete}."""
        self.done.callback(list(self._found))


@implementer(IHostnameResolver)
class ProxyResolver:
    """
    Replaces the reactor's own name resolver.

    @param system: the resolver that it replaces.
    @param ask: looks a name up at the relay's servers; takes the name and 4 or 6.
    @param hostsFile: as hosts(5).
    """

    def __init__(
        self,
        system: IHostnameResolver,
        ask: Callable[[str, int], Deferred[list[str]]],
        hostsFile: str = HOSTS_FILE,
    ) -> None:
        self._system = system
        self._ask = ask
        self._hostsFile = hostsFile
        self._remembered: dict[str, list[str]] = {}

    def remember(self, name: str, found: Sequence[str]) -> None:
        """Keep a name's addresses, for when no server can be asked."""
        if found and (name in self._remembered or len(self._remembered) < _REMEMBERED_LIMIT):
            self._remembered[name] = list(found)

    def lookUp(self, name: str) -> Deferred[list[str]]:
        """
        Look up all addresses of a name, IPv6 and IPv4.

        @return: fires with an empty list if there are none, or if they were never found.
            Does not fail.
        """
        if inHostsFile(name.lower().rstrip("."), self._hostsFile):
            return self._askSystem(name)
        waiting = [maybeDeferred(self._ask, name, family) for family in (6, 4)]

        def answered(results: list[tuple[bool, Any]]) -> list[str] | Deferred[list[str]]:
            found = [host for ok, hosts in results if ok for host in hosts]
            if not found and not any(ok for ok, _ in results):
                found = self._remembered.get(name, [])
            # The system's resolver may know a name of the local network.
            return found or self._askSystem(name)

        def last(found: list[str]) -> list[str]:
            self.remember(name, found)
            return found or self._remembered.get(name, [])

        both: Deferred[Any] = DeferredList(waiting, consumeErrors=True)
        return both.addCallback(answered).addCallback(last)

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[Any] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """See L{IHostnameResolver.resolveHostName}."""
        if isAddress(hostName):
            given: IHostResolution = self._system.resolveHostName(
                resolutionReceiver, hostName, portNumber, addressTypes, transportSemantics
            )
            return given
        kind: Literal["TCP", "UDP"] = "UDP" if transportSemantics == "UDP" else "TCP"
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)

        def found(hosts: list[str]) -> None:
            for host in hosts:
                make = (
                    addresses.IPv4Address
                    if ip_address(host).version == 4
                    else addresses.IPv6Address
                )
                if addressTypes is None or make in addressTypes:
                    resolutionReceiver.addressResolved(make(kind, host, portNumber))
            resolutionReceiver.resolutionComplete()

        self.lookUp(hostName).addCallback(found)
        return resolution

    def _askSystem(self, name: str) -> Deferred[list[str]]:
        collector = _Collector()
        self._system.resolveHostName(collector, name, 0)
        return collector.done
