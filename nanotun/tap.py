"""
The composition root: settings in, the service with all its parts out.

Called by twistd before it forks.  Nothing is opened and nothing native is
loaded here; the service does that once it is started.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred
from twisted.plugin import getPlugins

from nanotun.addresses import GATEWAY4
from nanotun.config import Settings
from nanotun.engine.probe import offloadWorks
from nanotun.errors import ConfigError, EngineError
from nanotun.flow import Endpoint
from nanotun.gateway import Gateway, NameOptions, makeGateway
from nanotun.gateway.locality import Locality
from nanotun.interfaces import (
    IPacketEngine,
    IPacketEngineFactory,
    IPart,
    ITunDevice,
    ITunOpener,
    IUpstream,
)
from nanotun.judge import Judge, rulesFor, runsLocally
from nanotun.logs import LoggedService
from nanotun.naming import NamedUpstream, Naming
from nanotun.notify import Notifier
from nanotun.options import Options
from nanotun.owners import makeOwners
from nanotun.privileges import LinuxKernel, Privileges, needed
from nanotun.reach import hasForeign, pathsOf
from nanotun.router import FlowRouter
from nanotun.routing.parts import makeRoutes
from nanotun.routing.routes import Routes
from nanotun.service import NanotunService, Parts
from nanotun.tun.device import LinuxTunOpener
from nanotun.tun.port import TunPort
from nanotun.tun.ways import MarkedWays
from nanotun.upstream import upstreamsFor
from nanotun.upstream.direct import DirectUpstream
from nanotun.upstream.proxy import ProxyUpstream
from nanotun.upstream.sockets import openDatagram, openStream

__all__ = ["Options", "makeService"]


def engineFactory(stackMode: str) -> IPacketEngineFactory:
    """
    Find the plugin for a C{stackMode}.

    @raise EngineError: there is none.
    """
    for factory in getPlugins(IPacketEngineFactory):
        if factory.stackMode == stackMode:
            return factory
    raise EngineError(
        f"no packet engine {stackMode} is installed; install nanotun again, with "
        "twisted/plugins/nanotun_plugin.py."
    )


def exitWith(reactor: Any, status: int) -> None:
    """
    Stop the reactor and let the process end with C{status}.

    twistd has no public way to say so, and by the time it is done with its own
    clean-up it ends with 0.  What Python calls last has the last word.

    @param reactor: is running.
    """

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)

    atexit.register(leave)
    reactor.stop()


def needsOwners(settings: Settings) -> bool:
    """Whether any rule is about flows' processes."""
    localProxy = runsLocally(settings, Locality(time.monotonic).isLocal)
    return rulesFor(settings, localProxy).needsOwner


def makePrivileges(options: Options) -> Privileges:
    """The part that gives up what C{options} do not need."""
    owners = needsOwners(options.settings)
    foreign = hasForeign(*pathsOf(options.settings, options.parent or {}, options["config"]))
    return Privileges(needed(options.settings, foreign, owners), LinuxKernel())


def routesFor(
    options: Options, reactor: Any, naming: Naming, gateways: list[Gateway]
) -> tuple[Routes, ...]:
    """
    The routes, if the settings ask for them.

    @param gateways: holds the gateway once it is made.
    """
    if not options.settings.autoDefaultRoute:
        return ()

    def ask(name: str, family: int) -> Deferred[list[str]]:
        return naming.names.resolve(name, family)

    def networkChanged() -> None:
        for gateway in gateways:
            gateway.clearCache()

    def endWith(status: int) -> None:
        exitWith(reactor, status)

    settings, confirm = options.settings, options.confirm
    return (makeRoutes(settings, reactor, ask, networkChanged, confirm, endWith),)


