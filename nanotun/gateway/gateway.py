"""
The gateway: its services, made in order and configured from the settings.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import Logger, LogLevel
from zope.interface import implementer

from nanotun.addresses import DNS_PORT
from nanotun.config.askedservers import goesBare, serversOf, viaOf
from nanotun.config.settings import Settings
from nanotun.config.upstreams import firstHops, wayOf
from nanotun.flow import Datagram, Endpoint, Flow, Protocol
from nanotun.gateway.datagrams import DatagramServices, DnsDatagramProtocol, Strangers
from nanotun.gateway.dns.answered import AnsweredNames
from nanotun.gateway.dns.ask import OF_DNS, OF_RULE, OF_SCRIPT, ServerQueries
from nanotun.gateway.dns.byhand import QueriesByHand
from nanotun.gateway.dns.choice import ServerChoice, makeChoice
from nanotun.gateway.dns.contexts import TlsContexts, trusted
from nanotun.gateway.dns.counters import Counters, GatewayStats
from nanotun.gateway.dns.hostsfile import HostsFile
from nanotun.gateway.dns.interfaces import IAnswering
from nanotun.gateway.dns.lookup import Lookup, RealNames
from nanotun.gateway.dns.nameservers import NameServers, noSystem
from nanotun.gateway.dns.rebinding import guardFor
from nanotun.gateway.dns.relay import DnsRelay
from nanotun.gateway.dns.ruled import RuledDns
from nanotun.gateway.dns.scripted import ScriptedDns
from nanotun.gateway.dns.watched import WatchedDns
from nanotun.gateway.dns.ways import PresentWays
from nanotun.gateway.fakeip.answers import LOCAL, FakeAnswers, isFaked
from nanotun.gateway.fakeip.front import SOCKET_SHARE, USER_SHARE, FakeDns, FakeIpNames
from nanotun.gateway.fakeip.pool import FakePool
from nanotun.gateway.fakeip.store import FakeStore
from nanotun.gateway.streams import DnsStreams
from nanotun.interfaces import (
    Connection,
    DnsServer,
    IFlowRequest,
    IGateway,
    IPacketEngine,
    IScript,
    IUpstream,
)
from nanotun.linux.locality import Locality
from nanotun.log.trouble import TroubleLog
from nanotun.policy.dnsnames import NamePolicy

#: Bytes of cache for each answer that it may hold.  Most answers are far smaller.
CACHE_BYTES = 2048


class NameOptions(NamedTuple):
    """
    How the gateway treats names; fixed from the start of the daemon to its end.

    @ivar faked: whether to answer with fake addresses.
    @ivar exclude: names that get real addresses all the same, with all names below them.
    @ivar stateFile: path of the file that keeps the fake addresses' names; empty for none.
    @ivar flowHold: seconds that a name keeps its fake address after a flow to it has begun.
    @ivar bootstraps: whether nanotun's own lookups, of a proxy's name, may arrive at the
        relay.
    @ivar singles: whether names of one label get fake addresses, too.
    """

    faked: bool = False
    exclude: tuple[str, ...] = ()
    stateFile: str = ""
    flowHold: float = 0.0
    bootstraps: bool = True
    singles: bool = False


@implementer(IGateway)
class Gateway:
    """
    The services on the gateway's addresses.  It asks no server until L{configure}.

    @param makeDatagram: C{AF_INET} or C{AF_INET6} to a UDP socket that is marked and
        non-blocking.
    @param userOf: see L{FakeDns}.
    @param originalOf: see L{DnsStreams}.
    @param system: see L{NameServers}; call L{systemChanged} if they are others than before.
    @ivar ask: asks as a program would; see L{QueriesByHand.ask}.
    @ivar names: the names behind addresses; a L{nanotun.interfaces.INames}.
    @ivar services: where datagram services listen.
    @ivar watched: knows the last queries, if somebody looks.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        engine: IPacketEngine,
        makeDatagram: Callable[[int], socket.socket],
        options: NameOptions,
        userOf: Callable[[Flow], Hashable | None] = lambda flow: None,
        originalOf: Callable[[Flow], Flow | None] = lambda flow: None,
        system: Callable[[], tuple[DnsServer, ...]] = noSystem,
    ) -> None:
        self._reactor = reactor
        self._engine = engine
        self._makeDatagram = makeDatagram
        self._counters = Counters()
        self._locality = Locality(reactor.seconds)
        self._ways = PresentWays()
        self._trouble = TroubleLog(reactor, self._log)
        self._warnings = TroubleLog(reactor, self._log, LogLevel.warn)
        self._bootstraps = options.bootstraps
        self._configured: tuple[object, ...] = ()
        self._system = system
        self._nameServers: NameServers | None = None
        self._choice: ServerChoice | None = None
        self._bare: frozenset[str] = frozenset()
        # What nanotun looks up itself has a fake address for the apps.
        answered = AnsweredNames(wanted=lambda name: not self._isFaked(name))
        self._relay = DnsRelay(reactor, None, self._counters, 0, 0, names=answered)
        lookup = Lookup(self._relay)
        real = RealNames(reactor, answered, lookup, self._locality.isLocal)
        self._answering: IAnswering = self._relay
        self._fakes: FakeAnswers | None = None
        self._fakeDns: FakeDns | None = None
        self._pool: FakePool | None = None
        self.names: RealNames | FakeIpNames
        if options.faked:
            store = FakeStore(options.stateFile)
            pool = self._pool = FakePool(shares=(SOCKET_SHARE, USER_SHARE), note=store.note)
            self._fakes = FakeAnswers(pool, options.exclude, options.singles)
            self._answering = self._fakeDns = FakeDns(
                reactor, self._fakes, pool, self._relay, userOf
            )
            self.names = FakeIpNames(reactor, pool, store, lookup, real, options.flowHold)
        else:
            self.names = real
        self._hosts = HostsFile(self._trouble.report)
        self._ruled = RuledDns(reactor, self._answering, self._relay)
        self._answering = self._scripted = ScriptedDns(self._ruled, self._relay, self._serversAt)
        self._answering = self.watched = WatchedDns(self._answering, reactor, time.time)
        self.ask = QueriesByHand(self._answering).ask
        self.services = DatagramServices(reactor, engine, self._counters)
        self._strangers = Strangers(reactor.seconds, originalOf, self._trouble.report)
        self._streams = DnsStreams(self._answering, self._locality, reactor, originalOf)

    def configure(
        self,
        settings: Settings,
        ways: Mapping[str, IUpstream],
        script: IScript | None = None,
        contexts: TlsContexts | None = None,
        names: NamePolicy | None = None,
    ) -> None:
        """
        Ask the servers of these settings, with their size of the cache, and give the
        proxies' own names real addresses.  What the settings have not changed stays as it
        is.  Queries under way go on as they were, but if servers of C{dns}, of C{dnsRules} or of
        the script were asked past the proxies, and none of those is any more, nothing more is
        sent to any of the previous servers.

        @param ways: the upstreams of these settings by name.
        @param script: is asked about each query first; L{None} for none.
        @param contexts: how TLS is spoken with the servers, from L{contextsFor}; not needed
            where none is encrypted.
        @param names: what these settings say about names; L{None} for nothing.
        """
        self._ways.configure(settings, ways)
        self._scripted.configure(script)
        servers = serversOf(settings)
        cacheSize = settings.dnsCacheSize if settings.dnsCache else 0
        contexts = contexts or {}
        kept = cacheSize, settings.dnsStale
        wanted: tuple[object, ...] = servers, settings.dns, kept, settings.dnsVia
        # A file of certificates may have changed.
        wanted += (trusted(contexts),)
        # A server that the script names goes by dnsVia.
        vias = {settings.dnsVia, *(viaOf(settings, each) for each in servers)} - {"direct"}
        if vias:
            # A connection that is open leads through the previous proxy.
            wanted += {via: wayOf(settings, via) for via in vias}, settings.connectTimeout
        policy = NamePolicy() if names is None else names
        others = wanted != self._configured
        anew = False
        if others:
            bare = bareOrigins(settings)
            anew = not self._bare <= bare
            self._bare = bare
            self._configured = wanted
            before = {} if self._nameServers is None else self._nameServers.tallies
            self._nameServers = NameServers(
                self._reactor,
                settings,
                self._ways.forServers(),
                contexts,
                self._counters,
                before,
                self._makeDatagram,
                self._trouble.report,
                self._system,
            )
        assert self._nameServers is not None
        real = realNames(settings)
        choice = makeChoice(settings, self._nameServers, policy, self._bootstraps, real)
        if others:
            size = cacheSize * CACHE_BYTES
            self._relay.configure(choice, cacheSize, size, anew, settings.dnsStale)
        elif self._choice is None or not choice.sameAs(self._choice):
            self._relay.rechoose(choice)
        self._choice = choice
        self._relay.keepsSubnet = settings.dnsClientSubnet
        own = real if self._bootstraps else ()
        self._ruled.configure(policy, self._hosts if settings.hosts else None, own)
        self._relay.guardBy(guardFor(settings, policy, real, self._warnings.report))
        if self._fakeDns is not None:
            self._fakeDns.configure(settings, real, self._nameServers, policy)

    def start(self) -> None:
        """
        Begin to serve.  The engine has been started.

        @raise nanotun.errors.EngineError, OSError: as the engine says.
        """
        self._engine.receiveDatagrams(self.datagramsReceived)
        protocol = DnsDatagramProtocol(self._answering, self._locality, self._strangers.note)
        self.services.listenUDP(DNS_PORT, protocol)
        self._engine.listen(Protocol.TCP, DNS_PORT)
        # Last, as it cannot fail: a start that failed is not stopped.
        self.names.start()

    def stop(self) -> None:
        """
        Give up every query and connection.  Called before the engine stops, but nothing
        more is sent to it.
        """
        self.services.stop()
        self._streams.stop()
        self.watched.stop()
        self._scripted.stop()
        self._relay.stop()
        self._trouble.stop()
        self._warnings.stop()
        if self._fakeDns is not None:
            self._fakeDns.stop()
        self.names.stop()

    def datagramsReceived(self, datagrams: list[Datagram]) -> None:
        """Pass datagrams on to their services.  Called by the engine."""
        self.services.datagramsReceived(datagrams)

    def acceptStream(
        self,
        request: IFlowRequest,
        openOnward: Callable[[Flow], Deferred[Connection]],
        note: int = 0,
    ) -> None:
        """Decide on a connection to the gateway's port 53.  Called by the router."""
        self._streams.acceptStream(request, openOnward, note)

    def isLocal(self, host: str) -> bool:
        """See L{nanotun.interfaces.IGateway.isLocal}."""
        return self._locality.isLocal(host)

    def clearCache(self) -> None:
        """
        Forget every answer, because the network has changed.  Names keep their fake addresses.
        """
        self._relay.clearCache()
        if self._fakeDns is not None:
            self._fakeDns.clear()

    def networkMoved(self) -> None:
        """
        As L{clearCache}, and ask the servers on new connections, because the machine is in
        another network.
        """
        # First, so that what it asks is given up before its connections are.
        if self._fakeDns is not None:
            self._fakeDns.clear()
        self._relay.networkMoved()

    def systemChanged(self) -> None:
        """Ask other servers where C{system} is named, as it stands for others than before."""
        self.clearCache()
        if self._nameServers is not None:
            self._nameServers.systemChanged()

    def forgetAddresses(self) -> None:
        """This machine's addresses have changed."""
        self._locality.forget()

    def stats(self) -> GatewayStats:
        """What has happened since the start."""
        return GatewayStats(
            **vars(self._counters),
            fakes=0 if self._pool is None else self._pool.inUse,
            inFlight=self._relay.inFlight,
            openStreams=len(self._streams),
            cached=len(self._relay.cache),
            cachedBytes=self._relay.cache.size,
        )

    def serverReports(self) -> list[dict[str, object]]:
        """What has come of the queries to each server; see L{NameServers.reports}."""
        return [] if self._nameServers is None else self._nameServers.reports()

    def _serversAt(self, server: Endpoint) -> ServerQueries:
        """The queries to a server that the script names."""
        assert self._nameServers is not None
        return self._nameServers.named(DnsServer("udp", server.host, server.port))

    def _isFaked(self, name: str) -> bool:
        return self._fakes is not None and self._fakes.fakes(name)


