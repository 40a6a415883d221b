"""
The DNS servers that this machine uses itself: C{system} in the settings.

They are those that F{/etc/resolv.conf} names.  Where it names only this machine, or only nanotun's
own gateway, they are the servers of whoever answers there::

    systemd-resolved                those of each interface, which are asked for its domains
    NetworkManager's dnsmasq        those in NetworkManager's own file
    another one                     it is asked itself, unless its queries would come back

nanotun's own addresses, and the servers of its own interface, are always left out.

Changes are noticed by the stamps of the files, which are looked at once a second: what is in the
cache would otherwise be given long after a change.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from nanotun.addresses import DNS_PORT, OWN4, OWN6
from nanotun.config.askedservers import serversOf
from nanotun.config.settings import Settings
from nanotun.config.values import listed
from nanotun.daemon.circles import Circles
from nanotun.daemon.localresolvers import RESOLVED, RESOLVED_STUBS
from nanotun.flow import Endpoint
from nanotun.interfaces import DnsServer, IPart
from nanotun.linux.locality import isOwnAddress
from nanotun.linux.resolvconf import RESOLV_CONF, readResolvConf
from nanotun.linux.resolvedlinks import LinkServers, resolvedServers
from nanotun.linux.stamp import stampAt
from nanotun.routing.firewall.tools import SystemTools, Tools

#: The servers of all interfaces, as systemd-resolved writes them down.
RESOLVED_CONF = "/run/systemd/resolve/resolv.conf"

#: The servers that NetworkManager gives to its dnsmasq.
MANAGER_CONF = "/run/NetworkManager/no-stub-resolv.conf"

#: What is followed.
FILES = (RESOLV_CONF, RESOLVED, RESOLVED_CONF, MANAGER_CONF)

#: Seconds between two looks at the files.
LOOK_PAUSE = 1.0

#: Servers that are used; a machine has three, and some for each VPN.
SERVER_LIMIT = 32

#: Seconds after which busctl is killed, which ends by itself after one.
BUSCTL_LIMIT = 3.0

_OWN = (ip_network(OWN4), ip_network(OWN6))


class Resolvers(NamedTuple):
    """
    What the machine says of its servers.

    @ivar named: those in F{/etc/resolv.conf}, as far as they are L{usable<isUsable>}.
    @ivar resolved: those of systemd-resolved, by interface; L{None} if it does not run.
    @ivar manager: likewise, those that NetworkManager's dnsmasq asks.
    """

    named: tuple[str, ...] = ()
    resolved: tuple[LinkServers, ...] | None = None
    manager: tuple[str, ...] = ()


def choose(
    known: Resolvers, isLocal: Callable[[str], bool], device: str
) -> Iterator[tuple[DnsServer, ...]]:
    """
    The servers to ask, as the module says.

    @param known: what the machine says of them.
    @param isLocal: whether an address is one of this machine's.
    @param device: the name of the tunnel's interface.
    @return: the first of these is used that has servers.  Their C{via} is empty; only those of
        systemd-resolved have domains.
    """
    named = known.named
    others = [host for host in named if not isLocal(host)]
    if others:
        yield _plain(others)
        return
    if known.resolved is not None and asksResolved(named, isLocal):
        yield _ofLinks([each for each in known.resolved if each.link != device])
        # systemd-resolved itself is told to ask the gateway.
        named = tuple(host for host in named if host not in RESOLVED_STUBS)
    yield _plain(known.manager)
    yield _plain(named)


def asksResolved(named: Sequence[str], isLocal: Callable[[str], bool]) -> bool:
    """Whether programs ask systemd-resolved, if it runs, or would but for nanotun's gateway."""
    return all(map(isLocal, named)) and (not named or not set(named).isdisjoint(RESOLVED_STUBS))


def _plain(hosts: Iterable[str]) -> tuple[DnsServer, ...]:
    return tuple(DnsServer("udp", host, DNS_PORT) for host in hosts)


def _ofLinks(links: Sequence[LinkServers]) -> tuple[DnsServer, ...]:
    """The servers of interfaces, asked for the names that systemd-resolved asks them for."""
    usable = (
        link._replace(servers=tuple(each for each in link.servers if isUsable(each.host)))
        for link in links
    )
    # Another nanotun's interface, which takes all names, is left without any.
    links = [link for link in usable if link.servers]
    # An interface that takes all names has them instead of those that do so by default.
    takesAll = any("" in link.domains for link in links)
    found: dict[DnsServer, None] = {}
    for link in links:
        domains = tuple(filter(None, link.domains))
        isGeneral = "" in link.domains if takesAll else link.isDefault
        for server in link.servers:
            plain = DnsServer("udp", *server)
            if domains and (len(links) > 1 or not isGeneral):
                found[plain._replace(domains=domains)] = None
            if isGeneral:
                found[plain] = None
    return tuple(found)