def makeService(
    options: Options,
    opener: ITunOpener | None = None,
    leave: Callable[[int], None] | None = None,
) -> IService:
    """
    Put everything together.

    @param options: parsed.
    @param opener: if not for this machine's own network namespace, which nothing is
        done to then.
    @param leave: has the process end with a status; by default the reactor stops.
    @raise SystemExit: a file that the proxy's URL names is no good, or a user that
        C{excludedProcesses} names is not known; with the error's sentence, as from
        L{Options.postOptions}.
    """
    from twisted.internet import reactor  # type: ignore[import-not-found]

    settings = options.settings
    debug = settings.logLevel == "debug"
    pools = MultiService()
    gateways: list[Gateway] = []
    fakes = settings.dnsMode == "fake-ip"
    naming = Naming()

    ways = MarkedWays(settings.tunName, reactor.seconds)
    proxies: list[ProxyUpstream] = []

    def dials(endpoint: Endpoint) -> bool:
        return any(proxy.dials(endpoint) for proxy in proxies)

    def around(upstream: IUpstream) -> IUpstream:
        if isinstance(upstream, ProxyUpstream):
            proxies.append(upstream)
        if isinstance(upstream, ProxyUpstream | DirectUpstream):
            upstream.leadsIn = ways.leadsIn
        if not fakes and not upstream.sendsNames:
            return upstream
        return NamedUpstream(upstream, naming, reactor, settings.connectTimeout)

    try:
        upstream = upstreamsFor(
            settings.proxy,
            settings.proxyPolicy,
            reactor,
            settings.connectTimeout,
            settings.proxyCheckInterval,
            debug,
            around,
            settings.upstreamPool,
            pools,
        )
        owners = makeOwners(settings, reactor) if needsOwners(settings) else None
    except ConfigError as error:
        raise SystemExit(f"nanotun: {error}") from None
    direct = around(DirectUpstream(reactor, settings.connectTimeout))
    before: tuple[IPart, ...] = (ways,) if owners is None else (ways, owners)
    nameOptions = NameOptions(
        noted=bool(upstream.sendsNames),
        faked=fakes,
        exclude=settings.fakeIpExclude,
        # Proxies themselves are reached by their real addresses.
        real=tuple(proxy.host.lower().rstrip(".") for proxy in settings.proxy),
        stateFile=settings.dnsStateFile,
        flowHold=max(settings.connectTimeout, settings.udpTimeout),
    )

    def makeEngine() -> IPacketEngine:
        return engineFactory(settings.stackMode).createEngine(reactor, settings.udpTimeout)

    def makeServices(engine: IPacketEngine) -> Gateway:
        cacheSize = settings.dnsCacheSize if settings.dnsCache else 0
        gateway = makeGateway(
            reactor, engine, settings.dns, cacheSize, openDatagram, openStream, nameOptions
        )
        naming.names = gateway.names
        gateways.append(gateway)
        return gateway

    def makeRouter(engine: IPacketEngine, gateway: Any) -> FlowRouter:
        names = gateway.names if fakes or upstream.sendsNames else None
        judge = Judge(settings, owners, gateway.isLocal, ways.leadsIn, dials, os.getpid())
        return FlowRouter(judge, upstream, direct, engine, gateway, reactor, debug, names)

    def makePort(
        device: ITunDevice, engine: IPacketEngine, deviceLost: Callable[[int], None]
    ) -> TunPort:
        return TunPort(device, engine, reactor, deviceLost)

    notices = tuple(options.notices)
    if not upstream.carriesDatagrams:
        notices += (
            f"The way out, {upstream.describe()}, carries no UDP: apps hear so at once, and "
            f"their DNS queries need the relay at {GATEWAY4}.",
        )
    notices += tuple(
        f"Nobody checks the certificate of the proxy {proxy}, so anyone on the way can pose as "
        "it; write ?ca=FILE in the place of ?insecure=1."
        for proxy in settings.proxy
        if proxy.insecure
    )
    after: tuple[IPart, ...] = ()
    if opener is None:
        opener = LinuxTunOpener(offloadWorks)
        # First and last: whatever else starts has no more rights than it needs, and
        # systemd hears of a start that is over.
        before = (makePrivileges(options), *before)
        notifier = Notifier(os.environ, f"{settings.tunName} is up", reactor)
        after = (*routesFor(options, reactor, naming, gateways), notifier)
    tunnel = NanotunService(
        settings,
        Parts(opener, makeEngine, makeServices, makeRouter, makePort, before, after),
        reactor,
        leave or (lambda status: exitWith(reactor, status)),
        notices=notices,
    )
    root = LoggedService(settings, options.parent or {}, reactor)
    tunnel.setServiceParent(root)
    if IService.providedBy(upstream):
        # Started after the tunnel, which is what can fail.
        upstream.setServiceParent(root)
    if settings.upstreamPool:
        pools.setServiceParent(root)
    return root