def makeGateway(
    reactor: Any,
    engine: IPacketEngine,
    settings: Settings,
    makeDatagram: Callable[[int], socket.socket],
    inCell: bool = False,
    userOf: Callable[[Flow], Hashable | None] = lambda flow: None,
    originalOf: Callable[[Flow], Flow | None] = lambda flow: None,
    system: Callable[[], tuple[DnsServer, ...]] = noSystem,
) -> Gateway:
    """
    Make a gateway, which is to be configured.  Opens nothing yet.

    @param makeDatagram: see L{Gateway}.
    @param inCell: whether its clients are in the cell of C{nanotun run}: no process there is
        the daemon, and names of one label are the proxy's.
    @param userOf: see L{FakeDns}.
    @param originalOf: see L{DnsStreams}.
    @param system: see L{Gateway}.
    """
    options = NameOptions(
        faked=settings.dnsMode == "fake-ip",
        exclude=settings.fakeIpExclude,
        stateFile=settings.dnsStateFile,
        flowHold=max(settings.connectTimeout, settings.udpTimeout),
        bootstraps=not inCell,
        singles=inCell,
    )
    return Gateway(reactor, engine, makeDatagram, options, userOf, originalOf, system)


def bareOrigins(settings: Settings) -> frozenset[str]:
    """Who has named servers that are asked past the proxies; see L{ServerQueries}."""
    named = {
        OF_DNS: settings.dns,
        OF_RULE: tuple(server for rule in settings.dnsRules for server in rule.servers),
        # Whichever they are, they go by dnsVia.
        OF_SCRIPT: (DnsServer("udp"),),
    }
    return frozenset(
        origin
        for origin, servers in named.items()
        if any(goesBare(settings, each) for each in servers)
    )


def givesFake(settings: Settings, name: str, names: NamePolicy) -> bool:
    """
    Whether the daemon's relay answers queries for a host name that exists with a fake address.

    @param names: what the settings say about names.
    """
    name = name.lower().rstrip(".")
    excluded = {*LOCAL, *settings.fakeIpExclude}
    if settings.dnsMode != "fake-ip" or names.serversFor(name):
        return False
    return isFaked(name, excluded, realNames(settings))


def realNames(settings: Settings) -> tuple[str, ...]:
    """
    The names that must not get fake addresses: those of the proxies that are dialled from this
    machine.

    @return: lower case, without the final dot.
    """
    return tuple(proxy.host.lower().rstrip(".") for proxy in firstHops(settings))