def isUsable(host: str) -> bool:
    """
    Whether an address can be a server's: it is none of nanotun's own, and a link-local one says
    of which link it is.
    """
    address = ip_address(host)
    if any(address in network for network in _OWN):
        return False
    return address.version == 4 or not address.is_link_local or "%" in host


def busctl(tools: Tools, arguments: Sequence[str]) -> str | None:
    """Run busctl, as L{resolvedServers} wants it."""
    path = tools.path("busctl")
    ran = tools.run([path, *arguments], limit=BUSCTL_LIMIT) if path else None
    return None if ran is None or ran.status else ran.output


@implementer(IPart)
class SystemServers:
    """
    See the module.  Called, it gives the servers of the moment, and may call C{changed} before.

    @param inThread: calls a function in a thread and returns a Deferred.
    @param changed: called when the servers are others than before.
    @param run: see L{resolvedServers}.
    @param root: prefix of every path, for tests.
    """

    name = "the look at this machine's DNS servers"

    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        circles: Circles,
        clock: Any,
        inThread: Callable[
            [Callable[[], tuple[LinkServers, ...] | None]],
            Deferred[tuple[LinkServers, ...] | None],
        ],
        changed: Callable[[], object],
        run: Callable[[Sequence[str]], str | None] | None = None,
        isLocal: Callable[[str], bool] = isOwnAddress,
        nameOf: Callable[[int], str] = socket.if_indextoname,
        root: str = "",
    ) -> None:
        self._settings = lambda: settings
        self._circles = circles
        self._seconds = clock.seconds
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock
        self._inThread = inThread
        self._changed = changed
        self._run = partial(busctl, SystemTools()) if run is None else run
        self._isOwnAddress = isLocal
        self._nameOf = nameOf
        self._root = root
        self._servers: tuple[DnsServer, ...] = ()
        self._seen: tuple[object, ...] = ()
        self._lookAt = 0.0
        self._links: tuple[LinkServers, ...] | None = None
        self._asking = self._askAgain = False
        self._runs = False
        self._warned = ""

    def __call__(self) -> tuple[DnsServer, ...]:
        """The servers of the moment; their C{via} is empty.  None before L{start}."""
        now = self._seconds()
        if self._runs and now >= self._lookAt:
            self._lookAt = now + LOOK_PAUSE
            settings = self._settings()
            seen = (
                settings.excludedProcesses,
                settings.onlyProcesses,
                *(stampAt(self._root + path) for path in FILES),
            )
            if seen != self._seen:
                self._seen = seen
                self._read()
        return self._servers

    def hosts(self) -> tuple[str, ...]:
        """
        The servers' addresses, as known without a look; none if no list has C{system}.  Those of
        a link are left out, because it is clear where they are.
        """
        if not self._isUsed:
            return ()
        found = dict.fromkeys(each.host for each in self._servers)
        return tuple(host for host in found if "%" not in host)

    def start(self) -> None:
        """See L{IPart.start}.  Reads the files; systemd-resolved is asked meanwhile."""
        self._runs = True
        self._lookAt = self._seconds()
        self._loop.start(LOOK_PAUSE)

    def stop(self) -> None:
        """See L{IPart.stop}."""
        self._runs = False
        if self._loop.running:
            self._loop.stop()

    def follow(self, settings: Callable[[], Settings]) -> None:
        """Choose servers by the settings that this gives; a reload is noticed like a new file."""
        self._settings = settings

    def networkMoved(self) -> None:
        """Read everything again, because interfaces can have other servers without any file."""
        self._seen = ()
        self._lookAt = self._seconds()
        self._look()

    @property
    def _isUsed(self) -> bool:
        return any(server.scheme == "system" for server in serversOf(self._settings()))

    def _look(self) -> None:
        if self._isUsed:
            # Even if the look before came late, and a pause has not quite passed since.
            self._lookAt = self._seconds()
            self()

    @property
    def _resolvedRuns(self) -> bool:
        return os.path.exists(self._root + RESOLVED)

    def _read(self) -> None:
        """Read the files, and have systemd-resolved asked if it counts."""
        if not self._resolvedRuns or not asksResolved(self._hosts(RESOLV_CONF), self._isLocal):
            self._links = None
        elif self._asking:
            self._askAgain = True
        else:
            self._asking = True
            asked = self._inThread(partial(resolvedServers, self._run, self._nameOf))
            asked.addBoth(self._heard)
        self._choose()

    def _heard(self, links: tuple[LinkServers, ...] | Failure | None) -> None:
        self._asking = False
        if not self._runs:
            return
        if isinstance(links, Failure):
            self._log.failure("Internal error in asking systemd-resolved", links)
            links = None
        self._links = links
        if self._askAgain:
            self._askAgain = False
            self._read()
        else:
            self._choose()

    def _choose(self) -> None:
        named = self._hosts(RESOLV_CONF)
        resolved = self._links
        if resolved is None and self._resolvedRuns:
            # It has not been asked yet, or does not answer.
            hosts = self._hosts(RESOLVED_CONF)
            resolved = (LinkServers(0, "", tuple(Endpoint(host, DNS_PORT) for host in hosts)),)
        known = Resolvers(named, resolved, self._hosts(MANAGER_CONF))
        settings = self._settings()
        leftOut: set[Endpoint] = set()
        servers: tuple[DnsServer, ...] = ()
        for found in choose(known, self._isLocal, settings.tunName):
            local = {Endpoint(each.host, each.port) for each in found if self._isLocal(each.host)}
            circular = self._circles.among(local, settings)
            leftOut |= circular
            servers = tuple(
                each for each in found if Endpoint(each.host, each.port) not in circular
            )
            if servers:
                break
        warned = self._warned
        if not self._asking:
            # Not before systemd-resolved has been heard.
            self._warn(self._wrong(servers, leftOut))
        self._take(servers[:SERVER_LIMIT], bool(warned))

    def _hosts(self, path: str) -> tuple[str, ...]:
        """The servers that a file names and that can be asked."""
        return tuple(filter(isUsable, readResolvConf(self._root + path).servers))

    def _isLocal(self, host: str) -> bool:
        try:
            return self._isOwnAddress(host)
        except OSError:
            return ip_address(host).is_loopback

    def _take(self, servers: tuple[DnsServer, ...], warned: bool) -> None:
        before, self._servers = self._servers, servers
        if servers == before:
            return
        if servers and (before or warned):
            self._log.info(
                "The DNS servers of this machine are {servers} now.", servers=shown(servers)
            )
        self._changed()

    def _warn(self, text: str) -> None:
        """Say once what does not work."""
        if text and text != self._warned:
            self._log.warn("{text}", text=text)
        self._warned = text

    def _wrong(self, servers: Sequence[DnsServer], leftOut: set[Endpoint]) -> str:
        """What does not work, as a sentence; empty if everything does."""
        if leftOut:
            return _circular(sorted({endpoint.host for endpoint in leftOut}))
        throughResolved = self._resolvedRuns and asksResolved(
            self._hosts(RESOLV_CONF), self._isLocal
        )
        if servers:
            if len(servers) > 1 and throughResolved and self._links is None:
                return (
                    "dns: system asks the servers of all interfaces for every name, because "
                    "systemd-resolved does not say which are for which (busctl is missing, or it "
                    "failed); install it, or name the servers of your VPN in dnsRules."
                )
            return ""
        what = "names none"
        if throughResolved and self._hosts(RESOLV_CONF):
            what = "leads to systemd-resolved, which has none"
        elif readResolvConf(self._root + RESOLV_CONF).servers:
            what = "has only nanotun's own gateway"
        return (
            f"dns: system stands for no server, because {RESOLV_CONF} {what}; add a server to "
            "dns, such as the router's address."
        )


def _circular(hosts: Sequence[str]) -> str:
    """The sentence about servers whose own queries come back to the relay."""
    whose, theirs, they = "that server's own", "its user or unit", "it asks"
    if len(hosts) > 1:
        whose, theirs, they = "their own", "their users or units", "they ask"
    return (
        f"dns: system leaves out {listed(hosts)}, because {whose} queries come back to the relay; "
        f"add {theirs} to excludedProcesses, or write the servers that {they}."
    )


def shown(servers: Iterable[DnsServer]) -> str:
    """Servers with their domains, for the log."""
    return listed(
        [f"{each} ({', '.join(each.domains)})" if each.domains else str(each) for each in servers]
    )


def makeSystemServers(
    settings: Settings, reactor: Any, inCell: bool, changed: Callable[[], object]
) -> SystemServers:
    """
    The part that knows this machine's servers.

    @param inCell: whether the clients are in the cell of C{nanotun run}.
    @param changed: see L{SystemServers}.
    """

    def inThread(function: Callable[[], Any]) -> Deferred[Any]:
        return deferToThreadPool(reactor, reactor.getThreadPool(), function)

    return SystemServers(settings, Circles(settings.tunName, inCell), reactor, inThread, changed)
